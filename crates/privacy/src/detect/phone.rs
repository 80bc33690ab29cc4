//! Telephone numbers. Three proofs are accepted: an international number with its `+` and a country
//! code that exists; a North American number in its usual grouping; or a key that names a telephone.
//! Bare digits elsewhere are ids, times and amounts, and are left alone.

use super::Hit;
use super::digits::{self, Chain, Group};
use crate::Kind;
use crate::key::Hint;
use crate::text::Unit;

/// Subscriber numbers without area code have seven digits; E.164 allows fifteen in all.
const SHORTEST: usize = 7;
const LONGEST: usize = 15;

/// Whether so many digits beside a telephone's key are its number.
pub(crate) fn is_plausible_length(digits: usize) -> bool {
    (SHORTEST..=LONGEST).contains(&digits)
}

/// Appends the telephone numbers of a chain to `hits`.
pub(super) fn find(units: &[Unit], chain: &Chain, hint: Hint, hits: &mut Vec<Hit>) {
    let found_from = hits.len();
    hits.extend(international(units, chain));
    let found = hits.get(found_from..).unwrap_or_default().to_vec();
    for rest in chain.without(&found) {
        if hint == Hint::Phone {
            keyed(units, &rest, hits);
        } else {
            north_american(units, &rest, hits);
        }
    }
}

/// Whether a `+` stands before the chain's first digit.
pub(super) fn has_plus(units: &[Unit], chain: &Chain) -> bool {
    plus_position(units, chain).is_some()
}

fn plus_position(units: &[Unit], chain: &Chain) -> Option<usize> {
    match digits::before(units, chain.start())? {
        '+' => Some(chain.start() - 1),
        '(' if digits::before(units, chain.start() - 1) == Some('+') => Some(chain.start() - 2),
        _ => None,
    }
}

/// `+44 20 7946 0958`, `+1 (415) 555-2671`, `+49.15112345678`, `+442079460958`.
fn international(units: &[Unit], chain: &Chain) -> Option<Hit> {
    let plus = plus_position(units, chain)?;
    if digits::is_word(digits::before(units, plus)) {
        return None;
    }
    let mut digit_count = 0;
    let mut longest = None;
    for (index, group) in chain.groups.iter().enumerate() {
        digit_count += group.len();
        if digit_count > LONGEST + 1 {
            break;
        }
        let groups = chain.groups.get(..=index).unwrap_or_default();
        let number = without_trunk_zero(units, groups);
        if is_e164(&number) && !is_decimal(units, groups, &number) && ends_there(units, chain, index) {
            longest = Some(Hit { kind: Kind::Phone, units: plus..group.end, canonical: number });
        }
    }
    longest
}

/// `+44 (0)20 …`: the zero in brackets is dialled inside the country only.
fn without_trunk_zero(units: &[Unit], groups: &[Group]) -> String {
    let is_trunk = |group: &&Group| {
        group.len() == 1
            && digits::before(units, group.start) == Some('(')
            && digits::after(units, group.end) == Some(')')
            && digits::text(units, &[**group]) == "0"
    };
    let kept: Vec<Group> = groups.iter().filter(|group| !is_trunk(group)).copied().collect();
    digits::text(units, &kept)
}

/// `+52.520008` and `+40.6894-074.0447` are coordinates.
fn is_decimal(units: &[Unit], groups: &[Group], number: &str) -> bool {
    let gap =
        |left: &Group, right: &Group| digits::after(units, left.end).filter(|_| right.start == left.end + 1);
    let gaps: Vec<Option<char>> = groups
        .windows(2)
        .map(|pair| match pair {
            [left, right] => gap(left, right),
            _ => None,
        })
        .collect();
    let points = gaps.iter().filter(|gap| **gap == Some('.')).count();
    let mixed = points > 0 && points < gaps.len();
    mixed || (points == 1 && number.len() < 10)
}

/// The number does not go on in a word, a decimal or another group glued to it.
fn ends_there(units: &[Unit], chain: &Chain, index: usize) -> bool {
    let Some(group) = chain.groups.get(index) else { return false };
    let next = digits::after(units, group.end);
    if index + 1 < chain.groups.len() {
        return next.is_some_and(|ch| digits::is_space(ch) || ch == '/');
    }
    !digits::is_word(next)
}

/// An assigned country code and as many digits as its numbers have.
fn is_e164(number: &str) -> bool {
    let prefix = |length: usize| number.get(..length).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    let length = number.len();
    if prefix(1) == 1 {
        return number.get(1..).is_some_and(is_north_american);
    }
    if prefix(1) == 7 {
        return length == 11;
    }
    let two_digits = matches!(
        prefix(2),
        20 | 27 | 30..=34 | 36 | 39..=41 | 43..=49 | 51..=58 | 60..=66 | 81 | 82 | 84 | 86 | 90..=95 | 98
    );
    if two_digits {
        return matches!(length, 9..=LONGEST);
    }
    let three_digits = matches!(
        prefix(3),
        211..=213 | 216 | 218 | 220..=269 | 290 | 291 | 297..=299 | 350..=359 | 370..=383 | 385..=387 | 389
            | 420 | 421 | 423 | 500..=509 | 590..=599 | 670 | 672..=692 | 800 | 808 | 850 | 852 | 853
            | 855 | 856 | 870 | 878 | 880..=883 | 886 | 888 | 960..=968 | 970..=977 | 979 | 992..=996 | 998
    );
    three_digits && matches!(length, 8..=LONGEST)
}

/// Ten digits, area code and exchange starting with 2 to 9 (North American Numbering Plan).
fn is_north_american(number: &str) -> bool {
    let starts_high =
        |at: usize| number.as_bytes().get(at).is_some_and(|digit| (b'2'..=b'9').contains(digit));
    number.len() == 10 && starts_high(0) && starts_high(3)
}

