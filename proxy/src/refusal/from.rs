//! Each room's error, turned into a refusal. No `_`: a new way to fail asks for its reason here.

use std::{io::ErrorKind, time::Duration};

use super::{Reason, Refusal};
use crate::{
    budget::Short,
    credential::{
        CredentialError, HelperFault, IssuerFault, RotationError, SourceError, StateError,
    },
    forward::ForwardError,
    identify::{IdentifyError, SvidError},
    inject::InjectError,
    slots::NoPlace,
};

impl From<InjectError> for Refusal {
    fn from(error: InjectError) -> Self {
        let reason = match error {
            InjectError::Memory(short) => return short.into(),
            InjectError::HeaderAlias(_) => Reason::HeaderAlias,
            InjectError::Form(_) => Reason::FormUnreadable,
            InjectError::MethodField => Reason::MethodOverride,
            InjectError::FormStalled(_) => Reason::BodyStalled,
            InjectError::ClientGone => Reason::ClientGone,
            InjectError::Unusable(_) => Reason::CredentialUnusable,
        };
        Self::new(reason, error.to_string())
    }
}

impl From<Short> for Refusal {
    fn from(short: Short) -> Self {
        let reason = match short {
            Short::Share { .. } => Reason::MemoryShare,
            Short::Others { .. } | Short::Unidentified { .. } => Reason::MemoryShort,
        };
        let mut refusal = Self::new(reason, short.to_string());
        refusal.retry_after = Some(Duration::from_secs(1));
        refusal
    }
}

impl From<CredentialError> for Refusal {
    fn from(error: CredentialError) -> Self {
        Self::new(Reason::from(&error), error.to_string())
    }
}

impl From<&CredentialError> for Reason {
    fn from(error: &CredentialError) -> Self {
        match error {
            CredentialError::Abandoned
            | CredentialError::TooSlow
            // A disk that does not answer, which may pass.
            | CredentialError::Unreadable {
                kind: ErrorKind::TimedOut,
                ..
            } => Reason::CredentialSourceUnavailable,
            CredentialError::Missing { .. }
            | CredentialError::Empty { .. }
            | CredentialError::Unreadable { .. }
            | CredentialError::TooLarge { .. }
            | CredentialError::NotText { .. }
            | CredentialError::Expired { .. } => Reason::CredentialMissing,
            CredentialError::Source(error) => source(error),
            CredentialError::Issuer { fault, .. } => match fault {
                IssuerFault::Unavailable(_) => Reason::CredentialSourceUnavailable,
                IssuerFault::Refused { .. } => Reason::CredentialRefused,
                IssuerFault::Answer(_) => Reason::CredentialUnusable,
            },
            CredentialError::Unusable { .. } => Reason::CredentialUnusable,
            CredentialError::NoToken => Reason::CallerTokenMissing,
            CredentialError::RunOver => Reason::IdentityExpired,
            CredentialError::Rotation(error) => rotation(error),
            CredentialError::State(error) => state(error),
        }
    }
}

fn source(error: &SourceError) -> Reason {
    match error {
        SourceError::NotConfigured => Reason::CredentialUnsupported,
        error if error.is_missing() => Reason::CredentialMissing,
        error if error.is_unavailable() => Reason::CredentialSourceUnavailable,
        SourceError::Helper {
            fault: HelperFault::Answer(_),
            ..
        } => Reason::CredentialUnusable,
        // It does not let us, or is not what the Credential says.
        SourceError::NoSecret { .. }
        | SourceError::NoKey { .. }
        | SourceError::Kube { .. }
        | SourceError::Vault(_)
        | SourceError::NoField { .. }
        | SourceError::Helper { .. }
        | SourceError::Form { .. } => Reason::CredentialRefused,
    }
}

fn rotation(error: &RotationError) -> Reason {
    match error {
        RotationError::Unreachable { .. }
        | RotationError::Unanswered { .. }
        | RotationError::Limited { .. } => Reason::CredentialSourceUnavailable,
        RotationError::Dead { .. } => Reason::CredentialDead,
        RotationError::Client { .. } | RotationError::Refused { .. } => Reason::CredentialRefused,
        RotationError::Defect => Reason::Internal,
    }
}

fn state(error: &StateError) -> Reason {
    match error {
        StateError::Unavailable { .. }
        | StateError::Busy { .. }
        | StateError::Conflict
        | StateError::Io { .. } => Reason::CredentialSourceUnavailable,
        StateError::Permissions { .. }
        | StateError::Owner { .. }
        | StateError::Corrupt { .. }
        | StateError::Later { .. }
        | StateError::NoKey { .. }
        | StateError::WrongKey { .. }
        | StateError::KubeRights { .. }
        | StateError::VaultRights { .. }
        | StateError::KeyFile { .. } => Reason::CredentialStateUnusable,
        StateError::Kube(_) | StateError::Vault(_) if error.may_pass() => {
            Reason::CredentialSourceUnavailable
        }
        StateError::Kube(_) | StateError::Vault(_) | StateError::NotConfigured { .. } => {
            Reason::CredentialStateUnusable
        }
    }
}

