//! What all requests share, and which of them goes where.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use millrace_bus::Publisher;
use millrace_event_model::KeyHasher;
use millrace_service::SharedClock;
use tokio::sync::Semaphore;

use crate::auth::Sources;
use crate::body::Budget;
use crate::broker::Broker;
use crate::http::{self, Response};
use crate::metrics::{Durations, Refusals};
use crate::routes::{self, Found, Route};
use crate::server::Handler;
use crate::{Limits, intake};

pub(crate) struct Door {
    pub(crate) sources: Sources,
    pub(crate) publisher: Publisher,
    pub(crate) broker: Broker,
    pub(crate) limits: Limits,
    pub(crate) keys: KeyHasher,
    pub(crate) clock: SharedClock,
    pub(crate) requests: Semaphore,
    pub(crate) budget: Budget,
    pub(crate) refusals: Refusals,
    pub(crate) durations: Durations,
    pub(crate) version: String,
}

impl Handler for Door {
    async fn answer(self: Arc<Self>, peer: SocketAddr, request: Request<Incoming>) -> Response {
        let route = match routes::find(request.method(), request.uri().path()) {
            Found::Route(route) => route,
            Found::OtherMethods(allowed) => return http::method_not_allowed(allowed),
            Found::Nothing => return http::not_found(),
        };
        match route {
            Route::Events(intake) => intake::answer(&self, intake, peer, request).await,
            Route::Health => self.health(),
            Route::Version => http::json(&serde_json::json!({ "Version": self.version })),
            Route::Robots => http::text("User-agent: * \nDisallow: / \n"),
        }
    }
}

impl Door {
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
