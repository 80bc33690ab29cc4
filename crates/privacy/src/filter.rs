//! Cheap filters that reject nearly every string and number before anything is decoded. They may let
//! through too much, never too little: the table in `tests/it/table.rs` holds them to it.

/// Digits of a telephone number without its area code, and of the longest card.
pub(crate) const SHORTEST_NUMBER: usize = 7;
const LONGEST_NUMBER: usize = 19;

/// The digits of a positive whole number, also where a client's library wrote `4.111111111111111E15`.
/// Shorter than a telephone number, or longer than a card's: nothing.
pub(crate) fn integer(token: &str) -> Option<String> {
    let (mantissa, exponent) = match token.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<usize>().ok()?),
        None => (token, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    if whole.starts_with(['-', '0'])
        || fraction.len() > exponent
        || whole.len().saturating_add(exponent) > LONGEST_NUMBER
    {
        return None;
    }
    let zeros = exponent - fraction.len();
    let digits = format!("{whole}{fraction}{}", "0".repeat(zeros));
    (digits.len() >= SHORTEST_NUMBER).then_some(digits)
}

/// What the cheap filters say of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suspicion {
    /// There can be nothing in it.
    None,
    /// There can be, beside a key that says telephone or address.
    IfKeyed,
    Some,
}

/// Digits in a row, separators aside, below which no number counts without a key that names it.
const UNKEYED_DIGITS: usize = 10;

/// The same behind a `+`.
const INTERNATIONAL_DIGITS: usize = 8;

pub(crate) fn suspicion(raw: &[u8], escaped: bool) -> Suspicion {
    if memchr::memchr(b'@', raw).is_some() || (escaped && memchr::memmem::find(raw, b"\\u").is_some()) {
        return Suspicion::Some;
    }
    let percent = memchr::memchr(b'%', raw).is_some();
    if percent && (contains(raw, b"%40") || contains(raw, b"%25")) {
        return Suspicion::Some;
    }
    let digits = longest_digits(raw, percent);
    let plus = digits >= INTERNATIONAL_DIGITS && memchr::memchr(b'+', raw).is_some();
    if digits >= UNKEYED_DIGITS || plus {
        return Suspicion::Some;
    }
    if digits >= SHORTEST_NUMBER || looks_like_address(raw) {
        return Suspicion::IfKeyed;
    }
    Suspicion::None
}

fn contains(raw: &[u8], what: &[u8]) -> bool {
    memchr::memmem::find(raw, what).is_some()
}

/// The most digits with nothing but separators between them: more than there are where a multi-byte
/// character or a percent code stands between, never fewer.
fn longest_digits(raw: &[u8], percent: bool) -> usize {
    let mut longest = 0;
    let mut count = 0;
    for byte in raw {
        match byte {
            b'0'..=b'9' => count += 1,
            b' ' | b'-' | b'.' | b'(' | b')' | b'/' | b'+' | b'\\' | 0x80.. => {}
            _ if percent => {}
            _ => {
                longest = longest.max(count);
                count = 0;
            }
        }
    }
    longest.max(count)
}

/// The longest text of an IPv6 address with a port.
const MAX_ADDRESS_BYTES: usize = 54;

fn looks_like_address(raw: &[u8]) -> bool {
    let of_address = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':' | b'[' | b']');
    (2..=MAX_ADDRESS_BYTES).contains(&raw.len())
        && raw.iter().any(|byte| matches!(byte, b'.' | b':'))
        && raw.iter().all(of_address)
}
