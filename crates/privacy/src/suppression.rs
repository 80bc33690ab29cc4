//! Who asked to be forgotten: nothing more of them is stored.

use std::collections::{HashMap, HashSet};

use millrace_event_model::{Control, PartitionKey, SourceId};

/// The users whose events are dropped, by keyed hash: of all sources, or of one.
///
/// Made by hearing the operators' words in their order; the last word on a user and source counts.
#[derive(Debug, Clone, Default)]
pub struct Suppressions {
    everywhere: HashSet<PartitionKey>,
    by_source: HashMap<SourceId, HashSet<PartitionKey>>,
    count: usize,
}

/// More users than are kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {} users are suppressed, which is as many as ingest keeps in memory", Suppressions::MAX)]
pub struct Full;

impl Suppressions {
    /// A million users take some 40 MB. Beyond it nobody is added: whoever hears the word decides what
    /// happens then. The command that suppresses refuses; ingest, which must not store what was to be
    /// forgotten, takes no events.
    pub const MAX: usize = 1_000_000;

    /// Heeds a word. Words about something else change nothing.
    ///
    /// # Errors
    /// [`Full`]: the user is not suppressed.
    pub fn hear(&mut self, word: &Control) -> Result<(), Full> {
        match word {
            Control::Suppress { user, source, .. } => {
                if self.count >= Self::MAX && !self.of(source.as_ref()).is_some_and(|of| of.contains(user)) {
                    return Err(Full);
                }
                let added = match source {
                    None => self.everywhere.insert(*user),
                    Some(source) => self.by_source.entry(source.clone()).or_default().insert(*user),
                };
                self.count += usize::from(added);
            }
            Control::Unsuppress { user, source, .. } => {
                let removed = match source {
                    None => self.everywhere.remove(user),
                    Some(source) => self.by_source.get_mut(source).is_some_and(|users| users.remove(user)),
                };
                self.count -= usize::from(removed);
            }
            Control::Pause { .. } | Control::Resume { .. } => {}
        }
        Ok(())
    }

    /// Whether nobody is suppressed in what comes in by this source: then no user needs to be looked up.
    #[must_use]
    pub fn is_empty(&self, source: &SourceId) -> bool {
        self.everywhere.is_empty() && self.by_source.get(source).is_none_or(HashSet::is_empty)
    }

    /// Whether the user's events that come in by this source are to be dropped.
    #[must_use]
    pub fn contains(&self, user: PartitionKey, source: &SourceId) -> bool {
        self.everywhere.contains(&user) || self.of(Some(source)).is_some_and(|users| users.contains(&user))
    }

    /// How many users are suppressed, each once for all sources and once for each of its own.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    fn of(&self, source: Option<&SourceId>) -> Option<&HashSet<PartitionKey>> {
        match source {
            None => Some(&self.everywhere),
            Some(source) => self.by_source.get(source),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_event_model::KeyHasher;

    use super::*;

    fn user(id: &str) -> PartitionKey {
        KeyHasher::new(&[1; 32]).user(id)
    }

    fn source(id: &str) -> SourceId {
        id.parse().unwrap()
    }

    fn suppress(user: PartitionKey, only: Option<&str>) -> Control {
        let at = "2026-11-25T00:00:00Z".parse().unwrap();
        Control::Suppress { user, source: only.map(source), reason: "asked".to_owned(), at }
    }

    fn unsuppress(user: PartitionKey, only: Option<&str>) -> Control {
        Control::Unsuppress { user, source: only.map(source), at: "2026-11-25T00:00:00Z".parse().unwrap() }
    }

    fn heard(words: &[Control]) -> Suppressions {
        let mut suppressions = Suppressions::default();
        for word in words {
            suppressions.hear(word).unwrap();
        }
        suppressions
    }

    #[test]
    fn a_user_is_suppressed_everywhere_or_at_one_source() {
        let suppressions = heard(&[suppress(user("jane"), None), suppress(user("joe"), Some("web"))]);
        let contains = |id: &str, by: &str| suppressions.contains(user(id), &source(by));
        assert!(contains("jane", "web") && contains("jane", "app"));
        assert!(contains("joe", "web") && !contains("joe", "app"));
        assert!(!contains("anna", "web"));
        assert!(!suppressions.is_empty(&source("app")));
        assert!(heard(&[suppress(user("joe"), Some("web"))]).is_empty(&source("app")));
    }

    #[test]
    fn the_last_word_on_a_user_and_source_counts() {
        let jane = user("jane");
        let both = [suppress(jane, None), suppress(jane, Some("web")), unsuppress(jane, None)];
        let suppressions = heard(&both);
        assert_eq!(suppressions.count(), 1);
        assert!(suppressions.contains(jane, &source("web")), "the other one was not taken back");
        assert!(!suppressions.contains(jane, &source("app")));
        let again = heard(&[suppress(jane, None), suppress(jane, None), unsuppress(jane, Some("web"))]);
        assert_eq!(again.count(), 1);
        assert_eq!(heard(&[unsuppress(jane, None), unsuppress(jane, Some("web"))]).count(), 0);
    }

    #[test]
    fn beyond_the_bound_nobody_is_added_and_it_is_said() {
        let mut full = heard(&[suppress(user("jane"), None)]);
        full.count = Suppressions::MAX;
        assert_eq!(full.hear(&suppress(user("jane"), None)), Ok(()), "she is in already");
        assert_eq!(full.hear(&suppress(user("joe"), None)), Err(Full));
        assert!(!full.contains(user("joe"), &source("web")));
        full.hear(&unsuppress(user("jane"), None)).unwrap();
        assert_eq!(full.hear(&suppress(user("joe"), None)), Ok(()));
    }
}
