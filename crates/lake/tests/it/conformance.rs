//! What every warehouse owes the loader.

use std::sync::Arc;

use millrace_connector::{Warehouse, conformance};

use crate::rig::open;

#[tokio::test(flavor = "multi_thread")]
async fn the_lake_keeps_the_promises_of_a_warehouse() {
    let folder = tempfile::tempdir().unwrap();
    conformance::warehouse(|| Arc::new(open(folder.path())) as Arc<dyn Warehouse>).await;
}
