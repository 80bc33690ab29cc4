//! What every warehouse owes the loader.

use std::sync::Arc;

use millrace_connector::{Warehouse, conformance};
use millrace_lake::{LakeFormat, LakeSettings};

use crate::plain;
use crate::rig::{in_azure, in_s3, open, open_with};

#[tokio::test(flavor = "multi_thread")]
async fn the_lake_keeps_the_promises_of_a_warehouse() {
    let folder = tempfile::tempdir().unwrap();
    conformance::warehouse(|| Arc::new(open(folder.path())) as Arc<dyn Warehouse>).await;
    conformance::jobs(|| Arc::new(open(folder.path())) as Arc<dyn Warehouse>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_in_an_s3_keeps_them_too() {
    let Some(settings) = in_s3("conformance") else { return };
    conformance::warehouse(|| Arc::new(open_with(&settings)) as Arc<dyn Warehouse>).await;
    conformance::jobs(|| Arc::new(open_with(&settings)) as Arc<dyn Warehouse>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_in_azure_keeps_them_too() {
    let Some(settings) = in_azure("conformance") else { return };
    conformance::warehouse(|| Arc::new(open_with(&settings)) as Arc<dyn Warehouse>).await;
    conformance::jobs(|| Arc::new(open_with(&settings)) as Arc<dyn Warehouse>).await;
    let plain =
        LakeSettings { format: LakeFormat::Parquet, url: format!("{}-plain", settings.url), ..settings };
    conformance::append_only_warehouse(|| Arc::new(open_with(&plain)) as Arc<dyn Warehouse>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_parquet_keeps_those_that_it_makes() {
    let folder = tempfile::tempdir().unwrap();
    let settings = plain::settings(folder.path());
    conformance::append_only_warehouse(|| Arc::new(open_with(&settings)) as Arc<dyn Warehouse>).await;
    conformance::append_only_jobs(|| Arc::new(open_with(&settings)) as Arc<dyn Warehouse>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_parquet_in_an_s3_keeps_them_too() {
    let Some(settings) = in_s3("plain-conformance") else { return };
    let settings = LakeSettings { format: LakeFormat::Parquet, ..settings };
    conformance::append_only_warehouse(|| Arc::new(open_with(&settings)) as Arc<dyn Warehouse>).await;
}
