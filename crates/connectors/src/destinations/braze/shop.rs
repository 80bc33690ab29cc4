//! A shop's events as the ones that Braze recommends
//! (<https://www.braze.com/docs/user_guide/data/activation/custom_data/recommended_events/ecommerce_events>).

use millrace_connector::Document;
use millrace_event_model::Reason;
use serde_json::{Map, Value, json};

use super::events::named;
use crate::destinations::shared::fields::{object, says_something, set};

/// An event of a shop, and what it is at Braze.
struct ShopEvent {
    event: &'static str,
    name: &'static str,
    /// Braze's names, and the properties that may say it, best first.
    fields: &'static [(&'static str, &'static [&'static str])],
    /// What the cart's event did.
    action: Option<&'static str>,
    /// Where the product stands.
    product: Product,
}

/// Where an event's products go.
#[derive(PartialEq)]
enum Product {
    /// The event is about one, whose fields are the event's own.
    Event,
    /// The event is about one, which is an entry of `products`.
    Entry,
    /// The event has a list of them.
    List,
}

const SHOP_EVENTS: &[ShopEvent] = &[
    ShopEvent {
        event: "product viewed",
        name: "ecommerce.product_viewed",
        fields: PRICED,
        action: None,
        product: Product::Event,
    },
    ShopEvent {
        event: "product added",
        name: "ecommerce.cart_updated",
        fields: CART,
        action: Some("add"),
        product: Product::Entry,
    },
    ShopEvent {
        event: "product removed",
        name: "ecommerce.cart_updated",
        fields: CART,
        action: Some("remove"),
        product: Product::Entry,
    },
    ShopEvent {
        event: "checkout started",
        name: "ecommerce.checkout_started",
        fields: CHECKOUT,
        action: None,
        product: Product::List,
    },
    ShopEvent {
        event: "order completed",
        name: "ecommerce.order_placed",
        fields: ORDER,
        action: None,
        product: Product::List,
    },
    ShopEvent {
        event: "order refunded",
        name: "ecommerce.order_refunded",
        fields: ORDER,
        action: None,
        product: Product::List,
    },
    ShopEvent {
        event: "order cancelled",
        name: "ecommerce.order_cancelled",
        fields: ORDER,
        action: None,
        product: Product::List,
    },
];

const PRICED: &[(&str, &[&str])] = &[("currency", &["currency"])];

const CART: &[(&str, &[&str])] = &[("cart_id", &["cart_id"]), ("currency", &["currency"])];

const TOTAL: &[&str] = &["total", "revenue", "value"];

const CHECKOUT: &[(&str, &[&str])] = &[
    ("checkout_id", &["checkout_id", "order_id"]),
    ("cart_id", &["cart_id"]),
    ("total_value", TOTAL),
    ("currency", &["currency"]),
    ("tax", &["tax"]),
    ("shipping", &["shipping"]),
];

const ORDER: &[(&str, &[&str])] = &[
    ("order_id", &["order_id"]),
    ("cart_id", &["cart_id"]),
    ("total_value", TOTAL),
    ("currency", &["currency"]),
    ("total_discounts", &["discount"]),
    ("discounts", &["discounts"]),
    ("tax", &["tax"]),
    ("shipping", &["shipping"]),
    ("cancel_reason", &["cancel_reason", "reason"]),
];

const PRODUCT: &[(&str, &[&str])] = &[
    ("product_id", &["product_id", "sku"]),
    ("product_name", &["name"]),
    ("variant_id", &["variant", "sku", "product_id"]),
    ("image_url", &["image_url"]),
    ("product_url", &["url"]),
    ("quantity", &["quantity"]),
    ("price", &["price"]),
];

/// Braze's event for a shop's event; `None` for others.
pub(super) fn event(name: &str, document: &Document) -> Result<Option<Map<String, Value>>, Reason> {
    let name = name.trim().to_lowercase();
    let Some(shop_event) = SHOP_EVENTS.iter().find(|shop_event| shop_event.event == name) else {
        return Ok(None);
    };
    let mut said = object(document, "properties");
    let products = said.remove("products");
    let mut properties = Map::new();
    rename(shop_event.fields, &mut said, &mut properties);
    set(&mut properties, "action", shop_event.action);
    set(&mut properties, "source", document.text("channel"));
    match shop_event.product {
        Product::Event => {
            rename(PRODUCT, &mut said, &mut properties);
            keep_rest(said, &mut properties);
        }
        Product::Entry => {
            properties.insert("products".to_owned(), json!([product(said)]));
        }
        Product::List => {
            if let Some(Value::Array(list)) = products {
                let list = list.into_iter().filter_map(|entry| match entry {
                    Value::Object(entry) => Some(product(entry)),
                    _ => None,
                });
                properties.insert("products".to_owned(), list.collect());
            }
            keep_rest(said, &mut properties);
        }
    }
    let mut event = named(shop_event.name, document)?;
    event.insert("properties".to_owned(), Value::Object(properties));
    Ok(Some(event))
}

fn product(mut said: Map<String, Value>) -> Value {
    let mut product = Map::new();
    rename(PRODUCT, &mut said, &mut product);
    keep_rest(said, &mut product);
    Value::Object(product)
}

/// Takes what the table names over; all names of a line are used up by it.
fn rename(table: &[(&str, &[&str])], said: &mut Map<String, Value>, target: &mut Map<String, Value>) {
    let copy = |names: &[&str]| {
        names.iter().find_map(|name| said.get(*name).filter(|value| says_something(value))).cloned()
    };
    let found: Vec<_> = table.iter().map(|(name, names)| (*name, copy(names))).collect();
    for (name, value) in found {
        set(target, name, value);
    }
    for name in table.iter().flat_map(|(_, names)| *names) {
        said.remove(*name);
    }
}

/// What Braze has no field for.
fn keep_rest(rest: Map<String, Value>, target: &mut Map<String, Value>) {
    if !rest.is_empty() {
        target.insert("metadata".to_owned(), Value::Object(rest));
    }
}
