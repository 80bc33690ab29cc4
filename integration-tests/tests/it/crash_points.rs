//! The crash points that a loader or deliver passes, as they stand in the source: one that is added is died at.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A name that `MILLRACE_CRASH_AT` takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CrashPoint {
    pub(crate) name: String,
}

/// Where the loader's are, those of a lake and those of PostgreSQL, below `crates/`.
const LOADER: &str = "warehouse-loader/src";
const LAKE: &str = "lake/src";
/// Those that only a lake of Delta tables passes, and those that only one of plain files does.
const DELTA: &str = "lake/src/table_work.rs";
const PLAIN_FILES: &str = "lake/src/files.rs";
const POSTGRESQL: &str = "connectors/src/warehouses/postgres";

/// The steps of a load, and the points that stand before and after each.
const STEPS_OF_LAKES: &[(&str, [&str; 2])] = &[
    ("poll", ["before-poll", "after-poll"]),
    ("parse", ["before-parse", "after-parse"]),
    ("ddl", ["before-ddl", "after-ddl"]),
    ("stage", ["before-stage", "after-stage"]),
    // A lake has no COPY and no transaction over tables: it writes one table after the other.
    ("copy and merge", ["after-intent", "between-tables"]),
    ("commit", ["before-commit", "after-commit"]),
    // The number of the load, with its offsets, is announced before the rows and sealed after them.
    ("offset, announced", ["before-intent", "after-intent"]),
    ("offset, sealed", ["before-seal", "after-seal"]),
];

const STEPS_OF_PLAIN_FILES: &[(&str, [&str; 2])] = &[
    ("poll", ["before-poll", "after-poll"]),
    ("parse", ["before-parse", "after-parse"]),
    ("ddl", ["before-ddl", "after-ddl"]),
    ("stage", ["before-stage", "after-stage"]),
    ("files", ["after-intent", "between-files"]),
    ("commit", ["before-commit", "after-commit"]),
    ("offset, announced", ["before-intent", "after-intent"]),
    ("offset, sealed", ["before-seal", "after-seal"]),
];

const STEPS_OF_POSTGRESQL: &[(&str, [&str; 2])] = &[
    ("poll", ["before-poll", "after-poll"]),
    ("parse", ["before-parse", "after-parse"]),
    ("stage", ["before-stage", "after-stage"]),
    ("ddl", ["before-ddl", "after-ddl"]),
    ("copy", ["before-copy", "after-copy"]),
    ("merge", ["before-merge", "after-merge"]),
    ("offset", ["before-offset", "after-offset"]),
    ("commit", ["before-sql-commit", "after-sql-commit"]),
    ("the loader's commit", ["before-commit", "after-commit"]),
];

/// Points that a load of events and records never passes, each with the reason.
const ELSEWHERE: &[(&str, &str)] = &[];

/// Those on the way into a lake of Delta tables.
pub(crate) fn of_lakes() -> Vec<CrashPoint> {
    points(LAKE, Some(PLAIN_FILES))
}

/// Those on the way into a lake of plain files.
pub(crate) fn of_plain_files() -> Vec<CrashPoint> {
    points(LAKE, Some(DELTA))
}

/// Those on the way into PostgreSQL.
pub(crate) fn of_postgresql() -> Vec<CrashPoint> {
    points(POSTGRESQL, None)
}

/// Deliver's.
pub(crate) fn of_deliver() -> Vec<CrashPoint> {
    let mut names = BTreeSet::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/deliver/src"), &mut names);
    names.into_iter().map(|name| CrashPoint { name }).collect()
}

fn points(warehouse: &str, without: Option<&str>) -> Vec<CrashPoint> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let (mut names, mut others) = (BTreeSet::new(), BTreeSet::new());
    for folder in [LOADER, warehouse] {
        collect(&crates.join(folder), &mut names);
    }
    if let Some(file) = without {
        collect_of(&crates.join(file), &mut others);
        assert!(!others.is_empty(), "{file} has no crash point any more");
    }
    names.retain(|name| !others.contains(name));
    names.retain(|name| !ELSEWHERE.iter().any(|(elsewhere, _)| elsewhere == name));
    names.into_iter().map(|name| CrashPoint { name }).collect()
}

fn collect(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() { collect(&path, names) } else { collect_of(&path, names) }
    }
}

fn collect_of(file: &Path, names: &mut BTreeSet<String>) {
    let text = std::fs::read_to_string(file).unwrap();
    let calls = text.split("crash_point(\"").skip(1);
    names.extend(calls.filter_map(|rest| rest.split_once('"')).map(|(name, _)| name.to_owned()));
}

#[test]
fn each_step_of_a_load_has_a_point_before_and_after_it() {
    let all = [
        (of_lakes(), STEPS_OF_LAKES),
        (of_plain_files(), STEPS_OF_PLAIN_FILES),
        (of_postgresql(), STEPS_OF_POSTGRESQL),
    ];
    for (points, steps) in all {
        let names: Vec<&str> = points.iter().map(|point| point.name.as_str()).collect();
        for (step, around) in steps {
            for name in around {
                assert!(names.contains(name), "{step}: there is no {name} among {names:?}");
            }
        }
    }
}
