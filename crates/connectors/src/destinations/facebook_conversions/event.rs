//! What an event is called at Meta.

use std::collections::BTreeMap;

use millrace_connector::Document;
use millrace_event_model::Reason;

use super::content::Content;
use crate::destinations::shared::fields::{missing, pick_text, unsupported};

/// An event's name at Meta, and what it tells of products where it is one of theirs.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) content: Option<Content>,
}

/// RudderStack's events of e-commerce, in lower case, and Meta's names of them.
const ECOMMERCE: [(&str, &str, Content); 8] = [
    ("product list viewed", "ViewContent", Content::List),
    ("product viewed", "ViewContent", Content::Product),
    ("product added", "AddToCart", Content::Product),
    ("product added to wishlist", "AddToWishlist", Content::Product),
    ("products searched", "Search", Content::Search),
    ("checkout started", "InitiateCheckout", Content::Order),
    ("payment info entered", "AddPaymentInfo", Content::Order),
    ("order completed", "Purchase", Content::Order),
];

/// The name, of which `events` has the config's own.
///
/// # Errors
/// The event has no name, or is of a type that is no conversion.
pub(super) fn name(document: &Document, events: &BTreeMap<String, String>) -> Result<Named, Reason> {
    match document.event_type().as_str() {
        "track" => {
            let event = document.text("event").map(str::trim).filter(|event| !event.is_empty());
            Ok(track(event.ok_or_else(|| missing("event"))?, events))
        }
        kind @ ("page" | "screen") => {
            let view = pick_text(document, &["name", "properties.name"]);
            let name = view.map_or_else(|| "PageView".to_owned(), |name| format!("Viewed {kind} {name}"));
            Ok(Named { name, content: None })
        }
        other => Err(unsupported(other)),
    }
}

fn track(event: &str, events: &BTreeMap<String, String>) -> Named {
    let lower = event.to_lowercase();
    let mapped = events.iter().find(|(from, _)| from.to_lowercase() == lower).map(|(_, to)| to.as_str());
    let named = match mapped {
        // Two events have one name, and a mapping means the one with a single product.
        Some(meta) => ECOMMERCE.iter().rev().find(|(_, name, _)| *name == meta),
        None => ECOMMERCE.iter().find(|(name, ..)| *name == lower),
    };
    match named {
        Some((_, name, content)) => Named { name: (*name).to_owned(), content: Some(*content) },
        None => Named { name: mapped.unwrap_or(event).to_owned(), content: None },
    }
}
