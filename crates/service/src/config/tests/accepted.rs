//! What a file means.

use super::*;

const EVERYTHING: &str = r#"
workspace: acme
kafka: { brokers: "kafka-1:9092,kafka-2:9092", linger.ms: 5, enable.idempotence: true, sasl.password: "${KEY}" }
state: ./data/state
ingest: { listen: "0.0.0.0:8080" }
admin:  { listen: "127.0.0.1:8081" }
sources:
  - { id: web, kind: http, write_key: "${KEY}", privacy: strict }
  - { id: crm, kind: airbyte, command: [source-faker], settings: { count: 1000 }, schedule: "*/15 * * * *" }
  - { id: shop-1, kind: singer, enabled: false, lane: shop, command: [tap-postgres] }
warehouses:
  - { id: main, kind: postgres, settings: { url: "postgres://me:${KEY}@db/x" } }
  - { id: lake, kind: lake, settings: { url: "s3://bucket/lake" } }
  - { id: folder, kind: lake, settings: { url: ./lake } }
destinations:
  - { id: hook, kind: webhook, settings: { url: "https://example.com/in", secret: "${KEY}" } }
connections:
  - { from: web, to: main, schema: web_events, schedule: 5m, start: latest, exclude: ["08:00-18:00 Europe/Berlin"], flush: { rows: 5000, bytes: 16MiB, age: 30s } }
  - { from: web, to: hook, when: "type == 'track'", transform: transforms/enrich.js, unseal: [email] }
  - { from: shop-1, to: main, start: 2026-11-24 }
  - { from: crm, to: lake }
  - { from: crm, to: folder }
syncs:
  - id: big-spenders
    from: main
    model: SELECT user_id, email, total FROM web.spenders
    key: [user_id]
    to: hook
    mode: mirror
    map: { userId: user_id, traits.email: email, traits.total: total }
    schedule: "0 * * * *"
  - { id: later, from: main, model: SELECT 1 AS id, key: [id], to: hook, after: main }
privacy:
  strict: { detect: all, action: mask }
"#;

#[test]
fn the_file_of_the_design_is_understood() {
    let config = config(EVERYTHING);
    insta::assert_debug_snapshot!(config);
}

#[test]
fn a_warehouse_connection_is_loaded_as_often_as_its_kind_can_bear() {
    let schedules = |mode| {
        let config = parse_as(EVERYTHING, mode).unwrap();
        let schedule = |connection: &ConnectionConfig| match &connection.to {
            Target::Warehouse { schedule, .. } => Some(format!("{} {schedule}", connection.id)),
            Target::Destination { .. } => None,
        };
        config.connections.iter().filter_map(schedule).collect::<Vec<_>>()
    };
    assert_eq!(
        schedules(Mode::Service),
        ["web--main 5m", "shop-1--main 1m", "crm--lake 10m", "crm--folder 2s"]
    );
    assert_eq!(schedules(Mode::Dev), ["web--main 5m", "shop-1--main 2s", "crm--lake 2s", "crm--folder 2s"]);
}

#[test]
fn a_file_may_be_almost_empty() {
    let config = config("workspace: acme\nsources:\n  # none yet\nkafka:\ningest:\n");
    assert_eq!(config.ingest.listen, "0.0.0.0:8080");
    assert_eq!(config.admin.listen, "127.0.0.1:8081");
    assert_eq!((config.state.as_str(), config.kafka), ("./data/state", None));
    assert!(config.sources.is_empty());
}

#[test]
fn kafka_takes_any_property_as_text() {
    let kafka = config(EVERYTHING).kafka.unwrap();
    assert_eq!(kafka.brokers, "kafka-1:9092,kafka-2:9092");
    let properties: Vec<_> =
        kafka.properties.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        properties,
        [("enable.idempotence", "true"), ("linger.ms", "5"), ("sasl.password", "the-key")]
    );
}

#[test]
fn what_a_variable_holds_stays_one_scalar() {
    let text = "workspace: acme\ndestinations:\n  - { id: hook, kind: webhook, settings: { url: \"${INJECTION}\" } }\n";
    let config = config(text);
    assert_eq!(config.destinations.len(), 1);
    let url = config.destinations[0].settings.get("url").unwrap().as_str().unwrap();
    assert_eq!(url, "x, kind: webhook }\n- { id: evil");
}

#[test]
fn a_reference_without_quotes_may_give_a_number() {
    let text = "workspace: acme\nsources:\n  - id: crm\n    kind: airbyte\n    settings:\n      plain: ${NUMBER}\n      quoted: \"${NUMBER}\"\n";
    let settings = config(text).sources[0].settings.to_value();
    assert_eq!(settings, serde_json::json!({ "plain": 1000, "quoted": "1000" }));
}

#[test]
fn dev_takes_secrets_from_the_file() {
    let text = "workspace: acme\nsources:\n  - { id: web, kind: http, write_key: dev }\n";
    let config = parse_as(text, Mode::Dev).unwrap();
    assert_eq!(config.sources[0].write_key.as_ref().unwrap().first(), "dev");
}

#[test]
fn a_transform_lies_beside_the_file() {
    let config = config(EVERYTHING);
    assert_eq!(config.connections[1].transform.as_deref(), Some(Path::new("conf/transforms/enrich.js")));
}

#[test]
fn a_loaded_config_does_not_show_its_secrets() {
    assert!(!format!("{:?}", config(EVERYTHING)).contains("the-key"));
}

