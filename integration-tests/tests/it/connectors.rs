//! What authors of connectors type: `new` writes what passes its tests, and `--watch` runs them with each change.

use std::fs::{self, File};
use std::process::Child;

use crate::stack::{Site, until};

/// Ended with the test, however that ends.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_new_destination_passes_its_tests_and_is_tested_again_whenever_it_changes() {
    let site = Site::new("");
    site.stdout(&["connectors", "new", "acme"]);
    let path = site.path().join("connectors/acme.yaml");
    let good = fs::read_to_string(&path).unwrap();
    let told = site.stdout(&["connectors", "test", "connectors/acme.yaml"]);
    assert!(told.contains("an identify is a contact") && !told.contains("FAILED"), "{told}");

    let said = site.path().join("watch.out");
    let mut command = site.command(&["connectors", "test", "acme", "--watch"]);
    command.stdout(File::create(&said).unwrap()).stderr(File::create(site.path().join("watch.log")).unwrap());
    let _watching = Watching(command.spawn().unwrap());
    let says = |part: &str, times: usize| {
        until(part, || (fs::read_to_string(&said).unwrap().matches(part).count() >= times).then_some(()));
    };
    says("all tests pass", 1);
    fs::write(&path, good.replace("apply: [trim, lower]", "apply: [trimm]")).unwrap();
    says("connectors/acme.yaml:28:", 1);
    says("there is no function \"trimm\"", 1);
    fs::write(&path, good.replace("plan: free", "plan: paid")).unwrap();
    says("expected {\"contacts\"", 1);
    says("tests failed", 1);
    fs::write(&path, "kind: [").unwrap();
    says("connectors/acme.yaml:1:", 1);
    // As many editors save: a new file in the place of the old.
    fs::remove_file(&path).unwrap();
    fs::write(site.path().join("saved"), &good).unwrap();
    fs::rename(site.path().join("saved"), &path).unwrap();
    says("all tests pass", 2);
}

#[test]
fn a_skeleton_in_rust_has_its_name_and_what_is_no_kind_is_refused() {
    let site = Site::new("");
    let skeleton = site.stdout(&["connectors", "new", "acme", "--rust"]);
    assert!(skeleton.contains("kind: \"acme\"") && skeleton.contains("conforms("), "{skeleton}");
    assert_eq!(site.run(&["connectors", "new", "Acme CRM"]).status.code(), Some(2));
}

#[test]
fn what_a_newcomer_mistypes_is_told_with_what_to_do() {
    let site = Site::new("");
    site.stdout(&["connectors", "new", "acme"]);
    site.write("list.json", "[]");
    site.write("yaml.json", "api_key: k");
    site.write("empty.json", "{}");
    let preview = ["preview", "requests", "--destination", "acme", "--settings"];
    let rows: [(&[&str], &str); 14] = [
        (&["connectors", "new", "acme"], "there is a connectors/acme.yaml already"),
        (&["connectors", "new", "segment"], "there is a destination \"segment\" already"),
        (&["connectors", "new", "x", "--connectors", "list.json"], "cannot write to the folder list.json"),
        (&["connectors", "show", "acmee"], "there are: airbyte, "),
        (&["connectors", "test", "acmee"], "no destination in YAML; there are: acme, "),
        (&["connectors", "test", "webhook"], "cargo test -p millrace-connectors --lib webhook"),
        (&["connectors", "test", "connectors/acmee.yaml"], "there is no file connectors/acmee.yaml"),
        (&["connectors", "test", "connectors"], "connectors test --connectors connectors"),
        (&["connectors", "test", "acmee", "--watch"], "--watch needs a file"),
        (&[&preview[..], &["none.json"]].concat(), "cannot read none.json"),
        (&[&preview[..], &["list.json"]].concat(), "list.json is no JSON object"),
        (&[&preview[..], &["yaml.json"]].concat(), "yaml.json is not JSON"),
        (&[&preview[..], &["empty.json"]].concat(), "empty.json: settings of destination"),
        (&["preview", "rows", "--warehouse", "oracle"], "there are: postgres, "),
    ];
    for (arguments, expected) in rows {
        let output = site.run(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(expected), "{arguments:?}: {told}");
    }
    let silent = site.run(&["preview", "rows", "--warehouse", "postgres"]);
    assert!(silent.status.success() && String::from_utf8_lossy(&silent.stderr).contains("no event on stdin"));
    // Both names are told, and each file can be mended at once.
    for name in ["webhook", "slack"] {
        let taken = fs::read_to_string(site.path().join("connectors/acme.yaml")).unwrap();
        site.write(
            &format!("connectors/{name}.yaml"),
            &taken.replace("name: acme", &format!("name: {name}")),
        );
    }
    let output = site.run(&["connectors", "list"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("connectors/webhook.yaml: ") && told.contains("connectors/slack.yaml: "), "{told}");
}
