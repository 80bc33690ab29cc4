//! An event with revenue: one Amplitude event, or one more for each product.

use serde_json::{Map, Value, json};

use super::config::Settings;

/// One Amplitude event of a track.
#[derive(Debug, PartialEq)]
pub(super) struct Sale {
    /// The number of the product, from 1; `None` is the event itself.
    pub product: Option<usize>,
    /// Its properties.
    pub properties: Map<String, Value>,
    /// Amplitude's revenue fields.
    pub revenue: Map<String, Value>,
}

/// The events of a track with these properties; the one itself first.
pub(super) fn split(mut properties: Map<String, Value>, settings: &Settings) -> Vec<Sale> {
    let products = products(&properties);
    if properties.get("revenue").is_none_or(Value::is_null) {
        return vec![Sale { product: None, properties, revenue: Map::new() }];
    }
    if settings.split_products {
        properties.remove("products");
    }
    let whole = products.is_empty() || !settings.revenue_per_product;
    let revenue = if whole { take_revenue(&mut properties) } else { Map::new() };
    let mut sales = vec![Sale { product: None, properties, revenue }];
    if settings.split_products || settings.revenue_per_product {
        for (index, mut product) in products.into_iter().enumerate() {
            let each = settings.revenue_per_product;
            let revenue = if each { take_revenue(&mut product) } else { Map::new() };
            sales.push(Sale { product: Some(index + 1), properties: product, revenue });
        }
    }
    sales
}

fn products(properties: &Map<String, Value>) -> Vec<Map<String, Value>> {
    let products = properties.get("products").and_then(Value::as_array).into_iter().flatten();
    products.filter_map(Value::as_object).cloned().collect()
}

/// Properties that become fields of the event.
const FIELDS: [(&str, &str); 4] =
    [("productId", "product_id"), ("price", "price"), ("quantity", "quantity"), ("revenue", "revenue")];

/// Takes the revenue out of properties. The kind of revenue stays among them too.
fn take_revenue(properties: &mut Map<String, Value>) -> Map<String, Value> {
    let kind = ["revenueType", "revenue_type"].iter().find_map(|name| properties.get(*name));
    let kind = kind.filter(|kind| !kind.is_null()).cloned().unwrap_or_else(|| json!("Purchased"));
    let mut revenue = Map::new();
    revenue.insert("revenueType".to_owned(), kind);
    for (field, name) in FIELDS {
        if let Some(value) = properties.remove(name).filter(|value| !value.is_null()) {
            revenue.insert(field.to_owned(), value);
        }
    }
    revenue
}
