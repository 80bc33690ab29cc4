//! What becomes of the items of a file that was not written: pure.

use std::error::Error;
use std::io;

use millrace_connector::{ConnectorError, ItemOutcome};
use millrace_event_model::Reason;
use millrace_state::StateError;
use millrace_state::object_store::Error as ObjectError;

/// Parts of answers that say that the region is wrong: the one by which object_store tells a redirect without
/// an address, and S3's own code. Neither is a type that could be matched.
const WRONG_REGION: [&str; 2] = ["incorrectly configured region", "AuthorizationHeaderMalformed"];

pub(super) fn refusal(error: StateError) -> ItemOutcome {
    let source = match &error {
        StateError::Store { source, .. } => Some(source),
        _ => None,
    };
    let refused =
        matches!(source, Some(ObjectError::PermissionDenied { .. } | ObjectError::Unauthenticated { .. }));
    let missing = matches!(source, Some(ObjectError::NotFound { .. }));
    let unwritable = unwritable(&error);
    let told = ConnectorError::pause("", "the file is not written").caused_by(error).full();
    if refused {
        return ItemOutcome::Auth(Reason::new("credentials_refused", told));
    }
    // The bucket or container.
    if missing {
        return ItemOutcome::Config(Reason::new("store_missing", told));
    }
    if unwritable {
        return ItemOutcome::Config(Reason::new("folder_unwritable", told));
    }
    if WRONG_REGION.iter().any(|part| told.contains(part)) {
        return ItemOutcome::Config(Reason::new("region_wrong", told));
    }
    transient("store_unreachable", told)
}

/// Whether the folder is one that this process cannot write to, however often it tries. A disk that is full
/// is not among these: it has room again by itself.
fn unwritable(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(one) = next {
        if let Some(of_the_system) = one.downcast_ref::<io::Error>() {
            return matches!(
                of_the_system.kind(),
                io::ErrorKind::PermissionDenied
                    | io::ErrorKind::ReadOnlyFilesystem
                    | io::ErrorKind::NotADirectory
            );
        }
        next = one.source();
    }
    false
}

pub(super) fn transient(code: &str, told: String) -> ItemOutcome {
    ItemOutcome::Transient { after: None, reason: Reason::new(code, told) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(source: Box<dyn Error + Send + Sync>) -> ItemOutcome {
        let source = ObjectError::Generic { store: "one", source };
        refusal(StateError::Store { action: "write", path: "a".to_owned(), source })
    }

    #[test]
    fn what_only_the_operator_can_mend_pauses_and_the_rest_is_tried_again() {
        let of_the_system = |kind: io::ErrorKind| generic(io::Error::from(kind).into());
        for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem] {
            let outcome = of_the_system(kind);
            assert!(
                matches!(&outcome, ItemOutcome::Config(why) if why.code == "folder_unwritable"),
                "{outcome:?}"
            );
        }
        let outcome = of_the_system(io::ErrorKind::StorageFull);
        assert!(matches!(&outcome, ItemOutcome::Transient { .. }), "{outcome:?}");
        let redirect =
            "Received redirect without LOCATION, this normally indicates an incorrectly configured region";
        let outcome = generic(redirect.into());
        assert!(matches!(&outcome, ItemOutcome::Config(why) if why.code == "region_wrong"), "{outcome:?}");
        let outcome = generic("connection reset".into());
        assert!(matches!(&outcome, ItemOutcome::Transient { .. }), "{outcome:?}");
    }
}
