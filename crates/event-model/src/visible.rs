//! Ids of people as they count for telling them apart (gateway protocol §4.2): ingest reads them so, and so
//! must whoever names a person to ingest.

use std::borrow::Cow;

/// The text without characters that leave no mark, and without white space around it: a pasted
/// zero-width space must not make another person.
#[inline]
#[must_use]
pub fn visible(text: Cow<'_, str>) -> Cow<'_, str> {
    // Nearly every id: nothing but marks.
    // Without an early end the loop takes sixteen bytes at a time.
    if text.bytes().fold(true, |marks, byte| marks & matches!(byte, b'!'..=b'~')) {
        return text;
    }
    let kept: String = text.chars().filter(|ch| !is_invisible(*ch)).collect();
    Cow::Owned(kept.trim().to_owned())
}

/// Characters that fonts show as nothing: joiners, marks of direction, fillers, odd spaces.
fn is_invisible(ch: char) -> bool {
    matches!(
        ch,
        '\0' | '\t'
            | '\u{a0}'
            | '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180e}'
            | '\u{2000}'..='\u{200f}'
            | '\u{202a}'..='\u{202f}'
            | '\u{205f}'..='\u{206f}'
            | '\u{2800}'
            | '\u{3000}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{1d159}'
            | '\u{1d173}'..='\u{1d17a}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_tells_nobody_apart() {
        for (text, expected) in [
            ("u1", "u1"),
            ("  u1\n", "u1"),
            ("\u{200b}u\u{ad}1\u{feff}", "u1"),
            ("\u{200b} \t", ""),
            ("Jane Doe", "Jane Doe"),
            ("\u{30e6}", "\u{30e6}"),
        ] {
            assert_eq!(visible(Cow::Borrowed(text)), expected, "{text:?}");
        }
    }
}
