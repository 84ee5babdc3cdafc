//! The reason of each error, for responses, records and metrics. No `_`: a new variant needs a reason
//! here.

use super::{IdentifyError, SvidError};
use countersign_core::reason::Reason;

impl IdentifyError {
    /// The reason, for responses, records and metrics.
    pub fn reason(&self) -> Reason {
        match self {
            IdentifyError::Malformed(_) | IdentifyError::UnsupportedScheme => {
                Reason::IdentityMalformed
            }
            IdentifyError::UnknownIssuer(_) => Reason::IdentityIssuerUnknown,
            IdentifyError::AlgorithmNotAllowed(_)
            | IdentifyError::UnknownKey { .. }
            | IdentifyError::BadSignature { .. }
            | IdentifyError::BadClaims(_)
            | IdentifyError::OtherPod { .. }
            | IdentifyError::ReviewMismatch { .. } => Reason::IdentityInvalid,
            IdentifyError::WrongAudience { .. } => Reason::IdentityAudience,
            IdentifyError::Expired { .. } => Reason::IdentityExpired,
            IdentifyError::NotYetValid { .. } => Reason::IdentityNotYetValid,
            IdentifyError::KeysUnavailable { .. } | IdentifyError::OwnTokenUnavailable { .. } => {
                Reason::IdentityKeysUnavailable
            }
            IdentifyError::ReviewUnavailable { .. } => Reason::IdentityReviewUnavailable,
            IdentifyError::Revoked { .. } | IdentifyError::PodEnded { .. } => {
                Reason::IdentityRevoked
            }
            IdentifyError::PodUnknown { .. } => Reason::IdentityPodUnknown,
            IdentifyError::PodChanged => Reason::IdentityPodChanged,
            IdentifyError::KeyWithdrawn { .. } => Reason::IdentityKeyWithdrawn,
            IdentifyError::LivesTooLong { .. } => Reason::IdentityTooLongLived,
            IdentifyError::Throttled { .. } => Reason::IdentityThrottled,
            IdentifyError::Certificate(error) => certificate(error),
            IdentifyError::Mismatch { .. } => Reason::IdentityMismatch,
        }
    }
}

impl IdentifyError {
    /// Whether the same proof stays refused until a person changes something: the pod, its token or the
    /// configuration. What passes by itself, or is no statement of the issuer's, is not.
    pub(super) fn is_final(&self) -> bool {
        match self {
            IdentifyError::BadClaims(_)
            | IdentifyError::WrongAudience { .. }
            | IdentifyError::Expired { .. }
            | IdentifyError::LivesTooLong { .. }
            | IdentifyError::Revoked { .. }
            | IdentifyError::PodEnded { .. }
            | IdentifyError::ReviewMismatch { .. }
            | IdentifyError::Mismatch { .. }
            | IdentifyError::OtherPod { .. } => true,
            // Nobody vouches for what these say.
            IdentifyError::Malformed(_)
            | IdentifyError::UnsupportedScheme
            | IdentifyError::UnknownIssuer(_)
            | IdentifyError::AlgorithmNotAllowed(_)
            | IdentifyError::UnknownKey { .. }
            | IdentifyError::BadSignature { .. }
            | IdentifyError::Certificate(_)
            // The kubelet brings a token that is signed with another key.
            | IdentifyError::KeyWithdrawn { .. }
            // Passes.
            | IdentifyError::NotYetValid { .. }
            | IdentifyError::Throttled { .. }
            | IdentifyError::KeysUnavailable { .. }
            | IdentifyError::ReviewUnavailable { .. }
            | IdentifyError::PodUnknown { .. }
            | IdentifyError::PodChanged
            | IdentifyError::OwnTokenUnavailable { .. } => false,
        }
    }
}

/// Why a certificate was refused.
fn certificate(error: &SvidError) -> Reason {
    match error {
        SvidError::Bounds(_) => Reason::IdentityChain,
        SvidError::Unreadable
        | SvidError::UriNames(_)
        | SvidError::SpiffeId(_)
        | SvidError::Authority
        | SvidError::NoKeyUsage
        | SvidError::NoDigitalSignature
        | SvidError::SigningKeyUsage(_)
        | SvidError::Chain { .. } => Reason::IdentityInvalid,
        SvidError::UntrustedDomain { .. } => Reason::IdentityIssuerUnknown,
        SvidError::NoBundle { .. } => Reason::IdentityKeysUnavailable,
        SvidError::Expired { .. } => Reason::IdentityExpired,
        SvidError::NotYetValid { .. } => Reason::IdentityNotYetValid,
    }
}
