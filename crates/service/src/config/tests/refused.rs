//! What a file's author is told. Each snapshot is read as they would read it.

use super::*;

macro_rules! refused {
    ($($name:ident: $text:expr;)*) => {
        $(#[test]
        fn $name() {
            insta::assert_snapshot!(errors(&$text));
        })*
    };
}

refused! {
    yaml_that_cannot_be_parsed: "workspace: acme\nsources:\n  - { id: web, kind: http\n";
    a_key_twice: "workspace: acme\nstate: ./a\nstate: ./b\n";
    no_workspace: "state: ./data\n";
    an_unknown_key_at_the_top: with_base("conections: []\n");
    unknown_keys_at_several_places: r#"workspace: acme
sources:
  - { id: web, kind: http, writekey: "${KEY}", write_key: "${KEY}" }
warehouses:
  - { id: main, kind: postgres, setings: {}, colour: red }
ingest: { lisen: "0.0.0.0:80" }
"#;
    wrong_types: r#"workspace: acme
sources: { id: web }
destinations:
  - { id: hook, kind: 5, enabled: "yes", settings: [] }
"#;
    a_list_in_place_of_a_mapping: "workspace: acme\ningest: [\"127.0.0.1:8080\"]\n";
    an_invalid_id: "workspace: acme\nwarehouses:\n  - { id: Main DB, kind: postgres }\n";
    an_invalid_id_from_the_environment_is_not_shown:
        "workspace: acme\nwarehouses:\n  - { id: \"${SHOUT}\", kind: postgres }\n";
    a_missing_key: "workspace: acme\nwarehouses:\n  - { id: main }\n";
    ids_used_twice: r#"workspace: acme
sources:
  - { id: web, kind: http, write_key: "${KEY}" }
  - { id: web, kind: airbyte }
warehouses:
  - { id: main, kind: postgres }
destinations:
  - { id: main, kind: webhook }
"#;
    names_that_lead_nowhere: with_base(r#"connections:
  - { from: wep, to: main }
  - { from: web, to: hok }
  - { from: main, to: hook }
syncs:
  - { id: s, from: web, model: SELECT 1 AS id, key: [id], to: main, after: elsewhere }
"#);
    a_name_that_leads_to_something_broken_is_not_reported_again: r#"workspace: acme
warehouses:
  - { id: main, kind: [postgres] }
sources:
  - { id: web, kind: http, write_key: "${KEY}" }
connections:
  - { from: web, to: main }
"#;
    an_unknown_mode: with_base(
        "syncs:\n  - { id: s, from: main, model: SELECT 1 AS id, key: [id], to: hook, mode: miror }\n"
    );
    a_bad_schedule: with_base("connections:\n  - { from: web, to: main, schedule: every minute }\n");
    a_bad_start: with_base("connections:\n  - { from: web, to: main, start: yesterday }\n");
    times_and_sizes_of_loads_that_make_no_sense: with_base(r#"connections:
  - { from: web, to: main, schedule: "0 9 * * *", exclude: ["08:00-18:00"], flush: { age: 5m, bytes: 300MiB } }
"#);
    windows_that_are_none: with_base(r#"connections:
  - { from: web, to: main, exclude: ["8 to 6", "00:00-12:00"], flush: { rows: 0, bytes: 1GiB } }
  - { from: web, to: hook, exclude: ["08:00-18:00"], flush: { rows: 5 } }
"#);
    windows_that_leave_no_time: with_base(
        "connections:\n  - { from: web, to: main, exclude: [\"00:00-12:00\", \"12:00-24:00\"] }\n"
    );
    sources_by_http_with_what_only_others_have: r#"workspace: acme
sources:
  - { id: web, kind: http, write_key: "${KEY}", origins: ["https://ok.example", "https://Www.example.com", "*", "example.com/"] }
  - { id: tools, kind: webhook, replay_of: web }
  - { id: nowhere, kind: http, replay_of: wep }
  - { id: itself, kind: http, replay_of: itself }
  - { id: crm, kind: airbyte, command: [source-faker], origins: ["https://a.example"] }
  - { id: rows, kind: http, replay_of: crm }
"#;
    both_schedule_and_after: with_base(
        "syncs:\n  - { id: s, from: main, model: SELECT 1 AS id, key: [id], to: hook, schedule: 1m, after: main }\n"
    );
    a_sync_without_key_or_model: with_base(
        "syncs:\n  - { id: s, from: main, model: \"\", key: [], to: hook }\n"
    );
    a_mirror_whose_key_is_not_mapped: with_base(r#"syncs:
  - id: s
    from: main
    model: SELECT id, email FROM people
    key: [id]
    to: hook
    mode: mirror
    map: { email: email }
"#);
    an_http_source_without_write_key: r#"workspace: acme
sources:
  - { id: web, kind: http }
  - { id: app, kind: http, write_key: "${NO_SUCH_KEY}" }
  - { id: crm, kind: airbyte, write_key: "${KEY}" }
  - { id: site, kind: http, write_key: "${KEY}", command: [x], schedule: 1m }
"#;
    two_sources_with_one_write_key: r#"workspace: acme
sources:
  - { id: web, kind: http, write_key: "${KEY}" }
  - { id: app, kind: http, write_key: "${KEY}" }
"#;
    references_that_cannot_be_resolved: r#"workspace: "${WORKSPACE:?name the installation}"
state: ${STATE
destinations:
  - { id: hook, kind: webhook, settings: { secret: "${HOOK_SECRET}", token: "${file:/run/secrets/x}" } }
"#;
    literal_secrets: r#"workspace: acme
kafka: { brokers: "k:9092", sasl.password: hunter2 }
sources:
  - { id: web, kind: http, write_key: hunter2 }
warehouses:
  - { id: main, kind: postgres, settings: { url: "postgres://me:hunter2@db/x" } }
destinations:
  - { id: hook, kind: webhook, settings: { secret: "${KEY:-hunter2}", headers: { Authorization: Bearer x } } }
"#;
    a_missing_policy: r#"workspace: acme
sources:
  - { id: web, kind: http, write_key: "${KEY}", privacy: strikt }
privacy:
  strict: { detect: all, action: mask }
  loose: mask
"#;
    a_schedule_to_a_destination: with_base("connections:\n  - { from: web, to: hook, schedule: 1m, schema: x }\n");
    a_bad_address: with_base("ingest: { listen: localhost }\n");
    kafka_without_brokers: "workspace: acme\nkafka: { linger.ms: 5 }\n";
    events_and_streams_in_one_schema: r#"workspace: acme
sources:
  - { id: web, kind: http, write_key: "${KEY}" }
  - { id: crm, kind: airbyte }
  - { id: shop, kind: airbyte }
warehouses:
  - { id: main, kind: postgres, settings: { url: "postgres://me:${KEY}@db/x" } }
  - { id: lake, kind: lake, settings: { url: ./lake } }
connections:
  - { from: web, to: main }
  - { from: crm, to: main, schema: web }
  - { from: shop, to: main, schema: crm }
  - { from: crm, to: lake, schema: web }
  - { from: shop, to: lake, schema: web }
"#;
    a_connection_twice: with_base("connections:\n  - { from: web, to: main }\n  - { from: web, to: main }\n");
}

#[test]
fn each_of_a_list_of_secrets_is_one_and_none_is_shown() {
    let list = r#"secret: [whsec_hunter2, "${KEY}", whsec_hunter3], url: "https"#;
    let shown = errors(&with_base("").replace(r#"url: "https"#, list));
    assert_eq!(shown.matches(r#""secret" is a secret and stands in the file"#).count(), 2, "{shown}");
    assert!(!shown.contains("hunter"), "{shown}");
}

#[test]
fn errors_as_text_have_a_line_each() {
    let errors = parse_as("workspace: acme\nstat: x\ningest: { lisen: y }\n", Mode::Service).unwrap_err();
    let text = format!("{errors:?}");
    let lines: Vec<_> = text.lines().collect();
    let [head, first, second] = lines[..] else { panic!("{text}") };
    assert_eq!(head, "conf/millrace.yaml has 2 errors");
    let told = "conf/millrace.yaml:2:1: unknown key \"stat\": did you mean \"state\"? the keys here are";
    assert!(first.starts_with(told), "{text}");
    assert!(second.starts_with("conf/millrace.yaml:3:11: unknown key \"lisen\": did you mean"), "{text}");
}

#[test]
fn no_error_shows_what_a_variable_holds() {
    // Each key in turn gets a variable where it makes no sense.
    for key in ["id", "kind", "enabled", "lane", "privacy", "command", "schedule", "settings"] {
        let text = format!("workspace: acme\nsources:\n  - {{ id: a, kind: b, {key}: \"${{SHOUT}}\" }}\n");
        if let Err(errors) = parse_as(&text, Mode::Service) {
            assert!(!render(&errors).contains("NOT AN ID"), "{key}: {}", render(&errors));
        }
    }
}
