//! Rebuilds that are discarded, called twice, or overtaken by a change of the tables; and who has to stand back.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::Utc;
use millrace_connector::{ConnectorError, Load, LoadReport, SchemaChange, Warehouse};
use millrace_event_model::FieldType;
use millrace_lake::Lake;
use millrace_service::Stop;
use millrace_state::{Lease, LeaseAttempt, Store};
use millrace_warehouse_loader::{Error, Kind};
use serde_json::json;

use crate::around::{Around, Wrapped};
use crate::messages::{mixed, track};
use crate::rebuild::{
    Death, LIMITS, TTL, assert_nothing_is_left, discard, fresh, is_page, job, options, rebuild,
    rebuild_and_die, rebuild_and_stop, rebuild_to_the_end, request,
};
use crate::stack::{DEADLINE, Stack, connection, contents, eventually, query, run_once};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_discard_that_dies_leaves_nothing_that_a_rebuild_goes_on_with() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    let sent = mixed(48);
    stack.publish(&sent[..40]).await;
    stack.load(options(&lake)).await.unwrap();
    rebuild_and_stop(&stack, &lake).await;
    rebuild_and_die(&stack, Death::InTheDiscard).await;
    stack.publish(&sent[40..]).await;
    stack.load(options(&lake)).await.unwrap();
    rebuild_to_the_end(&stack, &stack.lake("lake")).await;
    assert_eq!(contents(&*lake).await, fresh(&stack, options).await);
    assert_nothing_is_left(&stack, &lake).await;

    rebuild_and_stop(&stack, &lake).await;
    rebuild_and_die(&stack, Death::InTheDiscard).await;
    discard(&stack, &stack.lake("lake")).await.unwrap();
    assert_nothing_is_left(&stack, &lake).await;
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_that_died_in_its_swap_can_be_discarded_and_the_connection_goes_on() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    let mut sent = mixed(40);
    stack.publish(&sent).await;
    stack.load(options(&lake)).await.unwrap();
    let stop = Stop::new();
    let live = stack.process("load", vec![options(&stack.lake("lake"))], LIMITS, TTL);
    let live = tokio::spawn(live.run(stop.clone()));
    for (round, death) in (0..).zip([Death::BeforeTheSwap, Death::InTheSwap(3), Death::AfterTheSwap]) {
        rebuild_and_die(&stack, death).await;
        let is_sure = discard(&stack, &stack.lake("lake")).await.unwrap();
        assert!(!is_sure, "{death:?}");
        assert_nothing_is_left(&stack, &lake).await;
        let new: Vec<_> = mixed(40 + 8 * (round + 1)).split_off(sent.len());
        stack.publish(&new).await;
        sent.extend(new);
        eventually(&format!("loading on after the death {death:?}"), async || {
            contents(&*lake).await.iter().filter(|row| is_page(row)).count() == sent.len() / 4
        })
        .await;
    }
    stop.trigger();
    live.await.unwrap().unwrap();
    assert_eq!(contents(&*lake).await, fresh(&stack, options).await);
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_waits_for_the_lease_of_a_dead_process_and_not_for_one_that_lives() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    stack.publish(&mixed(12)).await;
    stack.load(options(&lake)).await.unwrap();
    let of_job = stack.state.child("connections").child("web--lake@rebuild");
    let acquired = Lease::try_acquire(&of_job, "lease", "other", TTL, Utc::now()).await.unwrap();
    let LeaseAttempt::Acquired(mut lease) = acquired else { panic!("{acquired:?}") };
    let renewing = async {
        for _ in 0..6 {
            tokio::time::sleep(TTL / 6).await;
            lease.renew(Utc::now()).await.unwrap();
        }
    };
    let (refused, ()) = tokio::join!(rebuild(&stack, options(&lake)), renewing);
    let refused = refused.unwrap_err();
    assert!(refused.to_string().contains("another process is at work"), "{refused}");
    drop(lease);
    rebuild_to_the_end(&stack, &lake).await;
    assert_nothing_is_left(&stack, &lake).await;
    stack.stop().await;
}

/// Its own generation is what proves that nobody else has gone on with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_that_another_process_has_gone_on_with_puts_nothing_in_place() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    stack.publish(&mixed(40)).await;
    stack.load(options(&lake)).await.unwrap();
    let before = contents(&*lake).await;
    let kept = "connections/web--lake@rebuild/job";
    let state = stack.state.clone();
    let tell = move |_| {
        let state = state.clone();
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let paths = state.list(kept).await.unwrap();
                let [first] = &paths[..] else { return };
                let value = state.get(first).await.unwrap().unwrap();
                state.create(&format!("{kept}/{:020}", 2), value).await.unwrap();
            });
        });
    };
    let working = job(&stack, vec![options(&lake)]).rebuild(&request(), tell, &Stop::new()).await;
    let refused = working.unwrap_err();
    assert!(refused.to_string().contains("another process is at work"), "{refused}");
    assert_eq!(contents(&*lake).await, before);
    assert!(!lake.describe("web__rebuild").await.unwrap().is_empty(), "the other one needs them");
    rebuild_to_the_end(&stack, &lake).await;
    assert_nothing_is_left(&stack, &lake).await;
    stack.stop().await;
}

/// A column that comes to people's tables while a rebuild of them is under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_is_new_in_the_tables_keeps_its_type_in_a_rebuild_that_began_before() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    let order = |index, coupon: serde_json::Value| track(index, "ann", "Order Placed", coupon);
    let mut events: Vec<_> = (0..20).map(|index| order(index, json!({}))).collect();
    stack.publish(&events).await;
    stack.load(options(&lake)).await.unwrap();
    rebuild_and_stop(&stack, &lake).await;
    let columns = [("seats".to_owned(), FieldType::Float)].into();
    lake.apply("web", &[SchemaChange::AddColumns { table: "order_placed".to_owned(), columns }])
        .await
        .unwrap();
    events = vec![order(20, json!({"seats": 2}))];
    stack.publish(&events).await;
    stack.load(options(&lake)).await.unwrap();
    rebuild_to_the_end(&stack, &stack.lake("lake")).await;
    assert_eq!(lake.describe("web").await.unwrap()["order_placed"]["seats"], FieldType::Float);
    assert_eq!(query(&*lake, "SELECT seats FROM web.order_placed WHERE seats > 1").await, ["seats=2"]);
    stack.stop().await;
}

struct Asking {
    lake: Arc<Lake>,
    state: Store,
}

#[async_trait]
impl Around for Asking {
    fn inner(&self) -> &dyn Warehouse {
        &*self.lake
    }

    async fn load(&self, load: Load) -> Result<LoadReport, ConnectorError> {
        let state = self.state.child("connections").child("web--lake");
        Lease::try_acquire(&state, "stand-back", "asker", DEADLINE, Utc::now()).await.unwrap();
        // Until the lease has been renewed once.
        tokio::time::sleep(TTL).await;
        self.lake.load(load).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_once_that_has_to_stand_back_says_that_it_has_not_loaded_all() {
    let stack = Stack::start().await;
    stack.publish(&mixed(40)).await;
    let asking = Asking { lake: stack.lake("lake"), state: stack.state.clone() };
    let connection = connection(Arc::new(Wrapped(asking)), Kind::Events);
    let refused = run_once(stack.process("once", vec![connection], LIMITS, TTL)).await.unwrap_err();
    assert!(matches!(refused, Error::Held { ref holder, .. } if holder == "asker"), "{refused}");
    stack.stop().await;
}
