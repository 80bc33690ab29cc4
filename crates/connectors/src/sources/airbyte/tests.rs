//! Sources that are shell scripts, well-behaved and not, and the recorded output of real ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "tests")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use millrace_connector::ErrorKind;
use serde_json::json;
use tempfile::TempDir;

use super::*;

const RETRY: ErrorKind = ErrorKind::Retry { after: None };

/// A source whose commands are the functions of a shell script.
struct Script {
    folder: TempDir,
    airbyte: Airbyte,
}

fn bounds() -> Bounds {
    Bounds { line_bytes: 100_000, idle: Duration::from_secs(20), grace: Duration::from_millis(500) }
}

fn script(body: &str) -> Script {
    script_with(body, json!({"count": 3, "secret": "hunter2"}), bounds())
}

fn script_with(body: &str, settings: Value, bounds: Bounds) -> Script {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("source.sh");
    let text = format!("#!/bin/sh\ncd \"$(dirname \"$0\")\"\ncommand=$1; shift; arguments=\"$*\"\n{body}\n");
    std::fs::write(&program, text).unwrap();
    let command = ["sh".to_owned(), program.to_str().unwrap().to_owned()];
    let context = Context { id: "crm".to_owned(), work_dir: folder.path().join("work") };
    let airbyte = Airbyte::new(Config::parse(&settings, &command, &context).unwrap(), bounds);
    Script { folder, airbyte }
}

impl Script {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn work_files(&self) -> usize {
        std::fs::read_dir(self.path("work")).unwrap().count()
    }

    /// Reads everything: the messages in short, and how it ended.
    async fn read(
        &self,
        streams: Vec<StreamSpec>,
        state: Option<Value>,
    ) -> (Vec<String>, Result<(), ConnectorError>) {
        let (sender, mut receiver) = mpsc::channel(16);
        let reading = self.airbyte.read(ReadRequest { streams, state }, sender);
        let listening = async {
            let mut heard = Vec::new();
            while let Some(message) = receiver.recv().await {
                heard.push(match message {
                    SourceMessage::Record { stream, json, .. } => {
                        format!("{stream} {}", String::from_utf8(json.to_vec()).unwrap())
                    }
                    SourceMessage::State(state) => format!("state {state}"),
                    SourceMessage::Log { level, message } => format!("{level} {message}"),
                });
            }
            heard
        };
        let (ended, heard) = tokio::join!(reading, listening);
        (heard, ended)
    }
}

/// A catalog of incremental streams.
fn catalog(streams: &[&str]) -> String {
    let streams: Vec<Value> = streams
        .iter()
        .map(|name| {
            json!({"name": name, "json_schema": {"type": "object"}, "source_defined_cursor": true,
                   "supported_sync_modes": ["full_refresh", "incremental"], "source_defined_primary_key": [["id"]]})
        })
        .collect();
    say(&json!({"type": "CATALOG", "catalog": {"streams": streams}}))
}

/// A line of shell that prints a message.
fn say(message: &Value) -> String {
    format!("echo '{message}'\n")
}

fn record(stream: &str, id: i64) -> String {
    say(&json!({"type": "RECORD", "record": {"stream": stream, "data": {"id": id}, "emitted_at": 1.5}}))
}

fn state(stream: &str, at: i64) -> String {
    let stream = json!({"stream_descriptor": {"name": stream}, "stream_state": {"at": at}});
    say(&json!({"type": "STATE", "state": {"type": "STREAM", "stream": stream}}))
}

fn reads(streams: &[&str], read: &str) -> String {
    format!("case $command in discover) {} ;; read)\n{read} ;; esac", catalog(streams).trim())
}

