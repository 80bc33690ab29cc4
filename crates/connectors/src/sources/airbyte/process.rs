//! The source's process: its output line by line, its errors to the log, and its end.
//!
//! It runs in a process group of its own, so that what it starts ends with it. It gets the variables of
//! [`PASSED_ON`] from our environment and no other: ours holds other people's secrets. Reading slowly is
//! the backpressure: the pipe fills, and the source waits.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use millrace_connector::ConnectorError;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::protocol::lossy;

/// What a program needs to find itself, its language and the way out.
const PASSED_ON: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "JAVA_HOME",
    "LD_LIBRARY_PATH",
];

/// Bytes read from the pipe at once: a source that writes fast fills it.
const READ_BYTES: usize = 256 << 10;
/// The longest line of standard error; a longer one is logged in pieces.
const STDERR_LINE_BYTES: usize = 8 << 10;
/// The last lines of standard error that an error quotes.
const LAST_WORDS: usize = 5;

/// How long and how much, at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The longest line. A record this large could not travel further anyway.
    pub(super) line_bytes: usize,
    /// The longest silence. A source that says nothing for so long hangs, and nobody would notice.
    pub(super) idle: Duration,
    /// What it has to end in by itself, after its output has ended or it was told to.
    pub(super) grace: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            line_bytes: 16 << 20,
            // Some APIs make a source wait for the next hour's quota.
            idle: Duration::from_secs(2 * 3600),
            grace: Duration::from_secs(10),
        }
    }
}

/// A running source.
pub(super) struct Process {
    child: Child,
    group: Option<u32>,
    stdout: Lines<ChildStdout>,
    stderr: JoinHandle<()>,
    last_words: Arc<Mutex<VecDeque<String>>>,
    status: Option<ExitStatus>,
    /// For messages: which source's which command.
    what: String,
    bounds: Bounds,
}

impl Process {
    /// # Errors
    /// `Pause`: there is no such program, or it may not be run. `Retry`: the system could not start it.
    pub(super) fn spawn(
        program: &str,
        arguments: &[OsString],
        what: String,
        bounds: Bounds,
    ) -> Result<Self, ConnectorError> {
        let passed_on = PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(passed_on)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| spawn_error(error, program, &what))?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(ConnectorError::retry("spawn", format!("{what}: the process has no pipes")));
        };
        let last_words = Arc::default();
        Ok(Self {
            group: child.id(),
            child,
            stdout: Lines::new(stdout, bounds.line_bytes),
            stderr: tokio::spawn(log_stderr(stderr, what.clone(), Arc::clone(&last_words))),
            last_words,
            status: None,
            what,
            bounds,
        })
    }

    /// The next line of output; `None` at its end. May be cancelled: nothing is lost.
    ///
    /// # Errors
    /// `Pause`: a line is too long. `Retry`: the source has been silent for too long.
    pub(super) async fn next_line(&mut self) -> Result<Option<Bytes>, ConnectorError> {
        loop {
            let limit = if self.status.is_some() { self.bounds.grace } else { self.bounds.idle };
            tokio::select! {
                biased;
                line = timeout(limit, self.stdout.next()) => return match line {
                    Ok(Ok(line)) => Ok(line),
                    Ok(Err(LineError::TooLong)) => Err(self.too_long()),
                    Ok(Err(LineError::Io(error))) => {
                        let context = format!("{}: its output cannot be read", self.what);
                        Err(ConnectorError::retry("read", context).caused_by(error))
                    }
                    // It ended, but something it started holds the pipe open.
                    Err(_) if self.status.is_some() => Ok(None),
                    Err(_) => Err(ConnectorError::retry(
                        "source_silent",
                        format!("{} said nothing for {} s", self.what, limit.as_secs()),
                    )),
                },
                status = self.child.wait(), if self.status.is_none() => {
                    self.status = Some(status.map_err(|error| self.wait_error(error))?);
                }
            }
        }
    }

    /// After the end of output: waits for the end of the process.
    ///
    /// # Errors
    /// `Retry`: it does not end.
    pub(super) async fn finish(mut self) -> Result<Exit, ConnectorError> {
        let status = match self.status {
            Some(status) => status,
            None => match timeout(self.bounds.grace, self.child.wait()).await {
                Ok(status) => status.map_err(|error| self.wait_error(error))?,
                Err(_) => {
                    let context = format!("{} has closed its output but does not end", self.what);
                    self.stop().await;
                    return Err(ConnectorError::retry("source_hangs", context));
                }
            },
        };
        self.status = Some(status);
        if !self.stdout.ended {
            self.signal("KILL").await;
        }
        let _ = timeout(self.bounds.grace, &mut self.stderr).await;
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Exit { status, last_words: words.iter().cloned().collect::<Vec<_>>().join(" | ") })
    }

    /// Ends it with everything it has started: asks first, then insists.
    pub(super) async fn stop(mut self) {
        self.signal("TERM").await;
        // Its output is thrown away: a source that waits for its pipe could not end.
        let ends = async {
            while !self.stdout.ended && self.stdout.skip().await.is_ok() {}
            self.child.wait().await
        };
        if timeout(self.bounds.grace, ends).await.is_err() {
            tracing::warn!("{} does not end when told to; killing it", self.what);
            self.signal("KILL").await;
        }
        match self.child.wait().await {
            Ok(status) => self.status = Some(status),
            Err(error) => tracing::warn!(%error, "{}: the end of the process was not seen", self.what),
        }
    }

    /// Signals the whole group. Only while the leader is not yet waited for, or something of the group
    /// still holds its pipe: until then the number cannot have become another group's.
    async fn signal(&self, signal: &str) {
        let Some(group) = self.group else { return };
        let sent = Command::from(kill(group, signal)).status().await;
        if !sent.is_ok_and(|status| status.success()) {
            tracing::debug!("{}: {signal} reached no process", self.what);
        }
    }

    fn too_long(&self) -> ConnectorError {
        ConnectorError::pause(
            "line_too_long",
            format!("{} wrote a line of more than {} bytes", self.what, self.bounds.line_bytes),
        )
    }

    fn wait_error(&self, error: io::Error) -> ConnectorError {
        ConnectorError::retry("wait", format!("{}: the process was lost", self.what)).caused_by(error)
    }
}

