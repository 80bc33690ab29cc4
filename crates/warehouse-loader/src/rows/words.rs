//! A name's words, after lodash's `words`, for ASCII text: all that is left of a name by then.
//!
//! lodash is one regular expression of ordered alternatives. Here each alternative is a few lines over
//! bytes, tried in the same order at each place, since this runs for every property of every event.

/// Whether digits are words of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Digits {
    /// `v2` is `v`, `2`: destinations made before 2023, and lodash.
    Apart,
    /// `v2` is one word: the default.
    WithLetters,
}

/// The words in lower case, joined by `_`.
pub(super) fn snake_case(text: &str, digits: Digits) -> String {
    let mut snake = String::with_capacity(text.len() + 8);
    for word in words(text, digits) {
        if !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(word.chars().map(|letter| letter.to_ascii_lowercase()));
    }
    snake
}

/// The words as they stand in the text. Whatever is neither letter nor digit only divides them.
pub(super) fn words(text: &str, digits: Digits) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let length = word_length(text.as_bytes().get(start..).unwrap_or_default(), digits);
        // Words are ASCII, so their ends are ends of characters; a place without one moves by a byte.
        found.extend(text.get(start..start + length).filter(|word| !word.is_empty()));
        start += length.max(1);
    }
    found
}

fn word_length(rest: &[u8], digits: Digits) -> usize {
    let with_digits = match digits {
        Digits::Apart => None,
        Digits::WithLetters => letters_then_digits(rest).or_else(|| digits_then_letters(rest)),
    };
    with_digits.or_else(|| letters(rest)).or_else(|| ordinal(rest)).unwrap_or_else(|| run(rest, is_digit))
}

/// `abc123`, `Abc123`, `ABC123`.
fn letters_then_digits(rest: &[u8]) -> Option<usize> {
    let letters = capitalised(rest).or_else(|| some(run(rest, is_upper)))?;
    Some(letters + some(run(tail(rest, letters), is_digit))?)
}

/// `123abc`, `123Abc`, `123ABC`.
fn digits_then_letters(rest: &[u8]) -> Option<usize> {
    let digits = some(run(rest, is_digit))?;
    let after = tail(rest, digits);
    Some(digits + capitalised(after).or_else(|| some(run(after, is_upper)))?)
}

/// `abc`, `Abc`; or `ABC`, of which the last letter begins the next word where small letters follow.
fn letters(rest: &[u8]) -> Option<usize> {
    if let Some(length) = capitalised(rest) {
        return Some(length);
    }
    let upper = some(run(rest, is_upper))?;
    let next_is_lower = tail(rest, upper).first().is_some_and(u8::is_ascii_lowercase);
    Some(if next_is_lower { upper - 1 } else { upper })
}

/// Small letters, perhaps after one capital.
fn capitalised(rest: &[u8]) -> Option<usize> {
    let capital = usize::from(rest.first().is_some_and(u8::is_ascii_uppercase));
    Some(capital + some(run(tail(rest, capital), is_lower))?)
}

/// `1st`, `22ND`: digits with their ending, all small or all capital, and no letter of that kind after it.
/// As in lodash, `11th` is none, since its last digit asks for `st`.
fn ordinal(rest: &[u8]) -> Option<usize> {
    let digits = some(run(rest, is_digit))?;
    let ending = tail(rest, digits);
    let expected = match rest.get(digits - 1)? {
        b'1' => b"st",
        b'2' => b"nd",
        b'3' => b"rd",
        _ => b"th",
    };
    let found = ending.get(..2)?;
    let next = ending.get(2).copied().unwrap_or(b' ');
    let ends = |allowed: fn(u8) -> bool| !next.is_ascii_alphanumeric() || allowed(next);
    let lower = found == expected && ends(is_upper);
    let upper = found == expected.to_ascii_uppercase() && ends(is_lower);
    (lower || upper).then_some(digits + 2)
}

fn run(rest: &[u8], kind: fn(u8) -> bool) -> usize {
    rest.iter().take_while(|byte| kind(**byte)).count()
}

fn some(length: usize) -> Option<usize> {
    (length > 0).then_some(length)
}

fn tail(rest: &[u8], from: usize) -> &[u8] {
    rest.get(from..).unwrap_or_default()
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase()
}

fn is_upper(byte: u8) -> bool {
    byte.is_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_end_where_case_changes_and_where_digits_are_apart() {
        let apart = |text, expected: &[&str]| assert_eq!(words(text, Digits::Apart), expected, "{text}");
        apart("orderID", &["order", "ID"]);
        apart("HTTPServer", &["HTTP", "Server"]);
        apart("utf8Text", &["utf", "8", "Text"]);
        apart("the 3rd_PARTY", &["the", "3rd", "PARTY"]);
        apart("22ND11th", &["22", "ND", "11", "th"]);
        apart("__a-b  c__", &["a", "b", "c"]);
        apart("", &[]);
    }

    #[test]
    fn digits_stay_with_the_letters_before_them_or_else_after_them() {
        let with = |text, expected: &[&str]| assert_eq!(words(text, Digits::WithLetters), expected, "{text}");
        with("utf8Text", &["utf8", "Text"]);
        with("sha256sum2", &["sha256", "sum2"]);
        with("7UP", &["7UP"]);
        with("MP3Player", &["MP3", "Player"]);
        with("42", &["42"]);
    }

    proptest! {
        #[test]
        fn snake_case_keeps_all_letters_and_digits_in_order(text in "[ -~]{0,40}") {
            for digits in [Digits::Apart, Digits::WithLetters] {
                let kept = |text: &str| -> String {
                    text.chars().filter(char::is_ascii_alphanumeric).collect()
                };
                prop_assert_eq!(kept(&snake_case(&text, digits)), kept(&text).to_ascii_lowercase());
            }
        }

        #[test]
        fn words_never_panics(text in any::<String>()) {
            words(&text, Digits::Apart);
            words(&text, Digits::WithLetters);
        }
    }
}
