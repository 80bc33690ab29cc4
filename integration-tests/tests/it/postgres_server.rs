//! A PostgreSQL server of a test's own, which it may kill and start again where it was.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::stack::until;

/// See the module. Stopped when it is dropped.
pub(crate) struct PostgresServer {
    /// Of its superuser.
    pub(crate) url: String,
    folder: TempDir,
}

impl PostgresServer {
    /// None, and a word to the reader, where it cannot be had.
    pub(crate) fn start() -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("millrace-postgres-").tempdir().unwrap();
        // Its user must reach its own folder below this one.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let answer = script("start", folder.path());
        let Some(url) = answer.trim().strip_prefix("export MILLRACE_TEST_POSTGRES=") else {
            println!("{answer}");
            return None;
        };
        Some(Self { url: url.to_owned(), folder })
    }

    /// Its `host:port`.
    pub(crate) fn address(&self) -> &str {
        let (_, rest) = self.url.split_once('@').expect("postgres://user@host:port/database");
        rest.split_once('/').expect("postgres://user@host:port/database").0
    }

    /// SIGKILL to the postmaster and to every process of its, and wait for their end.
    pub(crate) fn kill(&self) {
        let lock = data(self.folder.path()).join("postmaster.pid");
        let text = std::fs::read_to_string(&lock).unwrap();
        let postmaster: u32 = text.lines().next().unwrap().trim().parse().unwrap();
        // The postmaster first: it would begin to recover what is killed before it. Each of its children has
        // a process group of its own, so they are sought by their parent.
        let mut killed = BTreeSet::from([postmaster]);
        killed.extend(children(postmaster));
        let pids: Vec<String> = killed.iter().map(ToString::to_string).collect();
        let sent = Command::new("kill").arg("-KILL").args(&pids).output().unwrap();
        drop(sent);
        until("PostgreSQL is dead", || killed.iter().all(|pid| parent(*pid).is_none()).then_some(()));
        // Where nobody waits for orphans, its number stays taken, and the next start would take it for alive.
        std::fs::remove_file(lock).unwrap();
    }

    /// Starts it again on the same folder and port, where it recovers.
    pub(crate) fn start_again(&self) {
        let answer = script("start", self.folder.path());
        assert_eq!(answer.trim(), format!("export MILLRACE_TEST_POSTGRES={}", self.url));
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // A test that has failed already fails with its own words.
        let _ = run("stop", self.folder.path());
    }
}

fn server(folder: &Path) -> PathBuf {
    folder.join("server")
}

/// The script's layout.
fn data(folder: &Path) -> PathBuf {
    server(folder).join("db")
}

/// What the script prints: a variable, or why there is none.
fn script(command: &str, folder: &Path) -> String {
    let output = run(command, folder);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn run(command: &str, folder: &Path) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/postgres.sh");
    // The one that is lent is not ours to kill.
    Command::new("bash")
        .arg(script)
        .arg(command)
        .arg(server(folder))
        .env_remove("MILLRACE_TEST_POSTGRES")
        .output()
        .expect("bash")
}

fn children(of: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| parent(*pid) == Some(of)).collect()
}

/// None of a process that has ended, whether or not anybody has waited for it.
fn parent(pid: u32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, which may hold anything.
    let mut fields = text.rsplit(") ").next()?.split(' ');
    if fields.next()? == "Z" {
        return None;
    }
    fields.next()?.parse().ok()
}
