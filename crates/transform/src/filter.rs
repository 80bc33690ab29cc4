//! A connection's `when:`.

use std::collections::BTreeMap;
use std::fmt;

use millrace_event_model::{Event, Geo, Reason};
use minijinja::Value;
use minijinja::value::{Serde, ValueKind};

use crate::expression::{Compiled, ExpressionError};

/// Says of each event whether it goes over the connection: an expression such as `type == 'track'` or
/// `event in ['Order Completed', 'Order Refunded'] and properties.total > 100`.
///
/// The names are the fields of the event's JSON. What the server decided wins over them: `type`,
/// `messageId`, `rudderId`, `receivedAt`, `request_ip`, and `sourceId`, the source's id in the config. Where
/// the client is stands in `context.geo`, unless the event itself says something there.
/// A field that is not there is undefined, which is false; beware of ordering: undefined is less than
/// any number, so write `properties.total is defined and properties.total < 5`.
pub struct Filter {
    source: String,
    expression: Compiled,
    reads_body: bool,
}

impl Filter {
    /// Compiles an expression.
    ///
    /// # Errors
    /// It is not an expression; the error says where.
    pub fn compile(source: &str) -> Result<Self, ExpressionError> {
        let expression = Compiled::new(source)?;
        let reads_body = expression.names().iter().any(|name| !DECIDED_BY_SERVER.contains(&name.as_str()));
        Ok(Self { source: source.to_owned(), expression, reads_body })
    }

    /// Whether the event goes over the connection. The body is parsed only if the expression names a
    /// field of it, so a filter by `type` costs a comparison.
    ///
    /// # Errors
    /// The event is rejected: its body is not a JSON object, or the expression fails on it (adding a
    /// number to a text, running too long). The reason never holds a value of the event.
    pub fn keeps(&self, event: &Event) -> Result<bool, Reason> {
        let mut fields = match self.reads_body {
            true => body_fields(event)?,
            false => BTreeMap::new(),
        };
        if let Some(place) = event.place().filter(|_| self.reads_body)
            && let Some(context) = with_place(fields.get("context"), &place)
        {
            fields.insert("context".to_owned(), context);
        }
        // Where the server has decided on none, such as a request ip that the policy drops, a client's word
        // must not stand in.
        fields.retain(|name, _| !DECIDED_BY_SERVER.contains(&name.as_str()));
        for (name, value) in decided_by_server(event) {
            fields.insert(name.to_owned(), Value::from(value));
        }
        match self.expression.evaluate(Value::from(fields)) {
            Ok(value) => Ok(value.is_true()),
            // The error's detail may quote values: only its kind is told.
            Err(error) => Err(Reason::new(
                "filter_failed",
                format!("the connection's filter cannot be applied to this event: {}", error.kind()),
            )),
        }
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.source).finish()
    }
}

/// The fields of which the headers are the only source.
const DECIDED_BY_SERVER: [&str; 6] =
    ["type", "messageId", "rudderId", "receivedAt", "request_ip", "sourceId"];

fn decided_by_server(event: &Event) -> impl Iterator<Item = (&'static str, String)> {
    event.decided().into_iter().chain([("sourceId", event.source.to_string())])
}

/// The context with the client's place. None where it says that itself, or is no object.
fn with_place(context: Option<&Value>, place: &Geo) -> Option<Value> {
    let mut fields = BTreeMap::new();
    if let Some(context) = context.filter(|context| !context.is_none()) {
        if context.kind() != ValueKind::Map {
            return None;
        }
        for name in context.try_iter().ok()? {
            let value = context.get_item(&name).ok()?;
            fields.insert(name, value);
        }
    }
    let geo = Value::from("geo");
    if fields.get(&geo).is_some_and(|said| !said.is_none()) {
        return None;
    }
    fields.insert(geo, Value::from(Serde(place)));
    Some(Value::from_pairs(fields))
}

