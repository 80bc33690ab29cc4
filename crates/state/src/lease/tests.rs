#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use chrono::TimeDelta;

use super::*;

const TTL: Duration = Duration::from_secs(30);

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
}

async fn acquire(store: &Store, holder: &str, now: i64) -> Lease {
    match Lease::try_acquire(store, "leases/x", holder, TTL, at(now)).await.unwrap() {
        LeaseAttempt::Acquired(lease) => lease,
        LeaseAttempt::Held { holder, until } => panic!("held by {holder} until {until}"),
    }
}

async fn holder(store: &Store, asker: &str, now: i64) -> Option<String> {
    match Lease::try_acquire(store, "leases/x", asker, TTL, at(now)).await.unwrap() {
        LeaseAttempt::Acquired(_) => None,
        LeaseAttempt::Held { holder, .. } => Some(holder),
    }
}

#[tokio::test]
async fn a_lease_is_held_until_it_expires() {
    let store = Store::in_memory();
    let first = acquire(&store, "a", 0).await;
    assert_eq!(holder(&store, "b", 29).await.as_deref(), Some("a"));
    let second = acquire(&store, "b", 30).await;
    assert!(second.epoch() > first.epoch(), "{} after {}", second.epoch(), first.epoch());
}

#[tokio::test]
async fn an_onlooker_sees_who_holds_a_lease_and_takes_it_from_nobody() {
    let store = Store::in_memory();
    let held = async |now| Lease::held(&store, "leases/x", at(now)).await.unwrap();
    assert_eq!(held(0).await, None);
    let lease = acquire(&store, "a", 0).await;
    assert_eq!(held(29).await, Some(("a".to_owned(), at(30))));
    assert_eq!(held(30).await, None);
    lease.release(at(5)).await.unwrap();
    assert_eq!(held(5).await, None);
}

#[tokio::test]
async fn a_renewal_keeps_the_epoch_and_moves_the_expiry() {
    let store = Store::in_memory();
    let mut lease = acquire(&store, "a", 0).await;
    let epoch = lease.epoch();
    lease.renew(at(20)).await.unwrap();
    assert_eq!((lease.epoch(), lease.until()), (epoch, at(50)));
    assert_eq!(holder(&store, "b", 49).await.as_deref(), Some("a"));
}

#[tokio::test]
async fn a_renewal_after_a_takeover_is_lost() {
    let store = Store::in_memory();
    let mut old = acquire(&store, "a", 0).await;
    let new = acquire(&store, "b", 31).await;
    assert!(matches!(old.renew(at(32)).await, Err(StateError::Lost { .. })));
    assert_eq!(holder(&store, "a", 33).await.as_deref(), Some("b"), "the newer one is not disturbed");
    drop(new);
}

#[tokio::test]
async fn a_renewal_is_lost_even_when_the_takeover_has_been_pruned() {
    let store = Store::in_memory();
    let mut old = acquire(&store, "a", 0).await;
    let mut new = acquire(&store, "b", 31).await;
    for second in 0..100 {
        new.renew(at(32 + second)).await.unwrap();
    }
    assert!(matches!(old.renew(at(140)).await, Err(StateError::Lost { .. })));
    new.renew(at(141)).await.unwrap();
}

#[tokio::test]
async fn an_expired_lease_that_nobody_took_can_be_renewed() {
    let store = Store::in_memory();
    let mut lease = acquire(&store, "a", 0).await;
    lease.renew(at(1000)).await.unwrap();
    assert_eq!(holder(&store, "b", 1001).await.as_deref(), Some("a"));
}

#[tokio::test]
async fn a_released_lease_is_free_at_once() {
    let store = Store::in_memory();
    let lease = acquire(&store, "a", 0).await;
    let epoch = lease.epoch();
    lease.release(at(1)).await.unwrap();
    assert!(acquire(&store, "b", 1).await.epoch() > epoch);
}

#[tokio::test]
async fn a_release_after_a_takeover_leaves_the_newer_holder_alone() {
    let store = Store::in_memory();
    let old = acquire(&store, "a", 0).await;
    let mut new = acquire(&store, "b", 31).await;
    old.release(at(32)).await.unwrap();
    new.renew(at(33)).await.unwrap();
}

#[tokio::test]
async fn a_holder_that_comes_back_does_not_wait_for_itself() {
    let store = Store::in_memory();
    let mut killed = acquire(&store, "a", 0).await;
    let restarted = acquire(&store, "a", 1).await;
    assert!(restarted.epoch() > killed.epoch());
    assert!(matches!(killed.renew(at(2)).await, Err(StateError::Lost { .. })));
}

#[tokio::test]
async fn a_long_held_lease_leaves_few_generations() {
    let store = Store::in_memory();
    let mut lease = acquire(&store, "a", 0).await;
    for second in 1..200 {
        lease.renew(at(second)).await.unwrap();
    }
    assert!(store.list("leases/x").await.unwrap().len() <= 17);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_ask_at_once_one_holds_it() {
    for round in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).unwrap();
        let attempts = (0..8).map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let holder = format!("holder-{number}");
                Lease::try_acquire(&store, "leases/x", &holder, TTL, at(0)).await.unwrap()
            })
        });
        let mut held_by_me = 0;
        for attempt in futures::future::join_all(attempts).await {
            held_by_me += usize::from(matches!(attempt.unwrap(), LeaseAttempt::Acquired(_)));
        }
        assert_eq!(held_by_me, 1, "round {round}");
    }
}