impl Drop for Process {
    /// Whoever is cancelled in the middle of a read leaves no process behind.
    fn drop(&mut self) {
        if let (None, Some(group)) = (self.status, self.group) {
            let _ = kill(group, "KILL").status();
        }
    }
}

/// The shell's own `kill`: the standard library has no signals, and a system call needs `unsafe`. Where
/// sources can run, there is a shell.
fn kill(group: u32, signal: &str) -> std::process::Command {
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "kill -s \"$1\" -- \"-$2\"", "sh", signal, &group.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// How a process ended.
pub(super) struct Exit {
    pub(super) status: ExitStatus,
    /// The last lines of its standard error.
    pub(super) last_words: String,
}

fn spawn_error(error: io::Error, program: &str, what: &str) -> ConnectorError {
    let context = format!("{what}: {program:?} cannot be started");
    match error.kind() {
        io::ErrorKind::NotFound => ConnectorError::pause("command_not_found", context).caused_by(error),
        io::ErrorKind::PermissionDenied => {
            ConnectorError::pause("command_not_executable", context).caused_by(error)
        }
        _ => ConnectorError::retry("spawn", context).caused_by(error),
    }
}

/// Ends with the pipe.
async fn log_stderr(stderr: ChildStderr, what: String, last_words: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = Lines::new(stderr, STDERR_LINE_BYTES);
    loop {
        let line = match lines.next().await {
            Ok(Some(line)) => lossy(&line),
            Err(LineError::TooLong) => "(a line too long for the log)".to_owned(),
            Ok(None) | Err(LineError::Io(_)) => return,
        };
        tracing::info!(line, "{what}: standard error");
        let mut words = last_words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.len() == LAST_WORDS {
            words.pop_front();
        }
        words.push_back(line);
    }
}

/// Lines of bounded length.
struct Lines<R> {
    reader: BufReader<R>,
    line: BytesMut,
    max: usize,
    ended: bool,
}

enum LineError {
    TooLong,
    Io(io::Error),
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(reader: R, max: usize) -> Self {
        Self {
            reader: BufReader::with_capacity(READ_BYTES, reader),
            line: BytesMut::new(),
            max,
            ended: false,
        }
    }

    /// The next line without its end; `None` at the end. May be cancelled: what was read stays.
    async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        loop {
            let chunk = self.reader.fill_buf().await.map_err(LineError::Io)?;
            if chunk.is_empty() {
                self.ended = true;
                let rest = self.line.split().freeze();
                return Ok((!rest.is_empty()).then_some(rest));
            }
            let end = memchr::memchr(b'\n', chunk);
            let (taken, used) = match end {
                Some(end) => (end, end + 1),
                None => (chunk.len(), chunk.len()),
            };
            if self.line.len() + taken > self.max {
                self.line.clear();
                self.reader.consume(used);
                return Err(LineError::TooLong);
            }
            self.line.extend_from_slice(&chunk[..taken]);
            self.reader.consume(used);
            if end.is_some() {
                return Ok(Some(self.line.split().freeze()));
            }
        }
    }

    /// Throws away what there is.
    async fn skip(&mut self) -> io::Result<()> {
        let length = self.reader.fill_buf().await?.len();
        self.ended = length == 0;
        self.reader.consume(length);
        Ok(())
    }
}
