//! Settings of HTTP destinations: what all of them have, and what is wrong with them.

use millrace_connector::ConnectorError;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use url::Url;

use super::guard;

/// Settings that every HTTP destination has besides its own.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub(crate) struct Common {
    /// Opens addresses that the internet does not reach, such as `10.0.0.5` or `localhost`: `true` for all,
    /// or a list of networks (`["10.1.0.0/16"]`).
    #[serde(default)]
    pub allow_private: guard::Private,
    /// Sends every request to this scheme, host and port in place of the vendor's, such as
    /// `https://gateway.example.com`: for a gateway of your own, or a test.
    #[serde(default)]
    pub origin: Option<String>,
}

impl Common {
    /// The origin as an address.
    pub(crate) fn origin(&self) -> Result<Option<Url>, String> {
        let Some(text) = &self.origin else { return Ok(None) };
        let url = Url::parse(text).map_err(|error| format!("origin is not an address: {error}"))?;
        if !matches!(url.scheme(), "https" | "http") || url.path() != "/" || url.query().is_some() {
            return Err("origin: expected https://host or https://host:port".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("origin holds a user or password: it is scheme, host and port alone".to_owned());
        }
        guard::check_literal(url.host_str().unwrap_or_default(), &self.allow_private)
            .map_err(|refused| refused.to_string())?;
        Ok(Some(url))
    }
}

/// The schema of settings with the common ones beside the destination's own.
pub(crate) fn with_common(mut schema: Value) -> Value {
    let common = schemars::schema_for!(Common).to_value();
    let Some(fields) = schema.as_object_mut() else { return schema };
    let properties = fields.entry("properties").or_insert_with(|| Value::Object(Map::new()));
    if let (Value::Object(properties), Some(Value::Object(more))) = (properties, common.get("properties")) {
        for (name, property) in more {
            properties.entry(name.clone()).or_insert_with(|| property.clone());
        }
    }
    schema
}

/// Reads the common settings, and the destination's own by their schema.
///
/// # Errors
/// `Pause`: all that is wrong, by path, without the values, which may be secrets.
pub(super) fn parse<S: DeserializeOwned>(
    settings: &Value,
    schema: &Value,
    id: &str,
) -> Result<(Common, S), ConnectorError> {
    validate(settings, schema, id)?;
    let mut own = settings.clone();
    let mut common = Map::new();
    if let Some(fields) = own.as_object_mut() {
        let names = schemars::schema_for!(Common).to_value();
        let owned_elsewhere = |name: &str| names.pointer(&format!("/properties/{name}")).is_none();
        for name in fields.keys().cloned().collect::<Vec<_>>() {
            if !owned_elsewhere(&name)
                && let Some(value) = fields.remove(&name)
            {
                common.insert(name, value);
            }
        }
    }
    // The schema has been kept: what serde still minds is said by our own types, without values.
    let common =
        Common::deserialize(Value::Object(common)).map_err(|error| invalid(id, &error.to_string()))?;
    let own = S::deserialize(own).map_err(|error| invalid(id, &error.to_string()))?;
    Ok((common, own))
}

/// Holds settings against their schema.
///
/// # Errors
/// As [`parse`].
pub(crate) fn validate(settings: &Value, schema: &Value, id: &str) -> Result<(), ConnectorError> {
    let validator = jsonschema::validator_for(schema)
        .map_err(|error| invalid(id, &format!("their schema is none: {error}")))?;
    let problems: Vec<String> = validator
        .iter_errors(settings)
        .map(|error| {
            let at = error.instance_path().to_string();
            let told = error.masked_with("the value").to_string();
            match at.trim_start_matches('/').replace('/', ".") {
                at if at.is_empty() => told,
                at => format!("{at}: {told}"),
            }
        })
        .collect();
    match problems.is_empty() {
        true => Ok(()),
        false => Err(invalid(id, &problems.join("; "))),
    }
}

pub(crate) fn invalid(id: &str, problem: &str) -> ConnectorError {
    ConnectorError::pause("invalid_settings", format!("settings of destination {id:?}: {problem}"))
}
