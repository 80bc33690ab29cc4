//! How a command ends: exit codes that scripts can rely on, and errors for people.

use std::fmt;
use std::process::ExitCode;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It failed: exit code 1.
    Failed(String),
    /// What was typed or the config makes no sense: exit code 2.
    Usage(String),
    /// The config makes no sense; printed with file, line and caret: exit code 2.
    Config(Box<miette::Report>),
    /// Some of it worked: exit code 3.
    Partial(String),
    /// Something that it needs cannot be reached: exit code 5.
    Unreachable(String),
}

impl Failure {
    /// The process's exit code.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Usage(_) | Self::Config(_) => 2,
            Self::Partial(_) => 3,
            Self::Unreachable(_) => 5,
        })
    }

    /// What happened, without ado, for a table or a JSON document.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Config(report) => format!("{report:?}"),
            Self::Failed(text) | Self::Usage(text) | Self::Partial(text) | Self::Unreachable(text) => {
                text.clone()
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if matches!(self, Self::Config(_)) { "" } else { "error: " };
        write!(f, "{prefix}{}", self.text())
    }
}

/// An error and what it came from, in one line. Object stores tell their causes themselves: once is enough.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<millrace_bus::BusError> for Failure {
    fn from(error: millrace_bus::BusError) -> Self {
        if error.is_retryable() {
            return Self::Unreachable(error.to_string());
        }
        Self::Failed(error.to_string())
    }
}

impl From<millrace_state::StateError> for Failure {
    fn from(error: millrace_state::StateError) -> Self {
        let text = with_sources(&error);
        let is_away = matches!(error, millrace_state::StateError::Store { .. }) && !error.is_refused();
        if is_away { Self::Unreachable(text) } else { Self::Failed(text) }
    }
}

impl From<millrace_connector::ConnectorError> for Failure {
    fn from(error: millrace_connector::ConnectorError) -> Self {
        match error.kind {
            millrace_connector::ErrorKind::Retry { .. } => Self::Unreachable(error.full()),
            millrace_connector::ErrorKind::Reject | millrace_connector::ErrorKind::Pause => {
                Self::Failed(error.full())
            }
        }
    }
}
