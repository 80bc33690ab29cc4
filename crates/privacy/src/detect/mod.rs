//! What is personal data: decisions over decoded characters, without I/O or allocation per character.
//! Everything here is linear: no candidate is looked at more than a bounded number of times.

mod card;
mod digits;
mod email;
mod phone;

use std::ops::Range;

pub(crate) use card::is_card_number;
pub(crate) use phone::is_plausible_length;

use digits::Chain;

use crate::key::Hint;
use crate::text::Unit;
use crate::{Action, Kind, Policy};

/// One finding in a string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) kind: Kind,
    /// Which units.
    pub(crate) units: Range<usize>,
    /// The value in the one spelling that all its spellings share: what is hashed.
    pub(crate) canonical: String,
}

/// What stands beside a finding is looked at again, as often as this: `+14155552671(415) 555-2671`.
const PASSES: usize = 3;

/// All findings in a string, in order, none overlapping another. They are blanked out in `units`, so that
/// their neighbours are judged as they will be read afterwards.
pub(crate) fn find(units: &mut [Unit], hint: Hint, policy: &Policy) -> Vec<Hit> {
    let wanted = |kind| policy.action(kind) != Action::Keep;
    let mut hits = Vec::new();
    if wanted(Kind::Ip) && hint == Hint::Ip {
        hits.extend(address(units));
        blank(units, &hits);
    }
    for _ in 0..PASSES {
        let found_from = hits.len();
        if wanted(Kind::Email) {
            email::find(units, &mut hits);
            blank(units, hits.get(found_from..).unwrap_or_default());
        }
        for chain in digits::chains(units) {
            if !chain.is_in_uuid(units) {
                numbers(units, &chain, hint, policy, &mut hits);
            }
        }
        if hits.len() == found_from {
            break;
        }
    }
    hits.sort_by_key(|hit| hit.units.start);
    hits
}

/// The cards and telephone numbers of a chain. A card is proved by its check digit, a telephone number by
/// its shape, so cards come first: unless a `+` or the key says telephone, since one of those in ten
/// passes for a Maestro card.
fn numbers(units: &mut [Unit], chain: &Chain, hint: Hint, policy: &Policy, hits: &mut Vec<Hit>) {
    let wanted = |kind| policy.action(kind) != Action::Keep;
    let keyed = hint == Hint::Phone && is_plausible_length(chain.digit_count());
    let phone_first = keyed || phone::has_plus(units, chain);
    let order = if phone_first { [Kind::Phone, Kind::Card] } else { [Kind::Card, Kind::Phone] };
    let found_from = hits.len();
    for kind in order.into_iter().filter(|kind| wanted(*kind)) {
        let found = hits.get(found_from..).unwrap_or_default().to_vec();
        for rest in chain.without(&found) {
            if kind == Kind::Card {
                card::find(units, &rest, hint, hits);
            } else {
                phone::find(units, &rest, hint, hits);
            }
        }
        blank(units, hits.get(found_from..).unwrap_or_default());
    }
}

fn blank(units: &mut [Unit], hits: &[Hit]) {
    for hit in hits {
        for unit in units.get_mut(hit.units.clone()).unwrap_or_default() {
            unit.ch = ']';
        }
    }
}

/// The whole string as a network address.
fn address(units: &[Unit]) -> Option<Hit> {
    let text: String = units.iter().map(|unit| unit.ch).collect();
    let canonical = crate::replace::parse_address(&text)?.to_string();
    Some(Hit { kind: Kind::Ip, units: 0..units.len(), canonical })
}
