//! Points at which a test can have the process die, to prove what a crash there leaves behind.
//!
//! A stage calls [`crash_point`] with a name between two steps that must survive a crash. Nothing happens
//! unless the binary has called [`arm_crash_point`], which it does only in builds with debug assertions
//! and only when the environment asks for it: `MILLRACE_CRASH_AT=before-commit:2` dies at the second pass.

use std::num::NonZeroU64;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where, and at which pass, the process is to die: `<point>:<pass>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrashAt {
    /// Name of the point, such as `before-commit`.
    pub point: String,
    /// The how-manieth pass dies; 1 is the first.
    pub pass: NonZeroU64,
}

/// The text is not `<point>:<pass>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid crash point {0:?}: write <point>:<pass>, such as before-commit:1")]
pub struct InvalidCrashAt(String);

impl FromStr for CrashAt {
    type Err = InvalidCrashAt;

    fn from_str(text: &str) -> Result<Self, InvalidCrashAt> {
        let invalid = || InvalidCrashAt(text.to_owned());
        let (point, pass) = text.rsplit_once(':').ok_or_else(invalid)?;
        let pass = pass.parse().map_err(|_| invalid())?;
        if point.is_empty() {
            return Err(invalid());
        }
        Ok(Self { point: point.to_owned(), pass })
    }
}

struct Armed {
    point: String,
    passes_left: AtomicU64,
}

impl Armed {
    fn new(at: CrashAt) -> Self {
        Self { point: at.point, passes_left: AtomicU64::new(at.pass.get()) }
    }

    /// Whether this pass is the one. True at most once.
    fn is_due(&self, name: &str) -> bool {
        if self.point != name {
            return false;
        }
        let before =
            self.passes_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        before == Ok(1)
    }
}

/// One per process: a crash takes all of it.
static ARMED: OnceLock<Armed> = OnceLock::new();

/// Arms a point for the life of the process. Only the first call counts.
pub fn arm_crash_point(at: CrashAt) {
    ARMED.get_or_init(|| Armed::new(at));
}

/// Dies here if this point is armed and its pass has come; else does nothing.
///
/// The death is an abort: no destructor, no exit handler and no other thread runs on, as with SIGKILL.
pub fn crash_point(name: &str) {
    let Some(armed) = ARMED.get() else { return };
    if armed.is_due(name) {
        tracing::error!(point = name, "dying at the crash point that the environment asked for");
        std::process::abort();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_pass_of_the_named_point_is_due() {
        let armed = Armed::new("before-seal:2".parse().unwrap());
        assert!(!armed.is_due("after-seal"), "another point");
        assert!(!armed.is_due("before-seal"), "first pass");
        assert!(armed.is_due("before-seal"), "second pass");
        assert!(!armed.is_due("before-seal"), "third pass");
    }

    #[test]
    fn a_crash_point_that_nobody_armed_does_nothing() {
        crash_point("before-commit");
    }

    #[test]
    fn a_crash_point_is_written_as_point_and_pass() {
        assert_eq!(
            "after-poll:3".parse(),
            Ok(CrashAt { point: "after-poll".to_owned(), pass: NonZeroU64::new(3).unwrap() })
        );
        for bad in ["", "after-poll", ":1", "after-poll:0", "after-poll:x"] {
            assert_eq!(bad.parse::<CrashAt>(), Err(InvalidCrashAt(bad.to_owned())));
        }
    }
}
