//! What the fuzz target `privacy_scan` starts from, and what it once found, in every run of the tests.

use std::path::Path;

use crate::any_document;

const CORPUS: &str = "../../integration-tests/fuzz/corpus/privacy_scan";

#[test]
#[allow(clippy::print_stderr, reason = "a failure is about the document that was named last")]
fn in_every_document_of_the_corpus_a_glance_finds_what_a_look_at_everything_finds() {
    let mut documents = 0;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(CORPUS)).unwrap() {
        let path = entry.unwrap().path();
        eprintln!("{}", path.display());
        any_document::check(&std::fs::read(path).unwrap());
        documents += 1;
    }
    assert!(documents > 20, "only {documents} documents");
}