#[tokio::test]
async fn rows_and_states_come_in_order() {
    let read = format!(
        "echo \"$arguments\" >arguments; cp \"$2\" seen-config; ls -l \"$2\" >mode; echo to the log >&2; \
         echo '{{\"type\":\"LOG\",\"log\":{{\"level\":\"WARN\",\"message\":\"slow\"}}}}'\n{}{}{}{}",
        record("users", 1),
        state("users", 1),
        record("users", 2),
        state("users", 2),
    );
    let source = script(&reads(&["users"], &read));
    let streams = source.airbyte.streams().await.unwrap();
    assert_eq!(streams[0].mode, LoadMode::Upsert);
    let (heard, ended) = source.read(streams.clone(), None).await;
    ended.unwrap();
    let expected_state = |at| {
        format!(
            r#"state [{{"stream":{{"stream_descriptor":{{"name":"users"}},"stream_state":{{"at":{at}}}}},"type":"STREAM"}}]"#
        )
    };
    let (first, second) = (expected_state(1), expected_state(2));
    assert_eq!(heard, ["warn slow", "users {\"id\":1}", &first, "users {\"id\":2}", &second]);

    let config = std::fs::read_to_string(source.path("seen-config")).unwrap();
    assert_eq!(config, r#"{"count":3,"secret":"hunter2"}"#);
    assert!(std::fs::read_to_string(source.path("mode")).unwrap().starts_with("-rw------- "));
    assert_eq!(source.work_files(), 0, "the settings are removed");
    let arguments = || std::fs::read_to_string(source.path("arguments")).unwrap();
    assert!(!arguments().contains("--state"));

    let state = serde_json::from_str(second.strip_prefix("state ").unwrap()).unwrap();
    source.read(streams, Some(state)).await.1.unwrap();
    assert!(arguments().contains("--state"));
}

#[tokio::test]
async fn a_state_is_held_back_until_it_covers_all_rows() {
    let read = [record("a", 1), record("b", 1), state("a", 1), record("a", 2), state("b", 1), record("c", 1)]
        .concat();
    let source = script(&reads(&["a", "b", "c"], &format!("{read}{}", state("a", 2))));
    let streams = source.airbyte.streams().await.unwrap();
    let (heard, ended) = source.read(streams, None).await;
    ended.unwrap();
    let states: Vec<usize> = (0..heard.len()).filter(|index| heard[*index].starts_with("state")).collect();
    assert_eq!(states, [4], "only at the end, when the read is complete: {heard:?}");
}

#[tokio::test]
async fn a_stream_that_is_read_in_full_starts_from_the_start() {
    let read = format!("echo \"$arguments\" >arguments\n{}{}", record("a", 1), state("a", 1));
    let source = script(&reads(&["a"], &read));
    let mut streams = source.airbyte.streams().await.unwrap();
    streams[0].mode = LoadMode::Overwrite;
    let old = json!([{"type": "STREAM", "stream": {"stream_descriptor": {"name": "a"}, "stream_state": {"at": 1}}}]);
    let (heard, ended) = source.read(streams, Some(old)).await;
    ended.unwrap();
    assert_eq!(heard, ["a {\"id\":1}", "state null"]);
    assert!(!std::fs::read_to_string(source.path("arguments")).unwrap().contains("--state"));
}

#[tokio::test]
async fn check_says_what_the_source_says() {
    let status = |status| json!({"type": "CONNECTION_STATUS", "connectionStatus": {"status": status, "message": "no key"}});
    let source = script(&format!("echo noise\n{}", say(&status("SUCCEEDED"))));
    source.airbyte.check().await.unwrap();
    for exit in ["", "exit 1"] {
        let source = script(&format!("{}{exit}", say(&status("FAILED"))));
        let error = source.airbyte.check().await.unwrap_err();
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Pause, "check_failed"));
        assert!(error.context.contains("no key"));
    }
    let error = script("exit 0").airbyte.check().await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Pause, "no_answer"));
    let error = script("echo why >&2; exit 3").airbyte.streams().await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (RETRY, "source_exited"));
    assert!(error.context.contains("why") && error.context.contains('3'), "{}", error.context);
}

#[tokio::test]
async fn a_command_that_is_not_there_waits_for_a_person() {
    let folder = tempfile::tempdir().unwrap();
    let context = Context { id: "crm".to_owned(), work_dir: folder.path().to_owned() };
    let make = |program: &Path| {
        let command = [program.to_str().unwrap().to_owned()];
        Airbyte::new(Config::parse(&json!({}), &command, &context).unwrap(), bounds())
    };
    let error = make(Path::new("/no/such/source")).check().await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Pause, "command_not_found"));
    let text = folder.path().join("text");
    std::fs::write(&text, "no program").unwrap();
    std::fs::set_permissions(&text, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = make(&text).check().await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Pause, "command_not_executable"));
    assert_eq!(Config::parse(&json!({}), &[], &context).unwrap_err().kind, ErrorKind::Pause);
    assert_eq!(Config::parse(&json!([1]), &["x".to_owned()], &context).unwrap_err().kind, ErrorKind::Pause);
}