fn body_fields(event: &Event) -> Result<BTreeMap<String, Value>, Reason> {
    serde_json::from_slice(&event.body)
        .map_err(|_| Reason::new("invalid_json", "the event's body is not a JSON object"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests {
    use millrace_event_model::testing::event;

    use super::*;

    fn keeps(expression: &str, body: &str) -> bool {
        Filter::compile(expression).unwrap().keeps(&event(body)).unwrap()
    }

    #[test]
    fn an_expression_reads_the_event() {
        let order = r#"{"type":"page","event":"Order","properties":{"total":120,"tags":["a","b"]}}"#;
        let cases = [
            ("type == 'track'", true),
            ("type == 'page'", false),
            ("messageId == 'm-1' and sourceId == 'web'", true),
            ("receivedAt < '2024'", true),
            ("event in ['Order', 'Refund'] and properties.total > 100", true),
            ("properties.total > 120", false),
            ("'b' in properties.tags", true),
            ("properties.tags | length == 2", true),
            ("event is startingwith('Or')", true),
            ("not event", false),
        ];
        for (expression, expected) in cases {
            assert_eq!(keeps(expression, order), expected, "{expression}");
        }
    }

    #[test]
    fn a_missing_field_is_false_and_no_error() {
        for expression in [
            "event",
            "properties.plan.name",
            "properties.plan.name == 'pro'",
            "properties.total > 5",
            "context.traits.email is defined",
            "request_ip",
            "'x' in properties.tags",
        ] {
            assert!(!keeps(expression, "{}"), "{expression}");
        }
        assert!(keeps("properties.total < 5", "{}"), "as documented: undefined is less than any number");
    }

    #[test]
    fn a_client_cannot_say_what_only_the_server_decides() {
        let body = r#"{"event":"Order","request_ip":"10.0.0.1","sourceId":"app"}"#;
        for expression in ["event and request_ip", "event and sourceId == 'app'"] {
            assert!(!keeps(expression, body), "{expression}");
        }
    }

    #[test]
    fn the_clients_place_is_in_the_context_unless_the_client_says_it() {
        let keeps = |expression: &str, body: &str| {
            let geo = Some(r#"{"country":"GB","city":"Boxford"}"#.into());
            Filter::compile(expression).unwrap().keeps(&Event { geo, ..event(body) }).unwrap()
        };
        for body in ["{}", r#"{"context":null}"#, r#"{"context":{"locale":"en","geo":null}}"#] {
            assert!(keeps("context.geo.country == 'GB' and context.geo.city", body), "{body}");
        }
        assert!(keeps("context.locale and context.geo", r#"{"context":{"locale":"en"}}"#));
        assert!(!keeps("context.geo.city", r#"{"context":{"geo":{"country":"FR"}}}"#));
        assert!(!keeps("context.geo", r#"{"context":"none"}"#));
    }

    #[test]
    fn a_body_that_is_not_needed_is_not_parsed() {
        assert!(keeps("type == 'track'", "not json"));
        let error = Filter::compile("event == 'x'").unwrap().keeps(&event("not json")).unwrap_err();
        assert_eq!(error.code, "invalid_json");
    }

    #[test]
    fn a_mistake_is_found_with_its_place() {
        let error = Filter::compile("type == ").unwrap_err();
        assert!(error.at.is_some(), "{error}");
        assert!(Filter::compile("").is_err());
        assert!(Filter::compile("type = 'track'").is_err(), "one equals sign is a common mistake");
        assert!(Filter::compile("type == 'a' x").is_err(), "no operator between the two");
        assert!(Filter::compile(&"a + ".repeat(5_000)).is_err());
    }

    #[test]
    fn an_expression_that_fails_or_runs_too_long_rejects_without_telling_values() {
        let body = r#"{"email":"anna@example.com","n":1}"#;
        for expression in ["email + n", "range(99999) | join(email) | length > 1", "email | int"] {
            let reason = Filter::compile(expression).unwrap().keeps(&event(body)).expect_err(expression);
            assert_eq!(reason.code, "filter_failed", "{expression}");
            assert!(!reason.message.contains("anna"), "{expression}: {}", reason.message);
        }
    }
}
