//! Events that users and clients keep from a warehouse.

use std::sync::Arc;

use millrace_event_model::Event;
use millrace_lake::Lake;
use millrace_privacy::IntegrationNames;
use millrace_service::Stop;
use millrace_warehouse_loader::{ConnectionOptions, Filter, Kind, LoadLimits, Verdict, balance, run_log};
use serde_json::{Value, json};

use crate::messages::{at, event};
use crate::stack::{Stack, connection, query, run_once};

/// A connection to the warehouse `Main`, which needs the consent `analytics`, without pages.
fn choosy(lake: &Arc<Lake>) -> ConnectionOptions {
    ConnectionOptions {
        names: IntegrationNames::new(["main", "lake"]),
        consent: serde_json::from_value(json!([{"categories": ["analytics"]}])).unwrap(),
        when: Some(Arc::new(Filter::compile("type != 'page'").unwrap())),
        ..connection(lake.clone(), Kind::Events)
    }
}

fn seen(number: i64, integrations: Value, denied: &[&str]) -> Event {
    let context = json!({"consentManagement": {"provider": "custom", "deniedConsentIds": denied}});
    let body = json!({"type": "track", "event": "Seen", "userId": "ann", "integrations": integrations,
                      "context": context});
    event(number, "ann", body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_users_and_clients_leave_out_is_counted_and_told_and_never_loaded() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    let mut late = seen(2, json!({"All": true}), &[]);
    late.received_at = at(20);
    let events = [
        seen(0, json!({"All": true}), &[]),
        seen(1, json!({"All": false, "MAIN": true}), &["marketing"]),
        seen(2, json!({"All": true}), &["analytics"]),
        seen(3, json!({"All": false}), &["analytics"]),
        seen(4, json!({"All": false}), &[]),
        seen(5, json!({"Lake": false}), &[]),
        seen(6, json!({"Amplitude": false}), &[]),
        event(7, "ann", json!({"type": "page", "name": "Home"})),
        // An id of which nothing was loaded is not a duplicate: its user has consented since.
        late,
        seen(0, json!({"All": true}), &[]),
        // Nor is an event that repeats a loaded one left out twice.
        seen(1, json!({"All": false, "MAIN": true}), &["marketing"]),
    ];
    stack.publish(&events).await;
    let limits = LoadLimits { max_records: 3, ..LoadLimits::default() };
    let report = run_once(stack.limited("test", choosy(&lake), limits)).await.unwrap();
    let counts = (report.loaded, report.duplicates, report.filtered, report.rejected);
    assert_eq!(counts, (4, 2, 5, 0), "{report:?}");
    assert_eq!((report.no_consent, report.integrations), (2, 2), "{report:?}");

    let ids = query(&*lake, "SELECT id FROM web.tracks ORDER BY id").await;
    assert_eq!(ids, ["id=m-0", "id=m-1", "id=m-2", "id=m-6"]);
    let balance = balance(&stack.bus, &stack.state, &[choosy(&lake)], at(0), at(3_600), &Stop::new()).await;
    let lines: Vec<_> = balance.unwrap().iter().map(|line| (line.received, line.verdict)).collect();
    assert_eq!(lines, [(11, Verdict::Balanced)]);
    let runs = run_log(&stack.state, "web--lake").since("").await.unwrap();
    let told: Vec<_> = runs.iter().map(|(_, run)| (run.no_consent, run.integrations)).collect();
    assert_eq!(told, [(2, 2)]);
    stack.stop().await;
}
