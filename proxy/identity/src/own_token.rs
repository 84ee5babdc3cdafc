//! The token of the pod that this gateway is a sidecar of.

use std::{path::Path, sync::Arc};

use super::IdentifyError;
use countersign_core::{secret::Secret, secret_file};

/// A pod's own projected token. The kubelet replaces the file before the token ends, so it is
/// read every time; [`super::Identifier::by_token`] remembers what it has checked.
#[derive(Debug, Clone)]
pub struct OwnToken {
    file: Arc<Path>,
}

impl OwnToken {
    /// The token in this file, which need not be there yet.
    pub fn new(file: &Path) -> Self {
        Self { file: file.into() }
    }

    /// The token now.
    pub async fn read(&self) -> Result<Secret, IdentifyError> {
        secret_file::read(&self.file)
            .await
            .map_err(|error| IdentifyError::OwnTokenUnavailable {
                file: Arc::clone(&self.file),
                detail: error.to_string().into(),
            })
    }
}
