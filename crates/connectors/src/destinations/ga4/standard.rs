//! The events of the e-commerce specification, and Google's recommended events, as data.

use super::names::folded;

/// A name of Google's, and the property that says it: the first that does counts.
pub(super) type Param = (&'static str, &'static [&'static str]);

/// What Google knows an event by.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Standard {
    /// Google's name.
    pub event: &'static str,
    /// Names of the e-commerce specification, [`folded`].
    names: &'static [&'static str],
    /// Parameters under another name, or that are numbers.
    pub params: &'static [Param],
    /// Parameters without which Google has no use for the event.
    pub required: &'static [&'static str],
    /// What it says about products.
    pub items: Items,
    /// Whether it has a value in a currency.
    pub value: Worth,
}

/// Products of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Items {
    /// Google asks for none, and takes those that there are.
    None,
    /// It may have some, each with an id or a name.
    Optional,
    /// Google has no use for the event without: a single one may stand among the event's own properties.
    Required,
}

/// What an event is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// Nothing: a `value` among its properties is one as others.
    Nothing,
    /// Its value, total or revenue.
    Total,
    /// That, else price times quantity.
    Product,
}

/// Which event this is: by a name of the e-commerce specification, or by Google's own.
pub(super) fn standard(name: &str) -> Option<(&'static Standard, bool)> {
    let name = folded(name);
    let by_name = STANDARDS.iter().find(|standard| standard.names.contains(&name.as_str()));
    let by_event = || STANDARDS.iter().find(|standard| standard.event == name);
    by_name.map(|found| (found, true)).or_else(|| by_event().map(|found| (found, false)))
}

const LIST: &[Param] =
    &[("item_list_id", &["item_list_id", "list_id"]), ("item_list_name", &["item_list_name", "category"])];

/// As [`LIST`], but that the category is the product's.
const IN_LIST: &[Param] =
    &[("item_list_id", &["item_list_id", "list_id"]), ("item_list_name", &["item_list_name"])];

const PROMOTION: &[Param] = &[
    ("creative_name", &["creative_name", "creative"]),
    ("creative_slot", &["creative_slot"]),
    ("location_id", &["location_id", "position"]),
    ("promotion_id", &["promotion_id"]),
    ("promotion_name", &["promotion_name", "name"]),
];

const ORDER: &[Param] = &[
    ("transaction_id", &["transaction_id", "order_id"]),
    ("affiliation", &["affiliation"]),
    ("coupon", &["coupon"]),
    ("shipping", &["shipping"]),
    ("tax", &["tax"]),
];

const COUPON: &[Param] = &[("coupon", &["coupon"])];

/// An event as any other.
const PLAIN: Standard =
    Standard { event: "", names: &[], params: &[], required: &[], items: Items::None, value: Worth::Nothing };

const STANDARDS: &[Standard] = &[
    Standard {
        event: "search",
        names: &["products_searched"],
        params: &[("search_term", &["search_term", "query"])],
        required: &["search_term"],
        ..PLAIN
    },
    Standard {
        event: "view_item_list",
        names: &["product_list_viewed"],
        params: LIST,
        items: Items::Required,
        ..PLAIN
    },
    Standard {
        event: "select_item",
        names: &["product_clicked", "products_clicked"],
        params: IN_LIST,
        items: Items::Required,
        ..PLAIN
    },
    Standard {
        event: "view_promotion",
        names: &["promotion_viewed"],
        params: PROMOTION,
        items: Items::Optional,
        ..PLAIN
    },
    Standard {
        event: "select_promotion",
        names: &["promotion_clicked"],
        params: PROMOTION,
        items: Items::Optional,
        ..PLAIN
    },
    Standard {
        event: "view_item",
        names: &["product_viewed"],
        items: Items::Required,
        value: Worth::Product,
        ..PLAIN
    },
    Standard {
        event: "add_to_cart",
        names: &["product_added"],
        items: Items::Required,
        value: Worth::Product,
        ..PLAIN
    },
    Standard {
        event: "remove_from_cart",
        names: &["product_removed"],
        items: Items::Required,
        value: Worth::Product,
        ..PLAIN
    },
    Standard {
        event: "add_to_wishlist",
        names: &["product_added_to_wishlist"],
        items: Items::Required,
        value: Worth::Product,
        ..PLAIN
    },
    Standard {
        event: "view_cart",
        names: &["cart_viewed"],
        items: Items::Required,
        value: Worth::Total,
        ..PLAIN
    },
    Standard {
        event: "begin_checkout",
        names: &["checkout_started"],
        params: COUPON,
        items: Items::Required,
        value: Worth::Total,
        ..PLAIN
    },
    Standard {
        event: "add_payment_info",
        names: &["payment_info_entered"],
        params: &[("coupon", &["coupon"]), ("payment_type", &["payment_type", "payment_method"])],
        items: Items::Required,
        value: Worth::Total,
        ..PLAIN
    },
    Standard {
        event: "add_shipping_info",
        names: &["checkout_step_completed"],
        params: &[("coupon", &["coupon"]), ("shipping_tier", &["shipping_tier", "shipping_method"])],
        items: Items::Required,
        value: Worth::Total,
        ..PLAIN
    },
    Standard {
        event: "purchase",
        names: &["order_completed"],
        params: ORDER,
        required: &["transaction_id"],
        items: Items::Required,
        value: Worth::Total,
    },
    Standard {
        event: "refund",
        names: &["order_refunded"],
        params: ORDER,
        required: &["transaction_id"],
        items: Items::Optional,
        value: Worth::Total,
    },
    Standard {
        event: "share",
        names: &["product_shared", "cart_shared"],
        params: &[("method", &["method", "share_via"])],
        ..PLAIN
    },
    Standard { event: "generate_lead", value: Worth::Total, ..PLAIN },
    Standard { event: "post_score", names: &["post_score"], required: &["score"], ..PLAIN },
    Standard {
        event: "unlock_achievement",
        names: &["unlock_achievement"],
        required: &["achievement_id"],
        ..PLAIN
    },
    Standard {
        event: "spend_virtual_currency",
        names: &["spend_virtual_currency"],
        required: &["value", "virtual_currency_name"],
        ..PLAIN
    },
];
