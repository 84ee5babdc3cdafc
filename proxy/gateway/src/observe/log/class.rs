//! The class of a record: of an identified caller or not.

use super::super::{Outcome, closed::Closed};
use countersign_core::metrics::Class;

/// The class of a record: whether its caller is proven.
pub(super) fn class_of(closed: &Closed) -> Class {
    if closed.entry.caller.is_some() {
        Class::Identified
    } else {
        Class::Unidentified
    }
}

/// Whether the request was forwarded. Such a record is never left out.
pub(super) fn was_forwarded(closed: &Closed) -> bool {
    match closed.outcome {
        Outcome::Permitted | Outcome::Tunnelled => true,
        Outcome::Refused { .. } | Outcome::Failed { .. } => closed.entry.upstream.is_some(),
    }
}
