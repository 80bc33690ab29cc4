//! What cannot be undercut with the same parts: the client library without HTTP, and HTTP without the
//! rest. Together they are the floor beneath ingest's own work.

pub(crate) mod consumer;
pub(crate) mod http;
pub(crate) mod producer;
