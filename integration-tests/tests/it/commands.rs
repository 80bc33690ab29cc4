//! The commands as scripts use them: stdout, exit codes, words for people.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::http::Http;
use crate::stack::{Site, binary, output, until};
use crate::track_to_warehouse::CONFIG;

#[test]
fn check_says_all_that_is_wrong_with_place_and_exits_2() {
    let site = Site::new("workspace: Acme\nsource: []\nconnections: [{from: web, to: lake}]\n");
    let output = site.run(&["check"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    for part in ["invalid name \"Acme\"", "did you mean \"sources\"", "millrace.yaml:2:1"] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
}

#[test]
fn check_judges_settings_expressions_and_policies_at_once_and_opens_no_state() {
    let config = CONFIG
        .replace("strict: { detect: all, action: mask }", "strict: { emial: mask }")
        .replace("schedule: 200ms", "when: \"type ===\"")
        .replace("connections:", "destinations:\n  - { id: hook, kind: webhook, settings: { url: \"http://10.0.0.1/\" } }\nconnections:");
    let site = Site::new(&config);
    let output = site.run(&["check", "--dev"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    for part in ["has 3 errors", "emial", "unexpected `=`", "allow_private"] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    assert!(!site.path().join("state").exists());
}

#[test]
fn check_connect_reaches_everything_and_exits_5_when_something_is_away() {
    let site = Site::new(CONFIG);
    let output = site.run(&["check", "--dev", "--connect"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let away = CONFIG.replace(
        "kind: lake, settings: { url: \"{dir}/lake\" }",
        "kind: postgres, settings: { url: \"postgres://u@127.0.0.1:9/d\" }",
    );
    let output = Site::new(&away).run(&["check", "--dev", "--connect", "-o", "json"]);
    assert_eq!(output.status.code(), Some(5));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let lake =
        said["answers"].as_array().unwrap().iter().find(|answer| answer["what"] == "warehouse lake").unwrap();
    assert!(lake["problem"].as_str().unwrap().contains("refused"), "{lake}");
}

/// Of sources whose runs have folders, of a warehouse and a destination in folders, and of state.
#[test]
fn check_connect_leaves_nothing_behind() {
    let site = Site::new("");
    let folder = tempfile::tempdir().unwrap();
    let mut broker = site.start("broker", &["broker", "-o", "json", "-d", folder.path().to_str().unwrap()]);
    let brokers = broker.first_line()["bootstrap"].as_str().unwrap().to_owned();
    let source = format!(
        "sources:\n  - {{ id: crm, kind: airbyte, command: [\"{}\", demo-source], settings: {{ count: 1 }} }}",
        binary().display()
    );
    let config = CONFIG
        .replace("sources:", &source)
        .replace("{dir}/state", "{dir}/data/state")
        .replace("test-write-key", "\"${KEY}\"")
        .replace("connections:", "destinations:\n  - { id: files, kind: object_storage, settings: { url: \"{dir}/files\" } }\nconnections:");
    site.write(
        "millrace.yaml",
        &format!("kafka: {{ brokers: \"{brokers}\", replication: accept }}\n{config}"),
    );
    let output = output({
        let mut command = site.command(&["check", "--connect", "-o", "json"]);
        command.env("KEY", "k");
        command
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["answers"].as_array().unwrap().len(), 5, "{said}");
    let left = std::fs::read_dir(site.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut left: Vec<_> = left.collect();
    left.sort();
    assert_eq!(left, ["broker.log", "millrace.yaml"]);
}

#[test]
fn a_secret_in_the_file_is_refused_outside_dev_and_never_printed() {
    let site = Site::new(&CONFIG.replace("test-write-key", "hunter2-hunter2"));
    let output = site.run(&["check"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("is a secret and stands in the file"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn the_compose_example_has_a_valid_config() {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/compose/millrace.yaml");
    let site = Site::new("");
    let mut command = site.command(&["check", "--config", config]);
    command.env("WEB_WRITE_KEY", "k").env("DATABASE_URL", "postgres://millrace:pw@postgres:5432/millrace");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_config_that_dev_runs_without_one_can_be_copied() {
    let site = Site::new(include_str!("../../../crates/millrace/src/dev_config.yaml"));
    let mut command = site.command(&["check", "--dev"]);
    command.env_remove("MILLRACE_DATA_DIR");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn previews_answer_a_line_with_a_line() {
    let site = Site::new("");
    let preview = |arguments: &[&str], input: &[u8]| -> Vec<Value> {
        let mut child = site.command(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let event =
        r#"{"type":"track","event":"Order Placed","userId":"u","messageId":"m","properties":{"total":5}}"#;
    let input = [event.as_bytes(), b"\nnot json\n\xff\xfe\n"].concat();
    let rows = preview(&["preview", "rows", "--warehouse", "postgres"], &input);
    assert_eq!(rows[0]["rows"][1]["table"], "order_placed");
    assert_eq!(rows[0]["rows"][1]["columns"]["total"], "int");
    assert!(rows[1]["error"].is_string() && rows[2]["error"].is_string(), "{rows:?}");
    let requests = preview(&["preview", "requests", "--destination", "webhook"], &input);
    assert_eq!(
        (&requests[0]["requests"][0]["method"], &requests[0]["requests"][0]["body_format"]),
        (&"POST".into(), &"json".into())
    );
    let privacy = preview(&["preview", "privacy"], b"{\"contact\":\"a@b.example\"}\n");
    assert_eq!(privacy[0]["findings"][0]["kind"], "email");
    assert!(!privacy[0]["event"].to_string().contains("a@b.example"));
}

#[test]
fn send_waits_until_the_event_can_be_queried() {
    let site = Site::new(CONFIG);
    let dev = site.dev();
    let said: Value =
        serde_json::from_str(&site.stdout(&["send", "--wait", "-o", "json", "--url", &dev.ingest])).unwrap();
    let after = said["arrived"][0]["after_ms"].as_u64().unwrap();
    println!("first event to a row that can be queried: {after} ms");
    assert_eq!(site.query("SELECT event_text FROM web.tracks")[0]["event_text"], "Test Event");
    let table = site.stdout(&["query", "SELECT event_text FROM web.tracks"]);
    assert!(table.contains("event_text") && table.contains("(1 row)"), "{table}");
    let output = site.run(&["query", "SELECT * FROM web.nothing"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no table \"nothing\""));
}

#[test]
fn a_dead_letter_is_listed_with_its_reason_while_dev_runs() {
    let (site, http) = (Site::new(CONFIG), Http::new());
    assert_eq!(site.run(&["dead-letters", "list"]).status.code(), Some(5), "nothing runs yet");
    let dev = site.dev();
    let odd = json!({"batch": [{"type": "telepathy", "userId": "u", "messageId": "m1"}]});
    assert_eq!(http.event(&dev.ingest, "/v1/batch", &odd).status, 200);
    let listed = until("the letter is there", || {
        let text = site.stdout(&["dead-letters", "list", "-o", "json"]);
        text.lines().next().map(|line| serde_json::from_str::<Value>(line).unwrap())
    });
    assert_eq!(listed["of"], "web--lake");
    assert!(listed["message"].as_str().unwrap().contains("telepathy"), "{listed}");
    let books = "SELECT disposition, sum(items) AS items FROM _millrace.counts GROUP BY 1";
    let rejected = until("the books have it", || site.query(books).first().cloned());
    assert_eq!(rejected, json!({"disposition": "rejected", "items": 1}));
    let unknown = site.run(&["pause", "nobody"]);
    assert_eq!(unknown.status.code(), Some(2));
}
