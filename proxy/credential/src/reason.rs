//! The reason of each error, for responses, records and metrics. No `_`: a new variant needs a reason
//! here.

use std::io::ErrorKind;

use super::{CredentialError, HelperFault, IssuerFault, RotationError, SourceError, StateError};
use countersign_core::reason::Reason;

impl CredentialError {
    /// The reason, for responses, records and metrics.
    pub fn reason(&self) -> Reason {
        match self {
            CredentialError::Abandoned
            | CredentialError::TooSlow
            // A disk that does not respond, which may pass.
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
                IssuerFault::BadResponse(_) => Reason::CredentialUnusable,
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
            fault: HelperFault::BadOutput(_),
            ..
        } => Reason::CredentialUnusable,
        // It refuses us, or is not what the Credential says.
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;

    use super::*;

    /// A hung disk concerns another person than an unreadable file does.
    #[rstest]
    #[case(ErrorKind::TimedOut, Reason::CredentialSourceUnavailable)]
    #[case(ErrorKind::PermissionDenied, Reason::CredentialMissing)]
    #[case(ErrorKind::InvalidInput, Reason::CredentialMissing)]
    fn a_disk_that_does_not_answer_may_pass(#[case] kind: ErrorKind, #[case] expected: Reason) {
        let file = Path::new("/secrets/slack-bot").into();
        let error = CredentialError::Unreadable { file, kind };
        assert_eq!(error.reason(), expected);
    }
}
