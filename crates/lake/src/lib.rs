//! The lake: the warehouse that needs no server. Delta tables in a folder or an object store, SQL over them.
//!
//! `<url>/<schema>/<table>` is a Delta table, which Spark, DuckDB or pandas reads where it lies. What makes
//! a load happen exactly once lies beside, under `<url>/_millrace/<connection>/`:
//!
//! 1. The intent log is the sole authority. Load N begins when `loads/<N>` is written with its offset
//!    ranges and the tables that it replaces, and is whole when `seals/<N>` is. Until then its ranges can only
//!    become load N.
//! 2. Each table commits its part of N, all of it in one Delta commit that carries N, or carries N already.
//!    Staged rows, counts and seen ids carry N likewise: all of it may be done twice, by one process after
//!    the other or by two at once, and is there once.
//! 3. Whoever resumes does the unsealed N again, if there is one, and goes on after the last seal. A fence
//!    in the same log stops whoever was there before.
//!
//! Two processes that do N again from the same records write the same rows. `tests/it/crash.rs` kills the
//! process between any two steps of a load into Delta and compares the tables with those of an undisturbed run
//! (`after_a_crash_at_any_step_the_tables_are_those_of_an_undisturbed_run`); `tests/it/protocol.rs` has two
//! loaders at once (`of_two_live_loaders_the_older_is_refused`). Plain Parquet has another way to the same end
//! (`files`).
//!
//! Reading order: `lake` is the order of a load's steps, `intent_log` the protocol, `table_work`, `edit`,
//! `merge` and `commit` the one commit of a table, `seen` and `stage` what lies beside, `query` the SQL.

mod columns;
mod commit;
mod counts;
mod data_file;
mod edit;
mod error;
mod file_name;
mod files;
mod intent_log;
mod lake;
mod merge;
mod object_stores;
mod partition;
mod plain_load;
mod probe;
mod protocol;
mod query;
mod sealed_files;
mod sealers;
mod seen;
mod sequence;
mod settings;
mod stage;
mod table_work;
mod tables;
mod upkeep;
mod widen;

pub use lake::Lake;
pub use settings::{ENTRY, LakeFormat, LakeSettings};
