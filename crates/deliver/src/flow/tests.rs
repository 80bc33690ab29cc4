#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::HashMap;

use async_trait::async_trait;
use millrace_connector::{
    ConnectorError, Destination, HttpRequest, Item, ItemOutcome, Limits, Payload, Prepared, Rate, RequestBody,
};
use millrace_event_model::wire::WireRecord;
use millrace_event_model::{
    Change, ChangeOp, Disposition, Event, MessageId, Origin, Outcome, Reason, SourceId, testing,
};
use millrace_privacy::{Consent, IntegrationNames};
use millrace_transform::Filter;

use super::*;

mod laws;
mod sending;

/// A destination that makes a request of everything but `nothing` and `invalid`.
struct Pure;

/// Calls of several items, and many of them.
fn batches(max_items: usize) -> Limits {
    Limits { max_items, ..Limits::single(100, Duration::from_secs(1)) }
}

#[async_trait]
impl Destination for Pure {
    async fn check(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn limits(&self) -> Limits {
        Limits::single(1, Duration::from_secs(1))
    }

    fn transform(&self, item: &Item) -> Result<Vec<HttpRequest>, Reason> {
        if let Payload::Event(event) = &item.payload {
            match &event.body[..] {
                b"nothing" => return Ok(Vec::new()),
                b"invalid" => return Err(Reason::new("invalid", "it is invalid")),
                _ => {}
            }
        }
        let mut request = HttpRequest::post("http://receiver/");
        if let Payload::Event(event) = &item.payload {
            request.body = RequestBody::Json(event.body.clone());
        }
        Ok(vec![request])
    }

    async fn deliver(&self, _: Vec<Prepared>) -> Vec<ItemOutcome> {
        Vec::new()
    }
}

const PLACE: Place = Place { topic: 0, partition: 0 };
const BOUNDS: Bounds = Bounds { active: 8, parked: 3, bytes: 1_000 };

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + chrono::Duration::seconds(seconds)
}

fn retry() -> RetryPolicy {
    RetryPolicy { min_attempts: 2, give_up_after: Duration::ZERO, ..RetryPolicy::default() }
}

/// A destination with a connection from `web` that takes tracks only, and from `app` that takes all; it owns
/// partition 0 of the lane and of the changes.
fn flow() -> Flow {
    flow_within(Limits::single(100, Duration::from_secs(1)))
}

fn flow_within(limits: Limits) -> Flow {
    let source = |name: &str| name.parse::<SourceId>().unwrap();
    let filter = Filter::compile("type == 'track'").unwrap();
    let connections = vec![HashMap::from_iter([(source("web"), Some(filter)), (source("app"), None)])];
    let routes = Routes {
        destination: "hook".parse().unwrap(),
        connections,
        names: IntegrationNames::new(["hook"]),
        consent: Consent::default(),
    };
    let topics = vec!["acme.events.main".to_owned(), "acme.changes".to_owned()];
    let mut flow = Flow::new(routes, topics, &limits, retry(), BOUNDS, Duration::from_secs(60));
    for topic in 0..2 {
        flow.own(&Position { place: Place { topic, partition: 0 }, low: 0, done: Vec::new() });
    }
    flow.state(at(0));
    flow.stored();
    flow
}

struct NewEvent {
    source: &'static str,
    event_type: &'static str,
    id: String,
    key: u8,
    body: &'static str,
}

fn event(offset: i64, key: u8) -> NewEvent {
    NewEvent { source: "app", event_type: "track", id: format!("m-{offset}"), key, body: "{}" }
}

fn read(flow: &mut Flow, offset: i64, new: NewEvent) {
    let event = Event {
        event_type: new.event_type.into(),
        message_id: MessageId(new.id),
        received_at: at(0),
        source: new.source.parse().unwrap(),
        key: PartitionKey([new.key; 16]),
        ..testing::event(new.body)
    };
    let message = Ok(Payload::Event(event));
    flow.read(0, Read { partition: 0, offset, raw: WireRecord::default(), message }, at(0));
}

fn read_change(flow: &mut Flow, offset: i64, run: u64, destination: &str) {
    let change = Change {
        sync: "spenders".parse().unwrap(),
        run,
        destination: destination.parse().unwrap(),
        key: PartitionKey([9; 16]),
        row_hash: PartitionKey([run as u8; 16]),
        published_at: at(0),
        ..testing::change(ChangeOp::Upsert, "{}")
    };
    let message = Ok(Payload::Change(change));
    flow.read(1, Read { partition: 0, offset, raw: WireRecord::default(), message }, at(0));
}

