//! Where an address is: a database in MaxMind's format, in memory.
//!
//! It is read and not mapped: a mapped file that somebody overwrites in place ends the process. GeoLite2's
//! cities take some 70 MB, its countries 10 MB.

use std::convert::Infallible;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use maxminddb::{MaxMindDbError, Reader};
use millrace_event_model::Geo;
use serde::Deserialize;

/// The largest database: MaxMind's most detailed ones take about half of it. Larger is taken for a mistake.
const MAX_DATABASE_BYTES: u64 = 1024 * 1024 * 1024;

/// The longest name that is passed on: it becomes part of each event's header.
const MAX_TEXT_BYTES: usize = 128;

/// Looks up places.
pub struct Locator {
    file: PathBuf,
    check_every: Duration,
    database: RwLock<Arc<Database>>,
}

struct Database {
    reader: Reader<Vec<u8>>,
    version: Version,
}

/// Tells versions of the file apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    modified: Option<SystemTime>,
    bytes: u64,
}

/// A database cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GeoError {
    /// The file is not there, or may not be read.
    #[error("cannot read the database of places {file}")]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is larger than any such database.
    #[error("the database of places {file} has {bytes} bytes; at most {MAX_DATABASE_BYTES} are read")]
    TooLarge {
        /// Which.
        file: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// It is something else, or damaged, or only half there yet.
    #[error("{file} is not a whole database in MaxMind's format")]
    Invalid {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: MaxMindDbError,
    },
}

impl std::fmt::Debug for Locator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Locator").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Locator {
    /// How often a file is looked at. It changes once or twice a week.
    pub const CHECK_EVERY: Duration = Duration::from_secs(60);

    /// Reads and verifies the database: for a large one this takes a second or two.
    ///
    /// # Errors
    /// [`GeoError`].
    pub fn open(file: &Path, check_every: Duration) -> Result<Self, GeoError> {
        let version = version(file)?;
        let database = RwLock::new(Arc::new(read(file, version)?));
        Ok(Self { file: file.to_owned(), check_every, database })
    }

    /// The place of an address; what the database does not know is left out, and so is `ip`.
    pub(crate) fn locate(&self, address: IpAddr) -> Option<Geo> {
        let database = Arc::clone(&self.database.read().unwrap_or_else(PoisonError::into_inner));
        // An error is an IPv6 address in a database of IPv4: not found, too.
        let found = database.reader.lookup(address).ok()?;
        let place: Place<'_> = found.decode().ok()??;
        Some(place.geo())
    }

    /// Takes the file's new version when there is one. Never returns.
    pub(crate) async fn watch(self: &Arc<Self>) -> Infallible {
        // What could not be used: told once, not at each look.
        let mut refused = None;
        loop {
            tokio::time::sleep(self.check_every).await;
            let locator = Arc::clone(self);
            let look = tokio::task::spawn_blocking(move || locator.refresh(refused)).await;
            match look {
                Ok(Ok(false)) => {}
                Ok(Ok(true)) => {
                    refused = None;
                    tracing::info!(file = %self.file.display(), "a new database of places is in use");
                }
                Ok(Err((version, error))) => {
                    refused = version;
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, cause, "the new database of places cannot be used; the old one stays");
                }
                Err(panic) => tracing::error!(%panic, "a database of places made its reader panic"),
            }
        }
    }

    /// Whether there was a new version, and it was taken; or what is wrong with which.
    fn refresh(&self, refused: Option<Version>) -> Result<bool, (Option<Version>, GeoError)> {
        let there = version(&self.file).map_err(|error| (None, error))?;
        let known = self.database.read().unwrap_or_else(PoisonError::into_inner).version;
        if there == known || Some(there) == refused {
            return Ok(false);
        }
        let fresh = read(&self.file, there).map_err(|error| (Some(there), error))?;
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        Ok(true)
    }
}

fn version(file: &Path) -> Result<Version, GeoError> {
    let metadata =
        std::fs::metadata(file).map_err(|source| GeoError::Unreadable { file: file.to_owned(), source })?;
    let bytes = metadata.len();
    if bytes > MAX_DATABASE_BYTES {
        return Err(GeoError::TooLarge { file: file.to_owned(), bytes });
    }
    Ok(Version { modified: metadata.modified().ok(), bytes })
}

/// The version was taken before: should the file change meanwhile, the next look finds another one.
fn read(file: &Path, version: Version) -> Result<Database, GeoError> {
    let bytes =
        std::fs::read(file).map_err(|source| GeoError::Unreadable { file: file.to_owned(), source })?;
    let invalid = |source| GeoError::Invalid { file: file.to_owned(), source };
    let reader = Reader::from_source(bytes).map_err(invalid)?;
    // A file that is damaged in the middle opens well.
    reader.verify().map_err(invalid)?;
    Ok(Database { reader, version })
}

/// The part of a record that is passed on; databases of countries have only some of it.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Place<'d> {
    #[serde(borrow)]
    city: Named<'d>,
    country: Country<'d>,
    subdivisions: Vec<Named<'d>>,
    postal: Postal<'d>,
    location: Location<'d>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Named<'d> {
    #[serde(borrow)]
    names: Names<'d>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Names<'d> {
    en: Option<&'d str>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Country<'d> {
    iso_code: Option<&'d str>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Postal<'d> {
    code: Option<&'d str>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Location<'d> {
    latitude: Option<f64>,
    longitude: Option<f64>,
    time_zone: Option<&'d str>,
}

impl Place<'_> {
    fn geo(&self) -> Geo {
        let region = self.subdivisions.first().and_then(|largest| largest.names.en);
        let point = self.location.latitude.zip(self.location.longitude);
        Geo {
            ip: None,
            city: text(self.city.names.en),
            country: text(self.country.iso_code),
            region: text(region),
            postal: text(self.postal.code),
            location: point.map(|(latitude, longitude)| format!("{latitude:.6},{longitude:.6}")),
            timezone: text(self.location.time_zone),
        }
    }
}

fn text(found: Option<&str>) -> Option<String> {
    found.filter(|text| !text.is_empty() && text.len() <= MAX_TEXT_BYTES).map(str::to_owned)
}
