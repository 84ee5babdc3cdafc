//! Why Vault gave nothing, as a sentence for the operator with its remedy.

use std::{path::PathBuf, sync::Arc};

use countersign_control_plane::{OwnTokenError, TransportError};
use jiff::Timestamp;

/// Why Vault gave nothing, or did nothing. Never says what a secret was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// There is no whole answer.
    #[error("Vault: {0}")]
    Transport(#[from] TransportError),
    /// The token file cannot be read.
    #[error(transparent)]
    OwnToken(#[from] OwnTokenError),
    /// The token in the file is not accepted any more.
    #[error(
        "Vault does not accept the token in {}: it has ended, or has not the policy `default`; \
         write a new one there",
        file.display()
    )]
    TokenEnded {
        /// The file.
        file: PathBuf,
    },
    /// Vault does not let the gateway log in.
    #[error(
        "Vault refuses the login as role {role:?} at auth/{mount} ({status}: {said}); compare the \
         role's bound service account, namespace and audience with the gateway's own token"
    )]
    LoginRefused {
        /// Where the method is mounted.
        mount: String,
        /// The role that was asked for.
        role: String,
        /// The HTTP status.
        status: u16,
        /// What it said.
        said: Arc<str>,
    },
    /// Vault is sealed, or not yet initialised.
    #[error("Vault is sealed; unseal it")]
    Sealed,
    /// Vault has too much to do, or is not quite up yet.
    #[error("Vault cannot answer at this moment")]
    Busy,
    /// Vault names another server, which is not asked: it would be shown the token.
    #[error(
        "Vault redirects to another server; set `vault.address` to the active one, or to a load \
         balancer that knows it"
    )]
    Redirected,
    /// The session's policies do not allow it.
    #[error(
        "Vault does not allow it; give the gateway a policy with: \
         path \"{path}\" {{ capabilities = [{capabilities}] }}"
    )]
    Denied {
        /// The path, as policies write it.
        path: Arc<str>,
        /// What must be granted, as policies write it.
        capabilities: &'static str,
    },
    /// Nothing is mounted there.
    #[error("nothing is mounted in Vault at {path:?}; compare `mount` with `bao secrets list`")]
    NoMount {
        /// The path that was asked for.
        path: Arc<str>,
    },
    /// There is no such namespace.
    #[error("Vault has no such namespace; compare `vault.namespace`")]
    NoNamespace,
    /// The mount is another engine, or key and value of version 1.
    #[error(
        "{mount:?} is no KV version 2 in Vault; `bao kv enable-versioning {mount}` makes it one"
    )]
    NotKv2 {
        /// The mount.
        mount: Arc<str>,
    },
    /// There is no such secret, and there never was or all its versions were removed.
    #[error("there is no secret {path:?} in Vault at {mount:?}; write one")]
    NotFound {
        /// The mount.
        mount: Arc<str>,
        /// The path beneath it.
        path: Arc<str>,
    },
    /// The newest version was deleted.
    #[error(
        "version {version} of {path:?} in Vault at {mount:?} was deleted at {at}; undelete it or \
         write a new one"
    )]
    Deleted {
        /// The mount.
        mount: Arc<str>,
        /// The path beneath it.
        path: Arc<str>,
        /// The newest version: what a check-and-set must name.
        version: u64,
        /// When.
        at: Timestamp,
    },
    /// The newest version was destroyed.
    #[error("version {version} of {path:?} in Vault at {mount:?} was destroyed; write a new one")]
    Destroyed {
        /// The mount.
        mount: Arc<str>,
        /// The path beneath it.
        path: Arc<str>,
        /// The newest version: what a check-and-set must name.
        version: u64,
    },
    /// Someone else has written it since it was read.
    #[error("{path:?} in Vault at {mount:?} was changed by another writer")]
    Conflict {
        /// The mount.
        mount: Arc<str>,
        /// The path beneath it.
        path: Arc<str>,
    },
    /// There is no such lease any more.
    #[error("Vault no longer has the lease; it has ended or was revoked")]
    NoLease,
    /// Vault does not take the request.
    #[error("Vault does not take what was asked of {path:?} ({status}: {said})")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The path.
        path: Arc<str>,
        /// What it said.
        said: Arc<str>,
    },
    /// Vault failed, or what the engine asks did.
    #[error("Vault failed at {path:?} ({status}); its own log says why")]
    Failed {
        /// The HTTP status.
        status: u16,
        /// The path.
        path: Arc<str>,
    },
    /// The answer is not what Vault answers.
    #[error("Vault's answer has no usable {0}; see that `vault.address` is a Vault or OpenBao")]
    Malformed(&'static str),
    /// The login was cut off, by a defect or because the process is shutting down.
    #[error("the login to Vault was cut off")]
    Abandoned,
}

impl VaultError {
    /// Whether it is the gateway itself that is refused.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::TokenEnded { .. }
                | Self::LoginRefused { .. }
                | Self::Redirected
                | Self::Denied { .. }
        )
    }

    /// Whether it may pass without a person's help.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Transport(error) => error.may_pass(),
            Self::OwnToken(_)
            | Self::TokenEnded { .. }
            | Self::Sealed
            | Self::Busy
            | Self::Conflict { .. }
            | Self::NotFound { .. }
            | Self::Deleted { .. }
            | Self::Destroyed { .. }
            | Self::NoLease
            | Self::Failed { .. }
            | Self::Abandoned => true,
            Self::LoginRefused { .. }
            | Self::Redirected
            | Self::Denied { .. }
            | Self::NoMount { .. }
            | Self::NoNamespace
            | Self::NotKv2 { .. }
            | Self::Rejected { .. }
            | Self::Malformed(_) => false,
        }
    }
}
