//! What shares a call, when it is made, and what is sent again how.

use super::*;

fn unclear() -> ItemOutcome {
    ItemOutcome::Unclear(Reason::new("http_400", "something in it is wrong"))
}

/// Sends all there is, calls that hold a poisoned offset being refused whole; returns the calls.
fn send_poisoned(flow: &mut Flow, poisoned: i64) -> Vec<Vec<i64>> {
    let mut made = Vec::new();
    while let Some(call) = flow.next_call(&Pure, at(0)) {
        let tickets = call.into_iter().map(|(ticket, _)| ticket).collect::<Vec<_>>();
        let bad = tickets.iter().any(|ticket| ticket.offset == poisoned);
        let outcome = || if bad { unclear() } else { ItemOutcome::Delivered };
        made.push(offsets(&tickets));
        flow.landed(tickets.into_iter().map(|ticket| (ticket, outcome())).collect(), at(0));
    }
    made
}

#[test]
fn an_unclear_failure_is_bisected_down_to_the_item_that_causes_it() {
    let mut flow = flow_within(batches(8));
    for offset in 0..8 {
        read(&mut flow, offset, event(offset, offset as u8));
    }
    let calls = send_poisoned(&mut flow, 5);
    assert_eq!(calls[0], [0, 1, 2, 3, 4, 5, 6, 7]);
    let with_it = calls.iter().filter(|call| call.contains(&5)).map(Vec::len).collect::<Vec<_>>();
    assert_eq!(with_it, [8, 4, 2, 1], "half as many each time");
    let (statement, _) = flow.state(at(0));
    assert_eq!(statement.dead_letters.len(), 1, "the others are not rejected for it");
    assert_eq!((statement.dead_letters[0].offset, flow.unfinished()), (5, 0));
}

#[test]
fn a_call_that_is_too_large_is_divided_and_that_is_no_failure_of_its_items() {
    let mut flow = flow_within(batches(4));
    for offset in 0..4 {
        read(&mut flow, offset, event(offset, offset as u8));
    }
    let oversize = || ItemOutcome::Oversize(Reason::new("http_413", "too large"));
    let call = calls(&mut flow, 0).remove(0);
    flow.landed(call.into_iter().map(|ticket| (ticket, oversize())).collect(), at(0));
    let halves = calls(&mut flow, 0);
    assert_eq!(halves.iter().map(|call| offsets(call)).collect::<Vec<_>>(), [[0, 1], [2, 3]]);
    for half in halves {
        flow.landed(half.into_iter().map(|ticket| (ticket, oversize())).collect(), at(0));
    }
    for single in calls(&mut flow, 0) {
        land(&mut flow, single[0], retry_outcome(), at(0));
    }
    assert_eq!(flow.unfinished(), 4, "tried once and not given up with the second failure of two allowed");
}

#[test]
fn a_call_holds_what_the_limits_say() {
    let limits = Limits { max_bytes: 10, ..batches(3) };
    let mut flow = flow_within(limits);
    for (offset, body) in
        ["xxxx", "xxxx", "xxxx", "x", "x", "x", "x-and-more-than-ten"].into_iter().enumerate()
    {
        read(&mut flow, offset as i64, NewEvent { body, ..event(offset as i64, offset as u8) });
    }
    let made = calls(&mut flow, 0);
    let made = made.iter().map(|call| offsets(call)).collect::<Vec<_>>();
    assert_eq!(made, [vec![0, 1], vec![2, 3, 4], vec![5], vec![6]], "one that is too large goes alone");
}

#[test]
fn a_call_that_is_not_full_waits_for_more_and_not_for_ever() {
    let limits = Limits { max_wait: Duration::from_secs(5), ..batches(3) };
    let mut flow = flow_within(limits);
    read(&mut flow, 0, event(0, 0));
    assert_eq!(calls(&mut flow, 0), Vec::<Vec<Ticket>>::new());
    assert_eq!(flow.next_due(at(0)), Some(at(5)));
    read(&mut flow, 1, event(1, 1));
    assert_eq!(calls(&mut flow, 4), Vec::<Vec<Ticket>>::new());
    assert_eq!(offsets(&send(&mut flow, 5)), [0, 1]);
    for offset in 2..5 {
        read(&mut flow, offset, event(offset, offset as u8));
    }
    assert_eq!(offsets(&send(&mut flow, 5)), [2, 3, 4], "a full one waits for nothing");
}

#[test]
fn what_waits_for_company_is_not_sent_once_its_partition_is_leaving() {
    let mut flow = flow_within(Limits { max_wait: Duration::from_secs(5), ..batches(3) });
    read(&mut flow, 0, event(0, 0));
    assert_eq!(send(&mut flow, 0), []);
    flow.leave(PLACE);
    assert_eq!((flow.in_flight(PLACE), send(&mut flow, 9)), (0, vec![]));
}

