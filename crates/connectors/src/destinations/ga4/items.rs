//! Products as Google's items.

use serde_json::{Map, Value};

use super::params::{custom, number, numeric};
use super::standard::Param;

/// Fields of an item, by the property of a product.
const FIELDS: &[Param] = &[
    ("item_id", &["product_id", "item_id"]),
    ("item_name", &["name", "item_name"]),
    ("coupon", &["coupon"]),
    ("item_category", &["category"]),
    ("item_brand", &["brand"]),
    ("item_variant", &["variant"]),
    ("price", &["price"]),
    ("quantity", &["quantity"]),
    ("index", &["position"]),
    ("affiliation", &["affiliation"]),
    ("currency", &["currency"]),
    ("discount", &["discount"]),
    ("item_category2", &["item_category2"]),
    ("item_category3", &["item_category3"]),
    ("item_category4", &["item_category4"]),
    ("item_category5", &["item_category5"]),
    ("item_list_id", &["item_list_id"]),
    ("item_list_name", &["item_list_name"]),
    ("location_id", &["location_id"]),
    ("promotion_id", &["promotion_id"]),
    ("promotion_name", &["promotion_name"]),
    ("creative_name", &["creative_name"]),
    ("creative_slot", &["creative_slot"]),
];

/// Fields that are numbers, also where the product has them as text.
const NUMBERS: [&str; 3] = ["price", "quantity", "index"];

/// Properties that a product among the event's own takes from them.
pub(super) fn sources() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().flat_map(|(_, from)| from.iter().copied())
}

/// The items of a list of products, with whatever else they say. None without id and name.
pub(super) fn of_list(products: &[Value]) -> Option<Vec<Value>> {
    let products = products.iter().filter_map(Value::as_object);
    products.map(|product| item(product, true)).collect()
}

/// The item that the event's own properties are about. None without id and name.
pub(super) fn of_properties(properties: &Map<String, Value>) -> Option<Value> {
    item(properties, false)
}

fn item(product: &Map<String, Value>, all: bool) -> Option<Value> {
    let mut item = Map::new();
    for (name, from) in FIELDS {
        let value = from.iter().find_map(|from| product.get(*from)).filter(|value| !value.is_null());
        let Some(value) = value else { continue };
        let value = if NUMBERS.contains(name) { numeric(value) } else { value.clone() };
        item.insert((*name).to_owned(), value);
    }
    if !item.contains_key("item_id") && !item.contains_key("item_name") {
        return None;
    }
    if all {
        for (name, value) in custom(product.clone(), &sources().collect::<Vec<_>>()) {
            item.entry(name).or_insert(value);
        }
    }
    Some(Value::Object(item))
}

/// Price times quantity; one where it is not said.
pub(super) fn worth(properties: &Map<String, Value>) -> Option<f64> {
    let price = number(properties.get("price")?)?;
    let quantity = properties.get("quantity").and_then(number).unwrap_or(1.0);
    Some(price * quantity)
}
