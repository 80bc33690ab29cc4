//! Values in addresses.

use millrace_event_model::Reason;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but what `encodeURIComponent` leaves alone.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// A value as one segment of a path.
///
/// # Errors
/// Nothing, `.` and `..` are no segments of their own: with them the address would be another, however they
/// are encoded. The reason names the field, not the value.
pub(crate) fn segment(field: &str, value: &str) -> Result<String, Reason> {
    if matches!(value, "" | "." | "..") {
        return Err(Reason::new("invalid_field", format!("{field} cannot stand in an address")));
    }
    Ok(utf8_percent_encode(value, COMPONENT).to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_segment_stays_one() {
        assert_eq!(segment("id", "a/b@c d?é.").unwrap(), "a%2Fb%40c%20d%3F%C3%A9.");
        for field in ["", ".", ".."] {
            assert_eq!(segment("id", field).unwrap_err().code, "invalid_field");
        }
        // A URL parser reads the encoded dots as dots; the escaped percent sign keeps these apart.
        assert_eq!(segment("id", "%2e%2e").unwrap(), "%252e%252e");
    }
}
