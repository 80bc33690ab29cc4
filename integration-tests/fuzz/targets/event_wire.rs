//! Any record on any topic.
#![no_main]

#[path = "../../../crates/event-model/tests/it/any_record.rs"]
mod any_record;

libfuzzer_sys::fuzz_target!(|input: &[u8]| any_record::check(input));
