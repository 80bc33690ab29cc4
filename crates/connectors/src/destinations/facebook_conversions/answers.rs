//! What Meta's answers mean. The status says little: the code in the body counts
//! (<https://developers.facebook.com/docs/graph-api/guides/error-handling>).

use serde_json::Value;

use crate::http::{AnswerRule, Class};

/// The token is wrong or has expired, or may not do this: 3, 10 and 200 to 299 are about permissions.
fn is_refused(code: u64) -> bool {
    matches!(code, 3 | 10 | 102 | 190 | 200..=299)
}

/// Too many calls: of the app, the person, the page, or of this kind.
fn is_throttled(code: u64) -> bool {
    matches!(code, 4 | 17 | 32 | 341 | 613 | 80_000..=80_014)
}

/// Meta's own trouble.
fn is_down(code: u64) -> bool {
    matches!(code, 1 | 2 | 21_009)
}

/// A wrong parameter.
const INVALID: u64 = 100;

/// Of a wrong parameter: there is no such dataset, or the token does not reach it.
const NO_DATASET: u64 = 33;

/// The first that fits counts; after them the statuses.
pub(super) fn rules() -> Vec<AnswerRule> {
    vec![
        rule(Class::Auth, |error| is_refused(code(error))),
        rule(Class::Throttled, |error| is_throttled(code(error))),
        rule(Class::Transient, |error| {
            is_down(code(error)) || error.get("is_transient") == Some(&Value::Bool(true))
        }),
        rule(Class::Config, |error| code(error) == INVALID && sub_code(error) == NO_DATASET),
        // All events of the call are refused for the one that is wrong.
        rule(Class::Unclear, |error| code(error) == INVALID).telling("error.error_user_title"),
    ]
}

fn rule(class: Class, fits: fn(&Value) -> bool) -> AnswerRule {
    let rule = AnswerRule { status: vec![(400, 599)], when: None, class, message: None };
    rule.when(move |body| body.get("error").is_some_and(fits)).telling("error.message")
}

fn code(error: &Value) -> u64 {
    number(error, "code")
}

fn sub_code(error: &Value) -> u64 {
    number(error, "error_subcode")
}

fn number(error: &Value, name: &str) -> u64 {
    error.get(name).and_then(Value::as_u64).unwrap_or_default()
}
