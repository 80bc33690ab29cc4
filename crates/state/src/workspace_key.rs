//! The key under which partition keys are hashed.

use bytes::Bytes;

use crate::{StateError, Store};

const PATH: &str = "keys/workspace";

/// The workspace's key for `KeyHasher`: made at random by whoever asks first, and the same for everybody
/// ever after. It never rotates: another key would send a person's next event to another partition,
/// past those in flight.
///
/// # Errors
/// The store cannot be read or written, or what is there is not 32 bytes.
pub async fn workspace_key(store: &Store) -> Result<[u8; 32], StateError> {
    if let Some(key) = read(store).await? {
        return Ok(key);
    }
    let mut fresh = [0_u8; 32];
    getrandom::fill(&mut fresh).map_err(|error| StateError::Random(error.to_string()))?;
    // Won or lost, what is stored now is everybody's key.
    store.create(PATH, Bytes::copy_from_slice(&fresh)).await?;
    let missing = || malformed("it was deleted while it was made");
    read(store).await?.ok_or_else(missing)
}

/// The same, where somebody has asked for it before: for tools, which would make a key that nobody else has
/// if they were pointed at the wrong store.
///
/// # Errors
/// The store cannot be read, or what is there is not 32 bytes.
pub async fn existing_workspace_key(store: &Store) -> Result<Option<[u8; 32]>, StateError> {
    read(store).await
}

async fn read(store: &Store) -> Result<Option<[u8; 32]>, StateError> {
    let Some(bytes) = store.get(PATH).await? else { return Ok(None) };
    let key = <[u8; 32]>::try_from(bytes.as_ref()).map_err(|_| malformed("a key is 32 bytes"))?;
    Ok(Some(key))
}

fn malformed(problem: &str) -> StateError {
    StateError::Malformed { path: PATH.to_owned(), problem: problem.to_owned() }
}
