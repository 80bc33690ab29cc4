//! Whether a lake can be written to, and by one at a time.

use millrace_state::Store;

use crate::error::{self, Result};
use crate::tables::OWN_FOLDER;

/// Creates an object twice and deletes it: the second must be refused. Leaves nothing behind, not even a
/// folder.
///
/// # Errors
/// `Retry`: the store cannot be reached. `Pause`: it does not honour create-if-absent.
pub(crate) async fn prove(store: &Store) -> Result<()> {
    let proved = store.child(OWN_FOLDER).prove_creation().await;
    proved.map_err(|error| error::state("cannot write to the lake", error))
}
