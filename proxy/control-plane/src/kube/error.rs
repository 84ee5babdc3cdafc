//! Errors of the API server, as sentences for the operator with remedies.

use std::sync::Arc;

use super::MissingRights;
use crate::{OwnTokenError, TransportError};

/// Why the API server returned nothing, or did nothing. Never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KubeError {
    /// There is no complete response.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The gateway's own token cannot be read.
    #[error(transparent)]
    OwnToken(#[from] OwnTokenError),
    /// The gateway's own token is not accepted.
    #[error("it does not accept the gateway's own token (401), whatever its roles: {0}")]
    Unauthorized(
        /// What is known of the token.
        Arc<str>,
    ),
    /// The gateway's own token did not arrive.
    #[error(
        "it takes the gateway for nobody (system:anonymous) although a token was sent; find out what between them removes the header Authorization, or whether the address is not the API server's own"
    )]
    Unseen,
    /// The gateway's service account lacks rights.
    #[error("{0}")]
    Forbidden(MissingRights),
    /// Something other than a missing role forbids the request: a quota, an admission webhook, the end of a
    /// namespace.
    #[error("it forbids the request (403), though not for want of a role: {0}")]
    Denied(
        /// Its message.
        Arc<str>,
    ),
    /// There is no such Secret, or no such namespace.
    #[error("there is no Secret {name} in namespace {namespace}")]
    NotFound {
        /// The namespace.
        namespace: Arc<str>,
        /// The Secret's name.
        name: Arc<str>,
    },
    /// It was to be created but already exists.
    #[error("there is already a Secret {name} in namespace {namespace}")]
    AlreadyExists {
        /// The namespace.
        namespace: Arc<str>,
        /// The Secret's name.
        name: Arc<str>,
    },
    /// Another client has changed it since it was read.
    #[error("Secret {name} in namespace {namespace} was changed by another client")]
    Conflict {
        /// The namespace.
        namespace: Arc<str>,
        /// The Secret's name.
        name: Arc<str>,
    },
    /// The watch's version is too old: it must be listed again.
    #[error("it no longer has the changes since the last known version")]
    Gone,
    /// It is overloaded.
    #[error("it has too many requests (429)")]
    Busy,
    /// It refuses the request.
    #[error("it refuses the request ({status} {reason})")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The API server's reason code.
        reason: Arc<str>,
    },
    /// It does not respond, and requests no longer wait for it.
    #[error("it does not respond")]
    Silent,
    /// It failed.
    #[error("it failed ({status}): {said}")]
    Failed {
        /// The HTTP status.
        status: u16,
        /// Its message.
        said: Arc<str>,
    },
    /// The response is not a valid Kubernetes response.
    #[error("its response is not a {0}; check that `kubernetes.url` is a Kubernetes API server")]
    Malformed(&'static str),
}

impl KubeError {
    /// Whether the gateway itself is refused.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Unauthorized(_) | Self::Unseen | Self::Forbidden(_)
        )
    }

    /// Whether it may pass by itself.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Transport(error) => error.may_pass(),
            Self::OwnToken(_)
            | Self::Unauthorized(_)
            | Self::Unseen
            | Self::Conflict { .. }
            | Self::AlreadyExists { .. }
            | Self::NotFound { .. }
            | Self::Gone
            | Self::Busy
            | Self::Silent
            | Self::Failed { .. } => true,
            Self::Forbidden(_) | Self::Denied(_) | Self::Rejected { .. } | Self::Malformed(_) => {
                false
            }
        }
    }
}
