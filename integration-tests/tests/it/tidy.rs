//! Checks of the tree itself: the floors and walls of the architecture, one Arrow, file sizes, and what
//! may not be in the repository. Each failure says what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Floor of each crate. A crate depends on lower floors only; `docs/ARCHITECTURE.md` says what each is.
const FLOORS: &[(&str, u8)] = &[
    ("millrace-event-model", 0),
    ("millrace-bus", 1),
    ("millrace-columnar", 1),
    ("millrace-privacy", 1),
    ("millrace-transform", 1),
    ("millrace-state", 1),
    ("millrace-service", 1),
    ("millrace-connector", 2),
    ("millrace-lake", 3),
    ("millrace-connectors", 3),
    ("millrace-ingest", 3),
    ("millrace-extract", 3),
    ("millrace-reverse-etl", 3),
    ("millrace-deliver", 3),
    ("millrace-warehouse-loader", 3),
    ("millrace-broker", 4),
    ("millrace", 5),
    ("millrace-integration-tests", 6),
    ("millrace-bench", 6),
];

/// The one crate on the same floor that another may use.
const SIDEWAYS: &[(&str, &str)] = &[("millrace-connectors", "millrace-lake")];

/// Heavy or dangerous crates, and the only ones of ours that may name them.
const WALLS: &[(&str, &[&str])] = &[
    // The benchmark's floor is the client library by itself.
    ("rdkafka", &["millrace-bus", "millrace-bench"]),
    ("arrow", &["millrace-columnar"]),
    ("parquet", &["millrace-columnar"]),
    ("object_store", &["millrace-state"]),
    ("deltalake-core", &["millrace-lake"]),
    ("datafusion", &["millrace-lake"]),
    ("tokio-postgres", &["millrace-connectors", "millrace-integration-tests"]),
    ("nisshi-broker", &["millrace-broker"]),
    ("minijinja", &["millrace-transform"]),
    ("serde-saphyr", &["millrace-service"]),
];

/// Why each of these may not be in the lock file.
const BANNED: &[(&str, &str)] = &[
    ("libsqlite3-sys", "it clashes with the SQLite that the embedded broker links"),
    ("native-tls", "TLS is rustls with ring"),
    ("serde_yaml", "it is unmaintained; use serde-saphyr"),
    ("serde_yml", "it is unmaintained; use serde-saphyr"),
];

/// Lines above which a source file no longer fits in a head.
const MAX_LINES: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        // Our own manifests alone: that needs neither the network nor the sources of dependencies.
        .no_deps()
        .exec()
        .expect("cargo metadata")
}

/// Our crates with the names of their dependencies of one kind.
fn dependencies(metadata: &Metadata, kind: DependencyKind) -> BTreeMap<String, BTreeSet<String>> {
    let mut crates = BTreeMap::new();
    for package in metadata.workspace_packages() {
        let names = package.dependencies.iter().filter(|dependency| dependency.kind == kind);
        crates.insert(package.name.to_string(), names.map(|dependency| dependency.name.clone()).collect());
    }
    crates
}

