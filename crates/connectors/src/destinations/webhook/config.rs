//! The webhook's settings. What secrets may stand in is parsed by hand, since serde's errors quote the
//! value they do not like.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millrace_connector::ConnectorError;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretSlice};
use serde::Deserialize;
use serde_json::Value;

pub use crate::destinations::shared::method::Method;
use crate::http::guard;

/// One signed HTTP POST per event or change.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where each item is POSTed to: `https://…`, or `http://…` for receivers within reach. Redirects
    /// are not followed: give the final address.
    pub url: WebhookUrl,
    /// The signing secret of Standard Webhooks: `whsec_` and 24 to 64 random bytes in base64. While it is
    /// being rotated, a list with the new one first: each request then carries a signature of each.
    /// Without a secret nothing is signed, and the receiver cannot tell who is calling.
    #[serde(default)]
    #[schemars(extend("writeOnly" = true))]
    pub secret: Secrets,
    /// Headers added to each request, such as `Authorization`. Those of signature and framing cannot be
    /// set.
    #[serde(default)]
    #[schemars(extend("writeOnly" = true))]
    pub headers: Headers,
    /// The verb. `GET` and `DELETE` carry no body, but the event's properties as the query.
    #[serde(default)]
    pub method: Method,
    /// Does what RudderStack's webhook does: an event's `fullPath`, `appendPath` and `header` say where it is
    /// sent and with which headers besides, and `context.ip` is the client's address. Whoever can send events
    /// can then have the headers of these settings sent to any public address.
    #[serde(default)]
    pub rudderstack_compatible: bool,
    /// How long the receiver may take to answer, from the first byte of the connection: seconds (`15s`)
    /// or minutes (`1m`), at most two minutes. A request that takes longer is sent again.
    #[serde(default)]
    pub timeout: Timeout,
    /// Opens addresses that the internet does not reach, such as `10.0.0.5` or `localhost`: `true` for all,
    /// or a list of networks (`["10.1.0.0/16"]`).
    #[serde(default)]
    pub allow_private: guard::Private,
}

/// Reads the settings of the destination `id`.
pub(super) fn parse(settings: &Value, id: &str) -> Result<Settings, ConnectorError> {
    let invalid = |problem: String| {
        ConnectorError::pause("invalid_settings", format!("settings of destination {id:?}: {problem}"))
    };
    let parsed: Settings = Settings::deserialize(settings).map_err(|error| invalid(error.to_string()))?;
    guard::check_literal(parsed.url.host(), &parsed.allow_private)
        .map_err(|refused| invalid(refused.to_string()))?;
    Ok(parsed)
}

/// Where to send to. Its path may be a secret, so only the host is ever shown.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct WebhookUrl(Url);

impl WebhookUrl {
    /// The host, for people.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    pub(super) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl TryFrom<String> for WebhookUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let url = Url::parse(&text).map_err(|error| format!("url is not an address: {error}"))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(format!("url has the scheme {:?}: use https or http", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("url holds a user or password: put them into headers.Authorization".to_owned());
        }
        Ok(Self(url))
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/***", self.0.scheme(), self.host())
    }
}

/// The signing secrets, newest first; none signs nothing.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(try_from = "Value")]
#[schemars(with = "OneOrMany")]
pub struct Secrets(Vec<SecretSlice<u8>>);

/// How [`Secrets`] is written.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// More are a mistake: a rotation has two, and each costs a signature per request.
const MAX_SECRETS: usize = 4;

/// What Standard Webhooks asks for.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

impl Secrets {
    /// The keys, for signing.
    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(ExposeSecret::expose_secret)
    }
}

impl TryFrom<Value> for Secrets {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Self, &'static str> {
        let texts = match value {
            Value::Array(list) => list,
            one => vec![one],
        };
        if texts.len() > MAX_SECRETS {
            return Err("secret: there are more than four; while rotating, two are enough");
        }
        texts.iter().map(secret).collect::<Result<_, _>>().map(Self)
    }
}

fn secret(value: &Value) -> Result<SecretSlice<u8>, &'static str> {
    const FORM: &str = "secret: expected whsec_ followed by 24 to 64 bytes in base64";
    let encoded = value.as_str().and_then(|text| text.strip_prefix("whsec_")).ok_or(FORM)?;
    let key = STANDARD.decode(encoded).map_err(|_| FORM)?;
    if !SECRET_BYTES.contains(&key.len()) {
        return Err(FORM);
    }
    Ok(SecretSlice::from(key))
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

/// Headers of each request; their values may be secrets.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(try_from = "Value")]
#[schemars(with = "BTreeMap<String, String>")]
pub struct Headers(Vec<(String, String)>);

/// Set by the client, or by HTTP itself.
const RESERVED: [&str; 8] = [
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "content-type",
    "content-length",
    "transfer-encoding",
    "connection",
    "host",
];

impl Headers {
    /// Names in lower case, and values.
    pub(super) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}

impl TryFrom<Value> for Headers {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let Value::Object(map) = value else {
            return Err("headers: expected a map of names to texts".to_owned());
        };
        let mut pairs = Vec::with_capacity(map.len());
        for (name, value) in map {
            let parsed =
                HeaderName::try_from(&name).map_err(|_| format!("headers: {name:?} is not a name"))?;
            if RESERVED.contains(&parsed.as_str()) {
                return Err(format!("headers: {name:?} cannot be set"));
            }
            let text = value.as_str().filter(|text| HeaderValue::try_from(*text).is_ok());
            let text = text.ok_or_else(|| format!("headers: the value of {name:?} is not a header text"))?;
            pairs.push((parsed.as_str().to_owned(), text.to_owned()));
        }
        Ok(Self(pairs))
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(name, _)| (name, "***"))).finish()
    }
}

/// How long an answer may take.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Timeout(pub(super) Duration);

/// A receiver that takes longer should answer 202 and work on.
const MAX_TIMEOUT_SECONDS: u64 = 120;

impl Default for Timeout {
    /// 15 seconds: the lower end of what Standard Webhooks recommends.
    fn default() -> Self {
        Self(Duration::from_secs(15))
    }
}

impl TryFrom<String> for Timeout {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let seconds = match (text.strip_suffix('s'), text.strip_suffix('m')) {
            (Some(seconds), _) => seconds.parse::<u64>().ok(),
            (_, Some(minutes)) => minutes.parse::<u64>().ok().and_then(|minutes| minutes.checked_mul(60)),
            _ => None,
        };
        match seconds {
            Some(seconds @ 1..=MAX_TIMEOUT_SECONDS) => Ok(Self(Duration::from_secs(seconds))),
            _ => Err(format!("timeout: {text:?} is not between 1s and {MAX_TIMEOUT_SECONDS}s")),
        }
    }
}
