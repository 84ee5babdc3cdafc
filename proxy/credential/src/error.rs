//! Why there is no credential.

use std::{io, path::Path, sync::Arc};

use countersign_core::secret_file::SecretFileError;
use jiff::Timestamp;

use super::{RotationError, SourceError, StateError};

/// Why there is no credential, as a sentence for the operator. Never says what a secret was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The file is not there: access was withdrawn, or not yet given.
    #[error("the credential's file {} does not exist", file.display())]
    Missing {
        /// The file.
        file: Arc<Path>,
    },
    /// The file holds nothing but white space.
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
    /// The file holds something that cannot be a token.
    #[error(
        "the credential's file {} must hold one line of visible ASCII without spaces",
        file.display()
    )]
    NotText {
        /// The file.
        file: Arc<Path>,
    },
    /// A source that is no file of the gateway's own did not give it.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// What the source gave is past its own end.
    #[error("the credential that its source gave expired at {at}")]
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
    /// Secret material is there, but not of the form that it needs.
    #[error("{what}")]
    Unusable {
        /// What is wrong with it.
        what: &'static str,
    },
    /// Each caller's value is made from its own token, and this caller showed none.
    #[error("the value is made from the caller's own token, and the caller was proven without one")]
    NoToken,
    /// The caller's token ended while its value was fetched.
    #[error("the caller's token ended before its value was there")]
    RunOver,
    /// A token did not rotate.
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// The state of rotation cannot be read or kept.
    #[error(transparent)]
    State(#[from] StateError),
    /// The fetch was cut off, by a defect or because the process is shutting down.
    #[error("fetching the credential was cut off")]
    Abandoned,
    /// The fetch goes on, and nobody knows for how long.
    #[error("fetching the credential takes too long")]
    TooSlow,
}

/// Why an issuer did not issue a credential, or did not revoke one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssuerFault {
    /// It could not be asked, or says itself that this may pass.
    #[error("the issuer is not available: {0}")]
    Unavailable(Arc<str>),
    /// It refused us (RFC 6749, section 5.2): somebody must change something.
    #[error("the issuer refused: {code}{}", words.as_ref().map(|words| format!(" ({words})")).unwrap_or_default())]
    Refused {
        /// Its error code, such as `invalid_client`, or else the HTTP status.
        code: Arc<str>,
        /// Its own words, redacted.
        words: Option<Arc<str>>,
    },
    /// It answered, but not what its protocol says.
    #[error("the issuer's answer cannot be used: {0}")]
    Answer(&'static str),
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

    /// How long after the last good answer the value from before may serve, of the `usual` time.
    pub(super) fn grace(&self, usual: std::time::Duration) -> std::time::Duration {
        match self {
            Self::Source(error) => error.grace(usual),
            _ if self.may_pass() => usual,
            _ => std::time::Duration::ZERO,
        }
    }

    /// Whether this may pass by itself, such as a file that is just being written, so that the
    /// value from before may serve for a moment longer. A file that was removed was removed by
    /// someone.
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
                IssuerFault::Unavailable(_) | IssuerFault::Answer(_) => true,
                IssuerFault::Refused { .. } => false,
            },
            Self::Missing { .. } | Self::Expired { .. } | Self::NoToken | Self::RunOver => false,
        }
    }

    /// Whether it says that access was taken away, so that a value from before must not serve even
    /// if its own end is still to come.
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
            // What it issued before is good until its end, as it said then.
            | Self::Issuer { .. }
            | Self::Rotation(_)
            | Self::State(_)
            | Self::Abandoned
            | Self::TooSlow => false,
        }
    }
}
