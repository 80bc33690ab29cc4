//! An object store with a root.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::synced::Synced;
use crate::{StateError, cloud};

/// Objects by path, under a root. Cheap to clone; clones and children share the store.
///
/// A path is segments joined by `/`. `#` and digits at its end are refused by local folders, which name
/// unfinished writes so.
#[derive(Debug, Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    /// The URL of the root of `objects`, without a slash at the end.
    base: String,
    prefix: Path,
}

/// How a create-if-absent went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// It was not there, and now it is, with these bytes.
    Won,
    /// It was there already; nothing was changed.
    Lost,
}

impl Store {
    /// Opens a folder (`./state`, `/var/lib/millrace`, `file:///var/lib/millrace`), which is made where it
    /// is missing, an object store (`s3://bucket/prefix`, `gs://…`, `az://container/…`, `abfss://…`), whose
    /// region, endpoint and credentials come from the environment, or a new store in memory (`memory://`).
    /// A relative path is made absolute here, once: what changes the working folder later moves nothing.
    ///
    /// # Errors
    /// The folder cannot be made, the scheme is unknown, or the environment does not make an object store.
    pub fn open(location: &str) -> Result<Self, StateError> {
        let store = Self::reach(location, &BTreeMap::new())?;
        if let Some(folder) = store.folder() {
            std::fs::create_dir_all(&folder).map_err(|error| StateError::Location {
                location: location.to_owned(),
                problem: format!("cannot make the folder {}: {error}", folder.display()),
            })?;
        }
        Ok(store)
    }

    /// As [`Self::open`], but nothing is made before something is written. `options` are object_store's
    /// names of what an object store needs (`region`, `endpoint`, `access_key_id`, …) and win over the
    /// environment; a folder has none.
    ///
    /// # Errors
    /// The scheme or an option is unknown, or they do not make an object store.
    pub fn reach(location: &str, options: &BTreeMap<String, String>) -> Result<Self, StateError> {
        let refuse = |problem: String| StateError::Location { location: location.to_owned(), problem };
        let (scheme, rest) = location.split_once("://").unwrap_or(("file", location));
        if let Some(kind) = cloud::Kind::of(scheme) {
            let (objects, base, prefix) = cloud::open(kind, location, options).map_err(refuse)?;
            return Ok(Self { objects, base, prefix });
        }
        if let Some(option) = options.keys().next() {
            return Err(refuse(format!("only an object store has options; remove {option:?}")));
        }
        match scheme {
            "file" => Self::reach_folder(rest).map_err(refuse),
            "memory" => Ok(Self::in_memory()),
            _ => Err(refuse(format!(
                "unknown scheme {scheme:?}; use a local folder, such as ./data/state, or s3://, gs:// or az://"
            ))),
        }
    }

    /// The same store, but what is written to a folder is on the disk, and in this order, when the write
    /// returns. Object stores do so anyway, and memory never does.
    #[must_use]
    pub fn synced(self) -> Self {
        if self.folder().is_none() {
            return self;
        }
        Self { objects: Arc::new(Synced::new()), ..self }
    }

