//! Events that nobody wants, by their names: answered as if they were stored, and not stored.

use std::collections::HashSet;

use crate::identity;

/// The events of a source that are not stored. The rules are RudderStack's: only track events have names to
/// block, names are compared byte for byte, and an event without a name is never blocked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockedEvents {
    track: HashSet<String>,
}

impl BlockedEvents {
    /// Blocks the track events of these names.
    #[must_use]
    pub fn new(track: impl IntoIterator<Item = String>) -> Self {
        Self { track: track.into_iter().filter(|name| !name.is_empty()).collect() }
    }

    /// Whether there is nothing to block.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.track.is_empty()
    }

    /// `event` is the JSON of the field `event`.
    #[must_use]
    pub fn contains(&self, event_type: &str, event: Option<&str>) -> bool {
        if event_type != "track" {
            return false;
        }
        event.and_then(identity::string).is_some_and(|name| self.track.contains(name.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_the_json_means() {
        let blocked = BlockedEvents::new(["Purchase".to_owned(), "12".to_owned()]);
        for (event, expected) in [
            (Some(r#""Purchase""#), true),
            (Some(r#""\u0050urchase""#), true),
            (Some(r#""purchase""#), false),
            (Some(r#"" Purchase""#), false),
            (Some("12"), false),
            (Some("null"), false),
            (None, false),
        ] {
            assert_eq!(blocked.contains("track", event), expected, "{event:?}");
        }
        assert!(!blocked.contains("page", Some(r#""Purchase""#)));
    }
}
