//! A name's words, after lodash's `words`, as RudderStack's snake case takes them.
//!
//! lodash is one regular expression of ordered alternatives. Here each alternative is a few lines, tried in the
//! same order at each place. Names of tables and columns are ASCII by the time they come here; the rest of
//! lodash (letters with accents, contractions, emoji) is kept with it, so that the one function can be held
//! against all of RudderStack's cases.

/// Whether digits are words of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Digits {
    /// `v2` is `v`, `2`: destinations made before 2023, and lodash.
    Apart,
    /// `v2` is one word: the default.
    WithLetters,
}

/// The words in lower case, joined by `_`. An apostrophe is left out.
pub(super) fn snake_case(text: &str, digits: Digits) -> String {
    let without;
    let mut text = text;
    if text.contains(APOSTROPHES) {
        without = text.replace(APOSTROPHES, "");
        text = &without;
    }
    let words: Vec<String> = words(text, digits).into_iter().map(str::to_lowercase).collect();
    words.join("_")
}

const APOSTROPHES: [char; 2] = ['\'', '\u{2019}'];

/// The words as they stand in the text. Whatever is neither letter, digit nor emoji only divides them.
pub(super) fn words(text: &str, digits: Digits) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = word_length(rest, digits).filter(|length| *length > 0);
        let (word, after) = rest.split_at(length.unwrap_or(first.len_utf8()));
        if length.is_some() {
            found.push(word);
        }
        rest = after;
    }
    found
}

/// Bytes of the word at the front.
fn word_length(rest: &str, digits: Digits) -> Option<usize> {
    let with_digits = match digits {
        Digits::Apart => None,
        Digits::WithLetters => letters_then_digits(rest).or_else(|| digits_then_letters(rest)),
    };
    with_digits
        .or_else(|| letters(rest))
        .or_else(|| ordinal(rest))
        .or_else(|| some(run(rest, is_digit)))
        .or_else(|| emoji(rest))
}

/// `abc123`, `Abc123`, `ABC123`.
fn letters_then_digits(rest: &str) -> Option<usize> {
    let letters = capitalised(rest, is_lower).or_else(|| some(run(rest, is_upper)))?;
    Some(letters + some(run(tail(rest, letters), is_digit))?)
}

/// `123abc`, `123Abc`, `123ABC`.
fn digits_then_letters(rest: &str) -> Option<usize> {
    let digits = some(run(rest, is_digit))?;
    let after = tail(rest, digits);
    Some(digits + capitalised(after, is_lower).or_else(|| some(run(after, is_upper)))?)
}

/// The four alternatives for letters, in order.
fn letters(rest: &str) -> Option<usize> {
    small_word(rest)
        .or_else(|| large_word(rest))
        .or_else(|| Some(contracted(rest, capitalised(rest, is_lower_or_misc)?, SMALL)))
        .or_else(|| Some(contracted(rest, some(run(rest, is_upper))?, LARGE)))
}

/// `abc`, `Abc`, `can't`, where a word ends.
fn small_word(rest: &str) -> Option<usize> {
    let word = capitalised(rest, is_lower)?;
    let ends =
        |length: usize| tail(rest, length).chars().next().is_none_or(|next| is_break(next) || is_upper(next));
    [contracted(rest, word, SMALL), word].into_iter().find(|length| ends(*length))
}

/// `ABC`, of which the last letter begins the next word where small letters follow.
fn large_word(rest: &str) -> Option<usize> {
    let run = run(rest, is_upper_or_misc);
    let ends = |length: usize| {
        let mut next = tail(rest, length).chars();
        match (next.next(), next.next()) {
            (None, _) => true,
            (Some(first), second) => {
                is_break(first) || (is_upper(first) && second.is_some_and(is_lower_or_misc))
            }
        }
    };
    let lengths = rest.char_indices().map(|(start, _)| start).chain([rest.len()]);
    let mut lengths: Vec<usize> = lengths.filter(|length| (1..=run).contains(length)).collect();
    lengths.reverse();
    lengths
        .into_iter()
        .flat_map(|length| [contracted(rest, length, LARGE), length])
        .find(|length| ends(*length))
}

/// Endings that an apostrophe joins to a word.
const SMALL: [&str; 7] = ["d", "ll", "m", "re", "s", "t", "ve"];
const LARGE: [&str; 7] = ["D", "LL", "M", "RE", "S", "T", "VE"];

/// The length of a word with its contraction, where it has one.
fn contracted(rest: &str, word: usize, endings: [&str; 7]) -> usize {
    let after = tail(rest, word);
    let Some(ending) = after.strip_prefix(APOSTROPHES) else { return word };
    let found = endings.into_iter().find(|known| ending.starts_with(known));
    found.map_or(word, |known| word + after.len() - ending.len() + known.len())
}

/// Letters of a kind, perhaps after one capital.
fn capitalised(rest: &str, kind: fn(char) -> bool) -> Option<usize> {
    let capital = rest.chars().next().filter(|first| is_upper(*first)).map_or(0, char::len_utf8);
    Some(capital + some(run(tail(rest, capital), kind))?)
}

