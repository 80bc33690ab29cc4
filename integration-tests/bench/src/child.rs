//! The parts of a run are processes of their own, so that each one's CPU time is its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

use serde::de::DeserializeOwned;

use crate::error::BenchError;

/// A server that runs until it is dropped: it stops when its input ends.
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) pid: u32,
    child: Child,
    input: Option<ChildStdin>,
}

impl Server {
    /// Starts a subcommand and waits for the line that says where it listens.
    pub(crate) fn start(arguments: &[String]) -> Result<Self, BenchError> {
        let mut child = command(arguments)?
            .stdin(Stdio::piped())
            .spawn()
            .map_err(BenchError::io(format!("start {}", arguments.join(" "))))?;
        let input = child.stdin.take();
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line).map_err(BenchError::io("read its address"))?;
        }
        let pid = child.id();
        let Some(address) = line.trim().strip_prefix("listening ").map(str::to_owned) else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(BenchError::Failed(format!("{} did not start", arguments.join(" "))));
        };
        Ok(Self { address, pid, child, input })
    }

    /// Stops it, and waits until it has drained.
    pub(crate) fn stop(mut self) -> Result<(), BenchError> {
        drop(self.input.take());
        let status = self.child.wait().map_err(BenchError::io("wait for a process"))?;
        if status.success() {
            return Ok(());
        }
        Err(BenchError::Failed(format!("a process ended with {status}")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// Runs a subcommand to its end and reads the report that it prints.
pub(crate) fn report<T: DeserializeOwned>(arguments: &[String]) -> Result<T, BenchError> {
    let name = arguments.join(" ");
    let output =
        command(arguments)?.stdin(Stdio::null()).output().map_err(BenchError::io(format!("run {name}")))?;
    if !output.status.success() {
        return Err(BenchError::Failed(format!("{name} ended with {}", output.status)));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| BenchError::Failed(format!("{name} printed no report: {error}")))
}

fn command(arguments: &[String]) -> Result<Command, BenchError> {
    let program = std::env::current_exe().map_err(BenchError::io("find this program"))?;
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::inherit());
    Ok(command)
}
