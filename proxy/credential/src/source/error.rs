//! Why a source beyond the gateway's own files gave nothing.

use std::{sync::Arc, time::Duration};

use countersign_control_plane::kube::KubeError;
use countersign_core::secret_file::SecretFileError;

use crate::vault::VaultError;

/// Why a source gave nothing, as a sentence for the operator with its remedy. Never says what a
/// secret was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The Secret is not there: access was withdrawn, or not yet given.
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
        /// The keys that it has, which are no secret.
        keys: Arc<str>,
    },
    /// The API server did not give the Secret.
    #[error("the Secret {namespace}/{name} from the Kubernetes API: {error}")]
    Kube {
        /// Its namespace.
        namespace: Arc<str>,
        /// Its name.
        name: Arc<str>,
        /// What went wrong.
        error: KubeError,
        /// Whether it refuses us since a moment ago only, as an API server does that has just been
        /// started and has not read its roles yet.
        lately: bool,
    },
    /// Vault did not give it.
    #[error(transparent)]
    Vault(VaultError),
    /// What Vault has there has no such field, or it is no text.
    #[error(
        "{path:?} in Vault at {mount:?} has no field `{key}` with a text; its fields are {fields}"
    )]
    NoField {
        /// The mount.
        mount: Arc<str>,
        /// The path beneath it.
        path: Arc<str>,
        /// The field.
        key: Arc<str>,
        /// The fields that it has, which are no secret.
        fields: Arc<str>,
    },
    /// The gateway was told nothing of a Vault.
    #[error("the Credential names Vault, and the Gateway's `vault` is not set; set its address")]
    NotConfigured,
    /// The operator's helper did not give it.
    #[error("the helper {program} {fault}")]
    Helper {
        /// The program.
        program: Arc<str>,
        /// What went wrong.
        fault: HelperFault,
    },
    /// It is there, and not of the form that it needs.
    #[error("{at} {fault}")]
    Form {
        /// Where it is.
        at: Arc<str>,
        /// What is wrong with it.
        fault: SecretFileError,
    },
}

/// What went wrong with an operator's helper. What it wrote to its standard error is not told: it
/// may hold anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelperFault {
    /// It could not be started.
    #[error("cannot be started ({0}); see that it exists in the gateway's image and may be run")]
    NotStarted(std::io::ErrorKind),
    /// It took too long, and was killed.
    #[error("gave no answer within {} s and was killed; raise its `timeout`, or see what it waits for", .0.as_secs_f32())]
    TooSlow(std::time::Duration),
    /// It ended with a failure and said why, or nothing.
    #[error("failed ({status}){}; run it by hand to see more", said.as_ref().map(|said| format!(": {said}")).unwrap_or_default())]
    Failed {
        /// How it ended.
        status: Arc<str>,
        /// Its own words (`error`), redacted.
        said: Option<Arc<str>>,
    },
    /// It said that there is no secret any more.
    #[error("says that there is no secret any more{}", .0.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    Withdrawn(Option<Arc<str>>),
    /// It answered something else than it should.
    #[error(
        "{0}; it must print one JSON object: {{\"secret\": \"...\", \"expiresAt\": \"2026-11-23T05:10:00Z\"}}"
    )]
    Answer(&'static str),
}

/// How long after its last answer of another kind Vault may refuse us, before that is taken for what
/// it says. Until it is up again after a restart, it and what it asks (its standby, the API server that
/// knows our token) say such things without meaning them.
const REFUSED_BY_VAULT: Duration = Duration::from_mins(1);

impl SourceError {
    /// How long after the last good answer the value from before may serve, of the `usual` time.
    pub(crate) fn grace(&self, usual: Duration) -> Duration {
        match self {
            Self::Vault(error) if error.is_refusal() => REFUSED_BY_VAULT.min(usual),
            _ if self.may_pass() => usual,
            _ => Duration::ZERO,
        }
    }

    /// Whether this may pass by itself, so that the value from before may serve for a while.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Kube { error, lately, .. } if error.is_refusal() => *lately,
            // What is held is as good as before, if it is only that its source cannot be asked.
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

    /// Whether it says that access was taken away.
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

    /// Whether there is nothing usable where it should be, rather than nobody to ask.
    pub(crate) fn is_missing(&self) -> bool {
        self.withdraws() || matches!(self, Self::Form { .. })
    }

    /// Whether nobody could be asked, which may pass.
    pub(crate) fn is_unavailable(&self) -> bool {
        match self {
            Self::Kube { error, .. } => error.may_pass(),
            Self::Vault(error) => error.may_pass(),
            Self::Helper { fault, .. } => match fault {
                HelperFault::TooSlow(_) | HelperFault::Failed { .. } => true,
                HelperFault::NotStarted(_) | HelperFault::Withdrawn(_) | HelperFault::Answer(_) => {
                    false
                }
            },
            Self::NoSecret { .. }
            | Self::NoKey { .. }
            | Self::NoField { .. }
            | Self::NotConfigured
            | Self::Form { .. } => false,
        }
    }
}
