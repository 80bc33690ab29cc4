//! Object stores as Delta tables reach them, and how many objects are deleted.

use std::sync::{Arc, Once};

use deltalake_core::DeltaResult;
use deltalake_core::logstore::object_store::DynObjectStore;
use deltalake_core::logstore::{
    LogStore, LogStoreFactory, StorageConfig, default_logstore, logstore_factories,
};
use futures::{StreamExt, stream};
use millrace_state::object_store::path::Path;
use millrace_state::object_store::{Error, ObjectStore};
use url::Url;

/// Schemes of object stores, as [`millrace_state::Store::reach`] takes them.
const SCHEMES: [&str; 8] = ["s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss"];

/// Makes Delta's log known for the schemes of object stores: a commit is an object that is created only if
/// absent, as in a folder.
pub(crate) fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for scheme in SCHEMES {
            if let Ok(url) = Url::parse(&format!("{scheme}://")) {
                logstore_factories().insert(url, Arc::new(ByCreation));
            }
        }
    });
}

/// Deletes objects, several in one request where the store does that; that one is gone already is as good.
pub(crate) async fn delete(
    store: &dyn ObjectStore,
    paths: impl IntoIterator<Item = Path>,
) -> Result<(), Error> {
    let paths: Vec<_> = paths.into_iter().map(Ok).collect();
    let mut deleted = store.delete_stream(stream::iter(paths).boxed());
    while let Some(one) = deleted.next().await {
        match one {
            Ok(_) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

struct ByCreation;

impl LogStoreFactory for ByCreation {
    fn with_options(
        &self,
        prefixed_store: Arc<DynObjectStore>,
        root_store: Arc<DynObjectStore>,
        location: &Url,
        options: &StorageConfig,
    ) -> DeltaResult<Arc<dyn LogStore>> {
        Ok(default_logstore(prefixed_store, root_store, location, options))
    }
}
