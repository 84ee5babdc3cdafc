//! Why there is no credential.

mod rotation;
mod source;

pub use rotation::RotationError;
pub use source::{HelperFault, SourceError};

use std::{io, path::Path, sync::Arc};

use countersign_core::secret_file::SecretFileError;
use jiff::Timestamp;

use crate::StateError;

/// Why there is no credential, as a sentence for the operator. Never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The file does not exist: access was withdrawn, or not yet given.
    #[error("the credential's file {} does not exist", file.display())]
    Missing {
        /// The file.
        file: Arc<Path>,
    },
    /// The file contains only white space.
    #[error("the credential's file {} is empty", file.display())]
    Empty {
        /// The file.
        file: Arc<Path>,
    },
    /// The file cannot be read.
    #[error("the credential's file {} cannot be read ({kind})", file.display())]
    Unreadable {
        /// The file.
        file: Arc<Path>,
        /// What the operating system said.
        kind: io::ErrorKind,
    },
    /// The file is too large to be a secret.
    #[error("the credential's file {} is larger than 64 KiB", file.display())]
    TooLarge {
        /// The file.
        file: Arc<Path>,
    },
    /// The content of the file cannot be a token.
    #[error(
        "the credential's file {} must hold one line of visible ASCII without spaces",
        file.display()
    )]
    NotText {
        /// The file.
        file: Arc<Path>,
    },
    /// A source other than a file failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The value from the source has expired.
    #[error("the credential from its source expired at {at}")]
    Expired {
        /// When.
        at: Timestamp,
    },
    /// The issuer did not issue it.
    #[error("{host}: {fault}")]
    Issuer {
        /// The host that was asked.
        host: Arc<str>,
        /// What went wrong.
        fault: IssuerFault,
    },
    /// The secret material has the wrong form.
    #[error("{what}")]
    Unusable {
        /// What is wrong with it.
        what: &'static str,
    },
    /// Each caller's value is made from its own token, and this caller sent none.
    #[error("the value is made from the caller's own token, and the caller sent none")]
    NoToken,
    /// The caller's token expired while its value was fetched.
    #[error("the caller's token expired before its value was fetched")]
    RunOver,
    /// A token did not rotate.
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// The state of rotation cannot be read or stored.
    #[error(transparent)]
    State(#[from] StateError),
    /// The fetch was interrupted, by a bug or because the process is shutting down.
    #[error("fetching the credential was interrupted")]
    Abandoned,
    /// The fetch takes too long; it continues in the background.
    #[error("fetching the credential takes too long")]
    TooSlow,
}

/// Why an issuer did not issue a credential, or did not revoke one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssuerFault {
    /// It could not be reached, or says that the failure may pass.
    #[error("the issuer is not available: {0}")]
    Unavailable(Arc<str>),
    /// It refused us (RFC 6749, section 5.2): a person must change something.
    #[error("the issuer refused: {code}{}", words.as_ref().map(|words| format!(" ({words})")).unwrap_or_default())]
    Refused {
        /// Its error code, such as `invalid_client`, or otherwise the HTTP status.
        code: Arc<str>,
        /// Its own text, redacted.
        words: Option<Arc<str>>,
    },
    /// Its response violates the protocol.
    #[error("the issuer's response cannot be used: {0}")]
    BadResponse(&'static str),
}

impl CredentialError {
    pub(super) fn of_file(file: &Path, error: SecretFileError) -> Self {
        let file = Arc::from(file);
        match error {
            SecretFileError::Missing => Self::Missing { file },
            SecretFileError::Empty => Self::Empty { file },
            SecretFileError::Unreadable(kind) => Self::Unreadable { file, kind },
            SecretFileError::TooLarge => Self::TooLarge { file },
            SecretFileError::NotText => Self::NotText { file },
        }
    }

    /// How long after the last good response the previous value may be used, at most `usual`.
    pub(super) fn grace(&self, usual: std::time::Duration) -> std::time::Duration {
        match self {
            Self::Source(error) => error.grace(usual),
            _ if self.may_pass() => usual,
            _ => std::time::Duration::ZERO,
        }
    }

    /// Whether this may pass by itself, such as a half-written file, so that the previous value may be
    /// used a little longer. A removed file was removed by a person.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Empty { .. }
            | Self::Unreadable { .. }
            | Self::TooLarge { .. }
            | Self::NotText { .. }
            | Self::Unusable { .. }
            | Self::Abandoned
            | Self::TooSlow => true,
            Self::Source(error) => error.may_pass(),
            Self::Rotation(error) => error.may_pass(),
            Self::State(error) => error.may_pass(),
            Self::Issuer { fault, .. } => match fault {
                IssuerFault::Unavailable(_) | IssuerFault::BadResponse(_) => true,
                IssuerFault::Refused { .. } => false,
            },
            Self::Missing { .. } | Self::Expired { .. } | Self::NoToken | Self::RunOver => false,
        }
    }

    /// Whether access was withdrawn, so that a previous value must not be used even if it has not
    /// expired.
    pub(super) fn withdraws(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::NoToken | Self::RunOver => true,
            Self::Source(error) => error.withdraws(),
            Self::Empty { .. }
            | Self::Unreadable { .. }
            | Self::TooLarge { .. }
            | Self::NotText { .. }
            | Self::Unusable { .. }
            | Self::Expired { .. }
            // What it issued before is valid until its expiry.
            | Self::Issuer { .. }
            | Self::Rotation(_)
            | Self::State(_)
            | Self::Abandoned
            | Self::TooSlow => false,
        }
    }
}
