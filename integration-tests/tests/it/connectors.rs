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
    let arguments = ["connectors", "test", "connectors/acme.yaml", "--watch"];
    let told = site.stdout(&arguments[..3]);
    assert!(told.contains("an identify is a contact") && !told.contains("FAILED"), "{told}");

    let said = site.path().join("watch.out");
    let mut command = site.command(&arguments);
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
    let refused = site.run(&["connectors", "new", "Acme CRM"]);
    assert_eq!(refused.status.code(), Some(2));
    let unwatched = site.run(&["connectors", "test", "acme", "--watch"]);
    assert_eq!(unwatched.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unwatched.stderr).contains("--watch needs a file"));
}
