//! A program that is run to its end and measured: what it cost, how long it took, how much memory it had.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::postgres::Postgres;
use crate::error::BenchError;
use crate::process::{Cpu, has_ended, peak_memory_mib};

/// How often its memory is looked at. The kernel keeps the peak: only that of the last moment can be missed.
const LOOK: Duration = Duration::from_millis(20);

/// What one run cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cost {
    pub(crate) wall_s: f64,
    /// Of the process and the children it has waited for.
    pub(crate) cpu_s: f64,
    /// Of the whole PostgreSQL server meanwhile, where there is one.
    pub(crate) server_cpu_s: f64,
    pub(crate) peak_mib: f64,
}

/// A program's cost, and what it printed.
pub(crate) struct Measured {
    pub(crate) cost: Cost,
    pub(crate) output: String,
}

/// Runs a program to its good end.
pub(crate) fn run(
    name: &str,
    mut command: Command,
    server: Option<&Postgres>,
) -> Result<Measured, BenchError> {
    let server_cpu = || server.map_or(Ok(0.0), Postgres::cpu_s);
    let (before, began) = (server_cpu()?, Instant::now());
    let folder = tempfile::tempdir().map_err(BenchError::io("make a folder for what it prints"))?;
    let printed = folder.path().join("stdout");
    let file = std::fs::File::create(&printed).map_err(BenchError::io("make a file for what it prints"))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(BenchError::io(format!("start {name}")))?;
    let pid = child.id();
    let mut peak_mib: f64 = 0.0;
    // A process that has ended and that nobody has waited for still tells what it cost.
    while !has_ended(pid)? {
        peak_mib = peak_mib.max(peak_memory_mib(pid).unwrap_or_default());
        std::thread::sleep(LOOK);
    }
    let wall_s = began.elapsed().as_secs_f64();
    let cpu_s = Cpu::with_children(pid)?.seconds();
    let status = child.wait().map_err(BenchError::io(format!("wait for {name}")))?;
    if !status.success() {
        return Err(BenchError::Failed(format!("{name} ended with {status}")));
    }
    let server_cpu_s = server_cpu()? - before;
    let output = std::fs::read_to_string(&printed).map_err(BenchError::io("read what it printed"))?;
    Ok(Measured { cost: Cost { wall_s, cpu_s, server_cpu_s, peak_mib }, output })
}
