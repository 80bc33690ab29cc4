//! RudderStack's cases of event blocking, where the corpora are at hand.

use millrace_ingest::BlockedEvents;
use serde_json::Value;

use crate::corpus::corpora;

#[test]
fn the_recorded_cases_of_blocking_are_decided_as_recorded() {
    let Some(corpora) = corpora() else {
        eprintln!("SKIPPED: no corpora (set MILLRACE_CORPORA to their folder)");
        return;
    };
    let text = std::fs::read_to_string(corpora.join("gateway/table_cases_go.json")).unwrap();
    let cases: Value = serde_json::from_str(&text).unwrap();
    let cases = cases["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 23);
    for case in cases {
        let text = |name: &str| case[name].as_str().unwrap();
        // Here the list is a source's own: other workspaces and other kinds of sources have none.
        let has_list = text("workspaceID") != "nonexistent" && !text("sourceID").starts_with("warehouse");
        let list = case["eventBlockingSettings"]["Events"]["track"].as_array().filter(|_| has_list);
        let names = list.into_iter().flatten().map(|name| name.as_str().unwrap().to_owned());
        let event = case["eventName"].to_string();
        let blocked = BlockedEvents::new(names).contains(text("eventType"), Some(&event));
        assert_eq!(blocked, case["expected"].as_bool().unwrap(), "{}", text("name"));
    }
}
