//! What a job that sends again tells: on its way, as its result, and by how it ends.

use std::collections::BTreeMap;
use std::ops::Range;

use chrono::{DateTime, SecondsFormat, Utc};
use millrace_deliver::{News, Resent, Stopped};
use millrace_event_model::{DestinationId, Disposition};
use serde_json::json;

use crate::cli::LetterFilter;
use crate::exit::Failure;

/// What was asked for, to say how to go on with it.
pub(super) enum Asked {
    /// All of a time.
    Time(Range<DateTime<Utc>>),
    /// What failed of a time.
    Failed(Range<DateTime<Utc>>),
    Letters(LetterFilter),
}

impl Asked {
    /// When what is left of a time begins.
    fn go_on_from(&self, resent: &Resent) -> Option<DateTime<Utc>> {
        match self {
            Self::Time(time) if !resent.rest.is_empty() => Some(resent.rest_since.unwrap_or(time.start)),
            Self::Time(_) | Self::Failed(_) | Self::Letters(_) => None,
        }
    }

    /// The command that goes on: with the times that it had, which `2h` would not mean any more.
    fn go_on(&self, id: &DestinationId, resent: &Resent) -> String {
        let until = |to: &DateTime<Utc>| format!(" --to {}", instant(*to));
        match self {
            Self::Time(time) => format!(
                "millrace replay --destination {id} --from {}{} (what came in after that and was sent already is \
                 sent again)",
                instant(self.go_on_from(resent).unwrap_or(time.start)),
                until(&time.end)
            ),
            Self::Failed(time) => format!(
                "millrace replay --destination {id} --from {}{} --only failed",
                instant(time.start),
                until(&time.end)
            ),
            Self::Letters(filter) => {
                let code = filter.code.as_ref().map_or(String::new(), |code| format!(" --code {code}"));
                let from = filter.from.map_or(String::new(), |from| format!(" --from {}", instant(from)));
                let to = filter.to.as_ref().map_or(String::new(), until);
                format!("millrace dead-letters replay --of {id}{code}{from}{to}")
            }
        }
    }
}

/// How the command ends: well only if all that it was to send needs no more sending.
pub(super) fn finish(id: &DestinationId, resent: &Resent, asked: &Asked) -> Result<(), Failure> {
    if let Some(stopped) = &resent.stopped {
        let told = |why: &str| {
            format!(
                "stopped before the end, and the rest is as it was: {why}; to go on: {}",
                asked.go_on(id, resent)
            )
        };
        return Err(match stopped {
            Stopped::Told => Failure::Partial(told("it was told to stop")),
            Stopped::Closed(why) => Failure::Partial(told(why)),
            Stopped::Failed { why, is_retryable: true } => Failure::Unreachable(told(why)),
            Stopped::Failed { why, is_retryable: false } => Failure::Failed(told(why)),
        });
    }
    let rejected = resent.ended.get(&Disposition::Rejected).copied().unwrap_or_default();
    let failed = rejected + resent.impossible;
    if failed == 0 {
        return Ok(());
    }
    let all = resent.ended.values().sum::<u64>() + resent.impossible;
    let mut why = Vec::new();
    if rejected > 0 {
        why.push(format!("{rejected} were rejected (`millrace dead-letters list --of {id}` says why)"));
    }
    if resent.impossible > 0 {
        why.push(format!("{} cannot be sent", resent.impossible));
    }
    let text = format!("{failed} of {all} failed: {}", why.join(", "));
    Err(if failed == all { Failure::Failed(text) } else { Failure::Partial(text) })
}

pub(super) fn told(id: &DestinationId, news: &News) -> String {
    match news {
        News::Paused(reason) => format!(
            "{id} is paused ({reason}): nothing is sent until `millrace resume {id}`; what ended is stored, and this \
             may be stopped"
        ),
        News::Resumed => format!("{id} is resumed: going on"),
        News::Waiting(until) => format!(
            "nothing is sent until {}: {id} asks for time, or all that is left has failed and is tried again then",
            instant(*until)
        ),
    }
}

