//! What an error of the server means: the table from SQLSTATE to what to do.

use std::error::Error as _;

use millrace_connector::{ConnectorError, ErrorKind};
use tokio_postgres::error::DbError;

/// What was being done: some states mean another thing then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum During {
    /// Connecting and signing in.
    Connect,
    /// Our own statements: schema changes, loads, positions.
    Load,
    /// A user's query.
    Query,
}

/// Why something did not happen, before it is known what was being done.
pub(super) enum Failure {
    /// On the wire or at the server, in this statement where it is known.
    Server(tokio_postgres::Error, Option<String>),
    /// We know better than the server.
    Known(ConnectorError),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(error, None)
    }
}

impl From<ConnectorError> for Failure {
    fn from(error: ConnectorError) -> Self {
        Self::Known(error)
    }
}

/// A statement is kept for people to read; a COPY of 1,600 columns is longer than anybody does.
const MAX_STATEMENT_CHARS: usize = 2_000;

impl Failure {
    /// In this statement.
    pub(super) fn of(error: tokio_postgres::Error, statement: &str) -> Self {
        Self::Server(error, Some(statement.chars().take(MAX_STATEMENT_CHARS).collect()))
    }

    /// The connector's error; see [`classify`].
    pub(super) fn classify(self, during: During, what: &str) -> ConnectorError {
        match self {
            Self::Server(error, None) => classify(error, during, what),
            Self::Server(error, Some(statement)) => classify(error, during, what).in_statement(statement),
            Self::Known(error) => error,
        }
    }
}

/// The error of `what`, a phrase such as `load into warehouse "main"`.
pub(super) fn classify(error: tokio_postgres::Error, during: During, what: &str) -> ConnectorError {
    if let Some(db) = error.as_db_error() {
        return of_server(db, during, what);
    }
    if is_settings_problem(&error, during) {
        return ConnectorError::pause("connection_refused_by_settings", format!("{what} failed"))
            .caused_by(error);
    }
    // Whatever else broke the connection: nobody knows how far the server got, and a retry finds out.
    ConnectorError::retry("connection", format!("{what} failed")).caused_by(error)
}

/// TLS that cannot be agreed on, a missing password: errors of connecting that no network caused.
fn is_settings_problem(error: &tokio_postgres::Error, during: During) -> bool {
    if during != During::Connect || error.is_closed() {
        return false;
    }
    let mut next = error.source();
    while let Some(source) = next {
        // A refused certificate travels inside an io::Error.
        if let Some(io) = source.downcast_ref::<std::io::Error>() {
            return io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        }
        next = source.source();
    }
    true
}

fn of_server(db: &DbError, during: During, what: &str) -> ConnectorError {
    let state = db.code().code();
    let kind = kind_of(state, during);
    ConnectorError::new(kind, format!("sqlstate_{state}"), format!("{what} failed: {}", describe(db, state)))
}

/// The server's sentence; for states that quote a value only what is not the value. Personal data must
/// not reach a log by way of an error.
fn describe(db: &DbError, state: &str) -> String {
    let quotes_values = matches!(state.get(..2), Some("22" | "23"));
    let mut text = if quotes_values { "a value does not fit" } else { db.message() }.to_owned();
    for (name, value) in [("table", db.table()), ("column", db.column()), ("constraint", db.constraint())] {
        if let Some(value) = value {
            text.push_str(&format!(", {name} {value:?}"));
        }
    }
    text.push_str(&format!(" (SQLSTATE {state})"));
    text
}

/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn kind_of(state: &str, during: During) -> ErrorKind {
    const RETRY: ErrorKind = ErrorKind::Retry { after: None };
    match (state, during) {
        // A table or column that went away since it was described: describe again.
        ("42P01" | "42703" | "3F000", During::Load) => RETRY,
        // Two that made the same schema or table at once: it is there now.
        ("23505" | "42P06" | "42P07" | "42701", During::Load) => RETRY,
        // A standby took over as read-only, or we reached one: a retry finds the new primary.
        ("25006", During::Load) => RETRY,
        // Locked, cancelled, shutting down, starting up, crashed.
        ("55P03" | "57014" | "57P01" | "57P02" | "57P03" | "57P05", _) => RETRY,
        ("42501", _) => ErrorKind::Pause,
        ("53300", _) => RETRY,
        _ => match (state.get(..2).unwrap_or_default(), during) {
            // Connection, rolled back, resources, system, internal.
            ("08" | "40" | "53" | "58" | "XX", _) => RETRY,
            // Authorization, no such database.
            ("28" | "3D", _) => ErrorKind::Pause,
            // A value or a row that the server cannot hold.
            ("22" | "23" | "54", _) => ErrorKind::Reject,
            (_, During::Query) => ErrorKind::Reject,
            _ => ErrorKind::Pause,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_says_what_to_do() {
        const RETRY: ErrorKind = ErrorKind::Retry { after: None };
        let table = [
            ("08006", During::Load, RETRY),
            ("40001", During::Load, RETRY),
            ("40P01", During::Load, RETRY),
            ("55P03", During::Load, RETRY),
            ("57P01", During::Query, RETRY),
            ("53100", During::Load, RETRY),
            ("28P01", During::Connect, ErrorKind::Pause),
            ("28000", During::Connect, ErrorKind::Pause),
            ("3D000", During::Connect, ErrorKind::Pause),
            ("42501", During::Load, ErrorKind::Pause),
            ("42501", During::Query, ErrorKind::Pause),
            ("42601", During::Query, ErrorKind::Reject),
            ("42P01", During::Query, ErrorKind::Reject),
            ("42P01", During::Load, RETRY),
            ("25006", During::Query, ErrorKind::Reject),
            ("25006", During::Load, RETRY),
            ("22001", During::Load, ErrorKind::Reject),
            ("54011", During::Load, ErrorKind::Reject),
            ("0A000", During::Load, ErrorKind::Pause),
        ];
        for (state, during, kind) in table {
            assert_eq!(kind_of(state, during), kind, "{state} during {during:?}");
        }
    }
}
