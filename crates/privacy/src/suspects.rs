//! Where in a document there may be something to find, seen without looking at its tokens.
//!
//! Personal data does not hide in letters: an e-mail address has an `@` (or a `%` or a backslash that
//! stands for one), a number has a row of digits, an address has such a row or colons. One look at all
//! bytes, sixteen at a time, finds the places where one of these is. Time stamps, UUIDs and short numbers,
//! which nearly every event has, are such places and no findings. Most documents have no other, and most
//! strings of the rest need no second look.

use std::ops::Range;

use wide::u8x16;

use crate::filter::SHORTEST_NUMBER;

const BLOCK: usize = 16;

/// Bytes of the block before that a row can reach back to.
const TAIL: usize = SHORTEST_NUMBER - 1;

/// The places, in the order of the document. There may be too many, never too few: a property test
/// compares with a walk that looks at everything.
#[derive(Debug)]
pub(crate) struct Suspects {
    places: Vec<usize>,
    /// Those before are behind the walk.
    passed: usize,
    everywhere: bool,
}

impl Suspects {
    /// In valid JSON; in anything else there may be too few.
    pub(crate) fn of(json: &[u8]) -> Self {
        let mut suspects = Self { places: Vec::new(), passed: 0, everywhere: false };
        let mut state = State::default();
        let (blocks, rest) = json.as_chunks::<BLOCK>();
        let mut last = [0; BLOCK];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        // Up to here it is known what there is.
        let mut known = 0;
        for (number, block) in blocks.iter().chain([&last]).enumerate() {
            let mut found = state.next(*block);
            while found != 0 {
                let at = number * BLOCK + found.trailing_zeros() as usize;
                found &= found - 1;
                if at < known {
                    continue;
                }
                let judged = judge(json, at);
                known = judged.end;
                suspects.places.extend(judged.place);
            }
        }
        suspects
    }

    /// Looks at everything: what the others are compared with.
    pub(crate) fn everywhere() -> Self {
        Self { places: Vec::new(), passed: 0, everywhere: true }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty() && !self.everywhere
    }

    /// Whether there is one in the span. The spans must be asked for in the order of the document.
    #[inline]
    pub(crate) fn any_in(&mut self, span: &Range<usize>) -> bool {
        while self.places.get(self.passed).is_some_and(|place| *place < span.start) {
            self.passed += 1;
        }
        self.everywhere || self.places.get(self.passed).is_some_and(|place| *place < span.end)
    }
}

/// What must be remembered from block to block.
#[derive(Default)]
struct State {
    /// Which of the last bytes could be of a number, the last one highest.
    row: u32,
    /// Whether the last byte was a quote.
    quote: u32,
}

impl State {
    /// A bit for each byte of the block that is a mark, ends a row, is a colon inside a string, or begins the
    /// exponent of a number.
    #[inline]
    fn next(&mut self, block: [u8; BLOCK]) -> u32 {
        let text = u8x16::new(block);
        let all = |byte: u8| u8x16::new([byte; BLOCK]);
        let is = |byte: u8| text.simd_eq(all(byte));
        let marks = (is(b'@') | is(b'%') | is(b'\\')).to_bitmask();
        // Digits, and all that may stand between those of one number: `( ) + - . /`, a space, and what is
        // longer than a byte, which has the highest bit.
        let from_bracket = text - all(b'(');
        let bracket_to_nine = from_bracket.min(all(b'9' - b'(')).simd_eq(from_bracket);
        let numeric = (bracket_to_nine & !(is(b'*') | is(b','))) | is(b' ') | text;
        let row = self.row | numeric.to_bitmask() << TAIL;
        self.row = row >> BLOCK;
        // Ones where two, four, seven in a row end.
        let two = row & row << 1;
        let four = two & two << 2;
        let rows = (four & four << (SHORTEST_NUMBER - 4)) >> TAIL;
        // The colon behind a key stands behind its quote.
        let quotes = is(b'"').to_bitmask();
        let colons = is(b':').to_bitmask() & !(self.quote | quotes << 1);
        self.quote = quotes >> (BLOCK - 1);
        // Behind a digit, which is one of a row.
        let exponents = (is(b'e') | is(b'E')).to_bitmask() & row >> (TAIL - 1);
        (marks | rows | colons | exponents) & 0xffff
    }
}

/// What stands somewhere: where it ends, and the place to look at if it may be something. The place is in
/// the same token as the whole.
struct Judged {
    end: usize,
    place: Option<usize>,
}

fn judge(json: &[u8], at: usize) -> Judged {
    let nothing = |end| Judged { end, place: None };
    match json.get(at) {
        Some(b'@' | b'%' | b'\\') => Judged { end: at + 1, place: Some(at) },
        Some(b':') => {
            let of_address = |byte: Option<&u8>| {
                byte.is_some_and(|byte| {
                    byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.' | b'[' | b']' | b'"')
                })
            };
            let before = of_address(at.checked_sub(1).and_then(|at| json.get(at)));
            Judged { end: at + 1, place: Some(at).filter(|_| before && of_address(json.get(at + 1))) }
        }
        Some(b'e' | b'E') => Judged { end: at + 1, place: Some(at).filter(|_| is_exponent(json, at)) },
        _ => time_stamp(json, at).or_else(|| uuid(json, at)).map_or_else(|| row(json, at), nothing),
    }
}

