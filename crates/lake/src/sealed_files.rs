//! The object store as a query over plain Parquet sees it: without the files of loads that are not whole.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use millrace_state::object_store::path::Path;
use millrace_state::object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::files::View;

/// Reads only, and lists only what a [`View`] shows.
#[derive(Debug)]
pub(crate) struct SealedFiles {
    inner: Arc<dyn ObjectStore>,
    view: View,
}

impl SealedFiles {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, view: View) -> Self {
        Self { inner, view }
    }
}

impl fmt::Display for SealedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sealed files of {}", self.inner)
    }
}

fn read_only<T>() -> Result<T> {
    Err(Error::NotImplemented { operation: "write".to_owned(), implementer: "a query".to_owned() })
}

#[async_trait]
impl ObjectStore for SealedFiles {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        read_only()
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        read_only()
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        futures::stream::once(async { read_only() }).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let view = self.view.clone();
        let shown = move |object: &ObjectMeta| futures::future::ready(view.shows(&object.location));
        self.inner.list(prefix).try_filter(shown).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut listed = self.inner.list_with_delimiter(prefix).await?;
        listed.objects.retain(|object| self.view.shows(&object.location));
        Ok(listed)
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        read_only()
    }
}
