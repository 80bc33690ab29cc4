//! What all requests share, and which of them goes where.

use std::net::SocketAddr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use hyper::body::Incoming;
use hyper::header::ORIGIN;
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use millrace_bus::Publisher;
use millrace_event_model::{KeyHasher, Workspace};
use millrace_service::SharedClock;
use tokio::sync::Semaphore;

use crate::auth::{Source, Sources};
use crate::body::{self, Budget};
use crate::broker::Broker;
use crate::error::Refusal;
use crate::forget::Forgotten;
use crate::geo::Locator;
use crate::http::{self, Response};
use crate::metrics::{Durations, Refusals};
use crate::patience::Patience;
use crate::proxies::Proxies;
use crate::routes::{self, Entry, Found, Route};
use crate::sdk_config::{self, Home};
use crate::server::Handler;
use crate::{Limits, cors, docs_page, intake};

pub(crate) struct Door {
    pub(crate) sources: Sources,
    pub(crate) publisher: Publisher,
    pub(crate) broker: Broker,
    pub(crate) forgotten: Forgotten,
    pub(crate) locator: Option<Arc<Locator>>,
    pub(crate) limits: Limits,
    pub(crate) keys: KeyHasher,
    pub(crate) clock: SharedClock,
    pub(crate) requests: Semaphore,
    /// Large bodies that are worked on at once, one for each processor: split, many small events take thirty
    /// times the bytes of their body, of which the budget knows nothing.
    pub(crate) turns: Arc<Semaphore>,
    pub(crate) budget: Budget,
    pub(crate) patience: Patience,
    pub(crate) refusals: Refusals,
    pub(crate) durations: Durations,
    pub(crate) version: String,
    pub(crate) workspace: Workspace,
    pub(crate) public_url: Option<String>,
    /// Whether it is TLS that is served here.
    pub(crate) tls: bool,
    /// Whether `/internal/v1/*` is answered.
    pub(crate) internal: bool,
    pub(crate) proxies: Proxies,
    /// When the config was read.
    pub(crate) since: DateTime<Utc>,
}

impl Handler for Door {
    async fn answer(self: Arc<Self>, peer: SocketAddr, request: Request<Incoming>) -> Response {
        let found = routes::find(request.method(), request.uri().path(), self.internal);
        // No page has any business with the internal paths, and some of them ask for no key.
        let public = !routes::is_internal(request.uri().path());
        let origin = request.headers().get(ORIGIN).filter(|_| public).cloned();
        let Some(origin) = origin else { return self.dispatch(found, peer, request).await };
        let mut response = if cors::is_preflight(request.method(), request.headers()) {
            cors::preflight(request.headers())
        } else {
            self.dispatch(found, peer, request).await
        };
        cors::allow(&mut response, origin);
        response
    }
}

impl Door {
    async fn dispatch(
        self: &Arc<Self>,
        found: Found,
        peer: SocketAddr,
        request: Request<Incoming>,
    ) -> Response {
        let entry = match found {
            Found::Entry(entry) => entry,
            Found::OtherMethods(allowed) => return http::method_not_allowed(allowed),
            Found::Nothing => return http::not_found(),
        };
        match entry.route {
            Route::Events(takes) => intake::answer(self, entry, takes, peer, request).await,
            Route::WebhookProbe => self.webhook_probe(entry, &request.into_parts().0),
            Route::SourceConfig => self.source_config(entry, &request.into_parts().0),
            Route::SegmentSettings => self.segment_settings(entry, &request.into_parts().0),
            Route::SdkMetrics => self.drop_body(request).await,
            Route::Health => self.health(),
            Route::Version => http::json(&serde_json::json!({ "Version": self.version })),
            Route::Robots => http::text("User-agent: * \nDisallow: / \n"),
            Route::Docs => docs_page::answer(self.internal),
        }
    }

    fn webhook_probe(&self, entry: &Entry, head: &Parts) -> Response {
        let known = self.sources.authenticate(entry, head).map(|_| http::nothing());
        known.unwrap_or_else(|refusal| self.refuse(refusal, None))
    }

    /// A source that is off says so, instead of being refused: then SDKs do not start.
    fn source_config(&self, entry: &Entry, head: &Parts) -> Response {
        if head.method == Method::HEAD {
            // RudderStack's SDK looks, without a key, whether an ad blocker lets it through.
            return http::nothing();
        }
        let config = self.sources.find(entry, head).map(|(key, source)| {
            http::own_json(&sdk_config::rudder(&source, &key, self.workspace.as_str(), self.since))
        });
        config.unwrap_or_else(|refusal| self.refuse(refusal, None))
    }

    fn segment_settings(&self, entry: &Entry, head: &Parts) -> Response {
        let key = entry.key_of(head.uri.path()).unwrap_or_default();
        let settings = self.sources.authenticate(entry, head).map(|_| {
            let home = Home::of(self.public_url.as_deref(), self.tls, &head.headers);
            http::own_json(&sdk_config::segment(key, &home))
        });
        settings.unwrap_or_else(|refusal| self.refuse(refusal, None))
    }

    /// Counts the refusal and answers it.
    pub(crate) fn refuse(&self, refusal: Refusal, source: Option<&Source>) -> Response {
        if refusal == Refusal::Overloaded {
            self.patience.lose();
        }
        self.refusals.refused(refusal, source, self.clock.now());
        http::refused(refusal)
    }

    /// Reads the body, so that the connection can go on, and keeps nothing of it: whoever sends it has no key.
    async fn drop_body(&self, request: Request<Incoming>) -> Response {
        match self.patience.wait_for(body::discard(request.into_body())).await {
            Ok(()) => http::accepted(),
            Err(refusal) => self.refuse(refusal, None),
        }
    }

    /// Liveness in RudderStack's form, for probes that were written for it.
    fn health(&self) -> Response {
        if !self.broker.answers() {
            return http::error(StatusCode::SERVICE_UNAVAILABLE, "Cannot connect to db");
        }
        http::json(&serde_json::json!({
            "appType": "GATEWAY",
            "server": "UP",
            "db": "UP",
            "acceptingEvents": "TRUE",
            "routingEvents": "TRUE",
            "mode": "NORMAL",
        }))
    }
}
