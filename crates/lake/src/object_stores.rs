//! Object stores as Delta tables reach them.

use std::sync::{Arc, Once};

use deltalake_core::DeltaResult;
use deltalake_core::logstore::object_store::DynObjectStore;
use deltalake_core::logstore::{
    LogStore, LogStoreFactory, StorageConfig, default_logstore, logstore_factories,
};
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