pub(super) fn as_json(id: &DestinationId, resent: &Resent, asked: &Asked) -> serde_json::Value {
    let ended: BTreeMap<_, _> = resent.ended.iter().map(|(end, count)| (end.as_str(), count)).collect();
    let stopped = resent.stopped.as_ref().map(|stopped| match stopped {
        Stopped::Told => "it was told to stop",
        Stopped::Closed(why) | Stopped::Failed { why, .. } => why,
    });
    json!({
        "destination": id, "ended": ended, "impossible": resent.impossible, "stopped": stopped,
        "go_on_from": asked.go_on_from(resent).map(instant),
    })
}

pub(super) fn text(id: &DestinationId, resent: &Resent) -> String {
    let of = |disposition| resent.ended.get(&disposition).copied().unwrap_or_default();
    let mut text = format!(
        "sent to {id} again: {} delivered, {} filtered, {} duplicate, {} rejected",
        of(Disposition::Delivered),
        of(Disposition::Filtered),
        of(Disposition::Duplicate),
        of(Disposition::Rejected)
    );
    if resent.impossible > 0 {
        text.push_str(&told_impossible(id, resent.impossible));
    }
    text
}

pub(super) fn told_impossible(id: &DestinationId, count: u64) -> String {
    format!(
        "\n{count} letters cannot be sent from here: they are of changes, of a source or lane that leads to {id} no \
         more, or too large to be kept whole (`millrace replay --destination {id}` reads the events themselves)"
    )
}

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use millrace_bus::Range;
    use millrace_event_model::Lane;

    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(second)
    }

    /// The exit code's name and the last line of a job that ended so.
    fn last_word(resent: &Resent) -> String {
        match finish(&"hook".parse().unwrap(), resent, &Asked::Time(at(0)..at(60))) {
            Ok(()) => "ok".to_owned(),
            Err(Failure::Partial(text)) => format!("partial: {text}"),
            Err(Failure::Failed(text)) => format!("failed: {text}"),
            Err(Failure::Unreachable(text)) => format!("unreachable: {text}"),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_job_that_could_not_deliver_all_says_so_by_its_end() {
        let ended = |ended: &[(Disposition, u64)], impossible| {
            last_word(&Resent { ended: ended.iter().copied().collect(), impossible, ..Resent::default() })
        };
        assert_eq!(ended(&[(Disposition::Delivered, 2), (Disposition::Filtered, 1)], 0), "ok");
        assert_eq!(ended(&[], 0), "ok");
        assert_eq!(
            ended(&[(Disposition::Delivered, 2), (Disposition::Rejected, 1)], 4),
            "partial: 5 of 7 failed: 1 were rejected (`millrace dead-letters list --of hook` says why), 4 \
             cannot be sent"
        );
        let some = ended(&[(Disposition::Filtered, 2), (Disposition::Rejected, 5)], 0);
        assert!(
            some.starts_with("partial: 5 of 7 failed: 5 were rejected"),
            "what is filtered has not failed: {some}"
        );
        assert_eq!(ended(&[], 4), "failed: 4 of 4 failed: 4 cannot be sent");
    }

    #[test]
    fn a_job_that_stopped_says_with_which_command_it_goes_on() {
        let rest = vec![(Lane::main(), vec![Range::stored(0, 3, 9)])];
        let mut resent = Resent { stopped: Some(Stopped::Told), rest, ..Resent::default() };
        let said = last_word(&resent);
        assert!(said.starts_with("partial: ") && said.contains("--from 1970-01-01T00:00:00.000Z"), "{said}");
        resent.rest_since = Some(at(7));
        resent.stopped = Some(Stopped::Failed { why: "Kafka is away".to_owned(), is_retryable: true });
        let said = last_word(&resent);
        let from = "millrace replay --destination hook --from 1970-01-01T00:00:07.000Z --to 1970-01-01T00:01:00.000Z";
        assert!(said.starts_with("unreachable: ") && said.contains(from), "{said}");

        let id = "hook".parse().unwrap();
        assert_eq!(
            Asked::Failed(at(0)..at(60)).go_on(&id, &resent),
            "millrace replay --destination hook --from 1970-01-01T00:00:00.000Z --to 1970-01-01T00:01:00.000Z --only \
             failed"
        );
        let filter =
            LetterFilter { code: Some("http_400".to_owned()), from: Some(at(1)), ..LetterFilter::default() };
        assert_eq!(
            Asked::Letters(filter).go_on(&id, &resent),
            "millrace dead-letters replay --of hook --code http_400 --from 1970-01-01T00:00:01.000Z"
        );
    }
}
