//! TLS 1.2 and 1.3 in front of HTTP, by rustls, with certificates that are renewed while it runs.
//!
//! The files are read every few seconds, and taken when their content has changed: certificates of an ACME
//! client, a mounted secret or a copy are all noticed, links and clocks regardless. New connections meet the
//! new certificate, those that are open stay as they are. Files that cannot be used are refused, told of in
//! the log and in `millrace_ingest_certificate_stale`, and the old certificate stays.

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// Between two looks at the files. A change is taken when two looks have seen the same, since a certificate
/// and its key are two files, which nobody writes at once.
const LOOK: Duration = Duration::from_secs(2);

/// Where the certificate is. All files are PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, followed by those between it and the root.
    pub certificate: PathBuf,
    /// Its private key: PKCS #8, SEC1 (EC) or PKCS #1 (RSA).
    pub key: PathBuf,
    /// Only clients with a certificate of one of these authorities are served.
    pub client_ca: Option<PathBuf>,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Unreadable {
        /// Which of the three.
        file: TlsFile,
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file has not what it should have.
    #[error("{path} {problem}", path = path.display())]
    Unusable {
        /// Which of the three.
        file: TlsFile,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// One of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFile {
    /// `certificate`.
    Certificate,
    /// `key`.
    Key,
    /// `client_ca`.
    ClientCa,
}

impl TlsFile {
    /// Its key in the config.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Key => "key",
            Self::ClientCa => "client_ca",
        }
    }
}

impl TlsError {
    /// Which file it is about.
    #[must_use]
    pub fn file(&self) -> TlsFile {
        match self {
            Self::Unreadable { file, .. } | Self::Unusable { file, .. } => *file,
        }
    }
}

impl TlsFiles {
    /// Reads and judges the files.
    ///
    /// # Errors
    /// One cannot be read, or used, or the key is not that of the certificate.
    pub fn check(&self) -> Result<(), TlsError> {
        self.read().server_config(self).map(drop)
    }

    fn read(&self) -> Texts {
        Texts {
            certificate: std::fs::read(&self.certificate),
            key: std::fs::read(&self.key),
            client_ca: self.client_ca.as_ref().map(std::fs::read),
        }
    }
}

/// What the files hold.
struct Texts {
    certificate: io::Result<Vec<u8>>,
    key: io::Result<Vec<u8>>,
    client_ca: Option<io::Result<Vec<u8>>>,
}

impl Texts {
    /// Tells one state of the files from another. Kept instead of them: one of them is a key.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for text in [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten()
        {
            text.as_ref().map_err(io::Error::kind).hash(&mut hasher);
        }
        hasher.finish()
    }

    fn server_config(self, files: &TlsFiles) -> Result<ServerConfig, TlsError> {
        let certificate = certificates(TlsFile::Certificate, &files.certificate, self.certificate)?;
        let key = text(TlsFile::Key, &files.key, self.key)?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| {
            unusable(TlsFile::Key, &files.key, format!("holds no private key in PEM: {error}"))
        })?;
        let provider = Arc::new(default_provider());
        let versions = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(TlsFile::Key, &files.key, error.to_string()))?;
        let clients = match (&files.client_ca, self.client_ca) {
            (Some(path), Some(read)) => {
                let mut roots = RootCertStore::empty();
                let wrong = |error: String| unusable(TlsFile::ClientCa, path, error);
                for root in certificates(TlsFile::ClientCa, path, read)? {
                    roots.add(root).map_err(|error| wrong(format!("has no usable certificate: {error}")))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                versions.with_client_cert_verifier(verifier.map_err(|error| wrong(error.to_string()))?)
            }
            _ => versions.with_no_client_auth(),
        };
        let mut config = clients.with_single_cert(certificate, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => unusable(
                TlsFile::Key,
                &files.key,
                format!("is not the key of the certificate in {}", files.certificate.display()),
            ),
            other => unusable(TlsFile::Certificate, &files.certificate, format!("cannot be used: {other}")),
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Resumption without memory of each client. Its keys go with this certificate: whoever was let in
        // under another `client_ca` has to show a certificate again.
        if let Ok(ticketer) = Ticketer::new() {
            config.ticketer = ticketer;
        }
        Ok(config)
    }
}

fn certificates(
    file: TlsFile,
    path: &Path,
    read: io::Result<Vec<u8>>,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = text(file, path, read)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match all {
        Ok(all) if all.is_empty() => Err(unusable(file, path, "holds no certificate in PEM".to_owned())),
        Ok(all) => Ok(all),
        Err(error) => Err(unusable(file, path, format!("holds no certificate in PEM: {error}"))),
    }
}

fn text(file: TlsFile, path: &Path, read: io::Result<Vec<u8>>) -> Result<Vec<u8>, TlsError> {
    read.map_err(|source| TlsError::Unreadable { file, path: path.to_owned(), source })
}

fn unusable(file: TlsFile, path: &Path, problem: String) -> TlsError {
    TlsError::Unusable { file, path: path.to_owned(), problem }
}

/// The certificate that is served, and where it comes from.
pub(crate) struct Tls {
    files: TlsFiles,
    served: Mutex<Arc<ServerConfig>>,
    /// Of the files as they were first read.
    fingerprint: u64,
}

impl Tls {
    pub(crate) fn new(files: TlsFiles) -> Result<Self, TlsError> {
        let texts = files.read();
        let fingerprint = texts.fingerprint();
        let served = Mutex::new(Arc::new(texts.server_config(&files)?));
        metrics::gauge!("millrace_ingest_certificate_stale").set(0);
        Ok(Self { files, served, fingerprint })
    }

    /// For one connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.served.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }

    /// Serves what the files hold, for ever.
    pub(crate) async fn watch(self: &Arc<Self>) -> Infallible {
        let mut looks = Looks::new(self.fingerprint);
        let mut ticks = tokio::time::interval(LOOK);
        loop {
            ticks.tick().await;
            let files = self.files.clone();
            // A file system may be remote.
            let Ok(texts) = tokio::task::spawn_blocking(move || files.read()).await else { continue };
            if looks.are_to_be_taken(texts.fingerprint()) {
                self.take(texts);
            }
        }
    }

    fn take(&self, texts: Texts) {
        let certificate = self.files.certificate.display();
        match texts.server_config(&self.files) {
            Ok(config) => {
                *self.served.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                metrics::gauge!("millrace_ingest_certificate_stale").set(0);
                tracing::info!(%certificate, "serving a new certificate");
            }
            Err(error) => {
                metrics::gauge!("millrace_ingest_certificate_stale").set(1);
                let why = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(
                    %certificate, %error, why,
                    "the new certificate cannot be used; the old one stays until the files are mended"
                );
            }
        }
    }
}

/// Decides when a change of the files is taken.
struct Looks {
    taken: u64,
    last: u64,
}

impl Looks {
    fn new(fingerprint: u64) -> Self {
        Self { taken: fingerprint, last: fingerprint }
    }

    fn are_to_be_taken(&mut self, seen: u64) -> bool {
        let settled = seen == std::mem::replace(&mut self.last, seen);
        let changed = settled && seen != self.taken;
        if changed {
            self.taken = seen;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_taken_once_when_it_has_settled() {
        let mut looks = Looks::new(1);
        let taken: Vec<bool> =
            [1, 2, 3, 3, 3, 4, 3, 3, 1, 1].into_iter().map(|seen| looks.are_to_be_taken(seen)).collect();
        assert_eq!(taken, [false, false, false, true, false, false, false, false, false, true]);
    }
}