#[test]
fn crates_depend_on_lower_floors_only() {
    let floors: BTreeMap<_, _> = FLOORS.iter().copied().collect();
    let crates = dependencies(&metadata(), DependencyKind::Normal);
    let mut wrong = Vec::new();
    for (name, uses) in &crates {
        let Some(floor) = floors.get(name.as_str()) else {
            wrong.push(format!("{name} has no floor: give it one here and in docs/ARCHITECTURE.md"));
            continue;
        };
        for used in uses.iter().filter(|used| crates.contains_key(*used)) {
            let sideways = SIDEWAYS.contains(&(name, used));
            if floors.get(used.as_str()).is_some_and(|other| other < floor) || sideways {
                continue;
            }
            wrong.push(format!("{name} depends on {used}, which is not on a lower floor"));
        }
    }
    let stages = ["ingest", "extract", "reverse-etl", "deliver", "warehouse-loader"];
    for stage in stages.map(|stage| format!("millrace-{stage}")) {
        for kind in [DependencyKind::Normal, DependencyKind::Development] {
            let uses = dependencies(&metadata(), kind).remove(&stage).unwrap_or_default();
            for other in stages.map(|other| format!("millrace-{other}")) {
                if uses.contains(&other) {
                    wrong.push(format!("{stage} uses {other}: stages share topics and nothing else"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn walls_hold() {
    let crates = dependencies(&metadata(), DependencyKind::Normal);
    let mut wrong = Vec::new();
    for (wall, allowed) in WALLS {
        for (name, uses) in &crates {
            if uses.contains(*wall) && !allowed.contains(&name.as_str()) {
                wrong.push(format!("{name} names {wall}: use what {} re-exports", allowed[0]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn there_is_one_arrow_and_nothing_banned() {
    let lock = read(&root().join("Cargo.lock"));
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut lines = lock.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line.strip_prefix("name = ") else { continue };
        let version = lines.next().and_then(|next| next.strip_prefix("version = ")).expect("a version");
        versions.entry(name.trim_matches('"')).or_default().insert(version);
    }
    for single in
        ["arrow", "arrow-array", "arrow-schema", "parquet", "datafusion", "rdkafka", "tokio", "axum"]
    {
        assert_eq!(versions.get(single).map(BTreeSet::len), Some(1), "{single}: {:?}", versions.get(single));
    }
    for (banned, reason) in BANNED {
        assert!(!versions.contains_key(banned), "{banned} is in the lock file, but {reason}");
    }
}

#[test]
fn versions_stand_only_in_the_root_manifest() {
    let mut wrong = Vec::new();
    for manifest in files(&root().join("crates"), "Cargo.toml") {
        for line in read(&manifest).lines().filter(|line| line.contains('=')) {
            let own = line.trim_start().starts_with("version");
            if !own && (line.contains("version = \"") || line.contains(" = \"0.") || line.contains(" = \"1"))
            {
                wrong.push(format!("{}: {line}", manifest.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "use `name.workspace = true`:\n{}", wrong.join("\n"));
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    for manifest in files(&root().join("crates"), "Cargo.toml") {
        assert!(read(&manifest).contains("[lints]\nworkspace = true"), "{}", manifest.display());
    }
}

#[test]
fn a_source_file_fits_in_the_head() {
    let mut wrong = Vec::new();
    for folder in ["crates", "integration-tests"] {
        for file in files(&root().join(folder), ".rs") {
            let lines = read(&file).lines().count();
            if lines > MAX_LINES {
                wrong.push(format!("{}: {lines} lines", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "split by reason, not by size:\n{}", wrong.join("\n"));
}

#[test]
fn no_file_has_a_name_that_says_nothing() {
    for folder in ["crates", "integration-tests"] {
        for file in files(&root().join(folder), ".rs") {
            let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let vague = ["util", "utils", "common", "helper", "helpers", "misc", "manager"].contains(&stem);
            assert!(!vague, "{}: name what it is", file.display());
        }
    }
}

#[test]
fn work_left_undone_is_an_issue_not_a_comment() {
    // Spelled apart so that this file does not find itself.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
    for file in files(&root().join("crates"), ".rs") {
        let text = read(&file);
        for mark in marks {
            let found = text.lines().any(|line| {
                line.split("//").nth(1).is_some_and(|comment| comment.trim_start().starts_with(mark))
            });
            assert!(!found, "{} has a {mark}", file.display());
        }
    }
}

#[test]
fn every_destination_calls_the_conformance_kit() {
    let destinations = root().join("crates/connectors/src/destinations");
    let mut wrong = Vec::new();
    for file in files(&destinations, "mod.rs") {
        let folder = file.parent().expect("a folder");
        let text = |ending: &str| files(folder, ending).iter().map(|file| read(file)).collect::<String>();
        let calls = ["conforms(", "conforms_at(", "conformance::any_destination("];
        if read(&file).contains("pub fn entry()") && !calls.iter().any(|call| text(".rs").contains(call)) {
            wrong.push(folder.display().to_string());
        }
    }
    assert!(wrong.is_empty(), "their tests do not call the kit (see trial.rs):\n{}", wrong.join("\n"));
}

/// All files below `folder` whose name ends in `ending`, build output left out.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).expect("a text file")
}
