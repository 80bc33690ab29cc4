//! The crash points that a loader passes, as they stand in the source: one that is added is died at.

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

/// Those on the way into a lake.
pub(crate) fn of_lakes() -> Vec<CrashPoint> {
    points(LAKE)
}

/// Those on the way into PostgreSQL.
pub(crate) fn of_postgresql() -> Vec<CrashPoint> {
    points(POSTGRESQL)
}

fn points(warehouse: &str) -> Vec<CrashPoint> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let mut names = BTreeSet::new();
    for folder in [LOADER, warehouse] {
        collect(&crates.join(folder), &mut names);
    }
    names.retain(|name| !ELSEWHERE.iter().any(|(elsewhere, _)| elsewhere == name));
    names.into_iter().map(|name| CrashPoint { name }).collect()
}

fn collect(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, names);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let calls = text.split("crash_point(\"").skip(1);
        names.extend(calls.filter_map(|rest| rest.split_once('"')).map(|(name, _)| name.to_owned()));
    }
}

#[test]
fn each_step_of_a_load_has_a_point_before_and_after_it() {
    for (points, steps) in [(of_lakes(), STEPS_OF_LAKES), (of_postgresql(), STEPS_OF_POSTGRESQL)] {
        let names: Vec<&str> = points.iter().map(|point| point.name.as_str()).collect();
        for (step, around) in steps {
            for name in around {
                assert!(names.contains(name), "{step}: there is no {name} among {names:?}");
            }
        }
    }
}
