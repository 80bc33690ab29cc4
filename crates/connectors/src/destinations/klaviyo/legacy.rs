//! Events in the shapes of revision 2023-02-22, with the names that shops gave Klaviyo's own events then.

use millrace_connector::{Document, HttpRequest};
use millrace_event_model::Reason;
use serde_json::{Map, Value, json};

use super::config::{IdentifyBy, Revision};
use super::map::{Klaviyo, metric_name, worth};
use crate::destinations::shared::fields::{
    EMAIL, Line, PHONE, USER_ID, fill, missing, object, pick_text, set, traits,
};
use crate::destinations::shared::flatten::flatten;

/// An event of a shop: how it is called, what it is called there, and its properties.
struct ShopEvent {
    event: &'static str,
    metric: &'static str,
    properties: &'static [Line],
    /// Whether the products become `items`.
    items: bool,
}

const SHOP_EVENTS: &[ShopEvent] = &[
    ShopEvent { event: "product viewed", metric: "Viewed Product", properties: VIEWED, items: false },
    ShopEvent { event: "product added", metric: "Added to Cart", properties: ADDED, items: true },
    ShopEvent { event: "checkout started", metric: "Started Checkout", properties: CHECKOUT, items: true },
];

const VIEWED: &[Line] = &[
    ("ProductName", &["properties.name"]),
    ("ProductID", &["properties.product_id"]),
    ("SKU", &["properties.sku"]),
    ("ImageURL", &["properties.image_url"]),
    ("URL", &["properties.url"]),
    ("Brand", &["properties.brand"]),
    ("Price", &["properties.price"]),
    ("CompareAtPrice", &["properties.compare_at_price"]),
    ("Categories", &["properties.categories"]),
];

const ADDED: &[Line] = &[
    ("$value", &["properties.value"]),
    ("AddedItemProductName", &["properties.name"]),
    ("AddedItemProductID", &["properties.product_id"]),
    ("AddedItemSKU", &["properties.sku"]),
    ("AddedItemImageURL", &["properties.image_url"]),
    ("AddedItemURL", &["properties.url"]),
    ("AddedItemPrice", &["properties.price"]),
    ("AddedItemQuantity", &["properties.quantity"]),
    ("AddedItemCategories", &["properties.categories"]),
    ("ItemNames", &["properties.item_names"]),
    ("CheckoutURL", &["properties.checkout_url"]),
];

const CHECKOUT: &[Line] = &[
    ("$event_id", &["properties.order_id"]),
    ("$value", &["properties.value"]),
    ("Categories", &["properties.categories"]),
    ("ItemNames", &["properties.item_names"]),
    ("CheckoutURL", &["properties.checkout_url"]),
];

/// A product's fields: Klaviyo's name, and the event's.
const ITEM: &[(&str, &str)] = &[
    ("ProductID", "product_id"),
    ("SKU", "sku"),
    ("ProductName", "name"),
    ("Quantity", "quantity"),
    ("ItemPrice", "price"),
    ("RowTotal", "total"),
    ("ProductURL", "url"),
    ("ImageURL", "image_url"),
    ("ProductCategories", "categories"),
];

/// Traits that are said by the profile's own fields.
const SAID_OTHERWISE: &[&str] = &["email", "phone", "id", "userId", "anonymousId"];

/// The event's one request.
pub(super) fn event(klaviyo: &Klaviyo, document: &Document) -> Result<HttpRequest, Reason> {
    let name = metric_name(document)?;
    let known = SHOP_EVENTS.iter().find(|known| known.event == name.to_lowercase());
    let mut attributes = Map::new();
    let properties = match known {
        Some(known) => shop_properties(known, document),
        None => {
            let mut properties = object(document, "properties");
            set(&mut attributes, "value", worth(&mut properties));
            if klaviyo.settings.flatten { flatten(properties) } else { properties }
        }
    };
    let metric = known.map_or(name.as_str(), |known| known.metric);
    attributes.insert("metric".to_owned(), json!({"name": metric}));
    attributes.insert("properties".to_owned(), Value::Object(properties));
    attributes.insert("profile".to_owned(), Value::Object(person(klaviyo, document)?));
    let body = json!({"data": {"type": "event", "attributes": attributes}});
    Ok(klaviyo.post("/api/events", Revision::V2023, &body))
}

fn person(klaviyo: &Klaviyo, document: &Document) -> Result<Map<String, Value>, Reason> {
    let mut person = traits(document);
    person.retain(|name, _| !SAID_OTHERWISE.contains(&name.as_str()));
    if klaviyo.settings.flatten {
        person = flatten(person);
    }
    let (email, phone) = (pick_text(document, EMAIL), pick_text(document, PHONE));
    let user_id = pick_text(document, USER_ID);
    let nobody = email.is_none() && phone.is_none();
    let (id, needs) = match klaviyo.settings.identify_by {
        IdentifyBy::UserId => ("$id", nobody && user_id.is_none()),
        IdentifyBy::EmailOrPhone => ("_id", nobody),
    };
    if needs {
        return Err(missing("the e-mail address or the phone number"));
    }
    set(&mut person, "$email", email);
    set(&mut person, "$phone_number", phone);
    set(&mut person, id, user_id);
    Ok(person)
}

fn shop_properties(known: &ShopEvent, document: &Document) -> Map<String, Value> {
    let mut properties = Map::new();
    fill(&mut properties, document, known.properties);
    let products = document.get("properties.products").and_then(Value::as_array);
    if let Some(products) = products.filter(|_| known.items) {
        let items = products.iter().filter_map(Value::as_object).map(item).collect();
        properties.insert("items".to_owned(), Value::Array(items));
    }
    properties
}

fn item(product: &Map<String, Value>) -> Value {
    let fields =
        ITEM.iter().filter_map(|(name, from)| Some(((*name).to_owned(), product.get(*from)?.clone())));
    Value::Object(fields.collect())
}
