//! Why state cannot be read or kept.

use std::{io, path::Path, sync::Arc};

use countersign_control_plane::kube::KubeError;

use crate::vault::VaultError;

/// Why state cannot be read or kept, as a sentence for the operator with its remedy. Never says
/// what is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The store cannot be reached or used just now.
    #[error("the state store does not answer: {reason}")]
    Unavailable {
        /// What was seen.
        reason: String,
    },
    /// Another process is refreshing and has not come to an end.
    #[error("another replica has been refreshing this credential for {seconds} s")]
    Busy {
        /// How long we waited for it.
        seconds: u64,
    },
    /// Somebody else wrote in between.
    #[error("the state was changed by another replica at the same moment")]
    Conflict,
    /// The file system refused.
    #[error("cannot {action} {} ({kind})", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: Arc<Path>,
        /// What the operating system said.
        kind: io::ErrorKind,
    },
    /// Others could read or change it.
    #[error(
        "{} has mode {mode:04o}, so that others may read or change what is in it; make it {remedy}",
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
        "{} belongs to user {owner} and the gateway runs as {ours}; give it to the gateway, or name \
         a directory beneath it, which the gateway then makes for itself",
        path.display()
    )]
    Owner {
        /// The file or directory.
        path: Arc<Path>,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        ours: u32,
    },
    /// What is stored cannot be understood. It is left as it is.
    #[error(
        "{at} cannot be used: {reason}; it is left as it is. Restore it from a backup, or move it \
         away, reinstall the app and put its new refresh token where the credential's seed is"
    )]
    Corrupt {
        /// Where.
        at: Arc<str>,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A later version of the gateway wrote it.
    #[error("{at} was written by a later version of the gateway; it is left as it is")]
    Later {
        /// Where.
        at: Arc<str>,
    },
    /// It is encrypted and the gateway was given no key.
    #[error(
        "{at} is encrypted; name the file with its key as `keyFile` beside the state's `directory`"
    )]
    NoKey {
        /// Where.
        at: Arc<str>,
    },
    /// It is encrypted with a key that is not in the key file.
    #[error(
        "{at} is encrypted with the key {wanted}, which is not in the key file; add that key as a \
         further line. It is left as it is"
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
    /// The API server did not give or take it.
    #[error("the state in Kubernetes: {0}")]
    Kube(#[from] KubeError),
    /// The API server does not let the gateway do all that it takes to keep state.
    #[error(
        "the gateway may not {} Secret {name} in namespace {namespace}, in which what Slack gives for \
         a token that works once is kept; nothing is sent to Slack. Bind its service account to a \
         Role in namespace {namespace} with rules: [{{apiGroups: [\"\"], resources: [secrets], \
         verbs: [create]}}, {{apiGroups: [\"\"], resources: [secrets], resourceNames: [{name}], \
         verbs: [get, update]}}]",
        missing.join(" and ")
    )]
    KubeRights {
        /// The namespace.
        namespace: Arc<str>,
        /// The Secret's name.
        name: Arc<str>,
        /// The verbs that are missing.
        missing: Vec<&'static str>,
    },
    /// Vault does not let the gateway do all that it takes to keep state.
    #[error(
        "the gateway lacks {} for {path} in Vault, in which what Slack gives for a token that works \
         once is kept; nothing is sent to Slack. Give it a policy with: path \"{path}\" \
         {{ capabilities = [\"create\", \"read\", \"update\"] }}",
        missing.join(" and ")
    )]
    VaultRights {
        /// The path, as policies write it.
        path: Arc<str>,
        /// The capabilities that are missing.
        missing: Vec<&'static str>,
    },
    /// Vault did not give or take it.
    #[error("the state in Vault: {0}")]
    Vault(#[from] VaultError),
    /// The configuration does not describe the store that it names.
    #[error("the state's store needs {what}")]
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

    /// Whether it may pass without a person's help.
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
