//! What an object's key says about the value beside it.

/// The meaning of a key, where it has one for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hint {
    None,
    /// The value is a telephone number: digits without a country code count too.
    Phone,
    /// The value is a card's number: a check digit shared with a bar code does not excuse it.
    Card,
    /// The value is a network address.
    Ip,
}

/// Words that make a key a telephone's when they are its last.
const PHONE: [&str; 22] = [
    "phone",
    "phones",
    "telephone",
    "telephones",
    "tel",
    "mobile",
    "mobiles",
    "cell",
    "cellphone",
    "msisdn",
    "whatsapp",
    "fax",
    "landline",
    "phonenumber",
    "phonenumbers",
    "mobilenumber",
    "telefon",
    "telefono",
    "telefone",
    "handy",
    "handynummer",
    "mobil",
];

const CARD: [&str; 9] =
    ["card", "cards", "creditcard", "cardnumber", "creditcardnumber", "pan", "cc", "ccnumber", "ccnum"];

const IP: [&str; 4] = ["ip", "ipaddress", "ipaddr", "ips"];

/// Words that may follow and change nothing: `phone_number_1`, `mobileHome`.
const QUALIFIERS: [&str; 18] = [
    "number",
    "numbers",
    "no",
    "num",
    "nr",
    "home",
    "work",
    "office",
    "primary",
    "secondary",
    "main",
    "other",
    "e164",
    "raw",
    "formatted",
    "value",
    "address",
    "addr",
];

/// Reads a key: `phone`, `phoneNumber`, `Mobile-Phone 2`, `context.ip`, `card_number`.
pub(crate) fn hint(key: &str) -> Hint {
    if !may_mean_something(key) {
        return Hint::None;
    }
    let words = words(key);
    let meaningful =
        |word: &&String| !QUALIFIERS.contains(&word.as_str()) && !word.chars().all(|ch| ch.is_ascii_digit());
    let Some(last) = words.iter().rev().find(meaningful) else { return Hint::None };
    let last = last.trim_end_matches(|ch: char| ch.is_ascii_digit());
    if PHONE.contains(&last) {
        return Hint::Phone;
    }
    if CARD.contains(&last) {
        return Hint::Card;
    }
    if IP.contains(&last) {
        return Hint::Ip;
    }
    Hint::None
}

/// Whether a key inside a telephone's object still speaks of the number: `{"phone": {"home": …}}`.
pub(crate) fn is_qualifier(key: &str) -> bool {
    // Nearly every key ends here: the first of its words would have to be one of them.
    let named = key.starts_with(|ch: char| ch.is_ascii_alphabetic());
    if named && !QUALIFIERS.iter().any(|word| begins_with(key.as_bytes(), word.as_bytes())) {
        return false;
    }
    let words = words(key);
    !words.is_empty() && words.iter().all(|word| QUALIFIERS.contains(&word.as_str()))
}

/// A cheap filter that rejects nearly every key before it is taken apart: one of its words must begin as a
/// word begins that means something.
fn may_mean_something(key: &str) -> bool {
    // A capital outside of ASCII can have a small letter inside.
    if !key.is_ascii() {
        return true;
    }
    let mut begins = true;
    let mut rest = key.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if begins && stems(*first).iter().any(|stem| begins_with(rest, stem)) {
            return true;
        }
        // As `words` cuts.
        let capital_next = after.first().is_some_and(u8::is_ascii_uppercase);
        begins = !first.is_ascii_alphanumeric()
            || (capital_next && (first.is_ascii_lowercase() || first.is_ascii_digit()));
        rest = after;
    }
    false
}

/// What the words that mean something begin with, by their first letter.
fn stems(first: u8) -> &'static [&'static [u8]] {
    match first.to_ascii_lowercase() {
        b'p' => &[b"phone", b"pan"],
        b't' => &[b"tel"],
        b'm' => &[b"mobil", b"msisdn"],
        b'c' => &[b"cell", b"card", b"credit", b"cc"],
        b'w' => &[b"whatsapp"],
        b'f' => &[b"fax"],
        b'l' => &[b"landline"],
        b'h' => &[b"handy"],
        b'i' => &[b"ip"],
        _ => &[],
    }
}

#[inline]
fn begins_with(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// The longest key that is taken apart: longer ones are sentences, not names.
const MAX_KEY_BYTES: usize = 64;

/// The words of a key, lower case: cut at anything but letters and digits, and before a capital that
/// follows a small letter.
fn words(key: &str) -> Vec<String> {
    let mut words = Vec::new();
    if key.len() > MAX_KEY_BYTES {
        return words;
    }
    let mut word = String::new();
    let mut after_small = false;
    for ch in key.chars() {
        if !ch.is_alphanumeric() || (ch.is_uppercase() && after_small) {
            words.push(std::mem::take(&mut word));
        }
        if ch.is_alphanumeric() {
            word.extend(ch.to_lowercase());
        }
        after_small = ch.is_lowercase() || ch.is_ascii_digit();
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_what_it_names_last() {
        for (key, expected) in [
            ("phone", Hint::Phone),
            ("Phone", Hint::Phone),
            ("phoneNumber", Hint::Phone),
            ("phone_number_2", Hint::Phone),
            ("mobile-phone", Hint::Phone),
            ("phone1", Hint::Phone),
            ("homeTel", Hint::Phone),
            ("contacts_by_phone", Hint::Phone),
            ("MSISDN", Hint::Phone),
            ("phoneModel", Hint::None),
            ("phone_verified_at", Hint::None),
            ("mobile_app_version", Hint::None),
            ("lastPhoneCall", Hint::None),
            ("hotel", Hint::None),
            ("number", Hint::None),
            ("cardNumber", Hint::Card),
            ("credit_card", Hint::Card),
            ("card_id", Hint::None),
            ("ip", Hint::Ip),
            ("request_ip", Hint::Ip),
            ("ipAddress", Hint::Ip),
            ("ip_version", Hint::None),
            ("tip", Hint::None),
            ("", Hint::None),
        ] {
            assert_eq!(hint(key), expected, "{key}");
        }
        for word in PHONE.iter().chain(&CARD).chain(&IP) {
            let capitals = word.to_uppercase();
            for key in
                [(*word).to_owned(), format!("x_{word}"), format!("x{capitals}"), format!("9{capitals}2")]
            {
                assert_ne!(hint(&key), Hint::None, "{key}");
            }
        }
        assert!(is_qualifier("home") && is_qualifier("number") && !is_qualifier("id"));
    }
}
