//! What SDKs fetch before they send their first event: RudderStack's from `/sourceConfig`, Segment's from
//! `/v1/projects/<write key>/settings`. Both say that the source exists, whether it is on, and that no
//! destination is to be loaded in the browser or the app: everything goes through us.

use chrono::{DateTime, SecondsFormat, Utc};
use hyper::header::{HOST, HeaderMap};
use serde_json::{Value, json};

use crate::auth::Source;

/// The least that satisfies the JavaScript SDK (v1.1 and v3), Android and iOS, in the form of RudderStack's
/// control plane. Errors and metrics of the SDK are not collected; with no destination there is nothing to
/// transform on the device.
pub(crate) fn rudder(source: &Source, write_key: &str, workspace: &str, since: DateTime<Utc>) -> Value {
    let id = source.rules.id.as_str();
    let since = since.to_rfc3339_opts(SecondsFormat::Millis, true);
    json!({
        "source": {
            "id": id,
            "name": id,
            "writeKey": write_key,
            "enabled": source.enabled,
            "workspaceId": workspace,
            "updatedAt": since,
            "config": {
                "statsCollection": { "errors": { "enabled": false }, "metrics": { "enabled": false } },
            },
            "sourceDefinition": { "name": "Javascript" },
            "liveEventsConfig": { "eventUpload": false },
            "destinations": [],
            "connections": [],
            "dataplanes": {},
        },
        "isHosted": true,
    })
}

/// Where Segment's SDKs shall send: `host/path` without the scheme, and the scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Home {
    host: String,
    protocol: &'static str,
}

impl Home {
    /// The configured address, else the one by which the client has reached us. A proxy that ends TLS says so
    /// in `X-Forwarded-Proto`; a client that writes the header itself only misleads itself.
    pub(crate) fn of(public_url: Option<&str>, tls: bool, headers: &HeaderMap) -> Self {
        if let Some(url) = public_url {
            let (protocol, host) = match url.split_once("://") {
                Some(("http", host)) => ("http", host),
                Some((_, host)) => ("https", host),
                None => ("https", url),
            };
            return Self { host: host.trim_end_matches('/').to_owned(), protocol };
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let ended = text("x-forwarded-proto").split(',').next().map(str::trim);
        let protocol = if tls || ended == Some("https") { "https" } else { "http" };
        Self { host: text(HOST.as_str()).to_owned(), protocol }
    }
}

/// What `@segment/analytics-next` needs to send to us and to nobody else: the one integration `Segment.io`.
/// The sample rate keeps its own metrics from being sent.
pub(crate) fn segment(write_key: &str, home: &Home) -> Value {
    json!({
        "integrations": {
            "Segment.io": {
                "apiKey": write_key,
                "apiHost": format!("{}/v1", home.host),
                "protocol": home.protocol,
                "unbundledIntegrations": [],
                "addBundledMetadata": true,
                "maybeBundledConfigIds": {},
            },
        },
        "enabledMiddleware": {},
        "metrics": { "sampleRate": 0 },
        "legacyVideoPluginsEnabled": false,
        "remotePlugins": [],
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn segment_sends_to_the_configured_address_else_to_where_it_asked() {
        for (public_url, tls, host, forwarded, expected) in [
            (None, false, "localhost:8080", None, ("localhost:8080", "http")),
            (None, true, "localhost:8443", None, ("localhost:8443", "https")),
            (None, false, "events.example.com", Some("https"), ("events.example.com", "https")),
            (Some("https://events.example.com/"), false, "10.0.0.1", None, ("events.example.com", "https")),
            (Some("http://example.com/in"), true, "10.0.0.1", Some("https"), ("example.com/in", "http")),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            if let Some(forwarded) = forwarded {
                headers.insert("x-forwarded-proto", forwarded.parse().unwrap());
            }
            let home = Home::of(public_url, tls, &headers);
            assert_eq!((home.host.as_str(), home.protocol), expected);
            assert_eq!(segment("WK", &home)["integrations"]["Segment.io"]["apiKey"], "WK");
        }
    }
}
