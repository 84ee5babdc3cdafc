//! Sources: where secret material lives. One `match` knows them all.

use countersign_config::model::SecretSource;

use super::CredentialError;
use crate::{secret::Secret, secret_file};

/// Reads what the source holds now.
pub(super) async fn read(source: &SecretSource) -> Result<Secret, CredentialError> {
    match source {
        SecretSource::File(path) => secret_file::read(path)
            .await
            .map_err(|error| CredentialError::of_file(path, error)),
        SecretSource::KubernetesSecret { .. } => Err(CredentialError::NotBuilt {
            what: "reading a Kubernetes Secret (kubernetesSecret)",
        }),
        SecretSource::Vault { .. } => Err(CredentialError::NotBuilt {
            what: "reading from Vault or OpenBao (vault)",
        }),
    }
}