/// All that may be sent now.
fn send(flow: &mut Flow, now: i64) -> Vec<Ticket> {
    calls(flow, now).into_iter().flatten().collect()
}

/// All calls that may be made now.
fn calls(flow: &mut Flow, now: i64) -> Vec<Vec<Ticket>> {
    let calls = std::iter::from_fn(|| flow.next_call(&Pure, at(now)));
    calls.map(|call| call.into_iter().map(|(ticket, _)| ticket).collect()).collect()
}

/// A call of one item has come back.
fn land(flow: &mut Flow, ticket: Ticket, outcome: ItemOutcome, now: DateTime<Utc>) {
    flow.landed(vec![(ticket, outcome)], now);
}

fn offsets(tickets: &[Ticket]) -> Vec<i64> {
    tickets.iter().map(|ticket| ticket.offset).collect()
}

fn retry_outcome() -> ItemOutcome {
    ItemOutcome::Transient { after: None, reason: Reason::new("http_500", "broken") }
}

fn outcomes(flow: &mut Flow) -> Vec<Outcome> {
    flow.state(at(0)).0.outcomes
}

fn told(flow: &mut Flow) -> Vec<(Disposition, i64)> {
    let place = |outcome: &Outcome| match &outcome.origin {
        Origin::Events { first, .. } => *first,
        Origin::Event { offset, .. } => *offset,
        Origin::Change { run, .. } => *run as i64,
    };
    outcomes(flow).iter().map(|outcome| (outcome.disposition, place(outcome))).collect()
}

#[test]
fn one_item_of_each_key_is_sent_at_a_time() {
    let mut flow = flow();
    for (offset, key) in [(0, 1), (1, 1), (2, 2)] {
        read(&mut flow, offset, event(offset, key));
    }
    let first = send(&mut flow, 0);
    assert_eq!(offsets(&first), [0, 2]);
    land(&mut flow, first[0], ItemOutcome::Delivered, at(0));
    assert_eq!(offsets(&send(&mut flow, 0)), [1]);
}

#[test]
fn only_what_a_connection_lets_through_is_sent() {
    let mut flow = flow();
    read(&mut flow, 0, NewEvent { source: "other", ..event(0, 1) });
    read(&mut flow, 1, NewEvent { source: "web", event_type: "page", ..event(1, 2) });
    read(&mut flow, 2, NewEvent { source: "web", ..event(2, 3) });
    read(&mut flow, 3, NewEvent { body: "nothing", ..event(3, 4) });
    assert_eq!(offsets(&send(&mut flow, 0)), [2]);
    let filtered = [(Disposition::Filtered, 1), (Disposition::Filtered, 3)];
    assert_eq!(told(&mut flow), filtered, "what is of no connection has no outcome");
}

#[test]
fn a_record_that_is_no_message_goes_to_the_dead_letters() {
    let mut flow = flow();
    let message = Err(millrace_event_model::wire::DecodeError::MalformedKey);
    flow.read(0, Read { partition: 0, offset: 0, raw: WireRecord::default(), message }, at(0));
    read(&mut flow, 1, NewEvent { body: "invalid", ..event(1, 1) });
    assert_eq!(send(&mut flow, 0), []);
    let (statement, positions) = flow.state(at(0));
    let codes = statement.dead_letters.iter().map(|letter| letter.reason.code.as_str()).collect::<Vec<_>>();
    assert_eq!(codes, ["malformed_record", "invalid"]);
    assert_eq!(positions[0].low, 2, "they hold up nothing");
}

#[test]
fn a_clients_retry_is_dropped_but_not_the_same_record_read_again() {
    let mut flow = flow();
    read(&mut flow, 0, event(0, 1));
    read(&mut flow, 1, NewEvent { id: "m-0".to_owned(), ..event(1, 1) });
    read(&mut flow, 2, NewEvent { id: "m-0".to_owned(), source: "web", ..event(2, 1) });
    assert_eq!(told(&mut flow), [(Disposition::Duplicate, 1)], "ids are of a source");

    // The partition goes and comes back: the first is read again, not having ended.
    flow.own(&Position { place: PLACE, low: 0, done: vec![(1, 2)] });
    read(&mut flow, 0, event(0, 1));
    assert_eq!(offsets(&send(&mut flow, 0)), [0]);
}

