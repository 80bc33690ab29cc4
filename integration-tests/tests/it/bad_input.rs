//! Bad input and things that are away: each has its documented answer and loses nothing.

use serde_json::json;

use crate::http::Http;
use crate::postgres::Database;
use crate::stack::{Site, WRITE_KEY, until};
use crate::track_to_warehouse::CONFIG;

#[test]
fn what_is_refused_at_the_door_has_its_answer_and_its_counter() {
    let (site, http) = (Site::new(CONFIG), Http::new());
    let dev = site.dev();
    let track = format!("{}/v1/track", dev.ingest);
    let event = br#"{"userId":"u","event":"x"}"#;
    let answers = [
        ("bad key", http.post(&track, "nope", event.to_vec())),
        ("bad JSON", http.post(&track, WRITE_KEY, b"{\"event\":".to_vec())),
        ("no user", http.post(&track, WRITE_KEY, br#"{"event":"x"}"#.to_vec())),
        ("too large", http.post(&track, WRITE_KEY, vec![b' '; 4_200_000])),
        ("not an object", http.post(&track, WRITE_KEY, b"[1]".to_vec())),
    ];
    let answers: Vec<_> = answers
        .into_iter()
        .map(|(what, answer)| {
            answer.map(|answer| format!("{what}: {} {}", answer.status, answer.body.trim_end()))
        })
        .collect();
    insta::assert_json_snapshot!(answers);
    let metrics = http.get(&format!("{}/metrics", dev.admin)).unwrap().body;
    for reason in ["unknown_write_key", "invalid_json", "too_large"] {
        assert!(metrics.contains(reason), "no counter for {reason}:\n{metrics}");
    }
    assert!(dev.process.log().contains("refused"), "{}", dev.process.log());
}

#[test]
fn a_warehouse_that_is_down_loses_nothing() {
    let Some(database) = Database::new("down") else { return };
    // A port where nobody listens, until the config names the right one: a server that comes back.
    let config = |url: &str| {
        CONFIG.replace(
            "kind: lake, settings: { url: \"{dir}/lake\" }",
            &format!("kind: postgres, settings: {{ url: \"{url}\" }}"),
        )
    };
    let away = "postgres://postgres@127.0.0.1:9/postgres";
    let (site, http) = (Site::new(&config(away)), Http::new());
    let mut dev = site.dev();
    for number in 0..5 {
        let event = json!({"messageId": format!("m{number}"), "userId": "u", "event": "Kept"});
        assert_eq!(http.event(&dev.ingest, "/v1/track", &event).status, 200, "events are taken all the same");
    }
    let said = until("the loader says what it waits for", || {
        http.get(&format!("{}/readyz", dev.admin)).filter(|answer| answer.body.contains("refused"))
    });
    assert_eq!(said.status, 503);
    assert!(said.body.contains("load web--lake") && said.body.contains("refused"), "{}", said.body);
    assert!(dev.process.stop(), "{}", dev.process.log());

    site.write("millrace.yaml", &config(&database.url));
    let _dev = site.dev();
    let count = || database.rows("SELECT count(*) FROM web.kept").first().and_then(|row| row[0].clone());
    until("all of them are there", || (count()? == "5").then_some(()));
}

#[test]
fn a_source_command_that_dies_is_named_and_the_rest_goes_on() {
    let config = CONFIG.replace(
        "warehouses:",
        "  - { id: crm, kind: airbyte, command: [sh, -c, \"echo broken pipe dreams >&2; exit 3\"], schedule: 1s }\nwarehouses:",
    );
    let (site, http) = (Site::new(&config), Http::new());
    let dev = site.dev();
    let said = until("health names the source", || {
        // While the stages start they are not ready either.
        http.get(&format!("{}/readyz", dev.admin)).filter(|answer| answer.body.contains("broken pipe dreams"))
    });
    assert_eq!(said.status, 503);
    assert!(said.body.contains("source crm") && said.body.contains("broken pipe dreams"), "{}", said.body);
    let event = json!({"messageId": "m", "userId": "u", "event": "Fine"});
    assert_eq!(http.event(&dev.ingest, "/v1/track", &event).status, 200);
    until("events flow all the same", || (site.query("SELECT id FROM web.fine").len() == 1).then_some(()));
}
