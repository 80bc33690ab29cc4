//! Whether a destination may be sent to: pure.

use std::time::Duration;

use chrono::{DateTime, Utc};
use millrace_event_model::{Control, Reason};
use millrace_service::later;

/// Open, or paused until somebody or something opens it.
///
/// A destination pauses itself when it answers that a person must act (401, 403, 410). Its items are kept.
/// It is opened by the operator's resume, or by a probe: now and then one item is tried, since a key that
/// was mended over there says nothing here. A pause by an operator is never probed.
#[derive(Debug)]
pub(crate) struct Gate {
    state: State,
    probe_every: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Open,
    Paused { why: String, probe_at: DateTime<Utc>, probing: bool },
    Held { why: String },
}

impl Gate {
    pub(crate) fn new(probe_every: Duration) -> Self {
        Self { state: State::Open, probe_every }
    }

    /// How many items may be sent now: all, none, or one as a probe.
    pub(crate) fn allows(&self, now: DateTime<Utc>) -> Allowance {
        match &self.state {
            State::Open => Allowance::All,
            State::Paused { probe_at, probing: false, .. } if *probe_at <= now => Allowance::Probe,
            State::Paused { .. } | State::Held { .. } => Allowance::Nothing,
        }
    }

    /// The one item of [`Allowance::Probe`] is on its way.
    pub(crate) fn probe_sent(&mut self) {
        if let State::Paused { probing, .. } = &mut self.state {
            *probing = true;
        }
    }

    /// Nobody waits for the answer to a probe any more: another may be sent.
    pub(crate) fn forget_probe(&mut self) {
        if let State::Paused { probing, .. } = &mut self.state {
            *probing = false;
        }
    }

    /// The destination took or refused an item: it works.
    pub(crate) fn answered(&mut self) {
        if matches!(self.state, State::Paused { probing: true, .. }) {
            self.state = State::Open;
        }
    }

    /// The destination did not answer: whether it works is not known.
    pub(crate) fn not_answered(&mut self, now: DateTime<Utc>) {
        if let State::Paused { probe_at, probing, .. } = &mut self.state
            && *probing
        {
            *probing = false;
            *probe_at = later(now, self.probe_every);
        }
    }

    /// The destination says that a person must act.
    pub(crate) fn refused(&mut self, reason: &Reason, now: DateTime<Utc>) {
        if matches!(self.state, State::Held { .. }) {
            return;
        }
        let why = format!("{}: {}", reason.code, reason.message);
        self.state = State::Paused { why, probe_at: later(now, self.probe_every), probing: false };
    }

    /// An operator has spoken.
    pub(crate) fn told(&mut self, control: &Control) {
        self.state = match control {
            Control::Pause { reason, .. } => State::Held { why: format!("paused by an operator: {reason}") },
            Control::Resume { .. } => State::Open,
            // About a user: ingest heeds it.
            Control::Suppress { .. } | Control::Unsuppress { .. } => return,
        };
    }

    /// Why nothing is sent, where that is so.
    pub(crate) fn why_closed(&self) -> Option<&str> {
        match &self.state {
            State::Open => None,
            State::Paused { why, .. } | State::Held { why } => Some(why),
        }
    }

    /// When a probe is due.
    pub(crate) fn next_due(&self) -> Option<DateTime<Utc>> {
        match self.state {
            State::Paused { probe_at, probing: false, .. } => Some(probe_at),
            State::Open | State::Paused { .. } | State::Held { .. } => None,
        }
    }
}

/// What a [`Gate`] lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowance {
    All,
    Probe,
    Nothing,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + chrono::Duration::seconds(seconds)
    }

    fn paused() -> Gate {
        let mut gate = Gate::new(MINUTE);
        gate.refused(&Reason::new("http_401", "the receiver answered 401"), at(0));
        gate
    }

    fn pause() -> Control {
        Control::Pause { destination: "hook".parse().unwrap(), reason: "maintenance".to_owned(), at: at(0) }
    }

    fn resume() -> Control {
        Control::Resume { destination: "hook".parse().unwrap(), at: at(0) }
    }

    #[test]
    fn a_paused_destination_is_probed_with_one_item() {
        let mut gate = paused();
        assert_eq!(gate.allows(at(59)), Allowance::Nothing);
        assert_eq!(gate.next_due(), Some(at(60)));
        assert_eq!(gate.allows(at(60)), Allowance::Probe);
        gate.probe_sent();
        assert_eq!(gate.allows(at(61)), Allowance::Nothing, "one is enough");
        gate.answered();
        assert_eq!(gate.allows(at(61)), Allowance::All);
    }

    #[test]
    fn a_probe_that_fails_is_followed_by_another_later() {
        let mut gate = paused();
        gate.probe_sent();
        gate.not_answered(at(70));
        assert_eq!((gate.allows(at(129)), gate.allows(at(130))), (Allowance::Nothing, Allowance::Probe));
        gate.probe_sent();
        gate.refused(&Reason::new("http_403", "still not"), at(131));
        assert_eq!(gate.next_due(), Some(at(191)));
        assert_eq!(gate.why_closed(), Some("http_403: still not"));
    }

    #[test]
    fn late_answers_of_items_in_flight_do_not_open_it() {
        let mut gate = paused();
        gate.answered();
        assert_eq!(gate.allows(at(1)), Allowance::Nothing, "sent before the pause");
    }

    #[test]
    fn the_operators_word_counts_and_is_not_probed() {
        let mut gate = paused();
        gate.told(&resume());
        assert_eq!(gate.allows(at(1)), Allowance::All);
        gate.told(&pause());
        gate.refused(&Reason::new("http_401", "late"), at(2));
        assert_eq!((gate.allows(at(999_999)), gate.next_due()), (Allowance::Nothing, None));
        assert_eq!(gate.why_closed(), Some("paused by an operator: maintenance"));
    }
}
