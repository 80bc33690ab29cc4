//! The cluster that runs are measured against: one that is named, or one of ours for the time being.

use std::path::PathBuf;
use std::process::Command;

use millrace_bus::Watermarks;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use tempfile::TempDir;

use crate::child::{self, Core};
use crate::error::BenchError;
use crate::gateway::bus;

/// A Kafka to measure against.
pub(crate) struct Kafka {
    pub(crate) brokers: String,
    /// The broker's process, where it is ours and a process of this machine.
    pub(crate) pid: Option<u32>,
    folder: TempDir,
}

impl Kafka {
    /// As the script of the tests starts it: `KAFKA_BROKERS`, or a broker of its own.
    pub(crate) fn start() -> Result<Self, BenchError> {
        let folder = tempfile::Builder::new()
            .prefix("millrace-bench-")
            .tempdir()
            .map_err(BenchError::io("make a folder for Kafka"))?;
        let output = Command::new(script())
            .arg("start")
            .arg(folder.path())
            .stderr(std::process::Stdio::inherit())
            .output()
            .map_err(BenchError::io("run servers/kafka.sh"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let brokers = text.lines().find_map(|line| line.strip_prefix("export KAFKA_BROKERS="));
        let Some(brokers) = brokers.map(str::to_owned) else {
            return Err(BenchError::Failed(format!("there is no Kafka to measure with: {}", text.trim())));
        };
        let pid = std::fs::read_to_string(folder.path().join("pid")).ok();
        Ok(Self { brokers, pid: pid.and_then(|text| text.trim().parse().ok()), folder })
    }

    /// What a topic holds now.
    pub(crate) fn watermarks(&self, workspace: &str, topic: &str) -> Result<Watermarks, BenchError> {
        let bus = bus(&self.brokers, workspace, "none")?;
        Ok(runtime()?.block_on(bus.watermarks(topic))?)
    }

    /// Has the broker keep to a core, where it is ours.
    pub(crate) fn bind(&self, core: Core) -> Result<(), BenchError> {
        self.pid.map_or(Ok(()), |pid| child::bind(pid, core))
    }

    /// A run's events are read once; kept, they would fill the disk.
    pub(crate) fn delete(&self, topic: &str) -> Result<(), BenchError> {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .create()
            .map_err(BenchError::kafka("connect to delete a topic"))?;
        let deleted = runtime()?.block_on(admin.delete_topics(&[topic], &AdminOptions::new()));
        deleted.map(|_| ()).map_err(BenchError::kafka("delete a topic"))
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // With a cluster that was there before, this does nothing.
        let _ = Command::new(script()).arg("stop").arg(self.folder.path()).status();
    }
}

/// The release that the script brings.
pub(crate) fn version() -> String {
    let text = std::fs::read_to_string(script()).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("version=")).unwrap_or("unknown").to_owned()
}

fn script() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../servers/kafka.sh")
}

fn runtime() -> Result<tokio::runtime::Runtime, BenchError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("start a runtime"))
}