#[tokio::test]
async fn a_source_that_misbehaves_fails_the_attempt() {
    let good = record("a", 1);
    let trace = |kind: &str| {
        say(&json!({"type": "TRACE", "trace": {"type": "ERROR", "emitted_at": 1.5,
                    "error": {"message": "it broke", "failure_type": kind}}}))
    };
    let incomplete = say(&json!({"type": "TRACE", "trace": {"type": "STREAM_STATUS", "emitted_at": 1.5,
        "stream_status": {"stream_descriptor": {"name": "a"}, "status": "INCOMPLETE"}}}));
    let table = [
        (format!("{good}echo last words >&2; exit 1"), RETRY, "source_exited", "last words"),
        (format!("{good}kill -9 $$"), RETRY, "source_exited", "signal: 9"),
        (format!("{good}{}exit 1", trace("system_error")), RETRY, "source_failed", "it broke"),
        (format!("{good}{}exit 1", trace("config_error")), ErrorKind::Pause, "source_config", "it broke"),
        (format!("{good}{}", trace("transient_error")), RETRY, "source_failed", "it broke"),
        (format!("{good}{incomplete}"), RETRY, "source_failed", "\"a\""),
        (format!("{good}printf '%s' '{{\"type\":\"RECORD\",\"rec'"), RETRY, "malformed_message", ""),
        (format!("{good}head -c 200000 /dev/zero | tr '\\0' x"), ErrorKind::Pause, "line_too_long", "100000"),
    ];
    for (read, kind, code, text) in table {
        let source = script(&reads(&["a"], &read));
        let streams = source.airbyte.streams().await.unwrap();
        let (heard, ended) = source.read(streams, None).await;
        let error = ended.unwrap_err();
        assert_eq!((error.kind, error.code.as_str()), (kind, code), "{read}: {}", error.full());
        assert!(error.full().contains(text), "{read}: {}", error.full());
        assert_eq!(heard[0], "a {\"id\":1}", "{read}");
        assert_eq!(source.work_files(), 0, "{read}");
    }
}

#[tokio::test]
async fn garbage_between_messages_is_logged() {
    let read = format!("echo 'Traceback: {{x}}'; printf '\\377\\n\\n'\n{}", record("a", 1));
    let source = script(&reads(&["a"], &read));
    let streams = source.airbyte.streams().await.unwrap();
    let (heard, ended) = source.read(streams, None).await;
    ended.unwrap();
    assert_eq!(heard, ["info Traceback: {x}", "info \u{FFFD}", "info ", "a {\"id\":1}"]);
}

