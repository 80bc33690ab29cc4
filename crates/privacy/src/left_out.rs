//! Who leaves an event out of a destination or a warehouse before the operator is asked. The body is walked
//! once for both, and only where it may speak of one of them: nearly all events are told by a search.

use std::cell::LazyCell;
use std::sync::LazyLock;

use memchr::memchr;
use memchr::memmem::Finder;

use crate::json::{Lexer, StringToken};
use crate::{Consent, IntegrationNames};

/// Who leaves an event out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOutBy {
    /// The user, who has denied a consent that is needed.
    User,
    /// The client, by the event's `integrations` object.
    Client,
}

/// Whether the user, or else the client, keeps an event of this body from a destination or warehouse that needs
/// this consent and has these names. A body that is no JSON object says nothing of it.
#[must_use]
pub fn left_out_by(consent: &Consent, names: &IntegrationNames, body: &[u8]) -> Option<LeftOutBy> {
    let escaped = LazyCell::new(|| may_have_escaped_names(body));
    let ask_user = consent.may_forbid(body, || *escaped);
    let ask_client = IntegrationNames::may_forbid(body, || *escaped);
    if !ask_user && !ask_client {
        return None;
    }
    let [context, integrations] = fields(body, ["context", "integrations"])?;
    let management = || {
        let [said] = fields(context?, ["consentManagement"])?;
        said
    };
    if ask_user && management().is_some_and(|said| !consent.permits(said)) {
        return Some(LeftOutBy::User);
    }
    let forbids = ask_client && integrations.is_some_and(|said| !names.want(said));
    forbids.then_some(LeftOutBy::Client)
}

/// Begins the escape of every ASCII letter. Made once, since every event with a backslash is searched.
static ASCII_ESCAPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br"\u00"));

/// Whether a field may be written as `\u0069ntegrations`. Of what is escaped only an ASCII letter can be part of such
/// a name, which keeps a text like `caf\u00e9` from having its event walked. That a body has no backslash at all is
/// found sooner than that none begins an escape.
fn may_have_escaped_names(body: &[u8]) -> bool {
    let Some(rest) = memchr(b'\\', body).and_then(|at| body.get(at..)) else { return false };
    let mut found = ASCII_ESCAPE.find_iter(rest);
    found.any(|at| matches!(rest.get(at + ASCII_ESCAPE.needle().len()), Some(b'4'..=b'7')))
}

/// The values of some fields of an object. Of a name that stands twice the last value counts, as for JSON
/// readers. None where it is no object.
fn fields<'b, const N: usize>(json: &'b [u8], names: [&str; N]) -> Option<[Option<&'b [u8]>; N]> {
    let mut lexer = Lexer::new(json);
    let mut found = [None; N];
    if lexer.peek() != b'{' {
        return None;
    }
    lexer.advance();
    if lexer.peek() == b'}' {
        return Some(found);
    }
    loop {
        let key = lexer.key().ok()?;
        let value = lexer.skip_value(1, &mut 0).ok()?;
        for (name, value_of) in names.iter().zip(&mut found) {
            if is(json, &key, name) {
                *value_of = json.get(value.clone());
            }
        }
        match lexer.peek() {
            b',' => lexer.advance(),
            b'}' => return Some(found),
            _ => return None,
        }
    }
}