impl From<NoPlace> for Refusal {
    fn from(error: NoPlace) -> Self {
        Self::new(Reason::ShareExceeded, error.to_string())
    }
}

impl From<ForwardError> for Refusal {
    fn from(error: ForwardError) -> Self {
        let reason = match error {
            ForwardError::Resolve { .. } | ForwardError::NoAddress { .. } => {
                Reason::UpstreamResolve
            }
            ForwardError::AddressForbidden { .. } | ForwardError::OwnAddress { .. } => {
                Reason::UpstreamAddress
            }
            ForwardError::Connect { .. } | ForwardError::TlsHandshake { .. } => {
                Reason::UpstreamConnect
            }
            ForwardError::ConnectTimeout { .. } | ForwardError::ResponseTimeout { .. } => {
                Reason::UpstreamTimeout
            }
            ForwardError::Overloaded { .. } => Reason::Overloaded,
            ForwardError::PartTaken { .. } => Reason::UpstreamShareExceeded,
            ForwardError::ProxyRefused { .. } => Reason::UpstreamProxyRefused,
            ForwardError::TlsBadCertificate { .. } => Reason::UpstreamCertificate,
            ForwardError::TlsChain(_) => Reason::UpstreamChain,
            ForwardError::Reset { .. }
            | ForwardError::MalformedResponse { .. }
            | ForwardError::BodyIdle { .. } => Reason::UpstreamBroken,
            ForwardError::NotTaken { .. } => Reason::UpstreamNotTaken,
            ForwardError::ClientBody => Reason::ClientGone,
            ForwardError::ClientBodyIdle { .. } => Reason::BodyStalled,
            ForwardError::Unsendable { .. } => Reason::RequestMalformed,
        };
        Self::new(reason, error.to_string())
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

impl From<IdentifyError> for Refusal {
    fn from(error: IdentifyError) -> Self {
        let reason = match &error {
            IdentifyError::Malformed(_) | IdentifyError::UnsupportedScheme => {
                Reason::IdentityMalformed
            }
            IdentifyError::UnknownIssuer => Reason::IdentityIssuerUnknown,
            IdentifyError::AlgorithmNotAllowed
            | IdentifyError::UnknownKey
            | IdentifyError::BadSignature
            | IdentifyError::BadClaims(_)
            | IdentifyError::ReviewMismatch { .. } => Reason::IdentityInvalid,
            IdentifyError::WrongAudience { .. } => Reason::IdentityAudience,
            IdentifyError::Expired => Reason::IdentityExpired,
            IdentifyError::NotYetValid => Reason::IdentityNotYetValid,
            IdentifyError::KeysUnavailable { .. } | IdentifyError::OwnTokenUnavailable { .. } => {
                Reason::IdentityKeysUnavailable
            }
            IdentifyError::ReviewUnavailable { .. } => Reason::IdentityReviewUnavailable,
            IdentifyError::Revoked { .. } => Reason::IdentityRevoked,
            IdentifyError::KeyWithdrawn { .. } => Reason::IdentityKeyWithdrawn,
            IdentifyError::LivesTooLong { .. } => Reason::IdentityTooLongLived,
            IdentifyError::Throttled { .. } => Reason::IdentityThrottled,
            IdentifyError::Certificate(error) => certificate(error),
            IdentifyError::Mismatch { .. } => Reason::IdentityMismatch,
        };
        let mut refusal = Self::new(reason, error.to_string());
        if let IdentifyError::Throttled { again, .. } = error {
            refusal.retry_after = Some(again);
        }
        refusal
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;

    use super::*;

    /// Whoever is called for a file that cannot be read is not whom a hung disk concerns.
    #[rstest]
    #[case(ErrorKind::TimedOut, Reason::CredentialSourceUnavailable)]
    #[case(ErrorKind::PermissionDenied, Reason::CredentialMissing)]
    #[case(ErrorKind::InvalidInput, Reason::CredentialMissing)]
    fn a_disk_that_does_not_answer_may_pass(#[case] kind: ErrorKind, #[case] expected: Reason) {
        let file = Path::new("/secrets/slack-bot").into();
        let error = CredentialError::Unreadable { file, kind };
        assert_eq!(Reason::from(&error), expected);
    }
}
