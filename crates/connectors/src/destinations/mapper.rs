//! The pure half of a destination that speaks HTTP.

use millrace_connector::{Document, HttpRequest};
use millrace_event_model::Reason;

/// Makes requests of one event or change. Pure: no clock, no network, no state, so that a preview shows
/// exactly what is sent, and a repetition sends the same.
pub trait Mapper: Send + Sync {
    /// The requests of one item, in sending order, each with the address it goes to, the credentials and
    /// the body of this one item: whoever sends joins the bodies of a batch. None where the destination
    /// has no use for the item: it is then filtered.
    ///
    /// # Errors
    /// The item is rejected with this reason. It names the fields that are missing or wrong, never their
    /// values.
    fn map(&self, document: &Document) -> Result<Vec<HttpRequest>, Reason>;

    /// Whether a row that is gone (`document.op()`) is mapped too; else it is rejected.
    fn takes_deletes(&self) -> bool {
        false
    }
}
