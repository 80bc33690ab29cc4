//! Card numbers: an issuer's prefix with a length that this issuer uses, and the Luhn check digit
//! (ISO/IEC 7812). The prefix matters: one number in ten passes Luhn, and times in milliseconds or
//! microseconds, which start with 1, have no issuer.

use super::Hit;
use super::digits::{self, Chain, Group};
use crate::Kind;
use crate::key::Hint;
use crate::text::Unit;

const SHORTEST: usize = 12;
const LONGEST: usize = 19;

/// Appends the cards in a chain to `hits`. From each group the longest number that is a card is taken,
/// since an expiry date or another number may stand beside it. A number has at most 19 digits, so each
/// group is looked at a bounded number of times.
pub(super) fn find(units: &[Unit], chain: &Chain, hint: Hint, hits: &mut Vec<Hit>) {
    let mut first = 0;
    while first < chain.groups.len() {
        let found = longest_at(units, chain, first, hint);
        if let Some((hit, length)) = found {
            hits.push(hit);
            first += length;
            continue;
        }
        first += 1;
    }
}

fn longest_at(units: &[Unit], chain: &Chain, first: usize, hint: Hint) -> Option<(Hit, usize)> {
    let mut digit_count = 0;
    let mut longest = None;
    for (index, group) in chain.groups.iter().enumerate().skip(first) {
        digit_count += group.len();
        if digit_count > LONGEST {
            break;
        }
        let groups = chain.groups.get(first..=index).unwrap_or_default();
        if digit_count >= SHORTEST && is_written_as_card(units, groups) {
            let number = digits::text(units, groups);
            if is_card_number(&number, groups.len() == 1, hint) {
                let start = groups.first().map_or(0, |group| group.start);
                let hit = Hit { kind: Kind::Card, units: start..group.end, canonical: number };
                longest = Some((hit, groups.len()));
            }
        }
    }
    longest
}

/// Whether the digits are an issuer's number. `bare`: written without separators.
pub(crate) fn is_card_number(number: &str, bare: bool, hint: Hint) -> bool {
    if !has_issuer(number) || !passes_luhn(number) {
        return false;
    }
    // Bar codes have 12 or 13 digits, and many begin like a Maestro or an old Visa card.
    let short = bare && number.len() <= 13;
    !(short && hint != Hint::Card && is_bar_code(number))
}

fn is_written_as_card(units: &[Unit], groups: &[Group]) -> bool {
    let (Some(first), Some(last)) = (groups.first(), groups.last()) else { return false };
    if digits::is_word(digits::before(units, first.start)) || digits::is_word(digits::after(units, last.end))
    {
        return false;
    }
    // Part of a decimal number.
    let point_before = digits::before(units, first.start) == Some('.')
        && first.start >= 2
        && digits::is_digit(units, first.start - 2);
    let point_after = digits::after(units, last.end) == Some('.') && digits::is_digit(units, last.end + 1);
    if point_before || point_after {
        return false;
    }
    let gaps = || {
        groups.windows(2).map(|pair| match pair {
            [left, right] => units.get(left.end..right.start).unwrap_or_default(),
            _ => &[],
        })
    };
    let spaced = |gap: &[Unit]| gap.iter().all(|unit| digits::is_space(unit.ch) || digits::is_dash(unit.ch));
    let pointed = |gap: &[Unit]| matches!(gap, [unit] if unit.ch == '.');
    if gaps().all(spaced) {
        // A last group of fewer digits: 4-4-4-1 and 4-4-4-4-3.
        let all_but_last = groups.len() - 1;
        return groups.iter().take(all_but_last).all(|group| group.len() >= 3);
    }
    gaps().all(pointed) && is_printed_shape(groups)
}

/// The groups printed on cards. Points are taken for separators in these alone, since they are decimal
/// points elsewhere.
fn is_printed_shape(groups: &[Group]) -> bool {
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    matches!(lengths.as_slice(), [4, 4, 4, 1..=4] | [4, 4, 4, 4, 1..=3] | [4, 6, 4 | 5])
}

/// Issuer prefixes with their lengths, as the card networks publish them.
fn has_issuer(number: &str) -> bool {
    let prefix = |length: usize| number.get(..length).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    let length = number.len();
    match (prefix(1), prefix(2), prefix(3), prefix(4)) {
        (4, ..) => matches!(length, 13 | 16 | 19),                 // Visa
        (_, 34 | 37, ..) => length == 15,                          // American Express
        (_, 51..=55, ..) | (_, _, _, 2221..=2720) => length == 16, // Mastercard
        (_, _, _, 2200..=2204) => matches!(length, 16..=19),       // Mir
        (_, _, 300..=305, _) | (_, _, _, 3095) | (_, 36 | 38 | 39, ..) => matches!(length, 14..=19), // Diners Club
        (_, _, _, 3528..=3589) => matches!(length, 16..=19),                                         // JCB
        (_, 62 | 81, ..) => matches!(length, 16..=19), // UnionPay
        (_, 60 | 64 | 65 | 82, ..) => matches!(length, 16..=19), // Discover, RuPay, Hipercard, Elo
        (_, 50 | 56..=58 | 67, ..) | (_, _, _, 6304 | 6390) => matches!(length, SHORTEST..=LONGEST), // Maestro
        (_, 63, ..) => matches!(length, 16..=19), // Maestro, InstaPayment, Elo
        _ => false,
    }
}

fn passes_luhn(number: &str) -> bool {
    let mut sum = 0;
    for (index, digit) in number.bytes().rev().map(|byte| u32::from(byte - b'0')).enumerate() {
        let doubled = if index % 2 == 1 { digit * 2 } else { digit };
        sum += if doubled > 9 { doubled - 9 } else { doubled };
    }
    // A row of one digit passes too, and is nobody's.
    sum % 10 == 0 && number.bytes().any(|byte| !number.starts_with(char::from(byte)))
}

/// The check digit of GTIN-12 and GTIN-13.
fn is_bar_code(number: &str) -> bool {
    let weighted = |(index, byte): (usize, u8)| u32::from(byte - b'0') * if index % 2 == 1 { 3 } else { 1 };
    number.bytes().rev().enumerate().map(weighted).sum::<u32>() % 10 == 0
}
