//! What the gateway keeps of its resources, as it is in its state directory: revisions, and when grants were last used.

use std::{fs, io, path::PathBuf};

use axum::{
    Json,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use countersign_config::history::Head;

use super::AdminState;

/// The revisions that are kept, the oldest first.
pub(super) async fn list(State(state): State<AdminState>) -> Response {
    let directory = state.0.history.get();
    read(directory, heads, |heads| Json(heads).into_response()).await
}

/// The document of one of them, by its digest, compressed with gzip.
pub(super) async fn one(State(state): State<AdminState>, Path(digest): Path<String>) -> Response {
    let find = move |directory: PathBuf| {
        let mut heads = heads(directory.clone())?.into_iter();
        let found = heads.find(|head| head.digest == digest);
        let found = found.ok_or(io::ErrorKind::NotFound)?;
        fs::read(directory.join(found.file_name()))
    };
    read(state.0.history.get(), find, |document| {
        ([(header::CONTENT_TYPE, "application/gzip")], document).into_response()
    })
    .await
}

/// When each grant was last used, as of the last minute.
pub(super) async fn last_use(State(state): State<AdminState>) -> Response {
    read(state.0.last_use.get(), fs::read, |document| {
        ([(header::CONTENT_TYPE, "application/json")], document).into_response()
    })
    .await
}

fn heads(directory: PathBuf) -> io::Result<Vec<Head>> {
    let mut heads = Vec::new();
    for entry in fs::read_dir(directory)? {
        heads.extend(entry?.file_name().to_str().and_then(Head::of_file));
    }
    heads.sort();
    Ok(heads)
}

/// Reads from the disk on a thread that may wait for it.
async fn read<T: Send + 'static>(
    path: Option<&PathBuf>,
    read: impl FnOnce(PathBuf) -> io::Result<T> + Send + 'static,
    answer: impl FnOnce(T) -> Response,
) -> Response {
    let Some(path) = path.cloned() else {
        let sentence = "this gateway keeps none; its state is not in a directory\n";
        return (StatusCode::NOT_FOUND, sentence).into_response();
    };
    match tokio::task::spawn_blocking(move || read(path)).await {
        Ok(Ok(found)) => answer(found),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            (StatusCode::NOT_FOUND, "this is not kept\n").into_response()
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "what is kept of the resources cannot be read");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        Err(error) => {
            tracing::error!(%error, "reading what is kept of the resources failed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