/// Digits beside a key that names a telephone: the chain, or each of its groups where it holds several
/// numbers. Dates are left alone.
fn keyed(units: &[Unit], chain: &Chain, hits: &mut Vec<Hit>) {
    let touches = |start: usize, end: usize| {
        let before = digits::before(units, start);
        // `SM-991234567` is a model, not a number.
        let hyphened = before == Some('-') && digits::is_word(digits::before(units, start - 1));
        hyphened || digits::is_word(before) || is_joined_letter(digits::after(units, end))
    };
    let is_number =
        |groups: &[Group], start: usize, end: usize| !is_date(units, groups) && !touches(start, end);
    if is_plausible_length(chain.digit_count()) {
        if is_number(&chain.groups, chain.start(), chain.end()) {
            hits.push(hit(units, &chain.groups));
        }
        return;
    }
    let found_from = hits.len();
    for group in &chain.groups {
        if is_plausible_length(group.len()) && is_number(&[*group], group.start, group.end) {
            hits.push(hit(units, &[*group]));
        }
    }
    let found = hits.get(found_from..).unwrap_or_default().to_vec();
    for rest in chain.without(&found) {
        let plausible = !found.is_empty() && is_plausible_length(rest.digit_count());
        if plausible && is_number(&rest.groups, rest.start(), rest.end()) {
            hits.push(hit(units, &rest.groups));
        }
    }
}

/// `x12` after a number is its extension, any other letter makes it an identifier.
fn is_joined_letter(ch: Option<char>) -> bool {
    digits::is_word(ch) && !matches!(ch, Some('x' | 'X' | 'e'))
}

/// `2026-11-24 …`, `24.11.2026`.
fn is_date(units: &[Unit], groups: &[Group]) -> bool {
    let [first, second, third, ..] = groups else { return false };
    let year = |group: &Group| {
        let text = digits::text(units, &[*group]);
        text.len() == 4 && (text.starts_with("19") || text.starts_with("20"))
    };
    second.len() == 2 && ((year(first) && third.len() == 2) || (first.len() == 2 && year(third)))
}

/// `415-555-2671`, `(415) 555-2671`, `415.555.2671`, `1-415-555-2671`; with spaces alone only where it is
/// the whole text, since three amounts in a row look the same.
fn north_american(units: &[Unit], chain: &Chain, hits: &mut Vec<Hit>) {
    let mut first = 0;
    let mut clear_from = None;
    while first < chain.groups.len() {
        let found = [4, 3].into_iter().find_map(|length| {
            let groups = chain.groups.get(first..first + length)?;
            is_written_as_north_american(units, chain, groups, clear_from).then_some(groups)
        });
        if let Some(groups) = found {
            hits.push(hit(units, groups));
            clear_from = groups.last().map(|group| group.end);
            first += groups.len();
            continue;
        }
        first += 1;
    }
}

/// `clear_from`: where the number before in the chain ends.
fn is_written_as_north_american(
    units: &[Unit],
    chain: &Chain,
    groups: &[Group],
    clear_from: Option<usize>,
) -> bool {
    let number = digits::text(units, groups);
    let national = match groups {
        [one, area, exchange, line] if one.len() == 1 && number.starts_with('1') => [area, exchange, line],
        [area, exchange, line] => [area, exchange, line],
        _ => return false,
    };
    let shaped = national.map(|group| group.len()) == [3, 3, 4];
    if !shaped || !is_north_american(number.get(number.len() - 10..).unwrap_or_default()) {
        return false;
    }
    let [area, exchange, line] = national;
    let gap = |left: &Group, right: &Group| -> String {
        units.get(left.end..right.start).unwrap_or_default().iter().map(|unit| unit.ch).collect()
    };
    let (inner, outer) = (gap(area, exchange), gap(exchange, line));
    let bracketed = digits::before(units, area.start) == Some('(') && inner.starts_with(')');
    let single = |gap: &str| matches!(gap, "-" | "." | "\u{2010}" | "\u{2011}" | "\u{2013}");
    let start = groups.first().map_or(0, |group| group.start);
    let opening = start - usize::from(digits::before(units, start) == Some('('));
    let whole = chain.groups.len() == groups.len() && chain.end() == units.len() && opening == 0;
    let written = (bracketed && outer.chars().count() == 1)
        || (single(&inner) && inner == outer)
        || (whole && inner.chars().count() == 1 && outer.chars().count() == 1);
    written && (clear_from == Some(opening) || begins_alone(units, opening)) && ends_alone(units, line.end)
}

/// No letter, digit, point or hyphen touches: part of an identifier, a path or a longer number does not
/// count.
fn begins_alone(units: &[Unit], start: usize) -> bool {
    let before = digits::before(units, start);
    !digits::is_word(before) && !matches!(before, Some('-' | '.' | '/' | '#' | '$' | '+'))
}

fn ends_alone(units: &[Unit], end: usize) -> bool {
    let after = digits::after(units, end);
    let goes_on = matches!(after, Some('-' | '.' | '/'))
        && units.get(end + 1).is_some_and(|unit| unit.ch.is_alphanumeric());
    !goes_on && !is_joined_letter(after)
}

fn hit(units: &[Unit], groups: &[Group]) -> Hit {
    let start = groups.first().map_or(0, |group| group.start);
    let end = groups.last().map_or(0, |group| group.end);
    let opening = usize::from(digits::before(units, start) == Some('('));
    let mut canonical = digits::text(units, groups);
    if is_north_american(&canonical) {
        canonical.insert(0, '1');
    }
    Hit { kind: Kind::Phone, units: start - opening..end, canonical }
}
