//! Why the broker did not start.

use std::path::PathBuf;
use std::time::Duration;

/// Why the broker did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// Another process has the folder open.
    #[error(
        "the broker's folder {} is in use by process {pid}: stop that process, or give this one another folder",
        folder.display()
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The process that holds it, as it wrote it down.
        pid: String,
    },
    /// The storage engine takes its path out of a URL and does not decode it.
    #[error(
        "the broker cannot keep its data in {}: use a path of plain ASCII letters, digits, '-', '_', '.' and '/'",
        folder.display()
    )]
    UnusablePath {
        /// The folder.
        folder: PathBuf,
    },
    /// The data is there, but not the file that says which cluster it belongs to.
    #[error(
        "{} holds a broker's data but no file cluster-id: restore that file from a backup, or move the data away",
        folder.display()
    )]
    ClusterIdMissing {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder cannot be made, read or written.
    #[error("the broker's folder {}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// No port, thread or runtime to be had.
    #[error("the broker cannot start")]
    System(#[source] std::io::Error),
    /// The port is taken.
    #[error("port {port} on 127.0.0.1 is in use: choose another, or stop what listens there")]
    PortInUse {
        /// Which port.
        port: u16,
    },
    /// The broker's own error, in its words.
    #[error("the broker ended: {0}")]
    Ended(String),
    /// It was started but gave no answer.
    #[error("the broker gave no answer on port {port} within {waited:?}")]
    NoAnswer {
        /// Which port.
        port: u16,
        /// How long it was waited for.
        waited: Duration,
    },
}
