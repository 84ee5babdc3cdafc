//! Errors of sources other than the gateway's own files.

use std::{sync::Arc, time::Duration};

use countersign_control_plane::kube::KubeError;
use countersign_core::secret_file::SecretFileError;

use crate::vault::VaultError;

/// Why a source failed, as a sentence for the operator with its remedy. Never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The Secret does not exist: access was withdrawn, or not yet given.
    #[error("there is no Secret {name} in namespace {namespace}; create it")]
    NoSecret {
        /// Its namespace.
        namespace: Arc<str>,
        /// Its name.
        name: Arc<str>,
    },
    /// The Secret has no such key.
    #[error("the Secret {namespace}/{name} has no key `{key}`; it has {keys}")]
    NoKey {
        /// Its namespace.
        namespace: Arc<str>,
        /// Its name.
        name: Arc<str>,
        /// The key.
        key: Arc<str>,
        /// Its existing keys, which are not secret.
        keys: Arc<str>,
    },
    /// The API server did not return the Secret.
    #[error("the Secret {namespace}/{name} from the Kubernetes API: {error}")]
    Kube {
        /// Its namespace.
        namespace: Arc<str>,
        /// Its name.
        name: Arc<str>,
        /// What went wrong.
        error: KubeError,
        /// Whether it has refused us only for a short time, as an API server does that has just started
        /// and has not read its roles yet.
        lately: bool,
    },
    /// Vault did not return it.
    #[error(transparent)]
    Vault(VaultError),
    /// The secret in Vault has no such field, or the field is not text.
    #[error("{path:?} in Vault at {mount:?} has no text field `{key}`; its fields are {fields}")]
    NoField {
        /// The mount.
        mount: Arc<str>,
        /// The path beneath it.
        path: Arc<str>,
        /// The field.
        key: Arc<str>,
        /// Its existing fields, which are not secret.
        fields: Arc<str>,
    },
    /// No Vault is configured.
    #[error("the Credential names Vault, and the Gateway's `vault` is not set; set its address")]
    NotConfigured,
    /// The operator's helper failed.
    #[error("the helper {program} {fault}")]
    Helper {
        /// The program.
        program: Arc<str>,
        /// What went wrong.
        fault: HelperFault,
    },
    /// The value has the wrong form.
    #[error("{at} {fault}")]
    Form {
        /// Where it is.
        at: Arc<str>,
        /// What is wrong with it.
        fault: SecretFileError,
    },
}

/// Errors of an operator's helper. Its standard error is not shown: it may contain anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelperFault {
    /// It could not be started.
    #[error(
        "cannot be started ({0}); check that it exists in the gateway's image and is executable"
    )]
    NotStarted(std::io::ErrorKind),
    /// It took too long, and was killed.
    #[error("did not finish within {} s and was killed; raise its `timeout`, or find out what it waits for", .0.as_secs_f32())]
    TooSlow(std::time::Duration),
    /// It exited with a failure, with or without a message.
    #[error("failed ({status}){}; run it by hand to see more", said.as_ref().map(|said| format!(": {said}")).unwrap_or_default())]
    Failed {
        /// Its exit status.
        status: Arc<str>,
        /// Its own message (`error`), redacted.
        said: Option<Arc<str>>,
    },
    /// It said that the secret no longer exists.
    #[error("says that the secret no longer exists{}", .0.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    Withdrawn(Option<Arc<str>>),
    /// Its output is not valid.
    #[error(
        "{0}; it must print one JSON object: {{\"secret\": \"...\", \"expiresAt\": \"2026-11-23T05:10:00Z\"}}"
    )]
    BadOutput(&'static str),
}

/// How long after its last other response Vault may refuse us before the refusal counts. While it or
/// what it depends on (its standby, the API server that reviews our token) restarts, they refuse without
/// reason.
const REFUSED_BY_VAULT: Duration = Duration::from_mins(1);

impl SourceError {
    /// How long after the last good response the previous value may be used, at most `usual`.
    pub(crate) fn grace(&self, usual: Duration) -> Duration {
        match self {
            Self::Vault(error) if error.is_refusal() => REFUSED_BY_VAULT.min(usual),
            _ if self.may_pass() => usual,
            _ => Duration::ZERO,
        }
    }

    /// Whether this may pass by itself, so that the previous value may be used for a while.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Kube { error, lately, .. } if error.is_refusal() => *lately,
            // The current value is as good as before, if only its source cannot be reached.
            Self::Kube { error, .. } => {
                error.may_pass() || matches!(error, KubeError::Transport(_))
            }
            Self::Vault(error) => {
                !self.withdraws() && (error.may_pass() || matches!(error, VaultError::Transport(_)))
            }
            Self::Form { .. } => true,
            Self::Helper { fault, .. } => !matches!(fault, HelperFault::Withdrawn(_)),
            Self::NoSecret { .. }
            | Self::NoKey { .. }
            | Self::NoField { .. }
            | Self::NotConfigured => false,
        }
    }

    /// Whether access was withdrawn.
    pub(crate) fn withdraws(&self) -> bool {
        match self {
            Self::NoSecret { .. }
            | Self::NoKey { .. }
            | Self::NoField { .. }
            | Self::NotConfigured
            | Self::Vault(
                VaultError::NotFound { .. }
                | VaultError::Deleted { .. }
                | VaultError::Destroyed { .. },
            )
            | Self::Helper {
                fault: HelperFault::Withdrawn(_),
                ..
            } => true,
            Self::Kube { .. } | Self::Vault(_) | Self::Helper { .. } | Self::Form { .. } => false,
        }
    }

    /// Whether the source has nothing usable, rather than not responding.
    pub(crate) fn is_missing(&self) -> bool {
        self.withdraws() || matches!(self, Self::Form { .. })
    }

    /// Whether the source did not respond, which may pass.
    pub(crate) fn is_unavailable(&self) -> bool {
        match self {
            Self::Kube { error, .. } => error.may_pass(),
            Self::Vault(error) => error.may_pass(),
            Self::Helper { fault, .. } => match fault {
                HelperFault::TooSlow(_) | HelperFault::Failed { .. } => true,
                HelperFault::NotStarted(_)
                | HelperFault::Withdrawn(_)
                | HelperFault::BadOutput(_) => false,
            },
            Self::NoSecret { .. }
            | Self::NoKey { .. }
            | Self::NoField { .. }
            | Self::NotConfigured
            | Self::Form { .. } => false,
        }
    }
}
