//! E-mail addresses: what stands around an `@`, in the form that people have, not all that RFC 5322
//! allows. Quoted local parts and addresses in brackets are left out: no SDK sends them.

use super::Hit;
use crate::Kind;
use crate::text::Unit;

/// Ends of file names that follow an `@`: `logo@2x.png`, `lib@next.min.js`. None is a top-level domain.
const FILE_ENDINGS: [&str; 24] = [
    "js", "mjs", "cjs", "css", "map", "png", "jpg", "jpeg", "gif", "svg", "webp", "avif", "ico", "html",
    "htm", "json", "xml", "txt", "pdf", "woff", "woff2", "ttf", "tgz", "gz",
];

/// Appends the addresses in `units` to `hits`. Each character is read at most twice: going back from one
/// `@` and forth from another.
pub(super) fn find(units: &[Unit], hits: &mut Vec<Hit>) {
    let mut free_from = 0;
    for at in 0..units.len() {
        if ch(units, at) != Some('@') {
            continue;
        }
        let start = local_start(units, free_from, at);
        let Some(mut end) = domain_end(units, at + 1) else { continue };
        // Two addresses without a space between them are taken as one.
        while let Some(further) = (ch(units, end) == Some('@')).then(|| domain_end(units, end + 1)).flatten()
        {
            end = further;
        }
        if start == at || is_code_host(units, start, at) {
            continue;
        }
        let text: String = units.iter().take(end).skip(start).map(|unit| unit.ch).collect();
        hits.push(Hit { kind: Kind::Email, units: start..end, canonical: text.to_lowercase() });
        free_from = end;
    }
}

fn ch(units: &[Unit], at: usize) -> Option<char> {
    units.get(at).map(|unit| unit.ch)
}

fn local_start(units: &[Unit], floor: usize, at: usize) -> usize {
    let mut start = at;
    let ideographic = at > floor && ch(units, at - 1).is_some_and(is_ideograph);
    while start > floor
        && ch(units, start - 1).is_some_and(|ch| is_local(ch) && (ideographic || !is_ideograph(ch)))
    {
        start -= 1;
    }
    // `\njane@…` of JSON kept inside a string: the letter belongs to the escape.
    if start > floor && start + 1 < at && ch(units, start - 1) == Some('\\') {
        start += 1;
    }
    while start < at && matches!(ch(units, start), Some('.' | '\'')) {
        start += 1;
    }
    start
}

/// The end of the longest domain that starts at `start`: two labels or more, the last a top-level one.
fn domain_end(units: &[Unit], start: usize) -> Option<usize> {
    let ideographic = ch(units, start).is_some_and(is_ideograph);
    let mut labels = 0;
    let mut numeric_labels = 0;
    let mut label_start = start;
    let mut end = None;
    let mut at = start;
    loop {
        let next = ch(units, at);
        if next.is_some_and(|ch| is_domain(ch) && (ideographic || !is_ideograph(ch))) {
            at += 1;
            continue;
        }
        let label = units.get(label_start..at).unwrap_or_default();
        if label.first().is_none_or(|unit| unit.ch == '-') {
            break;
        }
        labels += 1;
        if label.iter().all(|unit| unit.ch.is_ascii_digit()) && labels == numeric_labels + 1 {
            numeric_labels += 1;
        }
        // `package@1.0.0-beta.x` is a version, not a domain.
        if labels >= 2 && numeric_labels < 2 {
            end = top_level_length(label).map(|length| label_start + length).or(end);
        }
        if next != Some('.') || label.last().is_some_and(|unit| unit.ch == '-') {
            break;
        }
        at += 1;
        label_start = at;
    }
    end.filter(|end| !ends_as_file(units.get(start..*end).unwrap_or_default()))
}

/// How much of a label is a top-level domain. Digits or a hyphen may be glued to it:
/// `jane@example.com4155552671`, `jane@example.com-2026`.
fn top_level_length(label: &[Unit]) -> Option<usize> {
    let punycode = label.len() > 4 && label.iter().zip("xn--".chars()).all(|(unit, ch)| unit.ch == ch);
    if punycode {
        return Some(label.len());
    }
    let letters = label.iter().take_while(|unit| unit.ch.is_alphabetic() || !unit.ch.is_ascii()).count();
    let ends_well = label.get(letters).is_none_or(|unit| unit.ch.is_ascii_digit() || unit.ch == '-');
    (letters >= 2 && ends_well).then_some(letters)
}

fn ends_as_file(domain: &[Unit]) -> bool {
    let last: String =
        domain.rsplit(|unit| unit.ch == '.').next().unwrap_or_default().iter().map(|unit| unit.ch).collect();
    FILE_ENDINGS.contains(&last.to_ascii_lowercase().as_str())
}

/// `git@github.com:…` names a host, not a person.
fn is_code_host(units: &[Unit], start: usize, at: usize) -> bool {
    at - start == 3 && units.iter().skip(start).zip("git".chars()).all(|(unit, ch)| unit.ch == ch)
}

fn is_local(ch: char) -> bool {
    if ch.is_ascii() {
        return ch.is_ascii_alphanumeric() || matches!(ch, '.' | '_' | '+' | '-' | '\'');
    }
    is_foreign_letter(ch)
}

fn is_domain(ch: char) -> bool {
    ch.is_ascii_alphanumeric() || ch == '-' || (!ch.is_ascii() && is_foreign_letter(ch))
}

/// Letters and marks of other scripts, and bytes of a percent-encoded one; not their punctuation.
fn is_foreign_letter(ch: char) -> bool {
    ch.is_alphanumeric() || ch == char::REPLACEMENT_CHARACTER || ('\u{300}'..='\u{36f}').contains(&ch)
}

/// Scripts that put no space between words: an address ends where another script begins.
fn is_ideograph(ch: char) -> bool {
    matches!(ch, '\u{2e80}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}')
}
