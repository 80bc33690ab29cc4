//! The same work every time: how much its cost differs is how noisy the machine is.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::process::Cpu;

/// Together they take about a second: a hundred of the kernel's clock ticks.
const ROUNDS: usize = 500_000_000;

/// One pass.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Calibration {
    /// CPU seconds.
    pub(crate) cpu: f64,
    /// Seconds on the wall.
    pub(crate) wall: f64,
}

pub(crate) fn calibrate() -> Result<Calibration, BenchError> {
    let pid = std::process::id();
    let (cpu, wall) = (Cpu::of(pid)?, Instant::now());
    let mut rng = fastrand::Rng::with_seed(1);
    let mut sum = 0_u64;
    for _ in 0..ROUNDS {
        // Each step waits for the one before, as most code does.
        sum = std::hint::black_box(sum.rotate_left(5) ^ rng.u64(..)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    std::hint::black_box(sum);
    Ok(Calibration { cpu: Cpu::of(pid)?.since(cpu).seconds(), wall: wall.elapsed().as_secs_f64() })
}