#[test]
fn an_error_that_is_found_later_still_has_its_place() {
    let config = config(&with_base(""));
    let path = ["destinations".into(), 0.into(), "settings".into(), "url".into()];
    let errors = config.document.errors(vec![config.document.error(&path, "this host does not exist")]);
    insta::assert_snapshot!(render(&errors));
}

#[test]
fn a_schedule_is_an_interval_too() {
    let config = config(&with_base("connections:\n  - { from: web, to: main, schedule: 90s }\n"));
    let Target::Warehouse { schedule, .. } = &config.connections[0].to else { panic!("not a warehouse") };
    assert_eq!(*schedule, Schedule::Every(Duration::from_secs(90)));
}

#[test]
fn nested_values_of_a_stream_are_json_unless_a_connection_flattens_them() {
    let nested = |more: &str| {
        let config =
            config(&with_base(&format!("connections:\n  - {{ from: web, to: main, schema: a{more} }}\n")));
        match config.connections[0].to {
            Target::Warehouse { nested, .. } => Some(nested),
            Target::Destination { .. } => None,
        }
    };
    assert_eq!(nested(""), Some(NestedConfig::Json));
    assert_eq!(nested(", nested: flatten"), Some(NestedConfig::Flatten));
}

#[test]
fn the_schema_for_editors_names_every_key_of_the_file() {
    let schema = schema();
    let mut keys: Vec<_> = schema["properties"].as_object().unwrap().keys().cloned().collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "admin",
            "block_events",
            "connections",
            "connectors",
            "destinations",
            "ingest",
            "kafka",
            "privacy",
            "sources",
            "state",
            "syncs",
            "warehouses",
            "workspace"
        ]
    );
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn the_folder_of_connectors_is_the_one_that_is_named_or_the_one_beside_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("millrace.yaml");
    let connectors = |text: &str| {
        std::fs::write(&path, text).unwrap();
        load(&path, Mode::Service).unwrap().connectors
    };
    assert_eq!(connectors("workspace: acme\n"), None);
    assert_eq!(
        connectors("workspace: acme\nconnectors: ours\n"),
        Some(folder.path().join("ours")),
        "one that is named is looked for, whether it is there or not"
    );
    std::fs::create_dir(folder.path().join("connectors")).unwrap();
    assert_eq!(connectors("workspace: acme\n"), Some(folder.path().join("connectors")));
}

#[test]
fn a_file_is_loaded_from_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("millrace.yaml");
    std::fs::write(&path, "workspace: acme\n").unwrap();
    assert_eq!(load(&path, Mode::Service).unwrap().workspace.as_str(), "acme");
    let missing = load(&folder.path().join("none.yaml"), Mode::Service).unwrap_err();
    assert!(format!("{missing:?}").contains("cannot read the file"), "{missing:?}");
}

#[test]
fn events_are_blocked_for_all_sources_by_http_and_for_one() {
    let config = config(
        r#"workspace: acme
block_events: { track: [Debug] }
sources:
  - { id: web, kind: http, write_key: "${KEY}", block_events: { track: [Purchase, " Odd Name "] } }
  - { id: app, kind: http, write_key: "${NUMBER}" }
  - { id: crm, kind: airbyte, command: [source-faker] }
"#,
    );
    let blocked: Vec<_> = config.sources.iter().map(|source| source.block_events.track.as_slice()).collect();
    assert_eq!(blocked, [&["Purchase", " Odd Name ", "Debug"][..], &["Debug"], &[]]);
}

#[test]
fn a_database_of_places_lies_beside_the_file() {
    let config = config("workspace: acme\ningest: { geoip: { database: geo/City.mmdb } }\n");
    assert_eq!(config.ingest.geoip.unwrap().database, Path::new("conf/geo/City.mmdb"));
}

#[test]
fn a_source_by_http_may_be_a_webhook_or_a_replay_and_name_its_pages() {
    let config = config(
        r#"workspace: acme
ingest: { internal: true, public_url: "https://events.example.com" }
sources:
  - { id: web, kind: http, write_key: "${KEY}", origins: ["https://www.example.com", "http://localhost:3000"] }
  - { id: tools, kind: webhook, write_key: "${NUMBER}" }
  - { id: again, kind: http, replay_of: web, lane: bulk }
  - { id: crm, kind: airbyte, command: [source-faker] }
"#,
    );
    assert!(config.ingest.internal);
    let by_http: Vec<_> = config.sources.iter().map(SourceConfig::comes_by_http).collect();
    assert_eq!(by_http, [true, true, true, false]);
    let webhooks: Vec<_> = config.sources.iter().map(SourceConfig::is_webhook).collect();
    assert_eq!(webhooks, [false, true, false, false]);
}

#[test]
fn a_replay_has_the_policy_of_its_original_unless_it_names_one() {
    let config = config(
        r#"workspace: acme
sources:
  - { id: first-again, kind: http, replay_of: web }
  - { id: web, kind: http, write_key: "${KEY}", privacy: strict }
  - { id: other-again, kind: http, replay_of: web, privacy: mild }
  - { id: tools, kind: webhook, write_key: "${NUMBER}" }
privacy: { strict: { detect: all, action: mask }, mild: { email: hash } }
"#,
    );
    let policies: Vec<_> = config.sources.iter().map(|source| source.privacy.as_deref()).collect();
    assert_eq!(policies, [Some("strict"), Some("strict"), Some("mild"), None]);
}
