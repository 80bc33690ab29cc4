//! The chassis of every process: what a stage needs besides its own work.
//!
//! A stage is handed a [`SharedClock`], a [`Stop`] and a [`HealthHandle`]; the binary reads the
//! [`config`], installs [`telemetry`], serves [`admin`] and owns the [`Tasks`]. Time and the environment
//! come in through here and nowhere else, so that tests are deterministic: a stage reads no environment
//! variable and no config file.
//!
//! Shutdown has one order: [`stop_on_signals`] triggers the [`Stop`]; each stage stops its intake, drains
//! within its bound, commits and returns; [`Tasks::join`] has then awaited everything that was spawned.

pub mod admin;
mod busy;
mod clock;
pub mod config;
mod crash;
mod health;
mod schedule;
mod secret;
mod stop;
mod tasks;
pub mod telemetry;
mod tls;
mod window;

pub use busy::{STACK_BYTES, busy_threads, spawn_busy};
pub use clock::{Clock, ManualClock, SharedClock, SystemClock, later};
pub use crash::{CrashAt, InvalidCrashAt, arm_crash_point, crash_point};
pub use health::{Health, HealthHandle, Readiness};
pub use schedule::{InvalidSchedule, Schedule};
pub use secrecy;
pub use secret::Secret;
pub use stop::{Stop, stop_on_signals};
pub use tasks::{TaskError, Tasks};
pub use tls::install_tls;
pub use window::{InvalidWindow, Window, excluded_from, excluded_until, leave_time};