    /// A new, empty store in memory, for tests and throw-away runs.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { objects: Arc::new(InMemory::new()), base: "memory://".to_owned(), prefix: Path::default() }
    }

    fn reach_folder(folder: &str) -> Result<Self, String> {
        if folder.is_empty() {
            return Err("no folder is named; use one such as ./data/state".to_owned());
        }
        let absolute = std::path::absolute(folder).map_err(|error| error.to_string())?;
        // The file system's root and a prefix, for a store with a root of its own needs it to be there.
        let prefix = Path::from_absolute_path(&absolute).map_err(|error| error.to_string())?;
        Ok(Self { objects: Arc::new(LocalFileSystem::new()), base: "file://".to_owned(), prefix })
    }

    /// The same store with a root further in: `path` is segments joined by `/`. Characters that a path
    /// cannot hold are percent-encoded.
    #[must_use]
    pub fn child(&self, path: &str) -> Self {
        let mut prefix = self.prefix.clone();
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            prefix = prefix.join(segment);
        }
        Self { objects: Arc::clone(&self.objects), base: self.base.clone(), prefix }
    }

    /// The store beneath, whose paths begin with [`Self::prefix`].
    #[must_use]
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.objects)
    }

    /// Where this store's root lies in [`Self::object_store`].
    #[must_use]
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The root as a URL, such as `file:///var/lib/millrace/state`.
    #[must_use]
    pub fn url(&self) -> String {
        if self.prefix.as_ref().is_empty() {
            return self.base.clone();
        }
        format!("{}/{}", self.base, self.prefix)
    }

    /// The root as a folder, if that is what it is.
    #[must_use]
    pub fn folder(&self) -> Option<PathBuf> {
        (self.base == "file://").then(|| PathBuf::from(format!("/{}", self.prefix)))
    }

    /// Makes sure that the store honours create-if-absent, on which everything rests: some servers that
    /// speak S3 take the condition and ignore it. Writes one object twice and deletes it: nothing is left,
    /// not even a folder that was not there.
    ///
    /// # Errors
    /// `Location`: the second write went through. Any other: the store cannot be written.
    pub async fn prove_creation(&self) -> Result<(), StateError> {
        let mut name = [0; 8];
        getrandom::fill(&mut name).map_err(|error| StateError::Random(error.to_string()))?;
        let path = format!("creation-probe-{:016x}", u64::from_be_bytes(name));
        let missing = self.folder().map(|folder| missing_folders(&folder)).unwrap_or_default();
        let second = self.create_twice(&path).await;
        // Also after an error: a write whose answer was lost has left the object.
        let deleted = self.delete(&path).await;
        for folder in missing {
            // Somebody else may have put something there meanwhile: then it stays, and so do those around it.
            if std::fs::remove_dir(&folder).is_err() {
                break;
            }
        }
        let second = second?;
        deleted?;
        if second == Creation::Lost {
            return Ok(());
        }
        Err(StateError::Location {
            location: self.url(),
            problem:
                "this store writes over an object that was to be written only if absent, so two processes \
                      could both believe to be the one; use a store that honours conditional writes \
                      (`If-None-Match: *`)"
                    .to_owned(),
        })
    }

    /// How the second creation went. The first may be lost to itself: it was tried again, for the answer to
    /// it did not arrive, and found what it had written.
    async fn create_twice(&self, path: &str) -> Result<Creation, StateError> {
        self.create(path, Bytes::from_static(b"first")).await?;
        self.create(path, Bytes::from_static(b"second")).await
    }

    /// The object at `path`, or none.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn get(&self, path: &str) -> Result<Option<Bytes>, StateError> {
        self.get_opts(path, GetOptions::default()).await
    }

    /// The first `length` bytes of the object at `path`, or all that it has, or none if it is not there.
    ///
    /// # Errors
    /// The store cannot be read, or the object is empty.
    pub async fn get_start(&self, path: &str, length: u64) -> Result<Option<Bytes>, StateError> {
        let range = Some(GetRange::Bounded(0..length));
        self.get_opts(path, GetOptions { range, ..GetOptions::default() }).await
    }

    /// Parts of the object at `path`, in the order asked for, or none if it is not there.
    ///
    /// # Errors
    /// The store cannot be read, or the object does not have all of them.
    pub async fn get_ranges(
        &self,
        path: &str,
        ranges: &[Range<u64>],
    ) -> Result<Option<Vec<Bytes>>, StateError> {
        match self.objects.get_ranges(&self.resolve(path)?, ranges).await {
            Ok(parts) => Ok(Some(parts)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(StateError::Store { action: "read", path: path.to_owned(), source }),
        }
    }

    async fn get_opts(&self, path: &str, options: GetOptions) -> Result<Option<Bytes>, StateError> {
        let failed = |source| StateError::Store { action: "read", path: path.to_owned(), source };
        let found = match self.objects.get_opts(&self.resolve(path)?, options).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        match found.bytes().await {
            Ok(bytes) => Ok(Some(bytes)),
            // Deleted between the two steps: a folder opens the file when the bytes are asked for.
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Writes the object at `path`, in place of whatever is there. All of it or nothing. For what only one
    /// process writes, under a lease or under a name that is its own; else use [`Self::create`].
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StateError> {
        let written = self.objects.put(&self.resolve(path)?, bytes.into()).await;
        match written {
            Ok(_) => Ok(()),
            Err(source) => Err(StateError::Store { action: "write", path: path.to_owned(), source }),
        }
    }

    /// Writes the object at `path` if there is none: of any number of callers, in any number of
    /// processes, exactly one wins.
    ///
    /// # Errors
    /// The store cannot be written; whether the object is there now is then unknown.
    pub async fn create(&self, path: &str, bytes: Bytes) -> Result<Creation, StateError> {
        let options = PutOptions::from(PutMode::Create);
        match self.objects.put_opts(&self.resolve(path)?, bytes.into(), options).await {
            Ok(_) => Ok(Creation::Won),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Creation::Lost),
            Err(source) => Err(StateError::Store { action: "write", path: path.to_owned(), source }),
        }
    }

    /// The paths of all objects under `prefix` (whole segments; `""` is everything), at any depth, sorted,
    /// each as [`Self::get`] takes it.
    ///
    /// # Errors
    /// The store cannot be listed.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        let under = self.resolve(prefix)?;
        let found: Vec<_> = self
            .objects
            .list(Some(&under))
            .try_collect()
            .await
            .map_err(|source| StateError::Store { action: "list", path: prefix.to_owned(), source })?;
        let mut paths: Vec<String> =
            found.iter().filter_map(|object| self.relative(&object.location)).collect();
        paths.sort_unstable();
        Ok(paths)
    }

    /// The names of the folders directly under `prefix` (whole segments; `""` is the root), sorted.
    ///
    /// # Errors
    /// The store cannot be listed.
    pub async fn folders(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        let under = self.resolve(prefix)?;
        let found = self.objects.list_with_delimiter(Some(&under)).await;
        let found =
            found.map_err(|source| StateError::Store { action: "list", path: prefix.to_owned(), source })?;
        let mut names: Vec<String> =
            found.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Deletes the object at `path`; one that is not there is no error.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn delete(&self, path: &str) -> Result<(), StateError> {
        match self.objects.delete(&self.resolve(path)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(StateError::Store { action: "delete", path: path.to_owned(), source }),
        }
    }

    fn resolve(&self, path: &str) -> Result<Path, StateError> {
        let parsed =
            Path::parse(path).map_err(|source| StateError::InvalidPath { path: path.to_owned(), source })?;
        Ok(self.prefix.parts().chain(parsed.parts()).collect())
    }

    fn relative(&self, location: &Path) -> Option<String> {
        let parts = location.prefix_match(&self.prefix)?;
        Some(parts.collect::<Path>().to_string())
    }
}

/// The folders of a path that are not there, the innermost first.
fn missing_folders(path: &std::path::Path) -> Vec<PathBuf> {
    path.ancestors().take_while(|folder| !folder.exists()).map(PathBuf::from).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fmt;
    use std::sync::Mutex;

    use async_trait::async_trait;
    use futures::stream::BoxStream;
    use object_store::{
        CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
        PutMultipartOptions, PutPayload, PutResult, Result,
    };

    use super::*;

    /// What comes back for a write that was done.
    #[derive(Debug, Clone, Copy)]
    enum Answer {
        True,
        /// It was lost, the write was tried again, and found itself.
        Exists,
        Error,
    }

    /// A store in memory that answers writes as it is told, the last first.
    #[derive(Debug)]
    struct Answering {
        inner: InMemory,
        answers: Mutex<Vec<Answer>>,
        ignores_conditions: bool,
    }

    impl fmt::Display for Answering {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("answering")
        }
    }

    #[async_trait]
    impl ObjectStore for Answering {
        async fn put_opts(
            &self,
            location: &Path,
            payload: PutPayload,
            mut opts: PutOptions,
        ) -> Result<PutResult> {
            if self.ignores_conditions {
                opts.mode = PutMode::Overwrite;
            }
            let answer = self.answers.lock().unwrap().pop().unwrap();
            let done = self.inner.put_opts(location, payload, opts).await;
            match answer {
                Answer::True => done,
                Answer::Exists => {
                    Err(Error::AlreadyExists { path: location.to_string(), source: "412".into() })
                }
                Answer::Error => Err(Error::Generic { store: "answering", source: "no answer".into() }),
            }
        }

        async fn put_multipart_opts(
            &self,
            location: &Path,
            opts: PutMultipartOptions,
        ) -> Result<Box<dyn MultipartUpload>> {
            self.inner.put_multipart_opts(location, opts).await
        }

        async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
            self.inner.get_opts(location, options).await
        }

        fn delete_stream(
            &self,
            locations: BoxStream<'static, Result<Path>>,
        ) -> BoxStream<'static, Result<Path>> {
            self.inner.delete_stream(locations)
        }

        fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
            self.inner.list(prefix)
        }

        async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
            self.inner.list_with_delimiter(prefix).await
        }

        async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
            self.inner.copy_opts(from, to, options).await
        }
    }

    #[tokio::test]
    async fn a_proof_blames_only_who_writes_over_an_object_and_leaves_nothing() {
        use Answer::{Error, Exists, True};
        let cases = [
            ([True, True], false, "Ok"),
            ([Exists, True], false, "Ok"),
            ([True, True], true, "Location"),
            ([Error, True], false, "Store"),
            ([True, Error], false, "Store"),
        ];
        for ([first, second], ignores_conditions, expected) in cases {
            let answers = Mutex::new(vec![second, first]);
            let objects = Arc::new(Answering { inner: InMemory::new(), answers, ignores_conditions });
            let store = Store { objects, ..Store::in_memory() };
            let proved = match store.prove_creation().await {
                Ok(()) => "Ok",
                Err(StateError::Location { .. }) => "Location",
                Err(_) => "Store",
            };
            let case = format!("{first:?}, {second:?}, ignores conditions: {ignores_conditions}");
            assert_eq!(proved, expected, "{case}");
            assert_eq!(store.list("").await.unwrap(), Vec::<String>::new(), "{case}");
        }
    }
}
