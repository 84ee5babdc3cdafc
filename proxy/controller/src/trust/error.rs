//! What goes wrong with trust, in words.

use jiff::Timestamp;

/// Why trust cannot be kept. The controller goes on with what it had.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The API server refuses, or is away.
    #[error("{0}")]
    Api(String),
    /// A Secret does not hold a root that can sign.
    #[error(
        "the Secret {secret} cannot be used: {key}: {reason}; restore it from a backup, or delete it: new roots are then made, and all injected pods must be started again"
    )]
    Broken {
        /// Its name.
        secret: String,
        /// The key in it.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// An operator's Secret does not hold a root that can sign.
    #[error(
        "the root in the Secret {secret} cannot be used: {reason}; it must have `tls.crt` with one self-signed certificate of a CA, and `tls.key` with its P-256 key (cert-manager: `isCA: true`, `privateKey: {{algorithm: ECDSA, size: 256}}`)"
    )]
    NotARoot {
        /// Its name.
        secret: String,
        /// What is wrong.
        reason: String,
    },
    /// An operator's Secret is not there.
    #[error(
        "there is no Secret {0} in the controller's namespace; make it, or remove `rootSecret`"
    )]
    NoSecret(String),
    /// A root is outside its validity.
    #[error(
        "the root {key} in the Secret {secret} is valid from {not_before} to {not_after} only; compare the node's clock; if it is right, delete the Secret: new roots are then made, and all injected pods must be started again"
    )]
    NotValid {
        /// The Secret's name.
        secret: String,
        /// The key in it.
        key: String,
        /// The first moment of its validity.
        not_before: Timestamp,
        /// The last moment of its validity.
        not_after: Timestamp,
    },
    /// Something that cannot be.
    #[error("internal: {0}")]
    Internal(String),
}

impl From<countersign_pki::PkiError> for TrustError {
    fn from(error: countersign_pki::PkiError) -> Self {
        Self::Internal(error.to_string())
    }
}

/// What the API server says, and which right is missing if that is it. `right` reads on after "a role must grant to".
pub(super) fn explained(error: &kube::Error, right: &str) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => format!(
            "the API server forbids it: a role must grant to {right} ({})",
            status.message
        ),
        kube::Error::Api(status) => {
            format!(
                "the API server answers {} {}: {}",
                status.code, status.reason, status.message
            )
        }
        _ => "the API server cannot be reached, or breaks off".to_owned(),
    }
}

/// Whether the namespace is gone, or about to be: nobody misses what cannot be written there.
pub(super) fn is_gone(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => {
            status.code == 404
                || (status.code == 403 && status.message.contains("is being terminated"))
        }
        _ => false,
    }
}
