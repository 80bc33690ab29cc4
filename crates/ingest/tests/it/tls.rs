//! HTTPS: which clients are let in, and what becomes of them when the certificate changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use millrace_ingest::{Limits, TlsFile, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::stack::{Stack, eventually};
use crate::wire::{connect, exchange, post, read_to_end};

const EVENT: &str = r#"{"userId":"u"}"#;

/// An authority, which signs for servers and clients.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for `localhost`, and its key.
    fn issue(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }
}

/// The files of a server, in a folder of their own.
struct Files {
    folder: TempDir,
    files: TlsFiles,
}

impl Files {
    fn of(authority: &Authority) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = TlsFiles { certificate: path("cert.pem"), key: path("key.pem"), client_ca: None };
        let this = Self { folder, files };
        this.renew(authority);
        this
    }

    fn renew(&self, authority: &Authority) {
        let (certificate, key) = authority.issue();
        std::fs::write(&self.files.certificate, certificate.pem()).unwrap();
        std::fs::write(&self.files.key, key.serialize_pem()).unwrap();
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn serve(&self) -> Stack {
        let files = self.files.clone();
        Stack::start_as(|options| options.tls = Some(files)).await
    }
}

type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

/// Connects as a client that believes the authority.
async fn connect_tls(
    stack: &Stack,
    authority: &Authority,
    version: &'static SupportedProtocolVersion,
    identity: Option<Identity>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(authority.roots());
    let config = match identity {
        Some((certificate, key)) => config.with_client_auth_cert(vec![certificate], key).unwrap(),
        None => config.with_no_client_auth(),
    };
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, connect(stack).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_in_over_tls_1_2_and_1_3_and_not_in_the_clear() {
    let authority = Authority::new();
    let stack = Files::of(&authority).serve().await;
    for version in [&version::TLS12, &version::TLS13] {
        let mut client = connect_tls(&stack, &authority, version, None).await.unwrap();
        for _ in 0..2 {
            assert_eq!(exchange(&mut client, &post(EVENT)).await.status(), 200, "{version:?}");
        }
    }
    let strangers = connect_tls(&stack, &Authority::new(), &version::TLS13, None).await;
    assert!(strangers.is_err(), "a client that does not know the authority");
    let mut plain = connect(&stack).await;
    tokio::io::AsyncWriteExt::write_all(&mut plain, post(EVENT).as_bytes()).await.unwrap();
    let answer = read_to_end(&mut plain).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert_eq!(stack.events().await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_served_without_a_restart_and_open_connections_live_on() {
    let (first, second, third) = (Authority::new(), Authority::new(), Authority::new());
    let files = Files::of(&first);
    let stack = files.serve().await;
    let mut early = connect_tls(&stack, &first, &version::TLS13, None).await.unwrap();
    assert_eq!(exchange(&mut early, &post(EVENT)).await.status(), 200);

    files.renew(&second);
    let serves =
        async |authority: &Authority| connect_tls(&stack, authority, &version::TLS13, None).await.is_ok();
    eventually("the second certificate is served", async || serves(&second).await).await;
    assert!(!serves(&first).await);
    assert_eq!(exchange(&mut early, &post(EVENT)).await.status(), 200, "it lives on");

    // Files that cannot be used leave everything as it is, and are got over.
    files.write("key.pem", "no key");
    let mut late = connect_tls(&stack, &second, &version::TLS13, None).await.unwrap();
    files.renew(&third);
    eventually("the third certificate is served", async || serves(&third).await).await;
    for client in [&mut early, &mut late] {
        assert_eq!(exchange(client, &post(EVENT)).await.status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_client_ca_only_its_clients_are_served() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let mut files = Files::of(&servers);
    files.files.client_ca = Some(files.write("ca.pem", clients.0.pem()));
    let stack = files.serve().await;
    let identity = |authority: &Authority| {
        let (certificate, key) = authority.issue();
        (certificate.der().clone(), PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    };
    for version in [&version::TLS12, &version::TLS13] {
        let known = Some(identity(&clients));
        let mut client = connect_tls(&stack, &servers, version, known).await.unwrap();
        assert_eq!(exchange(&mut client, &post(EVENT)).await.status(), 200);
        for unknown in [None, Some(identity(&servers))] {
            // In TLS 1.3 a client hears of it after its handshake.
            if let Ok(mut client) = connect_tls(&stack, &servers, version, unknown).await {
                let _ = tokio::io::AsyncWriteExt::write_all(&mut client, post(EVENT).as_bytes()).await;
                assert_eq!(read_to_end(&mut client).await, b"");
            }
        }
    }
    assert_eq!(stack.events().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_does_not_come_is_cut() {
    let authority = Authority::new();
    let files = Files::of(&authority);
    let stack = Stack::start_as(|options| {
        options.tls = Some(files.files.clone());
        options.limits = Limits { head_timeout: Duration::from_secs(1), ..Limits::default() };
    })
    .await;
    let mut silent = connect(&stack).await;
    let mut slow = connect(&stack).await;
    tokio::io::AsyncWriteExt::write_all(&mut slow, b"\x16\x03\x01").await.unwrap();
    for client in [&mut silent, &mut slow] {
        assert_eq!(read_to_end(client).await, b"");
    }
    let mut client = connect_tls(&stack, &authority, &version::TLS13, None).await.unwrap();
    assert_eq!(exchange(&mut client, &post(EVENT)).await.status(), 200);
}

#[test]
fn files_that_cannot_be_used_are_named_with_the_reason() {
    let authority = Authority::new();
    let files = Files::of(&authority);
    let Files { files: good, .. } = &files;
    good.check().unwrap();
    let (certificate, key) = authority.issue();
    let der = key.serialize_der();
    // A key in the older form of its kind, SEC1, stands in the newer one, PKCS #8, as its last part.
    let sec1 = der.windows(2).position(|bytes| bytes == [0x04, 0x6d]).map(|at| &der[at + 2..]).unwrap();
    let sec1 = base64::engine::general_purpose::STANDARD.encode(sec1);
    let sec1 = files
        .write("sec1.pem", format!("-----BEGIN EC PRIVATE KEY-----\n{sec1}\n-----END EC PRIVATE KEY-----\n"));
    let own = files.write("own.pem", certificate.pem());
    TlsFiles { certificate: own.clone(), key: sec1, client_ca: Some(own.clone()) }.check().unwrap();

    let empty = files.write("empty.pem", "");
    let garbage = files.write("garbage.pem", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
    let nowhere = files.folder.path().join("nowhere.pem");
    let key = |path: &Path| TlsFiles { key: path.to_owned(), ..good.clone() };
    let certificate = |path: &Path| TlsFiles { certificate: path.to_owned(), ..good.clone() };
    let client_ca = |path: &Path| TlsFiles { client_ca: Some(path.to_owned()), ..good.clone() };
    for (files, file, reason) in [
        (certificate(&nowhere), TlsFile::Certificate, "cannot read"),
        (certificate(&empty), TlsFile::Certificate, "holds no certificate in PEM"),
        (certificate(&garbage), TlsFile::Certificate, "holds no certificate in PEM"),
        (certificate(&good.key), TlsFile::Certificate, "holds no certificate in PEM"),
        (certificate(&own), TlsFile::Key, "is not the key of the certificate in"),
        (key(&nowhere), TlsFile::Key, "cannot read"),
        (key(&empty), TlsFile::Key, "holds no private key in PEM"),
        (key(&own), TlsFile::Key, "holds no private key in PEM"),
        (client_ca(&nowhere), TlsFile::ClientCa, "cannot read"),
        (client_ca(&empty), TlsFile::ClientCa, "holds no certificate in PEM"),
    ] {
        let error = files.check().unwrap_err();
        assert_eq!(error.file(), file, "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}