fn is_alive(pid: &str) -> bool {
    // A zombie has a folder too, but no command line.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A source that writes its pid and its child's, ignores SIGTERM if told to, and never ends.
fn endless(ignore: &str) -> Script {
    let read =
        format!("{ignore}\nsleep 600 & echo $! >child; echo $$ >leader; while :; do\n{}done", record("a", 1));
    script(&reads(&["a"], &read))
}

#[tokio::test]
async fn a_dropped_receiver_ends_the_source_and_its_children() {
    for ignore in ["", "trap '' TERM"] {
        let source = endless(ignore);
        let streams = source.airbyte.streams().await.unwrap();
        let (sender, mut receiver) = mpsc::channel(1);
        let reading = source.airbyte.read(ReadRequest { streams, state: None }, sender);
        let listening = async move {
            assert!(receiver.recv().await.is_some());
        };
        let (ended, ()) = tokio::join!(reading, listening);
        assert_eq!(ended.unwrap_err().code, "stopped");
        for name in ["leader", "child"] {
            let pid = std::fs::read_to_string(source.path(name)).unwrap();
            wait_until("the source ends", || !is_alive(pid.trim())).await;
        }
        assert_eq!(source.work_files(), 0);
    }
}

#[tokio::test]
async fn a_cancelled_read_ends_the_source_and_its_children() {
    let source = endless("");
    let streams = source.airbyte.streams().await.unwrap();
    let (sender, mut receiver) = mpsc::channel(1);
    {
        let reading = source.airbyte.read(ReadRequest { streams, state: None }, sender);
        tokio::select! {
            _ = reading => panic!("it never ends"),
            message = receiver.recv() => assert!(message.is_some()),
        }
    }
    for name in ["leader", "child"] {
        let pid = std::fs::read_to_string(source.path(name)).unwrap();
        wait_until("the source ends", || !is_alive(pid.trim())).await;
    }
}

#[tokio::test]
async fn a_source_that_falls_silent_is_given_up() {
    let body = reads(&["a"], &format!("{}sleep 600", record("a", 1)));
    let source = script_with(&body, json!({}), Bounds { idle: Duration::from_millis(300), ..bounds() });
    let streams = source.airbyte.streams().await.unwrap();
    let (_, ended) = source.read(streams, None).await;
    assert_eq!(ended.unwrap_err().code, "source_silent");
}

#[tokio::test]
async fn a_child_left_behind_does_not_hold_up_the_end() {
    let source = script(&reads(&["a"], &format!("sleep 600 & echo $! >child\n{}", record("a", 1))));
    let streams = source.airbyte.streams().await.unwrap();
    let (heard, ended) = source.read(streams, None).await;
    ended.unwrap();
    assert_eq!(heard.len(), 1);
    let pid = std::fs::read_to_string(source.path("child")).unwrap();
    wait_until("the child ends", || !is_alive(pid.trim())).await;
}

#[tokio::test]
async fn our_environment_stays_ours() {
    let source = script(&reads(&["a"], "env >environment"));
    let streams = source.airbyte.streams().await.unwrap();
    source.read(streams, None).await.1.unwrap();
    let environment = std::fs::read_to_string(source.path("environment")).unwrap();
    // Cargo sets it for tests, as a stand-in for DATABASE_URL.
    assert!(std::env::var("CARGO_MANIFEST_DIR").is_ok() && !environment.contains("CARGO_MANIFEST_DIR"));
    assert!(environment.contains("PATH="));
}

/// Recorded output of real sources: third party's, so it is not in the repository.
fn corpus(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("MILLRACE_CORPORA").map(|root| Path::new(&root).join("elt").join(name));
    let found = path.filter(|path| path.exists());
    if found.is_none() {
        eprintln!("SKIPPED: no {name} in the folder elt of MILLRACE_CORPORA");
    }
    found
}

#[tokio::test]
async fn the_recorded_output_of_real_sources_is_understood() {
    // Stream counts of the catalog; records and states of the read. The records were cut at 200 lines.
    let table = [
        ("faker", "airbyte-faker-read1k.jsonl", 3),
        ("smoke", "airbyte-smoke-read.jsonl", 21),
        ("hardcoded", "airbyte-hardcoded-products-read.jsonl", 3),
        ("hardcoded", "airbyte-hardcoded-customers-read.jsonl", 3),
        ("hardcoded", "airbyte-hardcoded-dummy_fields-read.jsonl", 3),
        ("faker", "airbyte-faker-resume-loses-rows.jsonl", 3),
    ];
    for (source, read, streams) in table {
        let files = ["check", "discover"].map(|command| corpus(&format!("airbyte-{source}-{command}.jsonl")));
        let ([Some(check), Some(discover)], Some(read)) = (files, corpus(read)) else { return };
        let body = format!(
            "case $command in check) cat {} ;; discover) cat {} ;; read) cat {} ;; esac",
            check.display(),
            discover.display(),
            read.display()
        );
        let text = std::fs::read_to_string(&read).unwrap();
        let lines =
            |kind: &str| text.lines().filter(|line| line.contains(&format!("\"type\":\"{kind}\","))).count();
        let bounds = Bounds { line_bytes: 16 << 20, ..bounds() };
        let source = script_with(&body, json!({}), bounds);
        source.airbyte.check().await.unwrap();
        let found = source.airbyte.streams().await.unwrap();
        assert_eq!(found.len(), streams, "{}", read.display());
        let (heard, ended) = source.read(found, None).await;
        // Cut in the middle, a recording may end in a stream's middle; that is no failure of its own.
        ended.unwrap();
        let records: Vec<&String> =
            heard.iter().filter(|line| !line.starts_with("info ") && !line.starts_with("state ")).collect();
        assert_eq!(records.len(), lines("RECORD"), "{}", read.display());
        for record in records {
            let (_, json) = record.split_once(' ').unwrap();
            assert!(text.contains(&format!("\"data\":{json}")), "byte for byte: {}", read.display());
        }
    }
}

#[tokio::test]
async fn a_real_source_is_read_from_start_to_end() {
    let Ok(program) = std::env::var("MILLRACE_TEST_AIRBYTE_FAKER") else {
        eprintln!("SKIPPED: MILLRACE_TEST_AIRBYTE_FAKER does not name airbyte-source-faker's executable");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let context = Context { id: "crm".to_owned(), work_dir: folder.path().to_owned() };
    let settings = json!({"count": 1000, "seed": 1, "records_per_slice": 300});
    let config = Config::parse(&settings, &[program], &context).unwrap();
    let source = Script { folder, airbyte: Airbyte::new(config, Bounds::default()) };
    source.airbyte.check().await.unwrap();
    let streams = source.airbyte.streams().await.unwrap();
    let modes: Vec<_> = streams.iter().map(|stream| (stream.name.as_str(), stream.mode)).collect();
    let upserts = ["products", "users", "purchases"].map(|name| (name, LoadMode::Upsert));
    assert_eq!(modes, upserts);
    let (heard, ended) = source.read(streams.clone(), None).await;
    ended.unwrap();
    let count = |prefix: &str| heard.iter().filter(|line| line.starts_with(prefix)).count();
    assert_eq!((count("users {"), count("products {")), (1000, 100));
    assert!(count("purchases {") > 0);
    assert!(heard.last().unwrap().starts_with("state ") || count("state ") > 0, "no state came");

    // What it says in the end it understands in the beginning.
    let state = heard.iter().rev().find_map(|line| line.strip_prefix("state ")).unwrap();
    let state = serde_json::from_str(state).unwrap();
    source.read(streams, Some(state)).await.1.unwrap();
}
