//! Decimal numbers as text, digit by digit, so that none goes through a float.

/// The longest that a number's digits may become when its exponent is written out: PostgreSQL's limit before
/// the point is 131,072 digits, and nothing that a person means has a thousand.
const MAX_DIGITS: usize = 1_000;

/// A number without an exponent: `1.50`, `-1200`. `None` where the text is no number, or one without end.
pub(crate) fn plain_digits(text: &str) -> Option<String> {
    let (sign, rest) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = [whole, fraction].concat();
    let is_number = !whole.is_empty() && all.bytes().all(|digit| digit.is_ascii_digit());
    let exponent: i64 = exponent.parse().ok().filter(|_| is_number)?;
    let point = i64::try_from(whole.len()).ok()?.checked_add(exponent)?;
    let limit = i64::try_from(MAX_DIGITS).ok()?;
    if all.len() > MAX_DIGITS || !(-limit..=limit).contains(&point) {
        return None;
    }
    let before = usize::try_from(point).unwrap_or(0);
    let zeros_in_front = usize::try_from(-point).unwrap_or(0);
    let digits = format!("{}{all}", "0".repeat(zeros_in_front));
    let padded = format!("{digits}{}", "0".repeat(before.saturating_sub(digits.len())));
    let (whole, fraction) = padded.split_at_checked(before)?;
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

/// Digits of a decimal without what does not count: `-0.50` is `-0.5`, and `-0.0` is `0`.
pub(crate) fn shortest(digits: &str) -> &str {
    let shortest = match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.'),
        false => digits,
    };
    if shortest == "-0" { "0" } else { shortest }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_shortest_digits_of_a_number_are_those_that_count() {
        for (json, digits) in [("1.50", "1.5"), ("10", "10"), ("1e1", "10"), ("-0.0", "0"), ("1e-3", "0.001")]
        {
            assert_eq!(shortest(&plain_digits(json).unwrap()), digits, "{json}");
        }
    }

    proptest! {
        #[test]
        fn plain_digits_are_the_same_number(mantissa in any::<i64>(), exponent in -30_i32..30) {
            let digits = plain_digits(&format!("{mantissa}e{exponent}")).unwrap();
            prop_assert!(!digits.contains('e'));
            let same: f64 = format!("{mantissa}e{exponent}").parse().unwrap();
            prop_assert_eq!(digits.parse::<f64>().unwrap(), same);
        }
    }
}
