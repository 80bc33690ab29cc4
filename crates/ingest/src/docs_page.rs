//! The routes for people, from the table that answers them.

use std::fmt::Write as _;

use crate::http::{self, Response};
use crate::routes::{Entry, KeyIn, ROUTES, is_internal};

const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Millrace ingest</title>\n\
    <h1>Millrace ingest</h1>\n<p>The protocol of RudderStack's gateway. 200 means: every event of the request is \
    stored; the pixel is always 200.\n<table>\n<tr><th>methods<th>path<th>source named by<th>\n";

/// `internal`: whether the internal paths are answered here.
pub(crate) fn answer(internal: bool) -> Response {
    http::html(page(ROUTES.iter().filter(|entry| internal || !is_internal(entry.path))))
}

fn page<'e>(entries: impl Iterator<Item = &'e Entry>) -> String {
    let mut page = HEAD.to_owned();
    for Entry { path, methods, key, about, .. } in entries {
        // Writing to a string does not fail.
        let _ = writeln!(page, "<tr><td>{methods}<td><code>{path}</code><td>{}<td>{about}", named_by(*key));
    }
    page.push_str("</table>\n");
    page
}

fn named_by(key: KeyIn) -> &'static str {
    match key {
        KeyIn::Nothing => "nothing",
        KeyIn::Basic => "<code>Authorization: Basic</code>, the write key as user",
        KeyIn::Query => "<code>?writeKey=</code>",
        KeyIn::BasicOrQuery | KeyIn::Webhook => {
            "<code>Authorization: Basic</code> or <code>?writeKey=</code>"
        }
        KeyIn::BasicOrBody => "<code>Authorization: Basic</code> or <code>writeKey</code> in the body",
        KeyIn::Path => "the write key in the path",
        KeyIn::SourceId | KeyIn::ReplaySourceId => "<code>X-Rudder-Source-Id</code>",
    }
}
