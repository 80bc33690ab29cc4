//! Committed files that are made from code.

use std::path::PathBuf;

const UPDATE: &str = "UPDATE_GOLDEN";

/// A file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

pub(crate) fn updating() -> bool {
    std::env::var_os(UPDATE).is_some()
}

/// Holds a committed file equal to what is made; with `UPDATE_GOLDEN=1` it is written.
pub(crate) fn check(path: &str, made: &str) {
    let file = repository(path);
    if updating() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, made).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == made,
        "{path} is not what the code makes: run {UPDATE}=1 cargo test -p millrace-event-model, and read the diff"
    );
}
