//! Any document under a policy that masks all.
#![no_main]

#[path = "../../../crates/privacy/tests/it/any_document.rs"]
mod any_document;

libfuzzer_sys::fuzz_target!(|document: &[u8]| any_document::check(document));
