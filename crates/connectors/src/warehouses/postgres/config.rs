//! Settings of the PostgreSQL warehouse and the connection string.

use std::time::Duration;

use millrace_connector::{ConnectorError, Context};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio_postgres::Config;

/// How long a connection may take when the url does not say (`connect_timeout`).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long data may stay unacknowledged: a server that vanished without closing the connection is
/// noticed after this long. The url's `tcp_user_timeout` wins.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(60);

/// With the longest name of our own tables it is still a name.
const MAX_PREFIX_BYTES: usize = 32;

/// A PostgreSQL server of version 12 or newer, or one that speaks its protocol in full.
///
/// Give Millrace a role of its own: one with CREATE on the database, or one that owns the schema it loads and
/// nothing else (docs/security.md). A pooler must pool by session, not by transaction.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PostgresSettings {
    /// `postgres://user:password@host:5432/database?sslmode=require`.
    ///
    /// `sslmode` is `disable`, `prefer` (the default: encrypted if the server can, its certificate
    /// unchecked) or `require` (encrypted, and the certificate must be valid for the host; `verify-full`
    /// and `verify-ca` mean the same). `sslrootcert` names a PEM file of certificate authorities to trust
    /// instead of Mozilla's.
    url: String,
    /// The schema of Millrace's own tables: positions, seen ids, counts. Two installations that load one
    /// database need one each.
    #[serde(default = "default_internal_schema")]
    internal_schema: String,
    /// What stands before the names of Millrace's own tables. Where they share a schema with rows, it needs
    /// something that no name of a table of rows has, such as a dot: `_millrace.`
    #[serde(default)]
    internal_prefix: String,
    /// Whether the role may be a superuser. A sync's query may do whatever the role may, and a superuser may read
    /// files and run programs on the server.
    #[serde(default)]
    allow_superuser: bool,
}

fn default_internal_schema() -> String {
    "_millrace".to_owned()
}

/// The settings, understood.
pub(super) struct Settings {
    /// How to connect. Holds the password: never printed.
    pub(super) connection: Config,
    /// How to trust the server.
    pub(super) trust: Trust,
    /// Schema of our own tables.
    pub(super) internal_schema: String,
    /// Before the names of our own tables.
    pub(super) internal_prefix: String,
    /// Whether a superuser is accepted.
    pub(super) allow_superuser: bool,
}

/// What is asked of the server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trust {
    /// Nothing: encryption keeps out listeners, not impostors. As libpq does for `prefer`.
    Anyone,
    /// It is valid for the host, under Mozilla's authorities.
    PublicAuthorities,
    /// It is valid for the host, under the authorities of this PEM file.
    File(String),
}

impl Settings {
    /// # Errors
    /// `Pause`: the settings are not right. The text never holds the url, which may hold a password.
    pub(super) fn parse(settings: &Value, context: &Context) -> Result<Self, ConnectorError> {
        let id = &context.id;
        let raw: PostgresSettings = serde_json::from_value(settings.clone()).map_err(|error| {
            ConnectorError::pause("settings", format!("settings of warehouse {id:?} are not right"))
                .caused_by(error)
        })?;
        let (url, trust) = trust_of(&raw.url);
        let mut connection: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            ConnectorError::pause("settings", format!("url of warehouse {id:?} is not a connection string"))
                .caused_by(error)
        })?;
        if connection.get_connect_timeout().is_none() {
            connection.connect_timeout(CONNECT_TIMEOUT);
        }
        if connection.get_tcp_user_timeout().is_none() {
            connection.tcp_user_timeout(TCP_USER_TIMEOUT);
        }
        if connection.get_application_name().is_none() {
            connection.application_name("millrace");
        }
        super::ddl::quote(&raw.internal_schema)?;
        if raw.internal_prefix.len() > MAX_PREFIX_BYTES || raw.internal_prefix.contains('\0') {
            let problem =
                format!("internal_prefix of warehouse {id:?} is longer than {MAX_PREFIX_BYTES} bytes");
            return Err(ConnectorError::pause("settings", problem));
        }
        Ok(Self {
            connection,
            trust,
            internal_schema: raw.internal_schema,
            internal_prefix: raw.internal_prefix,
            allow_superuser: raw.allow_superuser,
        })
    }
}

/// Takes apart what tokio-postgres does not know of the url's query: libpq's names for a checked
/// certificate. Everything else is left as it is.
fn trust_of(url: &str) -> (String, Trust) {
    let Some((base, query)) = url.split_once('?') else {
        return (url.to_owned(), Trust::Anyone);
    };
    let mut kept = Vec::new();
    let mut checked = false;
    let mut file = None;
    for parameter in query.split('&') {
        match parameter.split_once('=') {
            Some(("sslmode", "require" | "verify-ca" | "verify-full")) => {
                checked = true;
                kept.push("sslmode=require");
            }
            Some(("sslrootcert", path)) => file = Some(path.to_owned()),
            _ => kept.push(parameter),
        }
    }
    let trust = match (file, checked) {
        (Some(path), _) => Trust::File(path),
        (None, true) => Trust::PublicAuthorities,
        (None, false) => Trust::Anyone,
    };
    (format!("{base}?{}", kept.join("&")), trust)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use std::path::PathBuf;

    use serde_json::json;
    use tokio_postgres::config::SslMode;

    use super::*;

    fn parse(settings: Value) -> Result<Settings, ConnectorError> {
        Settings::parse(&settings, &Context { id: "main".to_owned(), work_dir: PathBuf::new() })
    }

    #[test]
    fn a_required_tls_connection_checks_the_certificate() {
        for mode in ["require", "verify-ca", "verify-full"] {
            let settings = parse(json!({"url": format!("postgres://u:p@h/d?sslmode={mode}")})).unwrap();
            assert_eq!(settings.trust, Trust::PublicAuthorities);
            assert_eq!(settings.connection.get_ssl_mode(), SslMode::Require);
        }
        let settings = parse(json!({"url": "postgres://h/d?sslrootcert=/ca.pem&connect_timeout=3"})).unwrap();
        assert_eq!(settings.trust, Trust::File("/ca.pem".to_owned()));
        assert_eq!(settings.connection.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!(parse(json!({"url": "postgres://h/d"})).unwrap().trust, Trust::Anyone);
    }

    #[test]
    fn a_wrong_setting_is_an_error_that_keeps_the_password_out() {
        for bad in [
            json!({"url": "postgres://u:hunter2@h/d?nonsense=1"}),
            json!({"url": "postgres://u:hunter2@h/d", "surprise": 1}),
            json!({"url": "postgres://u:hunter2@h/d", "internal_schema": ""}),
            json!({}),
        ] {
            let Err(error) = parse(bad.clone()) else { panic!("{bad} was taken") };
            assert!(!error.full().contains("hunter2"), "{}", error.full());
        }
    }
}
