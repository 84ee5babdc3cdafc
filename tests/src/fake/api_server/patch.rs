//! The kinds of patches.

use http::StatusCode;
use serde_json::Value;

use super::{
    failure::{Cause, Failure},
    fields::Manager,
    ownership,
    write::Write,
};

/// A patch that was read.
pub(super) enum Patch {
    Merge(Value),
    Json(json_patch::Patch),
    Apply(Value),
}

pub(super) fn read(write: &Write<'_>) -> Result<Patch, Failure> {
    let body = &write.received.body;
    let unreadable = |error: serde_json::Error| {
        let message = format!("error decoding patch: {error}");
        Failure::bad_request(&message)
    };
    match write.received.media_type().as_str() {
        "application/merge-patch+json" => serde_json::from_slice(body)
            .map(Patch::Merge)
            .map_err(unreadable),
        "application/json-patch+json" => serde_json::from_slice(body)
            .map(Patch::Json)
            .map_err(unreadable),
        "application/apply-patch+yaml" => serde_json::from_slice(body)
            .map(Patch::Apply)
            .map_err(unreadable),
        // Lists of built-in kinds are merged by key there, which is not built here.
        "application/strategic-merge-patch+json" if !write.kind.is_custom() => {
            serde_json::from_slice(body)
                .map(Patch::Merge)
                .map_err(unreadable)
        }
        _ => {
            let message = "the body of the request was in an unknown format - accepted media types \
                           include: application/json-patch+json, application/merge-patch+json, \
                           application/apply-patch+yaml";
            let code = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            Err(Failure::new(code, "UnsupportedMediaType", message))
        }
    }
}

/// Who applies; it must be said.
pub(super) fn apply_manager(write: &Write<'_>) -> Result<Manager, Failure> {
    if write.query.get("fieldManager").is_none() {
        let cause = Cause {
            reason: "FieldValueRequired",
            field: "fieldManager".to_owned(),
            message: "Required value: is required for apply patch".to_owned(),
        };
        return Err(Failure::invalid("PatchOptions.meta.k8s.io", "", &[cause]));
    }
    Ok(write.manager("Apply"))
}

impl Patch {
    pub(super) fn is_apply(&self) -> bool {
        matches!(self, Self::Apply(_))
    }

    /// The object after it.
    pub(super) fn change(&self, write: &Write<'_>, current: &Value) -> Result<Value, Failure> {
        if write.query.get("force").is_some() {
            let cause = Cause::invalid(
                "force",
                "Forbidden: may not be specified for non-apply patch",
            );
            return Err(Failure::invalid("PatchOptions.meta.k8s.io", "", &[cause]));
        }
        let mut object = current.clone();
        match self {
            Self::Merge(patch) => json_patch::merge(&mut object, patch),
            Self::Json(patch) => json_patch::patch(&mut object, patch).map_err(|error| {
                let message = format!(
                    "the server rejected our request due to an error in our request: {error}"
                );
                Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", &message)
            })?,
            Self::Apply(_) => unreachable!("it is applied"),
        }
        Ok(object)
    }

    pub(super) fn apply(
        &self,
        write: &Write<'_>,
        current: Option<&Value>,
        manager: &Manager,
    ) -> Result<Value, Failure> {
        let Self::Apply(config) = self else {
            unreachable!("it is no apply");
        };
        write.checked_type(config)?;
        if !config["metadata"]["managedFields"].is_null() {
            return Err(Failure::bad_request("metadata.managedFields must be nil"));
        }
        let force = write.query.is_true("force");
        let mut applied = ownership::applied(&write.kind, current, config, manager, force)?;
        applied["kind"] = write.kind.kind.clone().into();
        applied["apiVersion"] = write.kind.api_version().into();
        applied["metadata"]["name"] = write.target.name.clone().into();
        // Of an apply only a version that was sent counts.
        if let (Some(metadata), true) = (applied["metadata"].as_object_mut(), current.is_some()) {
            match &config["metadata"]["resourceVersion"] {
                Value::Null => {
                    if let Some(current) = current {
                        let version = current["metadata"]["resourceVersion"].clone();
                        metadata.insert("resourceVersion".to_owned(), version);
                    }
                }
                sent => {
                    metadata.insert("resourceVersion".to_owned(), sent.clone());
                }
            }
        }
        Ok(applied)
    }
}
