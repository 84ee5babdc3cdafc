//! `POST /v1/attachment/{code}`: files as `file[]`, within Qase's limits.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Answer, QaseError};
use crate::{fake::Received, random};

const FILE_BYTES: u64 = 32 * 1024 * 1024;
const REQUEST_BYTES: u64 = 128 * 1024 * 1024;
const FILES: usize = 20;

pub(super) fn store(received: &Received) -> Result<Answer, QaseError> {
    let too_large = || QaseError::new(StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large.");
    if received.body_length > REQUEST_BYTES {
        return Err(too_large());
    }
    let files: Vec<_> = received
        .parts
        .iter()
        .flatten()
        .filter(|part| part.filename.is_some() && matches!(part.name.as_str(), "file" | "file[]"))
        .collect();
    if files.is_empty() {
        return Err(QaseError::invalid("file", "The file field is required."));
    }
    if files.iter().any(|file| file.length > FILE_BYTES) {
        return Err(too_large());
    }
    if files.len() > FILES {
        return Err(QaseError::invalid("file", "At most 20 files."));
    }
    let stored: Vec<Value> = files
        .iter()
        .map(|file| {
            let hash = random::hex::<20>();
            json!({
                "hash": hash,
                "filename": file.filename,
                "size": file.length,
                "mime": "application/octet-stream",
                "extension": "",
                "url": format!("https://storage.qase.example/{hash}"),
            })
        })
        .collect();
    Ok(Answer::ok(&Value::Array(stored)))
}
