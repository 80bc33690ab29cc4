//! A string as a reader sees it: JSON escapes, percent encoding and the escapes of JSON kept inside a
//! string are decoded, and each character remembers which bytes of the input it came from.

/// One character and its bytes in the input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit {
    pub(crate) ch: char,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// How often `%40` and `\u0040` are looked for again in what came out: `%2540`, and JSON in a string in
/// a string. A deeper nesting is not decoded.
const NESTED_DECODINGS: usize = 2;

/// Decodes `raw`, the inside of a JSON string that starts at `offset` of the input, into `units`.
pub(crate) fn decode(raw: &str, offset: usize, units: &mut Vec<Unit>) {
    units.clear();
    let mut rest_starts_at = 0;
    for (at, ch) in raw.char_indices() {
        if at < rest_starts_at {
            continue; // inside the escape before
        }
        let (ch, length) = if ch == '\\' { escape(raw, at) } else { (ch, ch.len_utf8()) };
        units.push(Unit { ch, start: offset + at, end: offset + at + length });
        rest_starts_at = at + length;
    }
    for _ in 0..NESTED_DECODINGS {
        if !units.iter().any(|unit| matches!(unit.ch, '%' | '\\')) {
            return;
        }
        collapse(units);
    }
}

/// The character of the escape at `at`, and its length in bytes. The lexer has checked its form.
fn escape(raw: &str, at: usize) -> (char, usize) {
    match raw.as_bytes().get(at + 1) {
        Some(b'u') => unicode_escape(raw, at),
        Some(b'n') => ('\n', 2),
        Some(b't') => ('\t', 2),
        Some(b'r') => ('\r', 2),
        Some(b'b') => ('\u{8}', 2),
        Some(b'f') => ('\u{c}', 2),
        Some(other) => (char::from(*other), 2),
        None => ('\\', 1),
    }
}

fn unicode_escape(raw: &str, at: usize) -> (char, usize) {
    let code = |from: usize| {
        let escape = raw.get(from..from + 6)?.strip_prefix("\\u")?;
        u32::from_str_radix(escape, 16).ok()
    };
    let Some(first) = code(at) else { return (char::REPLACEMENT_CHARACTER, 2) };
    if (0xd800..0xdc00).contains(&first)
        && let Some(second) = code(at + 6)
        && (0xdc00..0xe000).contains(&second)
    {
        let both = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return (char::from_u32(both).unwrap_or(char::REPLACEMENT_CHARACTER), 12);
    }
    (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 6)
}

/// Replaces each `%HH` and `\uHHHH` by the one character that it stands for, in place.
fn collapse(units: &mut Vec<Unit>) {
    let mut kept = 0;
    let mut at = 0;
    while let Some(unit) = units.get(at).copied() {
        let (code, length) = match unit.ch {
            '%' => (hexadecimal(units, at + 1, 2), 3),
            '\\' if units.get(at + 1).is_some_and(|next| next.ch == 'u') => {
                (hexadecimal(units, at + 2, 4), 6)
            }
            _ => (None, 1),
        };
        let mut result = unit;
        if let Some(code) = code {
            // A byte above 127 is part of a percent-encoded UTF-8 sequence: some letter.
            let ascii = char::from_u32(code).filter(|ch| ch.is_ascii() || length == 6);
            result.ch = ascii.unwrap_or(char::REPLACEMENT_CHARACTER);
            result.end = units.get(at + length - 1).map_or(unit.end, |last| last.end);
            at += length;
        } else {
            at += 1;
        }
        if let Some(slot) = units.get_mut(kept) {
            *slot = result;
        }
        kept += 1;
    }
    units.truncate(kept);
}

fn hexadecimal(units: &[Unit], from: usize, length: usize) -> Option<u32> {
    let digits = units.get(from..from + length)?;
    digits.iter().try_fold(0, |code, unit| Some(code * 16 + unit.ch.to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_knows_its_bytes() {
        for (raw, text) in [
            ("plain", "plain"),
            (r"a\u0040b", "a@b"),
            (r"\/\n\\u", "/\n\\u"),
            (r"\ud83d\ude00!", "😀!"),
            (r"\ud800x", "\u{fffd}x"),
            ("a%40b", "a@b"),
            ("a%2540b", "a@b"),
            ("100% sure", "100% sure"),
            (r"{\u0022e\u0022:\u0022a\\u0040b", r#"{"e":"a@b"#),
            ("é%C3%A9", "é\u{fffd}\u{fffd}"),
        ] {
            let mut units = Vec::new();
            decode(raw, 10, &mut units);
            assert_eq!(units.iter().map(|unit| unit.ch).collect::<String>(), text, "{raw}");
            let mut end = 10;
            for unit in &units {
                assert_eq!(unit.start, end, "{raw}: spans follow one another");
                end = unit.end;
            }
            assert_eq!(end, 10 + raw.len(), "{raw}: spans cover everything");
        }
    }
}
