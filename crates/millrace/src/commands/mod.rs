//! One file per command, or per family of commands.

#[cfg(feature = "warehouse-loader")]
pub(crate) mod balance;
pub(crate) mod check;
pub(crate) mod connectors;
pub(crate) mod dead_letters;
mod held;
#[cfg(feature = "warehouse-loader")]
pub(crate) mod jobs;
mod letters;
pub(crate) mod once;
pub(crate) mod operate;
pub(crate) mod preview;
pub(crate) mod query;
#[cfg(feature = "warehouse-loader")]
pub(crate) mod rebuild;
#[cfg(feature = "deliver")]
pub(crate) mod resend;
#[cfg(feature = "warehouse-loader")]
pub(crate) mod runs;
pub(crate) mod send;
pub(crate) mod serve;
pub(crate) mod suppress;
pub(crate) mod tap;
