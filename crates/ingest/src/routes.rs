//! Every path that ingest answers, as one table. What is not in it is 404; an admin path is never in it.

use hyper::Method;
use millrace_event_model::EventType;

use crate::envelope::Shape;

/// What a path is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// Takes events.
    Events(Intake),
    /// Liveness in RudderStack's form.
    Health,
    /// Which version answers.
    Version,
    /// Keeps crawlers away.
    Robots,
}

/// How a path takes events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Intake {
    /// The path as it stands in metrics.
    pub(crate) path: &'static str,
    /// What the body is.
    pub(crate) shape: Shape,
    /// Where the write key is.
    pub(crate) key: KeyIn,
}

/// Where a request carries its write key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyIn {
    /// `Authorization: Basic`, as the user.
    Basic,
}

/// What a look-up found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Route(Route),
    /// The path is known, but for these methods only.
    OtherMethods(&'static str),
    Nothing,
}

const POST: &str = "POST";
const GET: &str = "GET, HEAD";

const fn events(path: &'static str, shape: Shape, key: KeyIn) -> (&'static str, &'static str, Route) {
    (path, POST, Route::Events(Intake { path, shape, key }))
}

/// Path, methods, route; the busiest first.
const ROUTES: &[(&str, &str, Route)] = &[
    events("/v1/batch", Shape::Batch, KeyIn::Basic),
    events("/v1/track", Shape::Single(EventType::Track), KeyIn::Basic),
    events("/v1/page", Shape::Single(EventType::Page), KeyIn::Basic),
    events("/v1/identify", Shape::Single(EventType::Identify), KeyIn::Basic),
    events("/v1/screen", Shape::Single(EventType::Screen), KeyIn::Basic),
    events("/v1/group", Shape::Single(EventType::Group), KeyIn::Basic),
    events("/v1/alias", Shape::Single(EventType::Alias), KeyIn::Basic),
    events("/v1/merge", Shape::Single(EventType::Merge), KeyIn::Basic),
    events("/v1/import", Shape::Batch, KeyIn::Basic),
    ("/health", GET, Route::Health),
    ("/", GET, Route::Health),
    ("/version", GET, Route::Version),
    ("/robots.txt", GET, Route::Robots),
];

/// The route of a request.
pub(crate) fn find(method: &Method, path: &str) -> Found {
    let mut others = Found::Nothing;
    for (known, methods, route) in ROUTES {
        if *known != path {
            continue;
        }
        if methods.split(", ").any(|allowed| allowed == method.as_str()) {
            return Found::Route(*route);
        }
        others = Found::OtherMethods(methods);
    }
    others
}

/// The paths that take events.
pub(crate) fn event_paths() -> impl Iterator<Item = &'static str> {
    ROUTES.iter().filter(|(_, _, route)| matches!(route, Route::Events(_))).map(|(path, _, _)| *path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_answers_its_methods_only() {
        assert!(matches!(find(&Method::POST, "/v1/track"), Found::Route(Route::Events(_))));
        assert_eq!(find(&Method::GET, "/v1/track"), Found::OtherMethods(POST));
        assert_eq!(find(&Method::HEAD, "/health"), Found::Route(Route::Health));
        assert_eq!(find(&Method::POST, "/v1/track/"), Found::Nothing);
        assert_eq!(find(&Method::POST, "/metrics"), Found::Nothing);
    }
}
