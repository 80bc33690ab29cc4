//! What a process has cost, from `/proc`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::BenchError;

/// The kernel's clock ticks: `USER_HZ` is 100 on every Linux that this runs on.
const TICK: Duration = Duration::from_millis(10);

/// CPU time of all threads of a process, those that have ended included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Cpu {
    /// Ticks in user mode.
    pub(crate) user: u64,
    /// Ticks in the kernel on the process's behalf.
    pub(crate) system: u64,
}

impl Cpu {
    /// Since the process began.
    pub(crate) fn of(pid: u32) -> Result<Self, BenchError> {
        let stat = stat(pid)?;
        Ok(Self { user: ticks(pid, &stat, 11)?, system: ticks(pid, &stat, 12)? })
    }

    /// The same with the children that have ended and that it has waited for.
    pub(crate) fn with_children(pid: u32) -> Result<Self, BenchError> {
        let stat = stat(pid)?;
        let both =
            |own, children| Ok::<_, BenchError>(ticks(pid, &stat, own)? + ticks(pid, &stat, children)?);
        Ok(Self { user: both(11, 13)?, system: both(12, 14)? })
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }

    pub(crate) fn seconds(self) -> f64 {
        (self.user + self.system) as f64 * TICK.as_secs_f64()
    }
}

/// The most memory that the process has had, in MiB.
pub(crate) fn peak_memory_mib(pid: u32) -> Result<f64, BenchError> {
    let text = read(pid, "status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(|| BenchError::Failed(format!("/proc/{pid}/status has no VmHWM")))
}

/// Whether it runs no more; until somebody waits for it, its figures can still be read.
pub(crate) fn has_ended(pid: u32) -> Result<bool, BenchError> {
    Ok(stat(pid)?.first().is_some_and(|state| state == "Z"))
}

/// The processes that it has started and that have not ended.
pub(crate) fn children(of: u32) -> Result<Vec<u32>, BenchError> {
    let entries = std::fs::read_dir("/proc").map_err(BenchError::io("list the processes"))?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // One that has ended meanwhile is no child any more.
    let parent = |pid: u32| stat(pid).ok()?.get(1)?.parse().ok();
    Ok(pids.filter(|pid| parent(*pid) == Some(of)).collect())
}

/// The fields behind the name: the state, the parent, …
fn stat(pid: u32) -> Result<Vec<String>, BenchError> {
    let text = read(pid, "stat")?;
    // The second field is the name in parentheses, which may hold anything.
    Ok(text.rsplit(") ").next().unwrap_or_default().split(' ').map(str::to_owned).collect())
}

fn ticks(pid: u32, stat: &[String], index: usize) -> Result<u64, BenchError> {
    let ticks = stat.get(index).and_then(|field| field.parse().ok());
    ticks.ok_or_else(|| BenchError::Failed(format!("/proc/{pid}/stat has no CPU times")))
}

fn read(pid: u32, file: &str) -> Result<String, BenchError> {
    let path = PathBuf::from(format!("/proc/{pid}/{file}"));
    std::fs::read_to_string(&path).map_err(BenchError::io(format!("read {}", path.display())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_cost_something() {
        let pid = std::process::id();
        let before = Cpu::of(pid).unwrap();
        let mut sum = 0_u64;
        while Cpu::of(pid).unwrap().since(before).seconds() < 0.05 {
            sum = (0..100_000).fold(sum, |sum, number| std::hint::black_box(sum ^ number));
        }
        assert!(peak_memory_mib(pid).unwrap() > 1.0);
    }
}
