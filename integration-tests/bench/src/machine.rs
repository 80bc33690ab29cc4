//! Where figures come from: without it they say nothing.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::kafka;

/// The machine, the versions and the commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) commit: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    pub(crate) rust: String,
    pub(crate) librdkafka: String,
    pub(crate) kafka: String,
}

impl Machine {
    pub(crate) fn look() -> Self {
        let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
        let memory_kib = field("/proc/meminfo", "MemTotal:");
        let memory_kib = memory_kib.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok());
        Self {
            date: chrono::Utc::now().format("%Y-%m-%d").to_string(),
            commit: commit(),
            cpu: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: memory_kib.unwrap_or_default() / (1024 * 1024),
            kernel: output("uname", &["-sr"]),
            rust: output("rustc", &["--version"]),
            librdkafka,
            kafka: kafka::version(),
        }
    }
}

/// With a mark if what was built may not be what was committed.
fn commit() -> String {
    let commit = output("git", &["rev-parse", "--short", "HEAD"]);
    let changed =
        output("git", &["status", "--porcelain", "--untracked-files=no", "--", "crates", "Cargo.lock"]);
    if changed.is_empty() { commit } else { format!("{commit} and uncommitted changes") }
}

fn field(file: &str, name: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or("unknown").trim_start_matches([' ', '\t', ':']).to_owned()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(program).args(arguments).current_dir(folder.join("../..")).output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
