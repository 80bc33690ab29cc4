//! The stage that sends: events of connections and changes of reverse ETL, to destinations.
//!
//! Each destination has an engine of its own, a member of a consumer group of its own; none waits for
//! another. The engine is an edge around a pure state, `flow`: what was read goes in (`admit`), waits its
//! turn behind others of its key (`window`), shares a call with others (`call`), is sent while the destination
//! is open (`gate`), answers (`breaker`) and has had no more than it takes (`pace`), is tried again or given
//! up (`backoff`), and ends in the books (`ledger`). What is stored, in which order, and what a
//! crash then repeats, is the text of `books`.
//!
//! Promises: at least once, in order per key, each item under a stable idempotency key. Nothing waits
//! behind another key, but that what is unfinished is bounded ([`Bounds`]); at a bound the destination
//! stops reading and says so. Whatever is given up has an outcome with its reason and is in the dead
//! letters. Nothing here knows a connector: only the [`Destination`] trait and its outcomes.
//!
//! [`Destination`]: millrace_connector::Destination

mod admit;
mod backoff;
mod books;
mod breaker;
mod call;
mod engine;
mod error;
mod flow;
mod gate;
mod intake;
mod ledger;
mod metrics;
mod options;
mod pace;
mod progress;
mod recent;
mod resend;
mod sends;
mod service;
mod storing;
mod window;

pub use backoff::RetryPolicy;
pub use error::DeliverError;
pub use millrace_bus::Start;
pub use options::{Bounds, DestinationOptions, EventConnection, Options};
pub use resend::{Again, LetterRoutes, News, Resent, Stopped, send_again};
pub use service::Service;
