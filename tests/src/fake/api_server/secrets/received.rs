//! What a request to change a Secret must be for the API server to take it.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::StatusCode;
use serde_json::{Map, Value};

use super::Failure;
use crate::fake::Received;

/// The most bytes of data in one Secret.
const LARGEST: usize = 1024 * 1024;

/// The object that was sent.
pub(super) fn sent(received: &Received) -> Result<Value, Failure> {
    let content_type = received.header("content-type").unwrap_or_default();
    if !content_type.starts_with("application/json") {
        return Err(Failure::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format",
        ));
    }
    let object = received.json().filter(Value::is_object);
    object.ok_or_else(|| Failure::new(StatusCode::BAD_REQUEST, "BadRequest", "it is no JSON"))
}

/// That an object is a Secret of this name, as the API server wants it.
pub(super) fn valid(object: &Value, namespace: &str, name: &str) -> Result<(), Failure> {
    let bad = |message: &str| Failure::new(StatusCode::BAD_REQUEST, "BadRequest", message);
    let invalid = |message: &str| {
        let message = format!("Secret \"{name}\" is invalid: {message}");
        Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", &message)
    };
    if object["kind"] != "Secret" || object["apiVersion"] != "v1" {
        return Err(bad("the object provided is no v1 Secret"));
    }
    let metadata = &object["metadata"];
    if metadata["name"] != *name {
        return Err(bad(
            "the name of the object does not match the name on the URL",
        ));
    }
    if !metadata["namespace"].is_null() && metadata["namespace"] != *namespace {
        return Err(bad(
            "the namespace of the object does not match the namespace on the URL",
        ));
    }
    let name_char =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    let inner = name.trim_matches(['-', '.']);
    if name.is_empty() || name.len() > 253 || inner != name || !name.bytes().all(name_char) {
        return Err(invalid(
            "metadata.name: Invalid value: a lowercase RFC 1123 subdomain",
        ));
    }
    let empty = Map::new();
    let mut total = 0;
    for (key, value) in object["data"].as_object().unwrap_or(&empty) {
        let key_char = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if key.is_empty() || key.len() > 253 || !key.bytes().all(key_char) {
            return Err(invalid("data: Invalid value: a valid config key"));
        }
        let decoded = value.as_str().map(|text| BASE64_STANDARD.decode(text));
        match decoded {
            Some(Ok(bytes)) => total += bytes.len(),
            Some(Err(_)) | None => return Err(bad("Secret in version \"v1\" cannot be handled")),
        }
    }
    if total > LARGEST {
        return Err(invalid(
            "data: Too long: may not be more than 1048576 bytes",
        ));
    }
    Ok(())
}

/// Whether all is to be done but the writing. There is one word for it.
pub(super) fn is_dry_run(received: &Received) -> Result<bool, Failure> {
    let fields = received.query_fields();
    let asked = fields.iter().find(|(key, _)| key == "dryRun");
    match asked.map(|(_, value)| value.as_str()) {
        None => Ok(false),
        Some("All") => Ok(true),
        Some(other) => {
            let message =
                format!("dryRun: Unsupported value: \"{other}\": supported values: \"All\"");
            Err(Failure::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "Invalid",
                &message,
            ))
        }
    }
}
