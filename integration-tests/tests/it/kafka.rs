//! An Apache Kafka of a test's own, which it may stop, kill and start again.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// See the module. Stopped when it is dropped.
pub(crate) struct Kafka {
    pub(crate) brokers: String,
    folder: TempDir,
}

impl Kafka {
    /// None, and a word to the reader, where it cannot be had.
    pub(crate) fn start() -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("millrace-kafka-").tempdir().unwrap();
        let answer = script("start", folder.path());
        let Some(brokers) = answer.trim().strip_prefix("export KAFKA_BROKERS=") else {
            println!("{answer}");
            return None;
        };
        let kafka = Self { brokers: brokers.to_owned(), folder };
        if !kafka.process_file().exists() {
            println!("SKIPPED: Apache Kafka runs in a container here, where it cannot be sent signals");
            return None;
        }
        Some(kafka)
    }

    fn process_file(&self) -> PathBuf {
        self.folder.path().join("pid")
    }

    /// Sends a signal, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let process = std::fs::read_to_string(self.process_file()).unwrap();
        let sent = Command::new("kill").args([&format!("-{name}"), process.trim()]).status().unwrap();
        assert!(sent.success(), "kill -{name} of Kafka");
    }

    /// Starts it again where it was, with what it had, after it was killed.
    pub(crate) fn start_again(&self) {
        let answer = script("start", self.folder.path());
        assert_eq!(answer.trim(), format!("export KAFKA_BROKERS={}", self.brokers));
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // It may have been killed, or be stopped.
        let process = std::fs::read_to_string(self.process_file()).unwrap_or_default();
        let _ = Command::new("kill").args(["-CONT", process.trim()]).stderr(Stdio::null()).status();
        script("stop", self.folder.path());
    }
}

/// What the script prints: a variable, or why there is none.
fn script(command: &str, folder: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/kafka.sh");
    // The one that is lent is not ours to stop.
    let output =
        Command::new("bash").arg(script).arg(command).arg(folder).env_remove("KAFKA_BROKERS").output();
    let output = output.expect("bash");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
