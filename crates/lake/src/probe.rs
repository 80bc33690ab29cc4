//! Whether a lake can be written to, and by one at a time.

use std::path::{Path, PathBuf};

use millrace_state::Store;

use crate::error::{self, Result};
use crate::tables::OWN_FOLDER;

/// Creates an object twice and deletes it: the second must be refused. Leaves nothing behind, not even a
/// folder.
///
/// # Errors
/// `Retry`: the store cannot be reached. `Pause`: it does not honour create-if-absent.
pub(crate) async fn prove(store: &Store) -> Result<()> {
    let folder = store.child(OWN_FOLDER);
    let missing = folder.folder().map(|folder| missing_folders(&folder)).unwrap_or_default();
    let proved = folder.prove_creation().await;
    for folder in missing {
        // Somebody else may have put something there meanwhile: then it stays.
        if tokio::fs::remove_dir(&folder).await.is_err() {
            break;
        }
    }
    proved.map_err(|error| error::state("cannot write to the lake", error))
}

/// The folders of a path that are not there, the innermost first.
fn missing_folders(path: &Path) -> Vec<PathBuf> {
    path.ancestors().take_while(|folder| !folder.exists()).map(Path::to_owned).collect()
}
