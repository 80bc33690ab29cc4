//! Any bytes as the body of a request.
#![no_main]

#[path = "../../../crates/ingest/tests/it/oracle.rs"]
mod oracle;

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    oracle::check(body);
});
