//! Every path that ingest answers, as one table. What is not in it is 404; an admin path is never in it.

use hyper::Method;
use millrace_event_model::EventType;

use crate::envelope::Shape;

/// A path with what it answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As it stands in metrics, too. `{key}` stands for any one segment.
    pub(crate) path: &'static str,
    /// Separated by commas, as in the header `Allow`.
    pub(crate) methods: &'static str,
    pub(crate) route: Route,
    /// How a request names its source.
    pub(crate) key: KeyIn,
    /// For the page at `/docs`.
    pub(crate) about: &'static str,
}

/// What a path is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// Takes events.
    Events(Takes),
    /// Answers tools that look whether a webhook is there.
    WebhookProbe,
    /// What RudderStack's SDKs fetch first.
    SourceConfig,
    /// What Segment's SDKs fetch first.
    SegmentSettings,
    /// Metrics of SDKs about themselves: taken, and dropped.
    SdkMetrics,
    /// Liveness in RudderStack's form.
    Health,
    /// Which version answers.
    Version,
    /// Keeps crawlers away.
    Robots,
    /// This table, for people.
    Docs,
}

/// What a request with events carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Events as JSON.
    Body(Shape),
    /// One event as the query of an image.
    Pixel(EventType),
    /// Whatever another tool posts.
    Webhook,
}

/// How a request names its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyIn {
    /// It does not.
    Nothing,
    /// The user of `Authorization: Basic`.
    Basic,
    /// `?writeKey=`.
    Query,
    /// Either of them.
    BasicOrQuery,
    /// Either of them, and only a source of kind webhook.
    Webhook,
    /// `Authorization: Basic`, or `writeKey` in the body.
    BasicOrBody,
    /// The segment `{key}` of the path.
    Path,
    /// `X-Rudder-Source-Id`, and `X-Rudder-Destination-Id` if that is meant: no key at all.
    SourceId,
    /// `X-Rudder-Source-Id` of a source that is a replay of another.
    ReplaySourceId,
}

/// What a look-up found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Entry(&'static Entry),
    /// The path is known, but for these methods only.
    OtherMethods(&'static str),
    Nothing,
}

const POST: &str = "POST";
const GET: &str = "GET, HEAD";
const GET_ONLY: &str = "GET";

const EVENT: &str = "one event of the path's type";
const BATCH: &str = "events: {\"batch\": [event, …]}";
const SEGMENT: &str = "Segment: one event of the type that the path abbreviates";
const SOURCE_CONFIG: &str = "what RudderStack's SDKs fetch before they send";
const INTERNAL: &str = "/internal/";

const fn post(path: &'static str, takes: Takes, key: KeyIn, about: &'static str) -> Entry {
    Entry { path, methods: POST, route: Route::Events(takes), key, about }
}

const fn event(path: &'static str, event_type: EventType) -> Entry {
    post(path, Takes::Body(Shape::Single(event_type)), KeyIn::Basic, EVENT)
}

const fn segment(path: &'static str, event_type: EventType) -> Entry {
    post(path, Takes::Body(Shape::Single(event_type)), KeyIn::BasicOrBody, SEGMENT)
}

const fn pixel(path: &'static str, event_type: EventType) -> Entry {
    let route = Route::Events(Takes::Pixel(event_type));
    let about = "one event as the query of an image; always answers the image";
    Entry { path, methods: GET_ONLY, route, key: KeyIn::Query, about }
}

const fn page(path: &'static str, route: Route, key: KeyIn, about: &'static str) -> Entry {
    Entry { path, methods: GET, route, key, about }
}

