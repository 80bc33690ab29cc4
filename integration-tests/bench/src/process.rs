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
        let text = read(pid, "stat")?;
        // The second field is the name in parentheses, which may hold anything.
        let fields: Vec<&str> = text.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
        match (ticks(11), ticks(12)) {
            (Some(user), Some(system)) => Ok(Self { user, system }),
            _ => Err(BenchError::Failed(format!("/proc/{pid}/stat has no CPU times"))),
        }
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
