//! Finds personal data in an event's JSON and puts something else in its place: pure functions over
//! bytes, called at the door before the first durable write. And knows who asked to be forgotten
//! ([`Suppressions`]), and who may leave an event out of a destination ([`left_out_by`]): users by what they have
//! consented to ([`Consent`]), clients by the event's `integrations` ([`IntegrationNames`]).
//!
//! [`Policy`] says what to do with each [`Kind`]; [`Scanner::scan`] does it in one pass. No JSON tree is
//! built: a look at all bytes finds where something may be (`suspects.rs`), a lexer ([`json`]) walks there, cheap
//! filters (`@`, `%40`, `\u`, a chain of digits) reject nearly
//! every string, and only what is left is decoded and looked at closely. What is not masked stays byte
//! for byte as it was sent.
//!
//! Invariants, each a property test in `tests/it/properties.rs`: the output is valid JSON of the same
//! shape; without findings it is the input; scanning it again finds nothing.
//!
//! Reading order: [`Policy`], then `walk.rs` (tokens in, body out), `filter.rs`, `text.rs` (escapes), `detect/` (what an
//! e-mail address, a phone number and a card number are), `replace.rs` (what stands in their place).

mod consent;
mod detect;
mod filter;
mod integrations;
pub mod json;
mod key;
mod left_out;
mod policy;
mod replace;
mod scanner;
mod suppression;
mod suspects;
mod text;
mod walk;

pub use consent::{Consent, ConsentError, ConsentRule, Require};
pub use integrations::IntegrationNames;
pub use left_out::{LeftOutBy, left_out_by};
pub use policy::{Action, Kind, Policy, PolicyError, Precision};
pub use replace::HashKey;
pub use scanner::{Finding, MAX_DEPTH, ScanError, Scanned, Scanner};
pub use suppression::{Full, Suppressions};
