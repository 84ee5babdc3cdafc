//! Why state cannot be read or stored.

use std::{io, path::Path, sync::Arc};

use countersign_control_plane::kube::KubeError;

use crate::vault::VaultError;

/// Why state cannot be read or stored, as a sentence for the operator with its remedy. Never contains
/// the state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The store does not respond or cannot be used at the moment.
    #[error("the state store does not respond: {reason}")]
    Unavailable {
        /// What happened.
        reason: String,
    },
    /// Another process is refreshing and has not finished.
    #[error("another replica has been refreshing this credential for {seconds} s")]
    Busy {
        /// How long we waited.
        seconds: u64,
    },
    /// Another process has written in between.
    #[error("the state was changed by another replica at the same moment")]
    Conflict,
    /// The file system refused.
    #[error("cannot {action} {} ({kind})", path.display())]
    Io {
        /// The operation.
        action: &'static str,
        /// The file.
        path: Arc<Path>,
        /// What the operating system said.
        kind: io::ErrorKind,
    },
    /// Others can read or change it.
    #[error(
        "{} has mode {mode:04o}, so others can read or change it; make it {remedy}",
        path.display()
    )]
    Permissions {
        /// The file or directory.
        path: Arc<Path>,
        /// Its mode.
        mode: u32,
        /// What to do.
        remedy: &'static str,
    },
    /// It belongs to another user.
    #[error(
        "{} belongs to user {owner}, but the gateway runs as {ours}; change its owner, or configure a directory below it, which the gateway then creates",
        path.display()
    )]
    Owner {
        /// The file or directory.
        path: Arc<Path>,
        /// The owner.
        owner: u32,
        /// The gateway's user.
        ours: u32,
    },
    /// The stored document cannot be read. It is left unchanged.
    #[error(
        "{at} cannot be used: {reason}; it was not changed. Restore it from a backup, or move it away, reinstall the app and put its new refresh token where the credential's seed is"
    )]
    Corrupt {
        /// Where.
        at: Arc<str>,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A later version of the gateway wrote it.
    #[error("{at} was written by a later version of the gateway; it was not changed")]
    Later {
        /// Where.
        at: Arc<str>,
    },
    /// It is encrypted and the gateway has no key.
    #[error(
        "{at} is encrypted; configure the file with its key as `keyFile`, next to the state's `directory`"
    )]
    NoKey {
        /// Where.
        at: Arc<str>,
    },
    /// It is encrypted with a key that is not in the key file.
    #[error(
        "{at} is encrypted with the key {wanted}, which is not in the key file; add that key as another line. The file was not changed"
    )]
    WrongKey {
        /// Where.
        at: Arc<str>,
        /// Which key: a fingerprint.
        wanted: String,
    },
    /// The key file cannot be used.
    #[error("the key file {} {problem}", path.display())]
    KeyFile {
        /// The file.
        path: Arc<Path>,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The API server failed.
    #[error("the state in Kubernetes: {0}")]
    Kube(#[from] KubeError),
    /// The gateway lacks rights at the API server to store state.
    #[error(
        "the gateway may not {} Secret {name} in namespace {namespace}, where Slack's new tokens are stored; nothing is sent to Slack. Bind its service account to a Role in namespace {namespace} with rules: [{{apiGroups: [\"\"], resources: [secrets], verbs: [create]}}, {{apiGroups: [\"\"], resources: [secrets], resourceNames: [{name}], verbs: [get, update]}}]",
        missing.join(" and ")
    )]
    KubeRights {
        /// The namespace.
        namespace: Arc<str>,
        /// The Secret's name.
        name: Arc<str>,
        /// The missing verbs.
        missing: Vec<&'static str>,
    },
    /// The gateway lacks rights at Vault to store state.
    #[error(
        "the gateway lacks {} for {path} in Vault, where Slack's new tokens are stored; nothing is sent to Slack. Give it a policy with: path \"{path}\" {{ capabilities = [\"create\", \"read\", \"update\"] }}",
        missing.join(" and ")
    )]
    VaultRights {
        /// The path, as policies write it.
        path: Arc<str>,
        /// The missing capabilities.
        missing: Vec<&'static str>,
    },
    /// Vault failed.
    #[error("the state in Vault: {0}")]
    Vault(#[from] VaultError),
    /// The configuration names a store without its settings.
    #[error("the state store needs {what}")]
    NotConfigured {
        /// What is missing.
        what: &'static str,
    },
}

impl StateError {
    pub(super) fn io(action: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::Io {
            action,
            path: path.into(),
            kind: error.kind(),
        }
    }

    /// Whether it may pass by itself.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::Busy { .. } | Self::Conflict | Self::Io { .. } => true,
            Self::Permissions { .. }
            | Self::Owner { .. }
            | Self::Corrupt { .. }
            | Self::Later { .. }
            | Self::NoKey { .. }
            | Self::WrongKey { .. }
            | Self::KeyFile { .. }
            | Self::KubeRights { .. }
            | Self::VaultRights { .. }
            | Self::NotConfigured { .. } => false,
            Self::Kube(error) => error.may_pass(),
            Self::Vault(error) => error.may_pass(),
        }
    }
}
