//! Why the API server gave nothing, as a sentence for the operator with its remedy.

use std::sync::Arc;

use crate::{OwnTokenError, TransportError};

/// Why the API server gave nothing, or did nothing. Never says what a secret was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KubeError {
    /// There is no whole answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The gateway's own token cannot be read.
    #[error(transparent)]
    OwnToken(#[from] OwnTokenError),
    /// The gateway's own token is not accepted.
    #[error(
        "it does not accept the gateway's own token; check that its service account exists and that its token file is current"
    )]
    Unauthorized,
    /// The gateway may not do this.
    #[error(
        "it does not allow the gateway to {verb} this Secret; bind its service account to a Role in namespace {namespace} with rules: [{{apiGroups: [\"\"], resources: [secrets], {}verbs: [{}]}}]",
        of_name(verb, name),
        with_its_kin(verb)
    )]
    Forbidden {
        /// What it may not do, as RBAC calls it.
        verb: &'static str,
        /// The namespace.
        namespace: Arc<str>,
        /// The Secret's name.
        name: Arc<str>,
    },
    /// There is no such Secret, or no such namespace.
    #[error("there is no Secret {name} in namespace {namespace}")]
    NotFound {
        /// The namespace.
        namespace: Arc<str>,
        /// The Secret's name.
        name: Arc<str>,
    },
    /// It was to be created and is there already.
    #[error("there is already a Secret {name} in namespace {namespace}")]
    AlreadyExists {
        /// The namespace.
        namespace: Arc<str>,
        /// The Secret's name.
        name: Arc<str>,
    },
    /// Someone else has written it since it was read.
    #[error("Secret {name} in namespace {namespace} was changed by another client")]
    Conflict {
        /// The namespace.
        namespace: Arc<str>,
        /// The Secret's name.
        name: Arc<str>,
    },
    /// What was watched from is too long ago: it must be listed anew.
    #[error("it no longer has the changes since the last known version")]
    Gone,
    /// It has too much to do.
    #[error("it has too many requests (429)")]
    Busy,
    /// It does not take the request.
    #[error("it refuses the request ({status} {reason})")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The API server's one word for it.
        reason: Arc<str>,
    },
    /// It does not answer, and is not waited for any longer.
    #[error("it does not respond")]
    Silent,
    /// It failed.
    #[error("it failed ({status}): {said}")]
    Failed {
        /// The HTTP status.
        status: u16,
        /// What it said.
        said: Arc<str>,
    },
    /// The answer is not what Kubernetes answers.
    #[error("its response is not a {0}; check that `kubernetes.url` is a Kubernetes API server")]
    Malformed(&'static str),
}

impl KubeError {
    /// Whether it is the gateway itself that is refused.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Unauthorized | Self::Forbidden { .. })
    }

    /// Whether it may pass without a person's help.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Transport(error) => error.may_pass(),
            Self::OwnToken(_)
            | Self::Unauthorized
            | Self::Conflict { .. }
            | Self::AlreadyExists { .. }
            | Self::NotFound { .. }
            | Self::Gone
            | Self::Busy
            | Self::Silent
            | Self::Failed { .. } => true,
            Self::Forbidden { .. } | Self::Rejected { .. } | Self::Malformed(_) => false,
        }
    }
}

/// RBAC cannot restrict `create` to a name, which is in the body.
fn of_name(verb: &str, name: &str) -> String {
    if verb == "create" {
        String::new()
    } else {
        format!("resourceNames: [{name}], ")
    }
}

/// A watch begins with a list: who lacks one is told of both.
fn with_its_kin(verb: &str) -> &str {
    match verb {
        "list" | "watch" => "list, watch",
        alone => alone,
    }
}
