//! `millrace tap`: the events of a source or a lane, as Kafka holds them.
//!
//! It reads by hand and joins no group, so nobody else's position moves. What the server decided stands in
//! the record's header and wins over the body; both are shown.

use std::collections::BTreeMap;

use chrono::SecondsFormat;
use futures::stream::{self, Stream, TryStreamExt};
use millrace_bus::{BatchLimits, Bus, BusError, Positions, Reader, Received, Start};
use millrace_event_model::topics::EVENTS;
use millrace_event_model::{Event, Lane};
use millrace_service::config::{self, Config, Mode};
use millrace_service::{Stop, stop_on_signals};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::cli::{Output, TapArgs};
use crate::exit::Failure;
use crate::installation::{Installation, read_config};
use crate::output;
use crate::stages::{self, http_sources};

/// What is read in one go: little enough to print at once. An event is shown at the latest after `max_wait`,
/// which is a blink.
const LIMITS: BatchLimits = BatchLimits {
    max_records: 500,
    max_bytes: 4 * 1024 * 1024,
    max_wait: std::time::Duration::from_millis(100),
};

/// Before a broker that went away is asked again.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// `millrace tap [--source ID] [--from WHEN] [--limit N] [--no-follow]`.
pub(crate) async fn run(args: &TapArgs, output: Output) -> Result<(), Failure> {
    let config = read_config(&args.place, Mode::Dev)?;
    let lanes = lanes(&config, args)?;
    let bus = Installation::attach(&config, &args.place)?;
    let from = match (args.from, args.no_follow) {
        (Some(from), _) => from,
        (None, true) => config::Start::Earliest,
        (None, false) => config::Start::Latest,
    };
    let stop = Stop::new();
    tokio::spawn(stop_on_signals(stop.clone()));
    let mut taps = Vec::new();
    for lane in &lanes {
        let tap = Tap::open(&bus, lane, stages::start(from), !args.no_follow, &stop).await?;
        taps.push(Box::pin(tap.batches()));
    }
    let mut batches = stream::select_all(taps);
    let mut left = args.limit.unwrap_or(u64::MAX);
    while left > 0
        && let Some((topic, batch)) = batches.try_next().await?
    {
        for received in batch.iter().filter(|received| is_of(received, args.source.as_deref())) {
            let line = match output {
                Output::Text => text(&topic, received),
                Output::Json => json(&topic, received),
            };
            left -= 1;
            if !output::line_if_read(line) || left == 0 {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Where the events that were asked for are.
fn lanes(config: &Config, args: &TapArgs) -> Result<Vec<Lane>, Failure> {
    if let Some(lane) = &args.lane {
        return Ok(vec![lane.clone()]);
    }
    let asked = |id: &str| args.source.as_deref().is_none_or(|source| source == id);
    let mut lanes: Vec<Lane> = http_sources(config)
        .filter(|source| asked(source.id.as_str()))
        .map(|source| source.lane.clone())
        .collect();
    if lanes.is_empty() {
        let known: Vec<&str> = http_sources(config).map(|source| source.id.as_str()).collect();
        let asked = args.source.as_deref().unwrap_or("any");
        return Err(Failure::Usage(format!(
            "there is no source {asked:?} of kind http in the config; there are: {}",
            known.join(", ")
        )));
    }
    lanes.sort_unstable();
    lanes.dedup();
    Ok(lanes)
}

/// A record that cannot be decoded has no source: it is shown, for somebody should look into it.
fn is_of(received: &Received<Event>, source: Option<&str>) -> bool {
    match (&received.message, source) {
        (Ok(event), Some(source)) => event.source.as_str() == source,
        _ => true,
    }
}

/// One lane that is being read.
struct Tap {
    reader: Reader<Event>,
    /// Where to end, for each partition; without it there is no end.
    end: Option<Positions>,
    stop: Stop,
    /// Kafka has answered once: what goes wrong afterwards passes.
    answered: bool,
}

impl Tap {
    async fn open(bus: &Bus, lane: &Lane, from: Start, follow: bool, stop: &Stop) -> Result<Self, BusError> {
        let topic = EVENTS.lane(bus.workspace(), lane);
        let mut end = None;
        if !follow {
            let watermarks = bus.watermarks(topic.as_str()).await?;
            end = Some(watermarks.into_iter().map(|(partition, (_, high))| (partition, high)).collect());
        }
        let reader = bus.reader(&topic, &Positions::new(), from)?;
        Ok(Self { reader, end, stop: stop.clone(), answered: false })
    }

    /// Batch after batch with the topic's name, each in the order in which Kafka had the events.
    fn batches(self) -> impl Stream<Item = Result<(String, Vec<Received<Event>>), BusError>> {
        stream::try_unfold(self, |mut tap| async move {
            if tap.is_done() {
                return Ok(None);
            }
            let batch = tap.next().await?;
            let topic = tap.reader.topic().as_str().to_owned();
            Ok(Some(((topic, batch), tap)))
        })
    }

    fn is_done(&self) -> bool {
        self.stop.is_requested()
            || self.end.as_ref().is_some_and(|end| self.answered && reached(self.reader.positions(), end))
    }

    async fn next(&mut self) -> Result<Vec<Received<Event>>, BusError> {
        let batch = match self.reader.next_batch(&LIMITS, self.stop.token()).await {
            Ok(batch) => batch,
            Err(error) if self.answered && error.is_retryable() => {
                tracing::warn!(%error, "Kafka does not answer; trying again");
                tokio::time::sleep(PAUSE).await;
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        self.answered = true;
        let mut records = batch.records;
        if let Some(end) = &self.end {
            records.retain(|received| end.get(&received.partition).is_some_and(|end| received.offset < *end));
        }
        records.sort_by_key(|received| received.appended_at);
        Ok(records)
    }
}

fn reached(positions: &Positions, end: &Positions) -> bool {
    end.iter().all(|(partition, end)| positions.get(partition).is_some_and(|position| position >= end))
}

/// A line for people.
fn text(topic: &str, received: &Received<Event>) -> String {
    let place = format!("{topic}/{}/{}", received.partition, received.offset);
    let event = match &received.message {
        Ok(event) => event,
        Err(error) => {
            let at = received.appended_at.to_rfc3339_opts(SecondsFormat::Millis, true);
            return format!("{at} {place} is no event: {error}");
        }
    };
    let body: BTreeMap<String, Value> = serde_json::from_slice(&event.body).unwrap_or_default();
    let mut line = format!(
        "{} {} {}",
        event.received_at.to_rfc3339_opts(SecondsFormat::Millis, true),
        event.source,
        event.event_type.escape_debug()
    );
    for name in ["event", "name"] {
        // Quoted, and what would steer the terminal escaped: it is the client's text.
        line.extend(body.get(name).and_then(Value::as_str).map(|text| format!(" {text:?}")));
    }
    for name in ["userId", "anonymousId", "groupId", "previousId"] {
        let shown = output::cell(body.get(name));
        if !shown.is_empty() {
            line.push_str(&format!(" {name}={}", shown.escape_debug()));
        }
    }
    let id = event.message_id.as_str().escape_debug();
    line.push_str(&format!(" messageId={id} {} bytes {place}", event.body.len()));
    line
}

/// The record as JSON: its place, what the server decided, and the client's body.
fn json(topic: &str, received: &Received<Event>) -> String {
    let mut line = json!({
        "topic": topic,
        "partition": received.partition,
        "offset": received.offset,
        "appended_at": received.appended_at.to_rfc3339_opts(SecondsFormat::Millis, true),
    });
    let event = match &received.message {
        Ok(event) => event,
        Err(error) => {
            line["error"] = error.to_string().into();
            return line.to_string();
        }
    };
    line["decided"] = decided(event);
    let Some(body) = on_one_line(&event.body) else {
        line["error"] = "the body is not JSON".into();
        return line.to_string();
    };
    // As the client wrote it: order, numbers and what stands twice included.
    let mut line = line.to_string();
    line.truncate(line.len() - 1);
    format!("{line},\"body\":{}}}", body.get())
}

/// The same however the record holds it: its headers had another shape once.
fn decided(event: &Event) -> Value {
    let mut decided = json!({
        "type": event.event_type,
        "messageId": event.message_id.as_str(),
        "rudderId": event.rudder_id.to_string(),
        "receivedAt": event.received_at.to_rfc3339_opts(SecondsFormat::Millis, true),
        "source": event.source.as_str(),
    });
    let rest = [
        ("sentAt", event.sent_at.as_deref()),
        ("requestIp", event.request_ip.as_deref()),
        ("policy", event.policy.as_deref()),
        ("traceparent", event.traceparent.as_deref()),
    ];
    for (name, value) in rest {
        if let Some(value) = value {
            decided[name] = value.into();
        }
    }
    if let Some(place) = event.place() {
        decided["geo"] = json!(place);
    }
    decided
}

/// A line break in JSON stands between values, never inside a text, so a space says the same.
fn on_one_line(body: &[u8]) -> Option<Box<RawValue>> {
    let body: Vec<u8> =
        body.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect();
    RawValue::from_string(String::from_utf8(body).ok()?).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use chrono::DateTime;
    use millrace_event_model::testing;
    use millrace_event_model::wire::Message;

    use super::*;

    fn received(body: &str) -> Received<Event> {
        let at = DateTime::from_timestamp(1_764_000_000, 0).unwrap();
        let event = Event { received_at: at, ..testing::event(body) };
        Received { partition: 3, offset: 17, appended_at: at, raw: event.encode(), message: Ok(event) }
    }

    #[test]
    fn a_line_for_people_says_who_did_what() {
        let line = text("acme.events.main", &received(r#"{"event":"Signed Up","userId":"u-1"}"#));
        assert_eq!(
            line,
            "2025-11-24T16:00:00.000Z web track \"Signed Up\" userId=u-1 messageId=m-1 36 bytes acme.events.main/3/17"
        );
    }

    #[test]
    fn a_client_cannot_steer_the_terminal() {
        let line = text("t", &received(r#"{"event":"\u001b[2J","userId":"a\nb\u009b"}"#));
        assert!(!line.contains(char::is_control), "{line:?}");
    }

    #[test]
    fn a_line_for_programs_has_the_body_as_it_was_sent() {
        let line = json("acme.events.main", &received("{\n \"n\": 1.50,\r\n \"n\": \"a\\nb\" }"));
        assert!(!line.contains('\n'), "{line}");
        assert!(line.ends_with(r#","body":{  "n": 1.50,   "n": "a\nb" }}"#), "{line}");
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["decided"]["messageId"], "m-1");
        assert_eq!((&read["partition"], &read["offset"]), (&3.into(), &17.into()));
    }

    #[test]
    fn what_is_no_event_is_shown_without_its_content() {
        let mut odd = received("secret");
        odd.message = Event::decode(&Default::default());
        for line in [text("t", &odd), json("t", &odd)] {
            assert!(
                line.contains("header \\\"event\\\" is missing")
                    || line.contains("header \"event\" is missing")
            );
            assert!(!line.contains("secret"), "{line}");
        }
        assert!(is_of(&odd, Some("web")) && is_of(&received("{}"), Some("web")));
        assert!(!is_of(&received("{}"), Some("app")));
    }

    #[test]
    fn the_end_is_reached_when_every_partition_is() {
        let end = Positions::from([(0, 5), (1, 0)]);
        assert!(reached(&[(0, 5), (1, 2)].into(), &end));
        assert!(!reached(&[(0, 4), (1, 2)].into(), &end));
        assert!(!reached(&[(0, 5)].into(), &end));
    }
}
