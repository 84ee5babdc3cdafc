//! The token of the pod in which this gateway is a sidecar.

use std::{path::Path, sync::Arc};

use super::IdentifyError;
use countersign_core::{secret::Secret, secret_file};

/// A pod's own projected token. The kubelet replaces the file before the token expires, so it is read
/// every time; [`super::Identifier::by_token`] caches what it has checked.
#[derive(Debug, Clone)]
pub struct OwnToken {
    file: Arc<Path>,
}

impl OwnToken {
    /// The token in this file, which need not exist yet.
    pub fn new(file: &Path) -> Self {
        Self { file: file.into() }
    }

    /// The current token.
    pub async fn read(&self) -> Result<Secret, IdentifyError> {
        secret_file::read(&self.file)
            .await
            .map_err(|error| IdentifyError::OwnTokenUnavailable {
                file: Arc::clone(&self.file),
                detail: error.to_string().into(),
            })
    }
}
