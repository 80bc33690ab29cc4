//! What must come of any document: what the scanner leaves out of its walk holds nothing that a look at every
//! token finds. The fuzz target `privacy_scan` drives this, and every run of the tests replays its corpus
//! (`corpus.rs`).

use millrace_privacy::{HashKey, Policy, ScanError, Scanner};
use serde::de::IgnoredAny;

/// Scans the bytes in every way, and panics unless all come to the same.
pub(crate) fn check(document: &[u8]) {
    let scanner = Scanner::new(Policy::mask_all(), HashKey::derive(&[7; 32]));
    let scanned = scanner.scan(document);
    let Ok(json) = std::str::from_utf8(document) else {
        assert!(matches!(scanned, Err(ScanError::Invalid { .. })));
        return;
    };
    let everything = scanner.scan_everything(json);
    let is_json = serde_json::from_str::<IgnoredAny>(json).is_ok();
    match &everything {
        Ok(everything) => {
            assert!(is_json, "scanned, and no JSON");
            assert_eq!(scanned.as_ref(), Ok(everything));
            assert_eq!(scanner.scan_valid(json).as_ref(), Ok(everything));
            let masked = std::str::from_utf8(&everything.body).expect("text");
            assert!(serde_json::from_str::<IgnoredAny>(masked).is_ok(), "masked, and no JSON any more");
        }
        // In what is no JSON, the faster way may not even look where it ceases to be any.
        Err(ScanError::Invalid { .. }) => assert!(!is_json && scanned.is_err()),
        Err(ScanError::TooDeep) => assert_eq!(scanned, Err(ScanError::TooDeep)),
    }
}
