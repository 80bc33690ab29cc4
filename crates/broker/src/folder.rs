//! The data folder: who has it open, which cluster it is, and its name as a storage URL.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use url::Url;
use uuid::Uuid;

use crate::BrokerError;

const DATABASE: &str = "broker.db";
const CLUSTER_ID: &str = "cluster-id";
const LOCK: &str = "broker.lock";
const ADDRESS: &str = "broker.address";

/// A data folder that this process alone has open, until this is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// The system lets go of the lock with the file, also after SIGKILL: no stale lock can be left.
    _lock: File,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Self, BrokerError> {
        let failed = |source| BrokerError::Folder { folder: path.to_owned(), source };
        fs::create_dir_all(path).map_err(failed)?;
        // The storage engine resolves relative paths against the current folder, which may change.
        let absolute = path.canonicalize().map_err(failed)?;
        let lock = lock(&absolute)?;
        Ok(Self { path: absolute, _lock: lock })
    }

    /// The id that was made with the folder. Positions elsewhere are bound to it, so it may never change
    /// while the data stays.
    pub(crate) fn cluster_id(&self) -> Result<String, BrokerError> {
        let failed = |source| BrokerError::Folder { folder: self.path.clone(), source };
        let file = self.path.join(CLUSTER_ID);
        match fs::read_to_string(&file) {
            Ok(id) => return Ok(id.trim().to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        if self.path.join(DATABASE).exists() {
            return Err(BrokerError::ClusterIdMissing { folder: self.path.clone() });
        }
        let id = Uuid::now_v7().simple().to_string();
        let unfinished = self.path.join("cluster-id.new");
        let write = || -> std::io::Result<()> {
            let mut new = File::create(&unfinished)?;
            new.write_all(id.as_bytes())?;
            new.sync_all()?;
            fs::rename(&unfinished, &file)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(failed)?;
        Ok(id)
    }

    /// Notes where the broker listens, for tools of the same machine.
    pub(crate) fn note_address(&self, address: &str) -> Result<(), BrokerError> {
        let failed = |source| BrokerError::Folder { folder: self.path.clone(), source };
        fs::write(self.path.join(ADDRESS), address).map_err(failed)
    }

    /// `sqlite://` and the absolute path of the database. The engine takes one slash off the URL's path
    /// and decodes nothing, hence the extra slash and the check.
    pub(crate) fn storage_url(&self) -> Result<Url, BrokerError> {
        let unusable = || BrokerError::UnusablePath { folder: self.path.clone() };
        let database = self.path.join(DATABASE);
        let text = database.to_str().ok_or_else(unusable)?;
        let url = Url::parse(&format!("sqlite:///{text}")).map_err(|_| unusable())?;
        if url.path() != format!("/{text}") || url.query().is_some() {
            return Err(unusable());
        }
        Ok(url)
    }
}

/// Where the broker that has this folder open listens; none when no process has it open.
pub(crate) fn address_of_running(path: &Path) -> Option<String> {
    let lock = File::open(path.join(LOCK)).ok()?;
    match lock.try_lock_shared() {
        Err(TryLockError::WouldBlock) => fs::read_to_string(path.join(ADDRESS)).ok(),
        // Nobody has it; what the file says is of an earlier run.
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

fn lock(folder: &Path) -> Result<File, BrokerError> {
    let failed = |source| BrokerError::Folder { folder: folder.to_owned(), source };
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(folder.join(LOCK))
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(failed)?;
            return Err(BrokerError::InUse { folder: folder.to_owned(), pid: pid.trim().to_owned() });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    // For the message above only: the lock is the system's, not the text.
    let write = |file: &mut File| -> std::io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_its_cluster_id() {
        let dir = tempfile::tempdir().unwrap();
        let first = Folder::open(dir.path()).unwrap().cluster_id().unwrap();
        let second = Folder::open(dir.path()).unwrap().cluster_id().unwrap();
        assert_eq!(first, second);
    }

    #[test]
    fn data_without_a_cluster_id_is_not_taken_for_new() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(DATABASE), b"data").unwrap();
        let error = Folder::open(dir.path()).unwrap().cluster_id().unwrap_err();
        assert!(matches!(error, BrokerError::ClusterIdMissing { .. }), "{error}");
    }

    #[test]
    fn a_folder_that_is_open_names_its_process_and_is_free_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let open = Folder::open(dir.path()).unwrap();
        let BrokerError::InUse { pid, .. } = Folder::open(dir.path()).unwrap_err() else {
            panic!("not in use")
        };
        assert_eq!(pid, std::process::id().to_string());
        drop(open);
        assert!(Folder::open(dir.path()).is_ok());
    }

    #[test]
    fn only_a_running_broker_has_an_address() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(address_of_running(dir.path()), None);
        let open = Folder::open(dir.path()).unwrap();
        open.note_address("127.0.0.1:9").unwrap();
        assert_eq!(address_of_running(dir.path()).as_deref(), Some("127.0.0.1:9"));
        drop(open);
        assert_eq!(address_of_running(dir.path()), None);
    }

    #[test]
    fn a_storage_url_is_absolute_and_says_no_to_what_the_engine_would_misread() {
        let dir = tempfile::tempdir().unwrap();
        let url = Folder::open(dir.path()).unwrap().storage_url().unwrap();
        assert!(url.as_str().starts_with("sqlite:////"), "{url}");
        for name in ["with space", "what?", "hash#", "per%20cent"] {
            let folder = Folder::open(&dir.path().join(name)).unwrap();
            let usable = folder.storage_url();
            // A percent sign is kept as it is, by the URL and by the engine.
            assert_eq!(usable.is_ok(), name == "per%20cent", "{name}: {usable:?}");
        }
    }
}
