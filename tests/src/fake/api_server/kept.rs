//! What a write keeps of the object that is there.

use serde_json::Value;

use super::kinds::Kind;

/// A write to a subresource changes nothing else, and a write to the object no status.
pub(super) fn keep_what_is_not_written(
    kind: &Kind,
    subresource: &str,
    old: &Value,
    new: &mut Value,
) {
    let kept = [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "namespace",
        "resourceVersion",
    ];
    match subresource {
        "status" | "approval" => {
            let status = new["status"].clone();
            let managed = new["metadata"]["managedFields"].clone();
            let conditions = status["conditions"].clone();
            *new = old.clone();
            match (kind.kind.as_str(), subresource) {
                (_, "approval") => new["status"]["conditions"] = conditions,
                ("CertificateSigningRequest", _) => {
                    let before = old["status"]["conditions"].clone();
                    new["status"] = status;
                    new["status"]["conditions"] = before;
                }
                _ => new["status"] = status,
            }
            let status = new["status"].clone();
            set_or_remove(new, "status", &status);
            new["metadata"]["managedFields"] = managed;
        }
        "finalize" => {
            let finalizers = new["spec"]["finalizers"].clone();
            *new = old.clone();
            new["spec"]["finalizers"] = finalizers;
        }
        "ephemeralcontainers" => {
            let added = new["spec"]["ephemeralContainers"].clone();
            *new = old.clone();
            new["spec"]["ephemeralContainers"] = added;
        }
        _ => {
            for field in kept {
                set_or_remove(&mut new["metadata"], field, &old["metadata"][field]);
            }
            if kind.has("status") {
                set_or_remove(new, "status", &old["status"]);
            }
            if kind.kind == "CertificateSigningRequest" {
                new["spec"] = old["spec"].clone();
            }
            if kind.kind == "Namespace" {
                new["spec"] = old["spec"].clone();
            }
            if kind.kind == "Secret" && new["type"].is_null() {
                new["type"] = "Opaque".into();
            }
        }
    }
}

/// A field that is not there is absent, and not null.
fn set_or_remove(object: &mut Value, field: &str, value: &Value) {
    if let Some(fields) = object.as_object_mut() {
        match value {
            Value::Null => drop(fields.remove(field)),
            value => drop(fields.insert(field.to_owned(), value.clone())),
        }
    }
}

pub(super) fn changes_spec(kind: &Kind, old: &Value, new: &Value) -> bool {
    let fields = |object: &Value| {
        let mut object = object.clone();
        if let Some(fields) = object.as_object_mut() {
            for other in ["metadata", "apiVersion", "kind"] {
                fields.remove(other);
            }
            if kind.has("status") {
                fields.remove("status");
            }
        }
        object
    };
    fields(old) != fields(new)
}