#[test]
fn where_order_does_not_matter_items_of_a_key_share_a_call() {
    let mut flow = flow_within(Limits { ordered: false, ..batches(3) });
    for offset in 0..3 {
        read(&mut flow, offset, event(offset, 1));
    }
    read_change(&mut flow, 0, 5, "hook");
    read_change(&mut flow, 1, 6, "hook");
    let sent = send(&mut flow, 0);
    assert_eq!(sent.len(), 4, "{sent:?}");
    assert_eq!(told(&mut flow), [(Disposition::Superseded, 5)], "but changes of a row keep theirs");
}

#[test]
fn where_a_call_keeps_their_order_items_of_a_key_share_one_and_no_other_overtakes_it() {
    let limits = Limits { together: true, max_bytes: 10, max_wait: Duration::from_secs(5), ..batches(9) };
    let mut flow = flow_within(limits);
    for (offset, body) in ["xxxx", "xxxx", "xxxx"].into_iter().enumerate() {
        read(&mut flow, offset as i64, NewEvent { body, ..event(offset as i64, 1) });
    }
    let first = flow.next_call(&Pure, at(0)).unwrap();
    let first = first.into_iter().map(|(ticket, _)| ticket).collect::<Vec<_>>();
    assert_eq!(offsets(&first), [0, 1]);
    assert_eq!(send(&mut flow, 9), [], "the one that did not fit waits for those before it");
    flow.landed(first.into_iter().map(|ticket| (ticket, retry_outcome())).collect(), at(9));
    let again = (flow.next_due(at(9)).unwrap() - at(0)).num_seconds() + 1;
    assert_eq!(send(&mut flow, again), []);
    let alone = calls(&mut flow, again + 5);
    assert_eq!(alone.iter().map(|call| offsets(call)).collect::<Vec<_>>(), [[0]], "a key that fails");
    land(&mut flow, alone[0][0], ItemOutcome::Delivered, at(99));
    assert_eq!(offsets(&send(&mut flow, 99)), [1], "half as many as were in the call that failed");
}

#[test]
fn a_throttled_call_is_made_again_as_it_was() {
    let mut flow = flow_within(Limits { together: true, ..batches(20) });
    flow.retry = RetryPolicy::default();
    for offset in 0..4 {
        read(&mut flow, offset, event(offset, 1));
    }
    for now in [0, 10, 20, 30] {
        let call = send(&mut flow, now);
        assert_eq!(offsets(&call), [0, 1, 2, 3], "none is given up, and they stay together");
        let after = Some(Duration::from_secs(5));
        let outcome = || ItemOutcome::Throttled { after, reason: Reason::new("http_429", "slower") };
        flow.landed(call.into_iter().map(|ticket| (ticket, outcome())).collect(), at(now));
    }
}

#[test]
fn one_that_breaks_the_calls_of_its_key_is_given_up_alone() {
    let mut flow = flow_within(Limits { together: true, ..batches(20) });
    flow.bounds = Bounds { active: 100, parked: 100, bytes: 10_000 };
    for offset in 0..12 {
        read(&mut flow, offset, event(offset, 1));
    }
    let mut made = 0;
    for now in 0..10_000 {
        for call in std::iter::from_fn(|| flow.next_call(&Pure, at(now))).collect::<Vec<_>>() {
            made += 1;
            let broken = call.iter().any(|(ticket, _)| ticket.offset == 11);
            let outcome = || if broken { retry_outcome() } else { ItemOutcome::Delivered };
            flow.landed(call.into_iter().map(|(ticket, _)| (ticket, outcome())).collect(), at(now));
        }
    }
    let rejected = told(&mut flow).into_iter().filter(|(end, _)| *end == Disposition::Rejected);
    assert_eq!(rejected.collect::<Vec<_>>(), [(Disposition::Rejected, 11)]);
    assert_eq!(flow.unfinished(), 0);
    assert!(made <= 12, "{made} calls: fewer go together each time");
}

#[test]
fn a_throttled_destination_is_held_back_whole_and_as_long_as_it_asks_for() {
    let mut flow = flow();
    for offset in 0..2 {
        read(&mut flow, offset, event(offset, offset as u8));
    }
    let sent = send(&mut flow, 0);
    let reason = Reason::new("http_429", "slow down");
    let throttled = ItemOutcome::Throttled { after: Some(Duration::from_secs(7)), reason };
    land(&mut flow, sent[0], throttled, at(0));
    land(&mut flow, sent[1], ItemOutcome::Delivered, at(0));
    read(&mut flow, 2, event(2, 2));
    assert_eq!((send(&mut flow, 6), flow.next_due(at(6))), (vec![], Some(at(7))));
    assert_eq!(offsets(&send(&mut flow, 7)), [0, 2]);
}

#[test]
fn a_destination_that_answers_nothing_is_left_alone_but_for_one_call_at_a_time() {
    let mut flow = flow();
    flow.bounds = Bounds { active: 100, parked: 100, ..BOUNDS };
    for offset in 0..30 {
        read(&mut flow, offset, event(offset, offset as u8));
    }
    let sent = send(&mut flow, 0);
    for ticket in &sent[..10] {
        land(&mut flow, *ticket, retry_outcome(), at(0));
    }
    read(&mut flow, 30, event(30, 30));
    assert_eq!(send(&mut flow, 0), []);
    assert!(flow.trouble().unwrap().contains("http_500"), "{:?}", flow.trouble());
    let due = (flow.next_due(at(0)).unwrap() - at(0)).num_seconds() + 1;
    let trial = send(&mut flow, due);
    assert_eq!(trial.len(), 1);
    land(&mut flow, trial[0], ItemOutcome::Delivered, at(due));
    assert_eq!(flow.trouble(), None);
    assert!(!send(&mut flow, due + 60).is_empty());
}

