//! The one error of connectors: it says what to do next, and nothing else decides.

use std::time::Duration;

/// What the caller is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Try again: after this long where the other side said so, else with backoff.
    Retry {
        /// What the other side asked for.
        after: Option<Duration>,
    },
    /// Trying again cannot help: give up this item, with the reason.
    Reject,
    /// Nothing will work until a person acts (a key, a setting, a permission): stop and say so.
    Pause,
}

/// What happened, to what, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{context}")]
pub struct ConnectorError {
    /// What to do.
    pub kind: ErrorKind,
    /// A stable short name to group by, such as `http_500` or `connection_refused`.
    pub code: String,
    /// A sentence: lower case, no full stop, naming the thing. Never holds a payload or a secret.
    pub context: String,
    /// The statement that failed, without its values.
    pub statement: Option<String>,
    /// What lies beneath.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ConnectorError {
    /// Try again with backoff.
    pub fn retry(code: impl Into<String>, context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Retry { after: None }, code, context)
    }

    /// Give up this item.
    pub fn reject(code: impl Into<String>, context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Reject, code, context)
    }

    /// Stop until a person acts.
    pub fn pause(code: impl Into<String>, context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Pause, code, context)
    }

    /// An error of any kind.
    pub fn new(kind: ErrorKind, code: impl Into<String>, context: impl Into<String>) -> Self {
        Self { kind, code: code.into(), context: context.into(), statement: None, source: None }
    }

    /// With the error that caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// With the statement that failed.
    #[must_use]
    pub fn in_statement(mut self, statement: impl Into<String>) -> Self {
        self.statement = Some(statement.into());
        self
    }

    /// The sentence and all that lies beneath it, joined by `: `, for logs and reasons.
    #[must_use]
    pub fn full(&self) -> String {
        let mut text = self.context.clone();
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            text.push_str(": ");
            text.push_str(&error.to_string());
            next = error.source();
        }
        text
    }
}
