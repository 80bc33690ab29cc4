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
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use crate::Creation;

/// Folders that are known to be on the disk. Beyond it all are forgotten and synced once more.
const MAX_KNOWN: usize = 10_000;

/// See the module's text.
#[derive(Debug, Clone)]
pub(crate) struct Synced {
    inner: Arc<LocalFileSystem>,
    known: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Synced {
    pub(crate) fn new() -> Self {
        Self { inner: Arc::new(LocalFileSystem::new()), known: Arc::default() }
    }

    /// Where an object lies, with its folder, which is made and synced where that has not happened yet.
    fn place(&self, location: &Path) -> Result<(PathBuf, PathBuf)> {
        let path = self.inner.path_to_filesystem(location)?;
        let folder = path.parent().map(PathBuf::from).unwrap_or_default();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(&folder) || !folder.exists() {
            // What was removed since is made again, and that is not on the disk yet.
            for missing in folder.ancestors().take_while(|ancestor| !ancestor.exists()) {
                known.remove(missing);
            }
            fs::create_dir_all(&folder).map_err(|error| failed(location, error))?;
            for ancestor in to_sync(&folder, &known) {
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
        let written = unfinished_name(&path)
            .and_then(|unfinished| write_under(&unfinished, &path, &folder, payload, mode));
        match written {
            Ok(Creation::Won) => Ok(PutResult { e_tag: None, version: None }),
            Ok(Creation::Lost) => Err(Error::AlreadyExists {
                path: location.to_string(),
                source: io::Error::from(ErrorKind::AlreadyExists).into(),
            }),
            Err(error) => Err(failed(location, error)),
        }
    }

    fn sync_object(&self, location: &Path) -> Result<()> {
        let (path, folder) = self.place(location)?;
        sync(&path).and_then(|()| sync(&folder)).map_err(|error| failed(location, error))
    }
}

/// The folders that hold the name of `folder` or of a folder around it that may be new: up to the first that
/// is known, and with it, for it has got a new name.
fn to_sync<'a>(folder: &'a std::path::Path, known: &HashSet<PathBuf>) -> Vec<&'a std::path::Path> {
    let mut found = Vec::new();
    for ancestor in folder.ancestors().skip(1) {
        found.push(ancestor);
        if known.contains(ancestor) {
            break;
        }
    }
    found
}

/// The name of a file in the writing. Listings leave out names that end so: they are unfinished files to
/// `object_store` too. Random, for a process id does not tell two writers apart: in a container each is 1,
/// and so is the one that takes the place of one that was killed. The test
/// `what_another_writer_left_unfinished_is_neither_used_nor_removed` shows what depends on it.
fn unfinished_name(path: &std::path::Path) -> io::Result<PathBuf> {
    let mut suffix = [0; 8];
    getrandom::fill(&mut suffix).map_err(|error| io::Error::other(error.to_string()))?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!("#{}", u64::from_be_bytes(suffix)));
    Ok(name.into())
}

/// Writes to `unfinished`, and names that `path` when it is on the disk. Only an object at `path` is a loss:
/// an `unfinished` that is there already is another writer's, stays, and is an error like any other.
fn write_under(
    unfinished: &std::path::Path,
    path: &std::path::Path,
    folder: &std::path::Path,
    payload: &PutPayload,
    mode: &PutMode,
) -> io::Result<Creation> {
    let mut file = File::create_new(unfinished)?;
    let mut write = || -> io::Result<Creation> {
        for bytes in payload {
            file.write_all(bytes)?;
        }
        file.sync_all()?;
        if matches!(mode, PutMode::Overwrite) {
            fs::rename(unfinished, path)?;
        } else if let Err(error) = fs::hard_link(unfinished, path) {
            return if error.kind() == ErrorKind::AlreadyExists { Ok(Creation::Lost) } else { Err(error) };
        }
        sync(folder)?;
        Ok(Creation::Won)
    };
    let written = write();
    if !matches!((mode, &written), (PutMode::Overwrite, Ok(_))) {
        // It has its own name now, or none.
        let _ = fs::remove_file(unfinished);
    }
    written
}

fn sync(path: &std::path::Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn failed(location: &Path, error: io::Error) -> Error {
    Error::Generic {
        store: "a folder",
        source: io::Error::new(error.kind(), format!("cannot write {location}: {error}")).into(),
    }
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

    #[tokio::test]
    async fn what_another_writer_left_unfinished_is_neither_used_nor_removed() {
        let folder = tempfile::tempdir().unwrap();
        // The names of a writer with this process id, as they are in two containers.
        let theirs: Vec<_> = (0..4_u64)
            .map(|count| folder.path().join(format!("x#{}", u64::from(std::process::id()) << 32 | count)))
            .collect();
        for file in &theirs {
            fs::write(file, "theirs").unwrap();
        }
        let path = Path::from_absolute_path(folder.path().join("x")).unwrap();
        let created = Synced::new().put_opts(&path, "ours".into(), PutMode::Create.into()).await;
        assert!(created.is_ok(), "nothing was there: {created:?}");
        for file in &theirs {
            assert_eq!(fs::read(file).unwrap(), b"theirs");
        }
    }

    #[test]
    fn a_name_that_is_taken_is_an_error_and_no_object_that_exists() {
        let folder = tempfile::tempdir().unwrap();
        let (path, unfinished) = (folder.path().join("x"), folder.path().join("x#1"));
        fs::write(&unfinished, "theirs").unwrap();
        for mode in [PutMode::Create, PutMode::Overwrite] {
            let written = write_under(&unfinished, &path, folder.path(), &"ours".into(), &mode);
            assert_eq!(written.unwrap_err().kind(), ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&unfinished).unwrap(), b"theirs");
            assert!(!path.exists());
        }
        fs::write(&path, "before").unwrap();
        let other = folder.path().join("x#2");
        let written = write_under(&other, &path, folder.path(), &"ours".into(), &PutMode::Create);
        assert_eq!(written.unwrap(), Creation::Lost);
        assert!(!other.exists());
    }

    #[test]
    fn a_new_folder_is_synced_up_to_the_known_one_that_holds_it() {
        let known = HashSet::from([PathBuf::from("/r/a")]);
        let found = |folder: &'static str| to_sync(std::path::Path::new(folder), &known);
        assert_eq!(found("/r/a/b"), [std::path::Path::new("/r/a")]);
        assert_eq!(found("/r/a/b/c"), [std::path::Path::new("/r/a/b"), std::path::Path::new("/r/a")]);
        assert_eq!(found("/r/x"), [std::path::Path::new("/r"), std::path::Path::new("/")]);
    }

    #[tokio::test]
    async fn a_folder_that_was_removed_is_known_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let store = Synced::new();
        let path = |name: &str| Path::from_absolute_path(folder.path().join(name)).unwrap();
        store.put(&path("a/x"), "1".into()).await.unwrap();
        fs::remove_dir_all(folder.path().join("a")).unwrap();
        store.put(&path("a/b/x"), "1".into()).await.unwrap();
        let known = store.known.lock().unwrap();
        assert_eq!(*known, HashSet::from([folder.path().join("a/b")]));
    }
}
