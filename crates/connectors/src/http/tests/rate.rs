//! What the vendor's rate lets through, and when.

use std::time::Instant;

use millrace_connector::Rate;

use super::*;

fn limited(calls: u32, per: Duration) -> Profile {
    let rate = Rate { calls: calls.try_into().unwrap(), per };
    Profile { rate: Some(rate), max_items: 100, ..profile() }
}

fn puts(ids: std::ops::Range<u32>, each: usize) -> Vec<Prepared> {
    let put = |id: u32| HttpRequest::new("PUT", format!("http://vendor.test/contacts/{id}"));
    ids.map(|id| prepared(id, vec![put(id); each])).collect()
}

#[tokio::test]
async fn the_rate_holds_for_requests_also_where_a_batch_makes_several() {
    let stub = Stub::start([]).await.unwrap();
    let profile = Profile {
        joins: vec![JoinRule::path("/contacts", Join::arrays(&["contacts"], 100))],
        ..limited(5, Duration::from_millis(200))
    };
    let destination = destination(profile, &stub);
    let begun = Instant::now();
    // Nine requests that are not joined, and ten that are one.
    let mut batch = puts(0..9, 1);
    batch.extend((10..20).map(|id| prepared(id, vec![contacts(&[id])])));
    assert_eq!(destination.deliver(batch).await, vec![ItemOutcome::Delivered; 19]);
    assert_eq!(destination.deliver(puts(20..21, 1)).await, [ItemOutcome::Delivered]);
    assert_eq!(stub.seen().len(), 11);
    assert!(
        begun.elapsed() >= Duration::from_millis(400),
        "11 requests at 5 in 200 ms: {:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn what_a_batch_has_no_time_for_is_not_sent_and_nothing_is_half_sent() {
    let stub = Stub::start([]).await.unwrap();
    let profile = Profile { timeout: Duration::from_secs(2), ..limited(7, Duration::from_secs(60)) };
    let destination = destination(profile, &stub);
    let outcomes = destination.deliver(puts(0..5, 2)).await;
    assert_eq!(classes(&outcomes), ["delivered", "delivered", "delivered", "not_sent", "not_sent"]);
    assert_eq!(stub.seen().len(), 6, "the seventh turn is not enough for an item of two requests");
    assert!(matches!(&outcomes[4], ItemOutcome::NotSent { after } if after.as_secs() >= 58));
    assert_eq!(classes(&destination.deliver(puts(5..7, 1)).await), ["delivered", "not_sent"]);
    let outcomes = destination.deliver(puts(7..8, 8)).await;
    let ItemOutcome::Config(reason) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(reason.code, "rate_too_low");
    destination.ignore_rate();
    assert_eq!(classes(&destination.deliver(puts(8..9, 8)).await), ["delivered"]);
}

#[tokio::test]
async fn what_has_no_turn_waits_no_longer_for_the_rest_of_its_batch() {
    let stub = Stub::start([]).await.unwrap();
    stub.otherwise(Reply::never());
    let profile = Profile { timeout: Duration::from_secs(1), ..limited(1, Duration::from_secs(60)) };
    let outcomes = destination(profile, &stub).deliver(puts(0..2, 1)).await;
    assert!(matches!(&outcomes[1], ItemOutcome::NotSent { after } if after.as_secs() < 60), "{outcomes:?}");
}

#[tokio::test]
async fn the_turns_at_the_end_of_a_batchs_time_are_taken() {
    let stub = Stub::start([]).await.unwrap();
    let profile = Profile { timeout: Duration::from_secs(1), ..limited(1, Duration::from_millis(500)) };
    let destination = destination(profile, &stub);
    let outcomes = destination.deliver(puts(0..4, 1)).await;
    assert_eq!(
        classes(&outcomes),
        ["delivered", "delivered", "delivered", "not_sent"],
        "at 0, 500 and 1,000 ms"
    );
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(classes(&destination.deliver(puts(4..5, 3)).await), ["delivered"], "all of an item, too");
}

#[tokio::test]
async fn a_turn_is_not_used_up_by_who_has_no_token_yet() {
    let token = json!({"access_token": "one", "expires_in": 3600}).to_string();
    let stub = Stub::start([Reply::status(503), Reply::status(200).body(token)]).await.unwrap();
    let limited = limited(1, Duration::from_secs(60));
    let destination = destination(Profile { signer: Signer::OAuth2(oauth()), ..limited }, &stub);
    assert_eq!(classes(&destination.deliver(puts(0..1, 1)).await), ["transient"]);
    assert_eq!(classes(&destination.deliver(puts(0..1, 1)).await), ["delivered"]);
}

#[tokio::test]
async fn what_waits_for_its_turn_comes_back_at_once_while_the_destination_drains() {
    let stub = Stub::start([]).await.unwrap();
    let profile = Profile { timeout: Duration::from_secs(40), ..limited(3, Duration::from_secs(1)) };
    let destination = destination(profile, &stub);
    let begun = Instant::now();
    let stop = async {
        while stub.seen().len() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        destination.drain(true);
    };
    let mut batch = puts(0..1, 4);
    batch.extend(puts(1..99, 1));
    let (outcomes, ()) = tokio::join!(destination.deliver(batch), stop);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(
        classes(&outcomes)[..3],
        ["delivered"; 3],
        "what is begun is ended: the first needs four turns"
    );
    assert_eq!(classes(&outcomes)[3..], ["not_sent"; 96]);
    assert_eq!(stub.seen().len(), 6);
    assert_eq!(classes(&destination.deliver(puts(0..1, 1)).await), ["not_sent"]);
    destination.drain(false);
    assert_eq!(classes(&destination.deliver(puts(0..1, 1)).await), ["delivered"]);
}

#[tokio::test]
async fn items_of_several_requests_are_begun_only_while_there_is_time_for_all_of_them() {
    let stub = Stub::start([]).await.unwrap();
    stub.otherwise(Reply::status(200).after(Duration::from_millis(100)));
    let profile = Profile { timeout: Duration::from_secs(3), max_items: 100, ..profile() };
    // 200 requests of a tenth of a second, four at a time: 5 s.
    let outcomes = destination(profile, &stub).deliver(puts(0..100, 2)).await;
    let (delivered, not_sent) =
        outcomes.split_at(outcomes.partition_point(|one| *one == ItemOutcome::Delivered));
    assert!(delivered.len() >= 4, "{outcomes:?}");
    assert_eq!(classes(not_sent), vec!["not_sent"; not_sent.len()]);
    assert_eq!(stub.seen().len(), delivered.len() * 2, "nothing is half sent");
}

#[test]
fn no_turns_are_wanted_for_what_is_left_to_the_next_batch() {
    let put = || HttpRequest::new("PUT", "http://vendor.test/contacts/1");
    let of_key = |item: usize, each: usize| Unsent::new(item, prepared(1, vec![put(); each]));
    let batch: Vec<_> = (0..500).map(|item| of_key(item, 1)).collect();
    assert_eq!(plan_all(&profile(), &batch, 8).len(), 8);
    let batch = [of_key(0, 7), of_key(1, 5), of_key(2, 1)];
    assert_eq!(plan_all(&profile(), &batch, 8).len(), 12, "what is begun is ended");
    assert_eq!(plan_all(&profile(), &batch, usize::MAX).len(), 13);
}

#[tokio::test]
async fn a_token_that_comes_too_late_for_its_batch_is_there_for_the_next() {
    let token = json!({"access_token": "one", "expires_in": 3600}).to_string();
    let slow = Reply::status(200).body(token).after(Duration::from_millis(600));
    let stub = Stub::start([slow]).await.unwrap();
    // Items of four requests are begun within a fifth of the time-out.
    let profile = Profile { timeout: Duration::from_secs(2), signer: Signer::OAuth2(oauth()), ..profile() };
    let destination = destination(profile, &stub);
    assert_eq!(classes(&destination.deliver(puts(0..1, 4)).await), ["not_sent"]);
    assert_eq!(classes(&destination.deliver(puts(0..1, 4)).await), ["delivered"]);
    assert_eq!(stub.seen().len(), 5, "one for the token, and four");
}