/// The busiest first.
pub(crate) const ROUTES: &[Entry] = &[
    post("/v1/batch", Takes::Body(Shape::Batch), KeyIn::Basic, BATCH),
    event("/v1/track", EventType::Track),
    event("/v1/page", EventType::Page),
    event("/v1/identify", EventType::Identify),
    event("/v1/screen", EventType::Screen),
    event("/v1/group", EventType::Group),
    event("/v1/alias", EventType::Alias),
    event("/v1/merge", EventType::Merge),
    post("/beacon/v1/batch", Takes::Body(Shape::Batch), KeyIn::Query, BATCH),
    segment("/v1/t", EventType::Track),
    segment("/v1/p", EventType::Page),
    segment("/v1/i", EventType::Identify),
    segment("/v1/s", EventType::Screen),
    segment("/v1/g", EventType::Group),
    segment("/v1/a", EventType::Alias),
    post(
        "/v1/b",
        Takes::Body(Shape::SegmentBatch),
        KeyIn::BasicOrBody,
        "Segment: events; `context` and `integrations` beside the batch fill in where an event has none",
    ),
    pixel("/pixel/v1/page", EventType::Page),
    pixel("/pixel/v1/track", EventType::Track),
    post(
        "/v1/audiencelist",
        Takes::Body(Shape::Other("audiencelist")),
        KeyIn::Basic,
        "one audience list of the older reverse ETL",
    ),
    post("/v1/import", Takes::Body(Shape::Batch), KeyIn::Basic, BATCH),
    post(
        "/v1/webhook",
        Takes::Webhook,
        KeyIn::Webhook,
        "any JSON or form, as the event webhook_source_event",
    ),
    Entry {
        path: "/v1/webhook",
        methods: GET_ONLY,
        route: Route::WebhookProbe,
        key: KeyIn::Webhook,
        about: "answers 200 and takes nothing, for tools that look whether it is there",
    },
    page("/sourceConfig/", Route::SourceConfig, KeyIn::BasicOrQuery, SOURCE_CONFIG),
    page("/sourceConfig", Route::SourceConfig, KeyIn::BasicOrQuery, SOURCE_CONFIG),
    page(
        "/v1/projects/{key}/settings",
        Route::SegmentSettings,
        KeyIn::Path,
        "what Segment's SDKs fetch before they send",
    ),
    Entry {
        path: "/v1/m",
        methods: POST,
        route: Route::SdkMetrics,
        key: KeyIn::Nothing,
        about: "metrics of Segment's SDK about itself: dropped",
    },
    Entry {
        path: "/rsaMetrics",
        methods: POST,
        route: Route::SdkMetrics,
        key: KeyIn::Nothing,
        about: "metrics of RudderStack's SDK about itself: dropped",
    },
    post(
        "/internal/v1/extract",
        Takes::Body(Shape::Other("extract")),
        KeyIn::Basic,
        "one row of an ELT tool; it needs no anonymousId or userId",
    ),
    post("/internal/v1/retl", Takes::Body(Shape::Batch), KeyIn::SourceId, "events of a reverse ETL tool"),
    post(
        "/internal/v1/replay",
        Takes::Body(Shape::Replay),
        KeyIn::ReplaySourceId,
        "events that were received before; they keep their receivedAt",
    ),
    post(
        "/internal/v1/audiencelist",
        Takes::Body(Shape::Other("audiencelist")),
        KeyIn::Basic,
        "one audience list of the older reverse ETL",
    ),
    page("/health", Route::Health, KeyIn::Nothing, "whether events are accepted"),
    page("/", Route::Health, KeyIn::Nothing, "the same"),
    page("/version", Route::Version, KeyIn::Nothing, "the version"),
    page("/robots.txt", Route::Robots, KeyIn::Nothing, "keeps crawlers away"),
    page("/docs", Route::Docs, KeyIn::Nothing, "this page"),
];

/// Whether a path is for other systems of the same owner: off unless the config says otherwise, since some
/// of these have no key.
pub(crate) fn is_internal(path: &str) -> bool {
    path.starts_with(INTERNAL)
}

impl Entry {
    fn is_at(&self, path: &str) -> bool {
        self.path == path || self.key == KeyIn::Path && self.key_of(path).is_some()
    }

    /// What stands for `{key}`.
    pub(crate) fn key_of<'p>(&self, path: &'p str) -> Option<&'p str> {
        let (before, after) = self.path.split_once("{key}")?;
        let key = path.strip_prefix(before)?.strip_suffix(after)?;
        Some(key).filter(|key| !key.is_empty() && !key.contains('/'))
    }
}

/// The route of a request. `internal`: whether there are internal ones.
pub(crate) fn find(method: &Method, path: &str, internal: bool) -> Found {
    let mut others = Found::Nothing;
    for entry in ROUTES {
        if !entry.is_at(path) || is_internal(entry.path) && !internal {
            continue;
        }
        if entry.methods.split(", ").any(|allowed| allowed == method.as_str()) {
            return Found::Entry(entry);
        }
        others = Found::OtherMethods(entry.methods);
    }
    others
}

/// The paths that take events.
pub(crate) fn event_paths() -> impl Iterator<Item = &'static str> {
    ROUTES.iter().filter(|entry| matches!(entry.route, Route::Events(_))).map(|entry| entry.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_found(method: &Method, path: &str) -> Option<&'static str> {
        match find(method, path, false) {
            Found::Entry(entry) => Some(entry.path),
            Found::OtherMethods(_) | Found::Nothing => None,
        }
    }

    #[test]
    fn a_path_answers_its_methods_only() {
        assert_eq!(path_found(&Method::POST, "/v1/track"), Some("/v1/track"));
        assert_eq!(find(&Method::GET, "/v1/track", true), Found::OtherMethods(POST));
        assert_eq!(path_found(&Method::HEAD, "/health"), Some("/health"));
        assert_eq!(find(&Method::POST, "/v1/track/", true), Found::Nothing);
        assert_eq!(find(&Method::POST, "/metrics", true), Found::Nothing);
    }

    #[test]
    fn a_key_in_the_path_is_one_segment() {
        let settings = "/v1/projects/{key}/settings";
        assert_eq!(path_found(&Method::GET, "/v1/projects/WK/settings"), Some(settings));
        for other in
            ["/v1/projects//settings", "/v1/projects/a/b/settings", "/v1/projects/settings", settings]
        {
            let found = path_found(&Method::GET, other);
            assert_eq!(found.is_some(), other == settings, "{other}");
        }
    }

    #[test]
    fn internal_paths_are_nothing_unless_asked_for() {
        for entry in ROUTES {
            let method = Method::from_bytes(entry.methods.split(',').next().unwrap_or_default().as_bytes());
            let Ok(method) = method else { continue };
            let path = entry.path.replace("{key}", "WK");
            assert_eq!(find(&method, &path, true), Found::Entry(entry));
            if is_internal(entry.path) {
                assert_eq!(find(&method, &path, false), Found::Nothing, "{path}");
            }
        }
    }
    #[test]
    fn the_documentation_names_every_path() {
        let documentation = include_str!("../../../docs/ingest.md");
        for Entry { path, .. } in ROUTES {
            assert!(documentation.contains(&format!("`{path}`")), "docs/ingest.md lacks {path}");
        }
    }
}
