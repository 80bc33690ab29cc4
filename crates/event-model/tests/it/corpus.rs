//! What the fuzz target `event_wire` starts from, and what it once found, in every run of the tests.

use crate::any_record;
use crate::golden::repository;

const CORPUS: &str = "integration-tests/fuzz/corpus/event_wire";

#[test]
#[allow(clippy::print_stderr, reason = "a failure is about the record that was named last")]
fn every_record_of_the_corpus_is_refused_or_comes_back_as_it_was() {
    let mut records = 0;
    for entry in std::fs::read_dir(repository(CORPUS)).unwrap() {
        let path = entry.unwrap().path();
        eprintln!("{}", path.display());
        any_record::check(&std::fs::read(path).unwrap());
        records += 1;
    }
    assert!(records > 30, "only {records} records");
}
