//! A text that must not be seen.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// A password, key or token. Wiped from memory when dropped; shown by nothing but [`Secret::expose`].
///
/// It has no `Display`, so that it cannot slip into a message:
/// ```compile_fail
/// let secret = millrace_service::Secret::from("hunter2");
/// println!("{secret}");
/// ```
/// no `Serialize`, so that it cannot slip into a file:
/// ```compile_fail
/// let secret = millrace_service::Secret::from("hunter2");
/// serde_json::to_string(&secret).unwrap();
/// ```
/// and its `Debug` says nothing:
/// ```
/// let secret = millrace_service::Secret::from("hunter2");
/// assert_eq!(format!("{secret:?}"), "***");
/// assert_eq!(secret.expose(), "hunter2");
/// ```
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// The text itself: for the one place that sends or compares it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "writeOnly": true,
            "description": "Comes from the environment or a file: ${NAME} or ${file:/run/secrets/name}."
        })
    }
}
