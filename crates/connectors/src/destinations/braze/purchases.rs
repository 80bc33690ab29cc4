//! An order's products as Braze's purchases.

use millrace_connector::Document;
use millrace_event_model::Reason;
use serde_json::{Map, Value};

use super::config::Settings;
use super::events::time;
use crate::destinations::shared::fields::{missing, pick, says_something, set};

/// Fields of a product that a purchase has, or that say the same.
const SAID_OTHERWISE: &[&str] = &["product_id", "sku", "price", "quantity", "currency"];

/// A purchase for each product of the order.
///
/// # Errors
/// There is no product, or one lacks what Braze asks of a purchase.
pub(super) fn of(settings: &Settings, document: &Document) -> Result<Vec<Map<String, Value>>, Reason> {
    let products = document.get("properties.products").and_then(Value::as_array);
    let products: Vec<_> = products.into_iter().flatten().filter_map(Value::as_object).collect();
    if products.is_empty() {
        return Err(missing("properties.products (of an order that is completed)"));
    }
    let purchase = |(number, product)| purchase(settings, document, number, product);
    products.into_iter().enumerate().map(purchase).collect()
}

fn purchase(
    settings: &Settings,
    document: &Document,
    number: usize,
    product: &Map<String, Value>,
) -> Result<Map<String, Value>, Reason> {
    let field = |name: &str| product.get(name).filter(|value| says_something(value)).cloned();
    let needed = |name: &str, value: Option<Value>| {
        value.ok_or_else(|| missing(&format!("properties.products.{number}.{name}")))
    };
    let currency = field("currency").or_else(|| pick(document, &["properties.currency"]).cloned());
    let mut purchase = Map::new();
    for (name, value) in [
        ("product_id", field("product_id").or_else(|| field("sku"))),
        ("price", field("price")),
        ("currency", currency),
        ("quantity", field("quantity")),
    ] {
        purchase.insert(name.to_owned(), needed(name, value)?);
    }
    purchase.insert("time".to_owned(), time(document)?.into());
    if settings.purchase_properties {
        let mut rest = product.clone();
        rest.retain(|name, _| !SAID_OTHERWISE.contains(&name.as_str()));
        set(&mut purchase, "properties", (!rest.is_empty()).then_some(rest));
    }
    Ok(purchase)
}
