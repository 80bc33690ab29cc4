//! What Customer.io is asked to do, before it is written for one of its APIs.

use serde_json::{Map, Value};

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operation {
    /// A person is there, with these attributes.
    Identify { person: Person, attributes: Map<String, Value> },
    /// A person is gone.
    Delete { person: Person },
    /// A person, known or not, did something.
    Event { person: Person, event: Event },
    /// A person's device takes push messages.
    AddDevice { person: Person, device: Device },
    /// A person's device takes none any more.
    DeleteDevice { person: Person, token: String },
    /// Two profiles are one person's; the first stays.
    Merge { primary: Person, secondary: Person },
    /// An object (a group), and who belongs to it.
    Object(Object),
}

/// By what a person is known.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Person {
    /// The workspace's own id.
    Id(String),
    /// The e-mail address.
    Email(String),
    /// Somebody whom nothing but events are known of.
    Anonymous(String),
}

impl Person {
    /// An e-mail address is known as such: some ids are addresses.
    pub(super) fn by_shape(id: String) -> Self {
        if is_email(&id) { Self::Email(id) } else { Self::Id(id) }
    }

    /// `{"id": …}`, `{"email": …}` or `{"anonymous_id": …}`.
    pub(super) fn identifiers(&self) -> Value {
        let (name, id) = match self {
            Self::Id(id) => ("id", id),
            Self::Email(id) => ("email", id),
            Self::Anonymous(id) => ("anonymous_id", id),
        };
        Value::Object(Map::from_iter([(name.to_owned(), Value::from(id.as_str()))]))
    }

    /// As the `v1` API names a known person: its addresses tell ids and e-mail addresses apart by
    /// themselves.
    pub(super) fn known(&self) -> Option<&str> {
        match self {
            Self::Id(id) | Self::Email(id) => Some(id),
            Self::Anonymous(_) => None,
        }
    }
}

/// Something that was done.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    /// `event` or `page`.
    pub kind: &'static str,
    /// Its name; pages may be without.
    pub name: Option<String>,
    /// Its properties, where it has any.
    pub properties: Option<Value>,
    /// When, in seconds since 1970 UTC.
    pub at: Option<i64>,
}

/// A device that takes push messages.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Device {
    /// Its address for messages.
    pub token: String,
    /// `ios` or `android`.
    pub platform: Option<String>,
    /// When it was last used, in seconds since 1970 UTC.
    pub last_used: Option<i64>,
    /// What else is known of it: the properties of the event.
    pub attributes: Map<String, Value>,
    /// What the event's context says about it, which the `v1` API has no place for.
    pub context: Map<String, Value>,
}

/// A group, in Customer.io's terms.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Object {
    /// Its id among those of its type.
    pub id: String,
    /// The number of its type; `1` is the first that a workspace has.
    pub type_id: String,
    /// What to do with it, in Customer.io's own words.
    pub action: &'static str,
    /// Its attributes.
    pub attributes: Map<String, Value>,
    /// Who belongs to it.
    pub member: Option<Person>,
}

/// Something before one `@`, and a domain with a dot after it: nothing more is asked, since only the vendor
/// knows better.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let dotted = domain.split_once('.').is_some_and(|(name, rest)| !name.is_empty() && !rest.is_empty());
    !local.is_empty() && dotted && !domain.contains('@') && !text.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_known_by_its_shape() {
        for address in ["a@b.io", "first.last+tag@mail.example.com"] {
            assert_eq!(Person::by_shape(address.to_owned()), Person::Email(address.to_owned()));
        }
        for id in ["u-1", "team@1", "@b.io", "a@.io", "a@b.", "a b@c.io", "a@b@c.io"] {
            assert_eq!(Person::by_shape(id.to_owned()), Person::Id(id.to_owned()), "{id}");
        }
    }
}
