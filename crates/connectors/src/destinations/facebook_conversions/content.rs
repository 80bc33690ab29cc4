//! The products of an event, in Meta's words.

use std::collections::BTreeMap;

use millrace_connector::Document;
use serde_json::{Map, Value, json};

use crate::destinations::shared::fields::{pick, pick_text, says_something};

/// What an event tells of products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Many were seen; without a list of them, their category stands for all.
    List,
    /// One was seen or added; where the event's own properties are of none, its list of products counts.
    Product,
    /// They were searched for.
    Search,
    /// They are bought: how many is told too.
    Order,
}

/// Where a product's id stands.
const PRODUCT_ID: [&str; 3] = ["product_id", "sku", "id"];

/// Adds what is known of the products. `asked` is the content type that the event asks for, `types` those
/// of the config by category.
pub(super) fn describe(
    document: &Document,
    kind: Content,
    asked: Option<&str>,
    types: &BTreeMap<String, String>,
    custom: &mut Map<String, Value>,
) {
    let category = pick_text(document, &["properties.category"]);
    let products = document.get("properties.products").and_then(Value::as_array);
    let named = category.as_deref().and_then(|category| types.get(category)).map(String::as_str);
    let mut content_type = asked.or(named).unwrap_or("product");
    let one = single(document);
    let contents: Vec<Value>;
    let ids: Value;
    match (products, &category) {
        (Some(products), _) if !products.is_empty() && (kind != Content::Product || one.is_none()) => {
            contents = products.iter().filter_map(|product| of_list(document, product)).collect();
            ids = contents.iter().filter_map(|content| content.get("id").cloned()).collect();
        }
        (_, Some(category)) if kind == Content::List => {
            contents = vec![json!({ "id": category, "quantity": 1 })];
            ids = json!([category]);
            content_type = asked.or(named).unwrap_or("product_group");
        }
        _ => {
            contents = one.into_iter().collect();
            // Alone, not in a list: so RudderStack sends it, and its events are taken.
            ids =
                contents.first().and_then(|content| content.get("id").cloned()).unwrap_or_else(|| json!([]));
        }
    }
    if kind == Content::Order {
        custom.insert("num_items".to_owned(), contents.len().into());
    }
    custom.insert("contents".to_owned(), Value::Array(contents));
    custom.insert("content_ids".to_owned(), ids);
    custom.entry("content_type").or_insert_with(|| content_type.into());
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            custom.entry(name).or_insert_with(|| value.into());
        }
    };
    add("content_category", category);
    if kind == Content::Product {
        add("content_name", pick_text(document, &["properties.product_name", "properties.name"]));
    }
    if kind == Content::Search {
        add("search_string", pick_text(document, &["properties.query"]));
    }
}

/// The product that the event's own properties are about.
fn single(document: &Document) -> Option<Value> {
    let product = document.get("properties")?;
    of_list(document, product)
}

/// A product with an id; what it does not say itself the event says for all.
fn of_list(document: &Document, product: &Value) -> Option<Value> {
    let said = |name: &str| product.get(name).filter(|value| says_something(value)).cloned();
    let id = PRODUCT_ID.iter().find_map(|name| said(name))?;
    let quantity = said("quantity").or_else(|| pick(document, &["properties.quantity"]).cloned());
    let mut content = Map::new();
    content.insert("id".to_owned(), id);
    content.insert("quantity".to_owned(), quantity.unwrap_or_else(|| json!(1)));
    if let Some(price) = said("price") {
        content.insert("item_price".to_owned(), price);
    }
    let delivery = said("delivery_category")
        .or_else(|| pick(document, &["properties.delivery_category"]).cloned())
        .filter(|said| said.as_str().is_some_and(|name| DELIVERY.contains(&name)));
    if let Some(delivery) = delivery {
        content.insert("delivery_category".to_owned(), delivery);
    }
    Some(Value::Object(content))
}

/// The ways of delivery that Meta knows; it refuses all others.
const DELIVERY: [&str; 3] = ["in_store", "curbside", "home_delivery"];
