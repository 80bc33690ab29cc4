//! A local folder whose writes survive a power loss.
//!
//! `object_store`'s folder leaves it to the system when a file reaches the disk, and in which order: after a
//! power loss, a later file may be there and an earlier one, on which it rests, empty. Here a write returns
//! when its bytes and its name are on the disk, and a name never appears before its bytes.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

/// Folders that are known to be on the disk. Beyond it all are forgotten and synced once more.
const MAX_KNOWN: usize = 10_000;

/// See the module's text.
#[derive(Debug, Clone)]
pub(crate) struct Synced {
    inner: Arc<LocalFileSystem>,
    known: Arc<Mutex<HashSet<PathBuf>>>,
    /// For names of unfinished files.
    next: Arc<AtomicU64>,
}

impl Synced {
    pub(crate) fn new() -> Self {
        Self { inner: Arc::new(LocalFileSystem::new()), known: Arc::default(), next: Arc::default() }
    }

    /// Where an object lies, with its folder, which is made and synced where that has not happened yet.
    fn place(&self, location: &Path) -> Result<(PathBuf, PathBuf)> {
        let path = self.inner.path_to_filesystem(location)?;
        let folder = path.parent().map(PathBuf::from).unwrap_or_default();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(&folder) || !folder.exists() {
            fs::create_dir_all(&folder).map_err(|error| failed(location, error))?;
            for ancestor in folder.ancestors().skip(1).take_while(|ancestor| !known.contains(*ancestor)) {
                // A folder that may not be opened was there before us.
                let _ = sync(ancestor);
            }
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
            known.insert(folder.clone());
        }
        Ok((path, folder))
    }

    fn write(&self, location: &Path, payload: &PutPayload, mode: &PutMode) -> Result<PutResult> {
        let (path, folder) = self.place(location)?;
        // Listings leave out names that end so: they are unfinished files to `object_store` too.
        let unique = u64::from(std::process::id()) << 32 | self.next.fetch_add(1, Ordering::Relaxed);
        let mut unfinished = path.clone().into_os_string();
        unfinished.push(format!("#{unique}"));
        let unfinished = PathBuf::from(unfinished);
        let write = || -> io::Result<()> {
            let mut file = File::create_new(&unfinished)?;
            for bytes in payload {
                file.write_all(bytes)?;
            }
            file.sync_all()?;
            match mode {
                PutMode::Overwrite => fs::rename(&unfinished, &path)?,
                _ => fs::hard_link(&unfinished, &path)?,
            }
            sync(&folder)
        };
        let written = write();
        if !matches!((mode, &written), (PutMode::Overwrite, Ok(()))) {
            // It has its own name now, or none.
            let _ = fs::remove_file(&unfinished);
        }
        match written {
            Ok(()) => Ok(PutResult { e_tag: None, version: None }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(Error::AlreadyExists { path: location.to_string(), source: error.into() })
            }
            Err(error) => Err(failed(location, error)),
        }
    }

    fn sync_object(&self, location: &Path) -> Result<()> {
        let (path, folder) = self.place(location)?;
        sync(&path).and_then(|()| sync(&folder)).map_err(|error| failed(location, error))
    }
}

fn sync(path: &std::path::Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn failed(location: &Path, error: io::Error) -> Error {
    Error::Generic { store: "a folder", source: format!("cannot write {location}: {error}").into() }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Error::JoinError { source: error }),
    }
}

impl fmt::Display for Synced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "synced {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Synced {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if matches!(opts.mode, PutMode::Update(_)) {
            return self.inner.put_opts(location, payload, opts).await;
        }
        let (own, location) = (self.clone(), location.clone());
        blocking(move || own.write(&location, &payload, &opts.mode)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(SyncedUpload { inner, store: self.clone(), location: location.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        let (own, to) = (self.clone(), to.clone());
        blocking(move || own.sync_object(&to)).await
    }
}

/// A large file in the writing: nobody knows its name before it is complete, so it is synced then.
#[derive(Debug)]
struct SyncedUpload {
    inner: Box<dyn MultipartUpload>,
    store: Synced,
    location: Path,
}

#[async_trait]
impl MultipartUpload for SyncedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let done = self.inner.complete().await?;
        let (store, location) = (self.store.clone(), self.location.clone());
        blocking(move || store.sync_object(&location)).await?;
        Ok(done)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;

    #[tokio::test]
    async fn it_writes_creates_and_uploads_as_any_store_does() {
        let folder = tempfile::tempdir().unwrap();
        let store = Synced::new();
        let path = |name: &str| Path::from_absolute_path(folder.path().join(name)).unwrap();
        let create = || PutOptions::from(PutMode::Create);
        store.put_opts(&path("a/b/c"), "1".into(), create()).await.unwrap();
        let lost = store.put_opts(&path("a/b/c"), "2".into(), create()).await;
        assert!(matches!(lost, Err(Error::AlreadyExists { .. })), "{lost:?}");
        store.put(&path("a/d"), "3".into()).await.unwrap();
        store.put(&path("a/d"), "4".into()).await.unwrap();
        let mut upload = store.put_multipart(&path("a/e")).await.unwrap();
        upload.put_part("5".into()).await.unwrap();
        upload.complete().await.unwrap();
        for (name, expected) in [("a/b/c", "1"), ("a/d", "4"), ("a/e", "5")] {
            let found = store.get(&path(name)).await.unwrap().bytes().await.unwrap();
            assert_eq!(found, expected, "{name}");
        }
        let left = fs::read_dir(folder.path().join("a")).unwrap().count();
        assert_eq!(left, 3, "no unfinished file is left");
        assert_eq!(fs::read_dir(folder.path().join("a/b")).unwrap().count(), 1);
    }
}
