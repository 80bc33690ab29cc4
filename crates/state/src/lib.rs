//! What Millrace remembers outside Kafka and the warehouses: an object store, and **one** primitive on it.
//!
//! The primitive is create-if-absent of `<path>/<number>`: [`Generations`]. The highest number is the
//! present one; of any number of writers that want the same number, one wins and the others get
//! [`StateError::Lost`]. Everything else is said in those terms. A [`Lease`] is a generation with a
//! holder and an expiry, and the number of its first generation is the epoch by which warehouses fence
//! off whoever held it before. An intent, a snapshot's manifest, a source's state: each is a generation.
//! There is no compare-and-swap, no lock and no database. (A [`RunLog`] is for people to read; nothing is
//! decided by it.)
//!
//! A [`Store`] is a folder, a bucket (S3, Google Cloud Storage, Azure Blob Storage, or what speaks one of
//! these) or memory. [`Store::prove_creation`] finds out whether a bucket really has the primitive. What a
//! local store promises: a write that returned survives
//! SIGKILL of the process at any moment, and a write that was cut off leaves nothing that a reader or a
//! listing can see (`what_was_written_survives_sigkill_and_nothing_half_written_is_seen`). It does not
//! flush to the disk itself, so after a power loss the last seconds of writes may be missing or empty;
//! [`Store::synced`] does, for a synced write or two per object.

mod cloud;
mod error;
mod generations;
mod lease;
mod runs;
mod store;
mod synced;
mod workspace_key;

pub use error::StateError;
pub use generations::{Generation, Generations};
pub use lease::{Lease, LeaseAttempt};
pub use object_store;
pub use runs::{MOST_RUNS, RunLog};
pub use store::{Creation, Store};
pub use workspace_key::{existing_workspace_key, workspace_key};
