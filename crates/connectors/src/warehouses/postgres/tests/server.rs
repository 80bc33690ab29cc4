//! A server for this test binary, and a database in it for each test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration-tests/servers/postgres.sh")
}

/// Started by the first test; it ends when this process does, since it then loses its standard input.
struct Server {
    url: String,
    _stdin: ChildStdin,
    _child: Child,
}

static SERVER: OnceLock<Option<Server>> = OnceLock::new();

#[expect(clippy::zombie_processes, reason = "it outlives every test and ends with this process")]
fn serve() -> Option<Server> {
    let mut child = Command::new(script())
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the script runs");
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let line = BufReader::new(stdout).lines().next().expect("the script says something").unwrap();
    let url = url_of(&line)?;
    Some(Server { url, _stdin: stdin, _child: child })
}

/// The url of the script's answer; without a server the reason for it is printed.
fn url_of(line: &str) -> Option<String> {
    let url = line.strip_prefix("export MILLRACE_TEST_POSTGRES=");
    if url.is_none() {
        eprintln!("{line}");
    }
    url.map(str::to_owned)
}

/// A database of a test's own.
pub(super) struct Database {
    /// Where it is.
    pub(super) url: String,
}

static COUNTER: AtomicU32 = AtomicU32::new(0);

impl Database {
    /// `None`: there is no server, and the reason was printed.
    pub(super) async fn create() -> Option<Self> {
        let server = tokio::task::spawn_blocking(|| SERVER.get_or_init(serve)).await.unwrap().as_ref()?;
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("millrace_test_{}_{number}", std::process::id());
        let client = connect(&server.url).await;
        client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let (base, _) = server.url.rsplit_once('/').unwrap();
        Some(Self { url: format!("{base}/{name}") })
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.url.rsplit_once('/').unwrap().1
    }

    /// A session beside the warehouse's.
    pub(super) async fn client(&self) -> Client {
        connect(&self.url).await
    }
}

/// A server of a test's own, which it may stop and start.
pub(super) struct OwnServer {
    folder: TempDir,
    /// Where it is, each time it runs.
    pub(super) url: String,
}

impl OwnServer {
    /// `None`: there is none to be had, and the reason was printed.
    pub(super) fn start() -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("millrace-postgres").tempdir().unwrap();
        // The server runs as another user, and must reach its folder below.
        let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open_to_all).unwrap();
        let mut server = Self { folder, url: String::new() };
        server.url = url_of(server.run("start").trim())?;
        Some(server)
    }

    /// `start` or `stop`; the latter at once, as a crash would.
    pub(super) fn run(&self, action: &str) -> String {
        let output = Command::new(script())
            .args([action, self.folder.path().join("server").to_str().unwrap()])
            .env_remove("MILLRACE_TEST_POSTGRES")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Its data folder.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.path().join("server/db")
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        let _ = Command::new(script()).arg("stop").arg(self.folder.path().join("server")).status();
    }
}

pub(super) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
