//! Who may take a lease at a moment: the decision alone.

use chrono::{DateTime, Utc};

use super::Term;
use crate::Generation;

/// What to do about a lease.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Take it by writing this generation; its number is the epoch.
    Take { number: u64 },
    /// It is someone else's.
    Leave { holder: String, until: DateTime<Utc> },
}

/// Free, expired, or one's own: take it under the next number. Else leave it.
pub(super) fn decide(latest: Option<&Generation<Term>>, holder: &str, now: DateTime<Utc>) -> Decision {
    let Some(latest) = latest else { return Decision::Take { number: 1 } };
    let expired = latest.value.until <= now;
    if expired || latest.value.holder == holder {
        return Decision::Take { number: latest.number + 1 };
    }
    Decision::Leave { holder: latest.value.holder.clone(), until: latest.value.until }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    fn generation(number: u64, holder: &str, until_seconds: i64) -> Generation<Term> {
        let until = DateTime::UNIX_EPOCH + TimeDelta::seconds(until_seconds);
        Generation { number, value: Term { holder: holder.to_owned(), epoch: number, until } }
    }

    proptest! {
        #[test]
        fn a_lease_is_taken_only_when_free_expired_or_ones_own(
            number in 1_u64..1000, until in 0_i64..100, now in 0_i64..100, own in any::<bool>(),
        ) {
            let latest = generation(number, if own { "me" } else { "other" }, until);
            let at = DateTime::UNIX_EPOCH + TimeDelta::seconds(now);
            let expected = if own || now >= until {
                Decision::Take { number: number + 1 }
            } else {
                Decision::Leave { holder: "other".to_owned(), until: latest.value.until }
            };
            prop_assert_eq!(decide(Some(&latest), "me", at), expected);
        }

        #[test]
        fn an_epoch_only_grows(number in 0_u64..u64::MAX - 1, now in 0_i64..100) {
            let at = DateTime::UNIX_EPOCH + TimeDelta::seconds(now);
            let decision = decide(Some(&generation(number, "me", 50)), "me", at);
            prop_assert_eq!(decision, Decision::Take { number: number + 1 });
        }
    }

    #[test]
    fn a_lease_that_was_never_held_begins_at_one() {
        assert_eq!(decide(None, "me", DateTime::UNIX_EPOCH), Decision::Take { number: 1 });
    }
}
