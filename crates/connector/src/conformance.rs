//! The behaviour that every warehouse owes the loader, and every destination owes deliver, as tests that its
//! crate calls.
//!
//! A warehouse's tests call [`warehouse()`] once, with a way to open the same, empty warehouse as often as
//! another process would. Each promise of the [`Warehouse`] trait is one function below; a failure panics
//! with what was promised. What only one kind of warehouse promises (a server that restarts, files that
//! others read) is tested where that warehouse is.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a kit for tests")]

mod destination;
mod events;
mod jobs;
mod protocol;
mod rig;
mod stub;
mod writes;

use std::sync::Arc;

use crate::Warehouse;

pub use self::destination::{Finding, Look, Place, Promise, any_destination, broken, destination};
use self::rig::Rig;
pub use self::stub::{Reply, Seen, Stub};

/// Runs every promise, one after the other, each with a connection and tables of its own.
///
/// # Panics
/// A promise is not kept.
pub async fn warehouse(open: impl Fn() -> Arc<dyn Warehouse>) {
    append_only_warehouse(&open).await;
    let rig = |name: &'static str| Rig::new(&open, name);
    writes::an_upsert_replaces_the_whole_row(rig("upsert").await).await;
    writes::the_newer_value_wins_and_null_never_erases(rig("merge").await).await;
    writes::a_generation_replaces_the_table_when_it_is_complete(rig("swap").await).await;
    writes::parts_of_one_table_are_written_in_their_order(rig("turns").await).await;
    writes::tables_of_one_load_may_be_written_in_different_ways(rig("mixed").await).await;
}

/// The promises of [`warehouse()`] that one whose rows never change makes too.
///
/// # Panics
/// A promise is not kept.
pub async fn append_only_warehouse(open: impl Fn() -> Arc<dyn Warehouse>) {
    open().check().await.unwrap_or_else(|error| panic!("check: {}", error.full()));
    let rig = |name: &'static str| Rig::new(&open, name);
    writes::rows_are_appended_and_tables_grow(rig("append").await).await;
    writes::every_type_comes_back_as_it_went_in(rig("types").await).await;
    protocol::positions_move_with_the_rows(rig("positions").await).await;
    protocol::a_batch_is_never_loaded_twice(rig("twice").await).await;
    protocol::the_older_of_two_loaders_is_refused(rig("fence").await).await;
    protocol::positions_of_another_kafka_are_refused(rig("kafka").await).await;
    protocol::ids_are_known_for_28_days(rig("seen").await).await;
    protocol::a_load_that_fails_is_done_again_once(rig("redo").await).await;
}

/// The promises to jobs, which a warehouse that says "unsupported" does not make. Like [`warehouse()`].
///
/// # Panics
/// A promise is not kept.
pub async fn jobs(open: impl Fn() -> Arc<dyn Warehouse>) {
    append_only_jobs(&open).await;
    jobs::a_replacement_is_all_there_is_afterwards(Rig::new(&open, "replaced").await).await;
}

/// Those of [`jobs()`] that a warehouse whose rows never change makes too.
///
/// # Panics
/// A promise is not kept.
pub async fn append_only_jobs(open: impl Fn() -> Arc<dyn Warehouse>) {
    let rig = |name: &'static str| Rig::new(&open, name);
    jobs::the_books_are_told_by_hour_each_line_summed(rig("books").await).await;
    jobs::of_a_forgotten_job_nothing_is_left(rig("forgotten").await).await;
    jobs::columns_are_widened_with_their_values(rig("widened").await).await;
}
