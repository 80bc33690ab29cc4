//! Chains of digit groups: `4111 1111 1111 1111`, `(415) 555-2671`, `2026-11-24`. Cards and telephone
//! numbers are looked for in chains alone.

use super::Hit;
use crate::text::Unit;

/// A run of digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Group {
    pub(super) fn len(self) -> usize {
        self.end - self.start
    }
}

/// Groups with nothing but separators between them; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) groups: Vec<Group>,
}

/// The most separators between two groups: ` - `, `) (`.
const MAX_GAP: usize = 3;

pub(super) fn chains(units: &[Unit]) -> Vec<Chain> {
    let mut chains = Vec::new();
    let mut groups: Vec<Group> = Vec::new();
    let mut at = 0;
    while at < units.len() {
        if !is_digit(units, at) {
            at += 1;
            continue;
        }
        let start = at;
        while is_digit(units, at) {
            at += 1;
        }
        if groups.last().is_some_and(|last| !is_gap(units.get(last.end..start).unwrap_or_default())) {
            chains.push(Chain { groups: std::mem::take(&mut groups) });
        }
        groups.push(Group { start, end: at });
    }
    if !groups.is_empty() {
        chains.push(Chain { groups });
    }
    chains
}

fn is_gap(between: &[Unit]) -> bool {
    between.len() <= MAX_GAP && between.iter().all(|unit| is_separator(unit.ch))
}

fn is_separator(ch: char) -> bool {
    matches!(ch, '-' | '.' | '(' | ')' | '/') || is_space(ch) || is_dash(ch)
}

pub(super) fn is_space(ch: char) -> bool {
    matches!(ch, ' ' | '\u{a0}' | '\u{2007}' | '\u{2009}' | '\u{202f}')
}

pub(super) fn is_dash(ch: char) -> bool {
    matches!(ch, '-' | '\u{2010}'..='\u{2013}')
}

pub(super) fn is_digit(units: &[Unit], at: usize) -> bool {
    units.get(at).is_some_and(|unit| unit.ch.is_ascii_digit())
}

/// The character before `at`.
pub(super) fn before(units: &[Unit], at: usize) -> Option<char> {
    units.get(at.checked_sub(1)?).map(|unit| unit.ch)
}

/// The character at `at`.
pub(super) fn after(units: &[Unit], at: usize) -> Option<char> {
    units.get(at).map(|unit| unit.ch)
}

/// Whether a letter, or what joins words of an identifier, touches.
pub(super) fn is_word(ch: Option<char>) -> bool {
    ch.is_some_and(|ch| {
        ch == '_' || (ch.is_alphanumeric() && (ch.is_ascii() || !ch.is_ascii() && ch < '\u{2e80}'))
    })
}

/// The digits of some groups, without what is between them.
pub(super) fn text(units: &[Unit], groups: &[Group]) -> String {
    let digits = groups.iter().flat_map(|group| units.get(group.start..group.end).unwrap_or_default());
    digits.map(|unit| unit.ch).collect()
}

impl Chain {
    pub(super) fn start(&self) -> usize {
        self.groups.first().map_or(0, |group| group.start)
    }

    pub(super) fn end(&self) -> usize {
        self.groups.last().map_or(0, |group| group.end)
    }

    pub(super) fn digit_count(&self) -> usize {
        self.groups.iter().map(|group| group.len()).sum()
    }

    /// What is left of the chain when the groups that `hits` touch are taken out.
    pub(super) fn without(&self, hits: &[Hit]) -> Vec<Self> {
        let taken =
            |group: &Group| hits.iter().any(|hit| hit.units.start < group.end && group.start < hit.units.end);
        let parts = self.groups.split(taken).filter(|part| !part.is_empty());
        parts.map(|part| Self { groups: part.to_vec() }).collect()
    }

    /// Whether the chain is part of a UUID: no digits of one mean anything.
    pub(super) fn is_in_uuid(&self, units: &[Unit]) -> bool {
        let belongs =
            |at: usize| units.get(at).is_some_and(|unit| unit.ch.is_ascii_hexdigit() || unit.ch == '-');
        // One character more than a UUID has, on either side, is enough to know.
        let mut start = self.start();
        while start > 0 && belongs(start - 1) && self.start() - start <= UUID_LENGTH {
            start -= 1;
        }
        let mut end = start;
        while belongs(end) && end - start <= UUID_LENGTH {
            end += 1;
        }
        let is_hyphen = |at: &usize| units.get(start + at).is_some_and(|unit| unit.ch == '-');
        end - start == UUID_LENGTH && (0..UUID_LENGTH).filter(is_hyphen).eq(UUID_HYPHENS)
    }
}

const UUID_LENGTH: usize = 36;
const UUID_HYPHENS: [usize; 4] = [8, 13, 18, 23];