/// Whether a key is this name, which may be written with escapes.
fn is(json: &[u8], key: &StringToken, name: &str) -> bool {
    let written = json.get(key.span.clone()).unwrap_or_default();
    if !key.escaped {
        return written == name.as_bytes();
    }
    let quoted = [b"\"", written, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).is_ok_and(|meant| meant == name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn asking() -> (Consent, IntegrationNames) {
        (serde_json::from_value(json!([{"categories": ["A"]}])).unwrap(), IntegrationNames::new(["hook"]))
    }

    fn left_out(body: &str) -> Option<LeftOutBy> {
        let (consent, names) = asking();
        left_out_by(&consent, &names, body.as_bytes())
    }

    /// The same without a search that tells which bodies to walk.
    fn left_out_by_walk(body: &str) -> Option<LeftOutBy> {
        let (consent, names) = asking();
        let said: Value = serde_json::from_str(body).unwrap();
        let bytes = |value: &Value| value.to_string().into_bytes();
        if said.pointer("/context/consentManagement").is_some_and(|said| !consent.permits(&bytes(said))) {
            return Some(LeftOutBy::User);
        }
        let forbids = said.get("integrations").is_some_and(|said| !names.want(&bytes(said)));
        forbids.then_some(LeftOutBy::Client)
    }

    fn any_body() -> impl Strategy<Value = String> {
        let names = vec![
            "integrations",
            r"\u0069ntegrations",
            r"integration\u0073",
            "context",
            r"c\u006Fntext",
            "properties",
            r"caf\u00e9",
        ];
        let values = vec![
            r#"{"All":true}"#,
            "{}",
            r#"{"All":false}"#,
            r#"{ "All" : true, "Hook":false}"#,
            r#"{"consentManagement":{"deniedConsentIds":["A"]}}"#,
            r#"{"consent\u004danagement":{"deniedConsentIds":["A"]}}"#,
            r#"{"consentManagement":{"deniedConsentIds":["B"]}}"#,
            r#"{"integrations":{"All":false}}"#,
            r#"{"integrations":{"All":true}}"#,
            r#""integrations""#,
            r#""\\u0069 \u00e9 \"context\"""#,
        ];
        let field = (prop::sample::select(names), prop::sample::select(values));
        prop::collection::vec(field, 0..5).prop_map(|fields| {
            let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("{{{}}}", fields.join(","))
        })
    }

    proptest! {
        #[test]
        fn a_search_leaves_out_what_a_walk_leaves_out(body in any_body()) {
            prop_assert_eq!(left_out(&body), left_out_by_walk(&body), "{}", body);
        }
    }

    #[test]
    fn the_user_is_heard_before_the_client_wherever_each_stands() {
        let (denied, given) = (r#"{"deniedConsentIds":["A"]}"#, r#"{"deniedConsentIds":["B"]}"#);
        let context = |said: &str| format!(r#""context":{{"locale":"en","consentManagement":{said}}}"#);
        let (not_here, here) = (r#""integrations":{"All":false}"#, r#""integrations":{"Hook":true}"#);
        let (user, client) = (Some(LeftOutBy::User), Some(LeftOutBy::Client));
        for (body, expected) in [
            ("{}".to_owned(), None),
            (format!("{{{},{here}}}", context(given)), None),
            (format!("{{{},{not_here}}}", context(given)), client),
            (format!("{{{not_here},{}}}", context(given)), client),
            (format!("{{{},{here}}}", context(denied)), user),
            (format!("{{{not_here},\"event\":\"x\",{}}}", context(denied)), user),
            (format!("{{ {} , {not_here} }}", context(denied)), user),
            // Names with escapes in them.
            (format!(r#"{{"c\u006fntext":{{"consent\u004danagement":{denied}}}}}"#), user),
            (r#"{"\u0069ntegrations":{"All":false}}"#.to_owned(), client),
            // Of a name that stands twice the last value counts.
            (format!("{{{},\"context\":{{}}}}", context(denied)), None),
            (format!("{{\"context\":{{}},{}}}", context(denied)), user),
            (format!("{{{not_here},{here}}}"), None),
            // Nothing is said by what is no event, or of another shape.
            (format!("[{{{}}}]", context(denied)), None),
            (format!("{{{},", context(denied)), None),
            (format!(r#"{{"context":[{denied}],"consentManagement":{denied}}}"#), None),
            (r#"{"context":"consentManagement","integrations":[false]}"#.to_owned(), None),
            ("consentManagement".to_owned(), None),
        ] {
            assert_eq!(left_out(&body), expected, "{body}");
        }
    }
}
