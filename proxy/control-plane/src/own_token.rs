//! The token that the gateway proves itself with.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use countersign_core::{secret::Secret, secret_file};

/// The file of the gateway's own token, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the gateway's own token file {} {detail}", file.display())]
pub struct OwnTokenError {
    file: PathBuf,
    detail: Arc<str>,
}

/// Reads a token with which the gateway authenticates. It is replaced before it expires, so it is read
/// for every use.
pub async fn own_token(file: &Path) -> Result<Secret, OwnTokenError> {
    let read = secret_file::read(file).await;
    read.map_err(|error| OwnTokenError {
        file: file.to_owned(),
        detail: error.to_string().into(),
    })
}
