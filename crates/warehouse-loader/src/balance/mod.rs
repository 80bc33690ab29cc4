//! The balance: what Kafka holds of each source and hour against the books of each connection.
//!
//! Received = loaded + filtered + suppressed + duplicate + rejected + superseded + expired + in flight (design
//! §2.4). The left side is counted anew, record by record, from the topic; nothing of it comes from the loader.
//! In flight are the records from the connection's position on. `sheet` adds up, `read` reads.

mod read;
mod sheet;

pub use read::balance;
pub use sheet::{BalanceLine, Verdict};
