//! Whose records these are: of callers who proved who they are, or of anybody.

use super::super::{Outcome, record::Closed};
use countersign_core::metrics::Class;

/// The class of a record: whether its caller is proven.
pub(super) fn class_of(closed: &Closed) -> Class {
    if closed.entry.caller.is_some() {
        Class::Identified
    } else {
        Class::Unidentified
    }
}

/// Whether the request was let go, whatever became of it. Its record is never left out.
pub(super) fn was_forwarded(closed: &Closed) -> bool {
    match closed.outcome {
        Outcome::Permitted | Outcome::Tunnelled => true,
        Outcome::Refused { .. } | Outcome::Failed { .. } => closed.entry.upstream.is_some(),
    }
}
