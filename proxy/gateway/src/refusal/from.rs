//! Turns each crate's error into a refusal: its reason, its sentence, and when to retry.

use std::time::Duration;

use super::Refusal;
use crate::observe::RecordsFull;
use countersign_authorize::Denied;
use countersign_core::{budget::Short, reason::Reason, slots::NoPlace, wire::meter::Overrun};
use countersign_credential::CredentialError;
use countersign_identity::{IdentifyError, Unproven};
use countersign_upstream::{forward::ForwardError, inject::InjectError};

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Self {
            reason: denied.reason,
            language: denied.reason.facts().language,
            detail: denied.detail,
            nearest: denied.nearest,
            workload: denied.workload,
            target: denied.target,
            retry_after: denied.retry_after,
            disconnected: false,
            unproven: None,
        }
    }
}

impl From<RecordsFull> for Refusal {
    fn from(full: RecordsFull) -> Self {
        let mut refusal = Self::new(Reason::RecordsFull, full.to_string());
        refusal.retry_after = Some(Duration::from_secs(1));
        refusal
    }
}

impl From<InjectError> for Refusal {
    fn from(error: InjectError) -> Self {
        match error {
            InjectError::Memory(short) => short.into(),
            error => Self::new(error.reason(), error.to_string()),
        }
    }
}

impl From<Short> for Refusal {
    fn from(short: Short) -> Self {
        let mut refusal = Self::new(short.reason(), short.to_string());
        refusal.retry_after = Some(Duration::from_secs(1));
        refusal
    }
}

impl From<Overrun> for Refusal {
    fn from(overrun: Overrun) -> Self {
        match overrun {
            Overrun::Unproven(_) => Self::new(overrun.reason(), overrun.to_string()),
            Overrun::Short(short) => short.into(),
        }
    }
}

impl From<CredentialError> for Refusal {
    fn from(error: CredentialError) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}

impl From<NoPlace> for Refusal {
    fn from(error: NoPlace) -> Self {
        Self::new(Reason::ShareExceeded, error.to_string())
    }
}

impl From<ForwardError> for Refusal {
    fn from(error: ForwardError) -> Self {
        if let ForwardError::Memory(short) = error {
            return short.into();
        }
        let mut refusal = Self::new(error.reason(), error.to_string());
        refusal.disconnected = matches!(
            error,
            ForwardError::Resolve { .. }
                | ForwardError::NoAddress { .. }
                | ForwardError::Connect { .. }
                | ForwardError::TlsHandshake { .. }
                | ForwardError::Reset { .. }
                | ForwardError::NotTaken { .. }
        );
        refusal
    }
}

impl From<IdentifyError> for Refusal {
    fn from(error: IdentifyError) -> Self {
        let mut refusal = Self::new(error.reason(), error.to_string());
        if let IdentifyError::Throttled { again, .. } = error {
            refusal.retry_after = Some(again);
        }
        refusal
    }
}

impl From<Unproven> for Refusal {
    fn from(unproven: Unproven) -> Self {
        let mut refusal = Self::from(unproven.error().clone());
        refusal.unproven = Some(Box::new(unproven));
        refusal
    }
}