/// `1st`, `22ND`: digits with their ending, all small or all capital, and no letter of that kind after it.
/// As in lodash, `11th` is none, since its last digit asks for `st`.
fn ordinal(rest: &str) -> Option<usize> {
    let digits = some(run(rest, is_digit))?;
    let expected = match rest.as_bytes().get(digits - 1)? {
        b'1' => "st",
        b'2' => "nd",
        b'3' => "rd",
        _ => "th",
    };
    let found = rest.get(digits..digits + 2)?;
    let next = tail(rest, digits + 2).chars().next().unwrap_or(' ');
    let ends = |allowed: fn(&char) -> bool| {
        // A word's end, as JavaScript sees it, or `_`.
        !next.is_ascii_alphanumeric() || allowed(&next)
    };
    let lower = found == expected && ends(char::is_ascii_uppercase);
    let upper = found == expected.to_ascii_uppercase() && ends(char::is_ascii_lowercase);
    (lower || upper).then_some(digits + 2)
}

/// One emoji with all that is joined to it.
fn emoji(rest: &str) -> Option<usize> {
    let mut length = picture(rest)?;
    length += modifiers(tail(rest, length));
    while let Some(after) = tail(rest, length).strip_prefix('\u{200d}') {
        let joined = after.chars().next().map(char::len_utf8);
        let Some(joined) = picture(after).or(joined) else { break };
        let start = rest.len() - after.len();
        length = start + joined;
        length += modifiers(tail(rest, length));
    }
    Some(length)
}

/// A dingbat, a flag of two regional letters, or another sign beyond 16 bits.
fn picture(rest: &str) -> Option<usize> {
    let mut signs = rest.chars();
    let first = signs.next().filter(|first| is_dingbat(*first) || is_astral(*first))?;
    let is_regional = |sign: char| ('\u{1f1e6}'..='\u{1f1ff}').contains(&sign);
    let second = signs.next().filter(|second| is_regional(first) && is_regional(*second));
    Some(first.len_utf8() + second.map_or(0, char::len_utf8))
}

/// A variation selector, then a combining mark or a tone of skin.
fn modifiers(rest: &str) -> usize {
    let variation = length_of(rest, |sign| matches!(sign, '\u{fe0e}' | '\u{fe0f}'));
    variation + length_of(tail(rest, variation), |sign| is_mark(sign) || is_tone(sign))
}

fn length_of(rest: &str, kind: fn(char) -> bool) -> usize {
    rest.chars().next().filter(|first| kind(*first)).map_or(0, char::len_utf8)
}

fn run(rest: &str, kind: fn(char) -> bool) -> usize {
    rest.find(|sign| !kind(sign)).unwrap_or(rest.len())
}

fn some(length: usize) -> Option<usize> {
    (length > 0).then_some(length)
}

fn tail(rest: &str, from: usize) -> &str {
    rest.get(from..).unwrap_or_default()
}

fn is_digit(sign: char) -> bool {
    sign.is_ascii_digit()
}

fn is_lower(sign: char) -> bool {
    matches!(sign, 'a'..='z' | '\u{df}'..='\u{f6}' | '\u{f8}'..='\u{ff}')
}

fn is_upper(sign: char) -> bool {
    matches!(sign, 'A'..='Z' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{de}')
}

/// Whatever is none of the other kinds.
fn is_misc(sign: char) -> bool {
    let other = [is_digit, is_lower, is_upper, is_break, is_dingbat, is_astral];
    !other.iter().any(|kind| kind(sign))
}

fn is_lower_or_misc(sign: char) -> bool {
    is_lower(sign) || is_misc(sign)
}

fn is_upper_or_misc(sign: char) -> bool {
    is_upper(sign) || is_misc(sign)
}

/// Signs of mathematics, punctuation and blanks.
fn is_break(sign: char) -> bool {
    matches!(
        sign,
        '\0'..='/' | ':'..='@' | '['..='`' | '{'..='\u{bf}' | '\u{d7}' | '\u{f7}' | '\u{1680}' | '\u{180e}'
            | '\u{2000}'..='\u{206f}' | '\u{3000}' | '\u{feff}'
    )
}

fn is_dingbat(sign: char) -> bool {
    matches!(sign, '\u{2700}'..='\u{27bf}')
}

fn is_astral(sign: char) -> bool {
    sign > '\u{ffff}'
}

fn is_mark(sign: char) -> bool {
    matches!(sign, '\u{300}'..='\u{36f}' | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

fn is_tone(sign: char) -> bool {
    matches!(sign, '\u{1f3fb}'..='\u{1f3ff}')
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

    #[test]
    fn letters_with_accents_contractions_and_emoji_are_words_as_in_lodash() {
        let apart = |text, expected: &[&str]| assert_eq!(words(text, Digits::Apart), expected, "{text}");
        apart("CrèmeBrûlée", &["Crème", "Brûlée"]);
        apart("I can't, you’LL", &["I", "can't", "you", "LL"]);
        apart("A\u{fe0f}\u{2764}\u{fe0f}b", &["A\u{fe0f}", "\u{2764}\u{fe0f}", "b"]);
        apart(
            "\u{1f1e9}\u{1f1ea}\u{1f469}\u{1f3fd}\u{200d}\u{1f680}",
            &["\u{1f1e9}\u{1f1ea}", "\u{1f469}\u{1f3fd}\u{200d}\u{1f680}"],
        );
        assert_eq!(snake_case("a b'd c", Digits::Apart), "a_bd_c");
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
