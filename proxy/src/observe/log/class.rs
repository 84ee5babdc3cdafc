//! Whose records these are: of callers who proved who they are, or of anybody.

use super::super::{Outcome, record::Closed};

/// Records of one class have a queue and a file of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::observe) enum Class {
    /// The caller is proven.
    Identified,
    /// Anybody who reaches a listener.
    Unidentified,
}

impl Class {
    pub(in crate::observe) const ALL: [Self; 2] = [Self::Identified, Self::Unidentified];

    pub(super) fn of(closed: &Closed) -> Self {
        if closed.entry.caller.is_some() {
            Self::Identified
        } else {
            Self::Unidentified
        }
    }

    /// Its name in records and metrics.
    pub(in crate::observe) fn name(self) -> &'static str {
        match self {
            Self::Identified => "identified",
            Self::Unidentified => "unidentified",
        }
    }
}

/// Whether the request was let go, whatever became of it. Its record is never left out.
pub(super) fn was_forwarded(closed: &Closed) -> bool {
    match closed.outcome {
        Outcome::Permitted | Outcome::Tunnelled => true,
        Outcome::Refused { .. } | Outcome::Failed { .. } => closed.entry.upstream.is_some(),
    }
}
