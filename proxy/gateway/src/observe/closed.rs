//! A finished request: how it ended, and the content of its record.

use std::time::Duration;

use countersign_core::reason::Reason;
use jiff::Timestamp;

use super::Entry;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was forwarded, and the upstream did not fail.
    Permitted,
    /// The gateway refused it.
    Refused {
        /// The stable reason code.
        reason: &'static str,
        /// Whose fault it is.
        blame: &'static str,
    },
    /// It was permitted, but the upstream answered with a failure of its own, or the upstream or the client
    /// broke it off.
    Failed {
        /// The stable reason code.
        reason: &'static str,
        /// Whose fault it is.
        blame: &'static str,
    },
    /// It was carried on without being decrypted.
    Tunnelled,
}

impl Outcome {
    /// It failed for this reason.
    pub(crate) const fn failed(reason: Reason) -> Self {
        let facts = reason.facts();
        Self::Failed {
            reason: facts.code,
            blame: facts.blame.as_str(),
        }
    }

    /// For a record that was dropped before it was concluded: the client left.
    pub(super) const ABANDONED: Self = Self::Failed {
        reason: "client_gone",
        blame: "caller",
    };

    /// For a record that a panic dropped: a bug of the gateway.
    pub(super) const PANICKED: Self = Self::Failed {
        reason: "internal",
        blame: "gateway",
    };

    /// For a record that was dropped because the gateway's drain time ended.
    pub(super) const CUT_OFF: Self = Self::failed(Reason::Draining);

    /// For a record that was dropped because its connection was closed in favour of others.
    pub(super) const SHED: Self = Self::failed(Reason::ShareExceeded);

    /// For a record that was dropped because its client broke HTTP.
    pub(super) const BROKEN_HTTP: Self = Self::Refused {
        reason: Reason::RequestMalformed.facts().code,
        blame: Reason::RequestMalformed.facts().blame.as_str(),
    };

    /// The outcome's name in records and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Permitted => "permitted",
            Self::Refused { .. } => "refused",
            Self::Failed { .. } => "failed",
            Self::Tunnelled => "tunnelled",
        }
    }

    /// The reason code; that of a request which went through is the outcome's name.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Permitted | Self::Tunnelled => self.name(),
            Self::Refused { reason, .. } | Self::Failed { reason, .. } => reason,
        }
    }

    /// Whose fault it is, if there is a fault.
    pub fn blame(&self) -> Option<&'static str> {
        match self {
            Self::Permitted | Self::Tunnelled => None,
            Self::Refused { blame, .. } | Self::Failed { blame, .. } => Some(blame),
        }
    }
}

/// What is handed to the log. Boxed when the record is opened, so that closing it does not allocate.
#[derive(Debug)]
pub(super) struct Closed {
    /// When the request was accepted.
    pub(super) time: Timestamp,
    /// Everything that was filled in.
    pub(super) entry: Entry,
    /// How it ended.
    pub(super) outcome: Outcome,
    /// From opening to closing.
    pub(super) total: Duration,
    /// Body bytes of request and response at closing; the counters may still change.
    pub(super) bytes: (u64, u64),
}
