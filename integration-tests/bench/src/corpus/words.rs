//! What a shop's events say. All of it is safe inside a JSON string as it stands.

use fastrand::Rng;

use super::one_in_hundred;

pub(super) const EVENTS: [&str; 6] = [
    "Product Viewed",
    "Product Added",
    "Checkout Started",
    "Order Completed",
    "Product List Filtered",
    "Coupon Applied",
];

pub(super) const PAGES: [&str; 4] = ["Home", "Product", "Cart", "Search"];

pub(super) const CATEGORIES: [&str; 5] = ["Shoes", "Outdoor", "Home & Garden", "Books", "Kitchen"];

const NAMES: [&str; 5] = ["Trail Runner 2", "Rain Jacket", "Oak Table", "Field Notes", "Chef Knife"];

/// About one in twelve of these makes the event one with text beyond ASCII.
const NAMES_BEYOND_ASCII: [&str; 4] =
    ["Wanderschuh Größe 43", "雨の日のジャケット", "Стол дубовый", "Couteau d’été ☀"];

const NAMES_WITH_ESCAPES: [&str; 3] = [r#"Table 48\" oak"#, r"Caf\u00e9 au lait", r"Notes\nSecond line"];

/// One per event: the shares are the corpus's.
pub(crate) fn product_name(rng: &mut Rng) -> &'static str {
    if one_in_hundred(rng, 8) {
        return word(rng, &NAMES_BEYOND_ASCII);
    }
    if one_in_hundred(rng, 2) {
        return word(rng, &NAMES_WITH_ESCAPES);
    }
    word(rng, &NAMES)
}

pub(super) fn plain_name(rng: &mut Rng) -> &'static str {
    word(rng, &NAMES)
}

fn word(rng: &mut Rng, among: &[&'static str]) -> &'static str {
    among[rng.usize(..among.len())]
}

/// Letters and digits as in the click ids that advertisers append to addresses.
pub(crate) fn token(rng: &mut Rng, length: usize) -> String {
    (0..length).map(|_| rng.alphanumeric()).collect()
}