#[test]
fn a_failed_item_is_tried_again_and_given_up_with_its_reason() {
    let mut flow = flow();
    read(&mut flow, 0, event(0, 1));
    let first = send(&mut flow, 0);
    land(&mut flow, first[0], retry_outcome(), at(0));
    assert_eq!(send(&mut flow, 0), []);
    let due = (flow.next_due(at(0)).unwrap() - at(0)).num_seconds() + 1;
    let second = send(&mut flow, due);
    assert_eq!(offsets(&second), [0]);
    land(&mut flow, second[0], retry_outcome(), at(due));
    let (statement, _) = flow.state(at(due));
    let [outcome] = &statement.outcomes[..] else { panic!("{statement:?}") };
    assert_eq!((outcome.disposition, outcome.attempts), (Disposition::Rejected, 2));
    assert_eq!(outcome.reason.as_ref().unwrap().code, "http_500");
    assert_eq!(statement.dead_letters.len(), 1);
    assert_eq!(flow.unfinished(), 0);
}

#[test]
fn parked_items_leave_room_for_others_until_there_are_too_many() {
    let mut flow = flow();
    for (offset, key) in [(0, 1), (1, 1)] {
        read(&mut flow, offset, event(offset, key));
    }
    assert_eq!(flow.room(), 6);
    let sent = send(&mut flow, 0);
    land(&mut flow, sent[0], retry_outcome(), at(0));
    assert_eq!((flow.room(), flow.trouble()), (8, None), "what is parked takes no room of the others");
    read(&mut flow, 2, event(2, 1));
    assert_eq!(flow.room(), 0);
    assert!(flow.trouble().unwrap().contains("3 items wait for keys that fail"));
}

#[test]
fn bodies_are_bounded_by_their_bytes() {
    let mut flow = flow();
    let long: &'static str = "x".repeat(1_000).leak();
    read(&mut flow, 0, NewEvent { body: long, ..event(0, 1) });
    assert_eq!(flow.room(), 0);
    let sent = send(&mut flow, 0);
    land(&mut flow, sent[0], ItemOutcome::Delivered, at(0));
    flow.state(at(0));
    flow.stored();
    assert_eq!(flow.room(), 8);
}

#[test]
fn what_is_not_stored_takes_room_since_a_crash_would_repeat_it() {
    let mut flow = flow();
    for offset in 0..8 {
        read(&mut flow, offset, event(offset, offset as u8));
    }
    for ticket in send(&mut flow, 0) {
        land(&mut flow, ticket, ItemOutcome::Delivered, at(0));
    }
    assert_eq!((flow.unfinished(), flow.room(), flow.must_state()), (0, 0, true));
    flow.state(at(0));
    assert_eq!((flow.room(), flow.must_state()), (0, false), "on its way is not stored");
    flow.stored();
    assert_eq!((flow.room(), flow.must_state()), (8, false));
}

#[test]
fn a_few_are_not_read_while_there_is_enough_to_send() {
    let mut flow = flow();
    flow.bounds.active = 16;
    for offset in 0..15 {
        read(&mut flow, offset, event(offset, offset as u8));
    }
    assert_eq!(flow.room(), 0, "there is room for one, and an eighth are two");
    let mut sent = send(&mut flow, 0).into_iter();
    land(&mut flow, sent.next().unwrap(), ItemOutcome::Delivered, at(0));
    flow.state(at(0));
    flow.stored();
    assert_eq!(flow.room(), 2);
    for ticket in sent.by_ref().take(11) {
        land(&mut flow, ticket, ItemOutcome::Delivered, at(0));
    }
    assert_eq!(flow.unfinished(), 3, "less than a quarter");
    assert_eq!(flow.room(), 2);
    read(&mut flow, 15, event(15, 15));
    read(&mut flow, 16, event(16, 16));
    assert_eq!((flow.unfinished(), flow.room()), (5, 0));
}

#[test]
fn a_destination_that_needs_a_person_keeps_its_items() {
    let mut flow = flow();
    for offset in 0..3 {
        read(&mut flow, offset, event(offset, offset as u8));
    }
    let sent = send(&mut flow, 0);
    land(&mut flow, sent[0], ItemOutcome::Auth(Reason::new("http_401", "who are you")), at(0));
    land(&mut flow, sent[1], ItemOutcome::Delivered, at(0));
    land(&mut flow, sent[2], ItemOutcome::Auth(Reason::new("http_401", "who are you")), at(0));
    assert_eq!(send(&mut flow, 59), []);
    assert!(flow.trouble().unwrap().contains("http_401"));
    assert_eq!(flow.next_due(at(0)), Some(at(60)));
    let probe = send(&mut flow, 60);
    assert_eq!(offsets(&probe), [0], "one item, to see");
    land(&mut flow, probe[0], ItemOutcome::Delivered, at(60));
    assert_eq!(offsets(&send(&mut flow, 60)), [2]);
    assert_eq!(flow.trouble(), None);
}