#[test]
fn the_rate_bounds_the_calls_and_not_the_items() {
    let rate = Rate { calls: std::num::NonZeroU32::new(2).unwrap(), per: Duration::from_secs(10) };
    let mut flow = flow_within(Limits { rate: Some(rate), ..batches(2) });
    for offset in 0..6 {
        read(&mut flow, offset, event(offset, offset as u8));
    }
    assert_eq!(offsets(&send(&mut flow, 0)), [0, 1, 2, 3]);
    assert_eq!(flow.next_due(at(0)), Some(at(10)));
    assert_eq!((send(&mut flow, 9), offsets(&send(&mut flow, 10))), (vec![], vec![4, 5]));
}

#[test]
fn what_the_rate_leaves_no_room_for_is_no_attempt_and_waits_with_all_others() {
    let mut flow = flow_within(Limits { concurrency: 20, ..batches(1) });
    let none = || ItemOutcome::NotSent { after: Duration::from_secs(30) };
    for offset in 0..20 {
        read(&mut flow, offset, event(offset, offset as u8));
    }
    let mut now = 0;
    for _ in 0..12 {
        for ticket in send(&mut flow, now) {
            land(&mut flow, ticket, none(), at(now));
        }
        assert_eq!((flow.next_due(at(now)), flow.trouble()), (Some(at(now + 30)), None));
        now += 30;
    }
    let sent = send(&mut flow, now);
    assert_eq!(offsets(&sent), (0..20).collect::<Vec<_>>());
    land(&mut flow, sent[0], ItemOutcome::Rejected(Reason::new("bad", "it is bad")), at(now));
    assert_eq!(outcomes(&mut flow)[0].attempts, 1);
}

#[test]
fn what_the_destination_leaves_out_has_its_reason_in_the_books() {
    let mut flow = flow();
    read(&mut flow, 0, event(0, 1));
    let sent = send(&mut flow, 0);
    land(&mut flow, sent[0], ItemOutcome::Filtered(Reason::new("no_consent", "it says no")), at(0));
    let outcomes = outcomes(&mut flow);
    assert_eq!(outcomes[0].disposition, Disposition::Filtered);
    assert_eq!(outcomes[0].reason.as_ref().unwrap().code, "no_consent");
}

#[test]
fn a_trial_is_made_with_an_item_that_has_not_failed() {
    let mut flow = flow_within(Limits { concurrency: 20, ..batches(1) });
    for offset in 0..11 {
        read(&mut flow, offset, event(offset, offset as u8));
    }
    for call in calls(&mut flow, 0).into_iter().take(10) {
        land(&mut flow, call[0], retry_outcome(), at(0));
    }
    read(&mut flow, 11, event(11, 11));
    let trial = calls(&mut flow, 1_000);
    assert_eq!(trial.iter().map(|call| offsets(call)).collect::<Vec<_>>(), [[11]], "the ten that fail wait");
}

#[test]
fn what_is_not_stored_bounds_what_is_read_though_nothing_of_it_was_sent() {
    let mut flow = flow_within(batches(1));
    for offset in 0..MAX_STATEMENT as i64 {
        assert!(flow.room() > 0, "{offset}");
        read(&mut flow, offset, NewEvent { source: "other", ..event(offset, 0) });
    }
    assert_eq!(flow.room(), 0);
    let _stored = flow.state(at(0));
    assert!(flow.room() > 0);
}

#[test]
fn a_call_that_ran_out_of_its_time_is_made_of_fewer_items_again_and_that_is_no_failure() {
    let mut flow = flow_within(batches(8));
    for offset in 0..8 {
        read(&mut flow, offset, event(offset, offset as u8));
    }
    let out_of_time = || ItemOutcome::OutOfTime(Reason::new("part_sent", "no time for the rest"));
    // The time is enough for three of them.
    let mut made = Vec::new();
    while let Some(call) = flow.next_call(&Pure, at(0)) {
        made.push(call.len());
        let answers = call.into_iter().enumerate();
        let outcome = |number: usize| if number < 3 { ItemOutcome::Delivered } else { out_of_time() };
        flow.landed(answers.map(|(number, (ticket, _))| (ticket, outcome(number))).collect(), at(0));
        assert_eq!((flow.parked(), flow.trouble()), (0, None));
    }
    assert_eq!(made, [8, 4, 2], "half as many each time");

    read(&mut flow, 8, event(8, 8));
    for now in [0, 100] {
        let call = calls(&mut flow, now).remove(0);
        land(&mut flow, call[0], out_of_time(), at(now));
    }
    assert!(told(&mut flow).contains(&(Disposition::Rejected, 8)), "by itself it has failed");
}
