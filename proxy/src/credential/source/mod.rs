//! Sources: where secret material lives. One `match` knows them all.

use countersign_config::model::{Credential, SecretSource};
use jiff::Timestamp;

use super::CredentialError;
use crate::{secret::Secret, secret_file};

/// What a source holds now.
#[derive(Debug)]
pub(super) struct Material {
    pub(super) secret: Secret,
    /// When the source says that it ends.
    pub(super) expires_at: Option<Timestamp>,
}

impl From<Secret> for Material {
    fn from(secret: Secret) -> Self {
        Self {
            secret,
            expires_at: None,
        }
    }
}

/// What a secret must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One line of visible ASCII without spaces.
    Token,
    /// Any text, such as a PEM key or a password.
    Text,
}

/// The places that secret material is read from.
#[derive(Debug)]
pub(super) struct Sources {}

impl Sources {
    pub(super) fn new() -> Self {
        Self {}
    }

    /// Reads what a source holds now, on behalf of `credential`.
    pub(super) async fn read(
        &self,
        _credential: &Credential,
        source: &SecretSource,
        form: Form,
    ) -> Result<Material, CredentialError> {
        match source {
            SecretSource::File(path) => {
                let read = match form {
                    Form::Token => secret_file::read(path).await,
                    Form::Text => secret_file::read_text(path).await,
                };
                read.map(Material::from)
                    .map_err(|error| CredentialError::of_file(path, error))
            }
            SecretSource::KubernetesSecret { .. } => Err(CredentialError::NotBuilt {
                what: "reading a Kubernetes Secret (kubernetesSecret)",
            }),
            SecretSource::Vault { .. } => Err(CredentialError::NotBuilt {
                what: "reading from Vault or OpenBao (vault)",
            }),
            SecretSource::Exec { .. } => Err(CredentialError::NotBuilt {
                what: "asking a helper program (exec)",
            }),
        }
    }
}
