//! Ids as RudderStack's gateway reads them: any JSON value, as text, without what cannot be seen.

use std::borrow::Cow;

pub(crate) use millrace_event_model::visible;

/// The text of a value: a string's content, nothing for null, `12` for `12.0`, else the JSON itself.
pub(crate) fn text(json: &str) -> Cow<'_, str> {
    match json.as_bytes().first() {
        Some(b'"') => string(json).unwrap_or_else(|| Cow::Borrowed(json.trim_matches('"'))),
        Some(b'n') => Cow::Borrowed(""),
        Some(b'-' | b'0'..=b'9') => number(json),
        _ => Cow::Borrowed(json),
    }
}

/// The content of a string; nothing if the value is no string.
pub(crate) fn string(json: &str) -> Option<Cow<'_, str>> {
    let content = json.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', content.as_bytes()).is_none() {
        return Some(Cow::Borrowed(content));
    }
    serde_json::from_str(json).ok().map(Cow::Owned)
}

/// [`text`] as it counts for telling people apart.
pub(crate) fn id(json: Option<&str>) -> Cow<'_, str> {
    json.map_or(Cow::Borrowed(""), |json| visible(text(json)))
}

/// JSON libraries of some clients write whole numbers with a fraction or an exponent.
fn number(json: &str) -> Cow<'_, str> {
    /// Beyond this Go and JavaScript print an exponent.
    const LARGEST_WRITTEN_OUT: f64 = 1e21;
    if !json.contains(['.', 'e', 'E']) {
        return Cow::Borrowed(json);
    }
    match json.parse::<f64>() {
        Ok(value) if value.fract() == 0.0 && value.abs() < LARGEST_WRITTEN_OUT => {
            Cow::Owned(format!("{value:.0}"))
        }
        _ => Cow::Borrowed(json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_any_value_as_text() {
        for (json, expected) in [
            (r#""u1""#, "u1"),
            (r#""  u1\n""#, "u1"),
            (r#""\u200bu\u00ad1\ufeff""#, "u1"),
            (r#""\u200b \t""#, ""),
            (r#""\u30e6""#, "ユ"),
            (r#""""#, ""),
            ("null", ""),
            ("12", "12"),
            ("12.0", "12"),
            ("1.2e1", "12"),
            ("1.5", "1.5"),
            ("123456789012345678901", "123456789012345678901"),
            ("true", "true"),
            (r#"{"a":1}"#, r#"{"a":1}"#),
            (r#""\ud800x""#, r"\ud800x"),
        ] {
            assert_eq!(id(Some(json)), expected, "{json}");
        }
        assert_eq!(id(None), "");
    }
}
