#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::ErrorKind;

fn events() -> Wanted {
    let workspace = "acme".parse().unwrap();
    wanted_topics(&workspace, &[Lane::main()]).remove(0)
}

fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut settings: BTreeMap<String, String> =
        events().spec.settings().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    settings.extend(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    settings
}

#[test]
fn each_lane_has_topics_of_its_own_and_the_workspace_has_the_others() {
    let workspace = "acme".parse().unwrap();
    let lanes = [Lane::main(), "bulk".parse().unwrap()];
    let names: Vec<String> = wanted_topics(&workspace, &lanes).into_iter().map(|topic| topic.name).collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("acme.events.")).count(), 2, "{names:?}");
    assert_eq!(names.iter().filter(|name| *name == "acme.changes").count(), 1, "{names:?}");
    assert_eq!(names.len(), topics::ALL.len() + 2);
}

#[test]
fn another_partition_count_is_refused_and_says_why() {
    let found = Found { partitions: 24, replicas: 1 };
    let error = check_shape(&events(), found, ReplicationPolicy::Single).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("acme.events.main") && said.contains("new topic version"), "{said}");
    assert_eq!(error.kind(), ErrorKind::Operator);
}

#[test]
fn strict_refuses_what_may_lose_an_acked_event() {
    let partitions = events().spec.partitions;
    let two = Found { partitions, replicas: 2 };
    assert!(check_shape(&events(), two, ReplicationPolicy::Strict).is_err());
    assert!(check_shape(&events(), two, ReplicationPolicy::Accept).is_ok());
    let cases: [(&[(&str, &str)], bool); 4] = [
        (&[], false),
        (&[("min.insync.replicas", "1")], false),
        (&[("min.insync.replicas", "2"), ("unclean.leader.election.enable", "true")], false),
        (&[("min.insync.replicas", "2"), ("unclean.leader.election.enable", "false")], true),
    ];
    for (pairs, safe) in cases {
        let settings = settings(pairs);
        let strict = check_settings(&events(), &settings, ReplicationPolicy::Strict);
        assert_eq!(strict.is_ok(), safe, "{pairs:?}: {strict:?}");
        assert!(check_settings(&events(), &settings, ReplicationPolicy::Accept).is_ok());
    }
}

#[test]
fn another_retention_is_the_operators_choice_but_another_cleanup_is_not() {
    let shorter = settings(&[("retention.ms", "60000")]);
    assert!(check_settings(&events(), &shorter, ReplicationPolicy::Single).is_ok());
    let compacted = settings(&[("cleanup.policy", "compact")]);
    assert!(check_settings(&events(), &compacted, ReplicationPolicy::Single).is_err());
    let client_time = settings(&[("message.timestamp.type", "CreateTime")]);
    assert!(check_settings(&events(), &client_time, ReplicationPolicy::Single).is_err());
}