/// Whether a number goes on here: `4.2E15` has few digits, and is a card. Hexadecimal text, in which this is
/// frequent, has a quote or a letter before its digits.
fn is_exponent(json: &[u8], at: usize) -> bool {
    let (before, after) = json.split_at_checked(at).unwrap_or_default();
    let mantissa = before.iter().rev().take_while(|byte| matches!(byte, b'0'..=b'9' | b'.')).count();
    let stands_alone = before.iter().rev().nth(mantissa).is_none_or(|byte| b":[, \t\n\r".contains(byte));
    mantissa > 0 && stands_alone && matches!(after.get(1), Some(b'0'..=b'9' | b'+'))
}

/// The end of a string that is a time stamp in UTC and nothing else, whose first row ends here.
fn time_stamp(json: &[u8], at: usize) -> Option<usize> {
    let start = at.checked_sub(SHORTEST_NUMBER - 1)?;
    let (quote, rest) = json.get(start.checked_sub(1)?..)?.split_first()?;
    let (seconds, rest) = rest.split_first_chunk::<19>()?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2] = seconds
    else {
        return None;
    };
    let digits = [y1, y2, y3, y4, m1, m2, d1, d2, h1, h2, n1, n2, s1, s2];
    let fraction = match rest {
        [b'Z', b'"', ..] => 0,
        [b'.', f1, f2, f3, b'Z', b'"', ..] if [f1, f2, f3].iter().all(|digit| digit.is_ascii_digit()) => 4,
        _ => return None,
    };
    let ends = start + seconds.len() + fraction + 1;
    (*quote == b'"' && digits.iter().all(|digit| digit.is_ascii_digit())).then_some(ends)
}

/// The end of a string that is a UUID and nothing else, and has this byte in it.
fn uuid(json: &[u8], at: usize) -> Option<usize> {
    const LENGTH: usize = 36;
    let before = json.get(at.saturating_sub(LENGTH)..at)?;
    let start = at - before.iter().rev().position(|byte| *byte == b'"')?;
    let (uuid, rest) = json.get(start..)?.split_first_chunk::<LENGTH>()?;
    let has_shape = uuid.iter().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    (has_shape && rest.first() == Some(&b'"')).then_some(start + LENGTH)
}

/// Points of the shortest address.
const ADDRESS_POINTS: usize = 3;

/// The row that reaches here: nothing, if it has fewer digits than the shortest number and fewer points
/// than an address. Spaces around a number count to its row, so the place is that of a digit.
fn row(json: &[u8], at: usize) -> Judged {
    let of_row =
        |byte: &&u8| matches!(byte, b'0'..=b'9' | b' ' | b'(' | b')' | b'+' | b'-' | b'.' | b'/' | 0x80..);
    // Characters that are longer than a byte may be digits too.
    let is_digit = |byte: &u8| byte.is_ascii_digit() || *byte >= 0x80;
    let (before, after) = json.split_at_checked(at).unwrap_or_default();
    let start = at - before.iter().rev().take_while(of_row).count();
    let end = at + after.iter().take_while(of_row).count();
    let row = json.get(start..end).unwrap_or_default();
    let digits = row.iter().filter(|byte| is_digit(byte)).count();
    let points = row.iter().filter(|byte| **byte == b'.').count();
    let suspect = digits >= SHORTEST_NUMBER || points >= ADDRESS_POINTS;
    let first_digit = row.iter().position(is_digit).filter(|_| suspect);
    Judged { end: end.max(at + 1), place: first_digit.map(|first| start + first) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nearly_every_event_has_is_no_suspect() {
        for json in [
            "{}",
            r#"{"type":"track","event":"Signed Up","properties":{"price":741.48,"quantity":2,"list":[1,2,3]}}"#,
            r#"{"messageId":"95dc970c-d7e1-417b-aea7-3a106064d364","hash":"5e4d3e2","version":"v1e2","sentAt":"2026-11-24T00:00:00.744Z"}"#,
            r#"{"at":"2026-11-24T00:00:00Z","url":"https://shop.example/p/8111?x=a","note":"price: 12","userId":"user-001524"}"#,
        ] {
            assert!(Suspects::of(json.as_bytes()).is_empty(), "{json}");
        }
    }

    #[test]
    fn what_could_hold_something_is() {
        for json in [
            r#"{"a":"jane@example.com"}"#,
            r#"{"a":"jane%40example.com"}"#,
            r#"{"a":"jane\u0040example.com"}"#,
            r#"{"a":"555-0199"}"#,
            r#"{"a":5550199}"#,
            "{\"a\":                5550199                }",
            r#"{"ip":"1.2.3.4"}"#,
            r#"{"ip":"fe80::1"}"#,
            r#"{"ip":"::1"}"#,
            r#"{"ip":"::"}"#,
            r#"{"ip":"2001:db8::"}"#,
            r#"{"ip":"abcd:ef01:abcd:ef01:abcd:ef01:abcd:ef01"}"#,
            r#"{"a":"2026-11-24T00:00:00.744Z and more"}"#,
            r#"{"a":"2026-11-24T00:00:00.744Z","b":"+1 415 555 2671"}"#,
            r#"{"5550199":1}"#,
            r#"{"card":4.2E15}"#,
            r#"{"phone":[1,49e+9]}"#,
            r#"{"phone":            49e9}"#,
            "{\"a\":\"５５５\"}",
        ] {
            assert!(!Suspects::of(json.as_bytes()).is_empty(), "{json}");
        }
    }
}
