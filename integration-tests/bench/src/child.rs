//! The parts of a run are processes of their own, so that each one's CPU time is its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

use serde::de::DeserializeOwned;

use crate::error::BenchError;

/// The core that a process is to keep to, or none.
pub(crate) type Core = Option<usize>;

/// A server that runs until it is dropped: it stops when its input ends.
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) pid: u32,
    child: Child,
    input: Option<ChildStdin>,
}

impl Server {
    /// Starts a subcommand and waits for the line that says where it listens.
    pub(crate) fn start(arguments: &[String], core: Core) -> Result<Self, BenchError> {
        let mut child = command(arguments, core)?
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
pub(crate) fn report<T: DeserializeOwned>(arguments: &[String], core: Core) -> Result<T, BenchError> {
    let name = arguments.join(" ");
    let output = command(arguments, core)?
        .stdin(Stdio::null())
        .output()
        .map_err(BenchError::io(format!("run {name}")))?;
    if !output.status.success() {
        return Err(BenchError::Failed(format!("{name} ended with {}", output.status)));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| BenchError::Failed(format!("{name} printed no report: {error}")))
}

/// Has a process that runs already, and all its threads, keep to a core, or none.
pub(crate) fn bind(pid: u32, core: Core) -> Result<(), BenchError> {
    let all = format!("0-{}", std::thread::available_parallelism().map_or(0, |cores| cores.get() - 1));
    let cores = core.map_or(all, |core| core.to_string());
    let output = Command::new("taskset")
        .args(["-acp", &cores, &pid.to_string()])
        .output()
        .map_err(BenchError::io("run taskset"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(BenchError::Failed(format!("taskset cannot bind process {pid}: it ended with {}", output.status)))
}

fn command(arguments: &[String], core: Core) -> Result<Command, BenchError> {
    let program = std::env::current_exe().map_err(BenchError::io("find this program"))?;
    let mut command = match core {
        // It becomes the program: the process id stays.
        Some(core) => {
            let mut command = Command::new("taskset");
            command.args(["-c", &core.to_string()]).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::inherit());
    Ok(command)
}
