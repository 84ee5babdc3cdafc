//! Errors of Vault, as sentences for the operator with remedies.

use std::{path::PathBuf, sync::Arc};

use countersign_control_plane::{OwnTokenError, TransportError};
use jiff::Timestamp;

/// Why Vault returned nothing, or did nothing. Never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// There is no complete response.
    #[error("Vault: {0}")]
    Transport(#[from] TransportError),
    /// The token file cannot be read.
    #[error(transparent)]
    OwnToken(#[from] OwnTokenError),
    /// The token in the file is no longer accepted.
    #[error(
        "Vault does not accept the token in {}: it has expired, or lacks the policy `default`; write a new one there",
        file.display()
    )]
    TokenEnded {
        /// The file.
        file: PathBuf,
    },
    /// Vault refuses the gateway's login.
    #[error(
        "Vault refuses the login as role {role:?} at auth/{mount} ({status}: {said}); compare the \
         role's bound service account, namespace and audience with the gateway's own token"
    )]
    LoginRefused {
        /// Where the method is mounted.
        mount: String,
        /// The requested role.
        role: String,
        /// The HTTP status.
        status: u16,
        /// Its message.
        said: Arc<str>,
    },
    /// Vault is sealed, or not yet initialised.
    #[error("Vault is sealed; unseal it")]
    Sealed,
    /// Vault is overloaded, or not ready yet.
    #[error("Vault cannot respond at the moment")]
    Busy,
    /// Vault redirects to another server, which is not followed: it would receive the token.
    #[error(
        "Vault redirects to another server; set `vault.address` to the active one, or to a load balancer in front of it"
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
        /// The missing capabilities, as policies write them.
        capabilities: &'static str,
    },
    /// Nothing is mounted there.
    #[error("nothing is mounted in Vault at {path:?}; compare `mount` with `bao secrets list`")]
    NoMount {
        /// The requested path.
        path: Arc<str>,
    },
    /// There is no such namespace.
    #[error("Vault has no such namespace; compare `vault.namespace`")]
    NoNamespace,
    /// The mount is another engine, or KV version 1.
    #[error(
        "{mount:?} is not KV version 2 in Vault; `bao kv enable-versioning {mount}` converts it"
    )]
    NotKv2 {
        /// The mount.
        mount: Arc<str>,
    },
    /// There is no such secret: it never existed, or all its versions were removed.
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
        /// The newest version, which a check-and-set must name.
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
        /// The newest version, which a check-and-set must name.
        version: u64,
    },
    /// Another client has changed it since it was read.
    #[error("{path:?} in Vault at {mount:?} was changed by another client")]
    Conflict {
        /// The mount.
        mount: Arc<str>,
        /// The path beneath it.
        path: Arc<str>,
    },
    /// The lease no longer exists.
    #[error("Vault no longer has the lease; it has expired or was revoked")]
    NoLease,
    /// Vault refuses the request.
    #[error("Vault refuses the request for {path:?} ({status}: {said})")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The path.
        path: Arc<str>,
        /// Its message.
        said: Arc<str>,
    },
    /// Vault failed, or a server that its engine uses did.
    #[error("Vault failed for {path:?} ({status}); see its own log")]
    Failed {
        /// The HTTP status.
        status: u16,
        /// The path.
        path: Arc<str>,
    },
    /// The response is not a valid Vault response.
    #[error(
        "Vault's response has no usable {0}; check that `vault.address` is a Vault or OpenBao server"
    )]
    Malformed(&'static str),
    /// The login was interrupted, by a bug or because the process is shutting down.
    #[error("the login to Vault was interrupted")]
    Abandoned,
}

impl VaultError {
    /// Whether the gateway itself is refused.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::TokenEnded { .. }
                | Self::LoginRefused { .. }
                | Self::Redirected
                | Self::Denied { .. }
        )
    }

    /// Whether it may pass by itself.
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