/// A destination that has paused itself, with its probe in flight.
fn probed() -> (Flow, Ticket) {
    let mut flow = flow();
    read(&mut flow, 0, event(0, 1));
    let sent = send(&mut flow, 0);
    land(&mut flow, sent[0], ItemOutcome::Auth(Reason::new("http_401", "who are you")), at(0));
    let probe = send(&mut flow, 60);
    assert_eq!(offsets(&probe), [0]);
    (flow, probe[0])
}

#[test]
fn the_answer_to_a_probe_counts_though_its_partition_has_gone() {
    let (mut flow, probe) = probed();
    flow.give_up(PLACE);
    land(&mut flow, probe, ItemOutcome::Delivered, at(61));
    assert_eq!(flow.trouble(), None);
}

#[test]
fn a_probe_that_nobody_waits_for_is_followed_by_another() {
    let (mut flow, _) = probed();
    flow.give_up_all();
    flow.own(&Position { place: PLACE, low: 0, done: Vec::new() });
    read(&mut flow, 0, event(0, 1));
    assert_eq!(offsets(&send(&mut flow, 61)), [0]);
}

#[test]
fn a_change_takes_the_place_of_an_older_one_of_its_row() {
    let mut flow = flow();
    read_change(&mut flow, 0, 5, "hook");
    let sent = send(&mut flow, 0);
    land(&mut flow, sent[0], retry_outcome(), at(0));
    read_change(&mut flow, 1, 6, "hook");
    read_change(&mut flow, 2, 7, "elsewhere");
    read_change(&mut flow, 3, 4, "hook");
    assert_eq!(told(&mut flow), [(Disposition::Superseded, 5), (Disposition::Superseded, 4)]);
    let sent = send(&mut flow, 0);
    assert_eq!(offsets(&sent), [1]);
    land(&mut flow, sent[0], ItemOutcome::Delivered, at(0));
    assert_eq!(told(&mut flow), [(Disposition::Delivered, 6)]);
}

#[test]
fn a_change_in_flight_is_awaited_and_not_overtaken() {
    let mut flow = flow();
    read_change(&mut flow, 0, 5, "hook");
    let older = send(&mut flow, 0);
    read_change(&mut flow, 1, 6, "hook");
    assert_eq!(send(&mut flow, 0), []);
    land(&mut flow, older[0], ItemOutcome::Delivered, at(0));
    assert_eq!(offsets(&send(&mut flow, 0)), [1]);
}

#[test]
fn what_comes_back_after_the_partition_went_is_void() {
    let mut flow = flow();
    read(&mut flow, 0, event(0, 1));
    let sent = send(&mut flow, 0);
    flow.leave(PLACE);
    assert_eq!(flow.in_flight(PLACE), 1);
    read(&mut flow, 1, event(1, 2));
    assert_eq!(send(&mut flow, 0), [], "nothing more is sent of a partition that is leaving");
    flow.give_up(PLACE);
    flow.own(&Position { place: PLACE, low: 0, done: Vec::new() });
    read(&mut flow, 0, event(0, 1));
    let again = send(&mut flow, 0);
    land(&mut flow, sent[0], retry_outcome(), at(0));
    assert_eq!(flow.in_flight(PLACE), 1, "the answer is of another ownership");
    land(&mut flow, again[0], ItemOutcome::Delivered, at(0));
    assert_eq!(flow.unfinished(), 0);
}

#[test]
fn a_position_covers_only_what_has_ended() {
    let mut flow = flow();
    for offset in 0..4 {
        read(&mut flow, offset, event(offset, offset as u8));
    }
    let sent = send(&mut flow, 0);
    land(&mut flow, sent[0], ItemOutcome::Delivered, at(0));
    land(&mut flow, sent[2], ItemOutcome::Delivered, at(0));
    let (statement, positions) = flow.state(at(0));
    assert_eq!(statement.outcomes.len(), 2);
    assert_eq!(positions, [Position { place: PLACE, low: 1, done: vec![(2, 3)] }]);
    assert_eq!(flow.state(at(0)).1, [], "nothing has changed since");
}
