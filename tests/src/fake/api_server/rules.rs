//! What each kind demands of its objects, and what the server sets in them.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

use super::{
    custom,
    failure::{Cause, Failure},
    kinds::Kind,
    text,
    user::User,
};

/// The most bytes of data in one Secret.
const LARGEST_SECRET: usize = 1024 * 1024;

/// What the server sets when an object is made.
pub(super) fn prepare(kind: &Kind, object: &mut Value, user: &User, now: &str) {
    if kind.has("status")
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("status");
    }
    match kind.kind.as_str() {
        "Pod" => object["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"}),
        "Secret" if object["type"].is_null() => object["type"] = "Opaque".into(),
        "Namespace" => {
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            object["spec"]["finalizers"] = json!(["kubernetes"]);
            object["status"] = json!({"phase": "Active"});
        }
        "CertificateSigningRequest" => {
            object["spec"]["username"] = user.name.clone().into();
            object["spec"]["groups"] = user.groups.clone().into();
            object["status"] = json!({});
        }
        "CustomResourceDefinition" => custom::established(object, now),
        _ => {}
    }
    if counts_generations(kind) {
        object["metadata"]["generation"] = 1.into();
    }
}

/// Whether changes of the kind's `spec` are counted.
pub(super) fn counts_generations(kind: &Kind) -> bool {
    let without = ["Namespace", "Node", "Service", "CertificateSigningRequest"];
    let counted = [
        "NetworkPolicy",
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
    ];
    let counts = kind.has("status") || counted.contains(&kind.kind.as_str());
    kind.is_custom() || (counts && !without.contains(&kind.kind.as_str()))
}

/// Whether an update without `metadata.resourceVersion` is taken.
pub(super) fn updates_without_version(kind: &Kind) -> bool {
    let with = ["Lease", "CustomResourceDefinition", "EndpointSlice"];
    let with_group = ["admissionregistration.k8s.io"];
    !(kind.is_custom()
        || with.contains(&kind.kind.as_str())
        || with_group.contains(&kind.group.as_str()))
}

/// What is wrong with an object.
pub(super) fn check(kind: &Kind, object: &Value) -> Result<(), Failure> {
    let mut causes = Vec::new();
    let name = text(&object["metadata"]["name"]);
    check_name(kind, &name, &mut causes);
    check_labels(&object["metadata"]["labels"], &mut causes);
    match kind.kind.as_str() {
        "Secret" => check_data(&object["data"], &mut causes)?,
        "Pod" => check_pod(&object["spec"], &mut causes),
        "CertificateSigningRequest" => check_signing_request(&object["spec"], &mut causes),
        "CustomResourceDefinition" => check_definition(object, &name, &mut causes),
        _ if kind.is_custom() => {
            let schema = &kind.custom["schema"]["openAPIV3Schema"];
            custom::check(schema, object, "", &mut causes);
        }
        _ => {}
    }
    if causes.is_empty() {
        return Ok(());
    }
    Err(Failure::invalid(&kind.qualified(), &name, &causes))
}

/// What an update may not change.
pub(super) fn check_update(
    kind: &Kind,
    subresource: &str,
    old: &Value,
    new: &Value,
) -> Result<(), Failure> {
    let mut causes = Vec::new();
    let mut forbid = |field: &str, message: &str| causes.push(Cause::invalid(field, message));
    match (kind.kind.as_str(), subresource) {
        ("Secret", _) => {
            if old["type"] != new["type"] {
                forbid("type", "Invalid value: field is immutable");
            }
            if old["immutable"] == true && old["data"] != new["data"] {
                forbid(
                    "data",
                    "Forbidden: field is immutable when `immutable` is set",
                );
            }
        }
        ("Pod", "") if fixed_in_pod(&old["spec"]) != fixed_in_pod(&new["spec"]) => {
            forbid(
                "spec",
                "Forbidden: pod updates may not change fields other than \
                 `spec.containers[*].image`,`spec.initContainers[*].image`,\
                 `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
                 tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                 previously negative)",
            );
        }
        ("CertificateSigningRequest", "approval") => {
            check_approval(&new["status"]["conditions"], &mut causes);
        }
        ("CertificateSigningRequest", "status") => {
            let (before, after) = (&old["status"]["certificate"], &new["status"]["certificate"]);
            if !before.is_null() && before != after {
                forbid(
                    "status.certificate",
                    "Forbidden: updates may not change certificate content",
                );
            }
            let pem = BASE64_STANDARD.decode(text(after)).unwrap_or_default();
            let is_pem = pem.starts_with(b"-----BEGIN CERTIFICATE-----");
            if !after.is_null() && !is_pem {
                forbid(
                    "status.certificate",
                    "Invalid value: must contain at least one CERTIFICATE PEM block",
                );
            }
        }
        _ => {}
    }
    if causes.is_empty() {
        return Ok(());
    }
    let name = text(&new["metadata"]["name"]);
    Err(Failure::invalid(&kind.qualified(), &name, &causes))
}

/// The parts of a pod's spec that never change.
fn fixed_in_pod(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for containers in ["containers", "initContainers"] {
        for container in spec[containers].as_array_mut().into_iter().flatten() {
            container["image"] = Value::Null;
        }
    }
    for free in [
        "activeDeadlineSeconds",
        "tolerations",
        "terminationGracePeriodSeconds",
    ] {
        spec[free] = Value::Null;
    }
    spec
}

fn check_name(kind: &Kind, name: &str, causes: &mut Vec<Cause>) {
    let path_segment = kind.group == "rbac.authorization.k8s.io";
    if path_segment {
        if name.is_empty() || name.contains(['/', '%']) || name == "." || name == ".." {
            causes.push(Cause::invalid(
                "metadata.name",
                "Invalid value: a path segment",
            ));
        }
        return;
    }
    let is_label = ["Namespace", "Service"].contains(&kind.kind.as_str());
    let longest = if is_label { 63 } else { 253 };
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase()
            || byte.is_ascii_digit()
            || byte == b'-'
            || (byte == b'.' && !is_label)
    };
    let part = |part: &str| !part.is_empty() && !part.starts_with('-') && !part.ends_with('-');
    let good = name.len() <= longest && name.bytes().all(allowed) && name.split('.').all(part);
    if !good {
        let what = if is_label { "label" } else { "subdomain" };
        let message = format!(
            "Invalid value: \"{name}\": a lowercase RFC 1123 {what} must consist of lower case \
             alphanumeric characters or '-', and must start and end with an alphanumeric character"
        );
        causes.push(Cause::invalid("metadata.name", message));
    }
}

fn check_labels(labels: &Value, causes: &mut Vec<Cause>) {
    let good = |text: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        text.len() <= 63
            && text.bytes().all(inner)
            && ends(text.bytes().next())
            && ends(text.bytes().last())
    };
    for (key, value) in labels.as_object().into_iter().flatten() {
        let name = key.rsplit('/').next().unwrap_or_default();
        let value = value.as_str().unwrap_or_default();
        if !good(name) || !(value.is_empty() || good(value)) {
            let message = format!(
                "Invalid value: \"{value}\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.'"
            );
            causes.push(Cause::invalid("metadata.labels", message));
        }
    }
}

fn check_data(data: &Value, causes: &mut Vec<Cause>) -> Result<(), Failure> {
    let empty = Map::new();
    let mut total = 0;
    for (key, value) in data.as_object().unwrap_or(&empty) {
        let key_char = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if key.is_empty() || key.len() > 253 || !key.bytes().all(key_char) {
            let message = format!(
                "Invalid value: \"{key}\": a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
            );
            causes.push(Cause::invalid(&format!("data[{key}]"), message));
        }
        let decoded = value.as_str().map(|text| BASE64_STANDARD.decode(text));
        let Some(Ok(bytes)) = decoded else {
            let message =
                "Secret in version \"v1\" cannot be handled as a Secret: illegal base64 data";
            return Err(Failure::bad_request(message));
        };
        total += bytes.len();
    }
    if total > LARGEST_SECRET {
        let message = format!("Too long: may not be more than {LARGEST_SECRET} bytes");
        causes.push(Cause::invalid("data", message));
    }
    Ok(())
}

fn check_pod(spec: &Value, causes: &mut Vec<Cause>) {
    let containers = spec["containers"].as_array().cloned().unwrap_or_default();
    let mut need = |field: String| {
        causes.push(Cause {
            reason: "FieldValueRequired",
            field,
            message: "Required value".to_owned(),
        });
    };
    if containers.is_empty() {
        need("spec.containers".to_owned());
    }
    for (index, container) in containers.iter().enumerate() {
        for field in ["name", "image"] {
            if text(&container[field]).is_empty() {
                need(format!("spec.containers[{index}].{field}"));
            }
        }
    }
}

fn check_signing_request(spec: &Value, causes: &mut Vec<Cause>) {
    let request = BASE64_STANDARD
        .decode(text(&spec["request"]))
        .unwrap_or_default();
    if !request.starts_with(b"-----BEGIN CERTIFICATE REQUEST-----") {
        let message = "Invalid value: PEM block type must be CERTIFICATE REQUEST";
        causes.push(Cause::invalid("spec.request", message));
    }
    if spec["usages"].as_array().is_none_or(Vec::is_empty) {
        causes.push(Cause {
            reason: "FieldValueRequired",
            field: "spec.usages".to_owned(),
            message: "Required value".to_owned(),
        });
    }
    let signer = text(&spec["signerName"]);
    let parts = signer.split_once('/');
    if !parts.is_some_and(|(domain, path)| domain.contains('.') && !path.is_empty()) {
        let message = format!(
            "Invalid value: \"{signer}\": must be a fully qualified domain and path of the form 'example.com/signer-name'"
        );
        causes.push(Cause::invalid("spec.signerName", message));
    }
    if spec["expirationSeconds"]
        .as_i64()
        .is_some_and(|life| life < 600)
    {
        let message =
            "Invalid value: may not specify a duration less than 600 seconds (10 minutes)";
        causes.push(Cause::invalid("spec.expirationSeconds", message));
    }
}

fn check_approval(conditions: &Value, causes: &mut Vec<Cause>) {
    let conditions = conditions.as_array().cloned().unwrap_or_default();
    let has = |kind: &str| conditions.iter().any(|condition| condition["type"] == kind);
    if has("Approved") && has("Denied") {
        let message = "Invalid value: Approved and Denied conditions are mutually exclusive";
        causes.push(Cause::invalid("status.conditions", message));
    }
    for (index, condition) in conditions.iter().enumerate() {
        if condition["status"] != "True" {
            let field = format!("status.conditions[{index}].status");
            let message = "Invalid value: Approved, Denied and Failed conditions may only have status \"True\"";
            causes.push(Cause::invalid(&field, message));
        }
    }
}

fn check_definition(definition: &Value, name: &str, causes: &mut Vec<Cause>) {
    let spec = &definition["spec"];
    let expected = format!(
        "{}.{}",
        text(&spec["names"]["plural"]),
        text(&spec["group"])
    );
    if name != expected {
        let message =
            format!("Invalid value: \"{name}\": must be spec.names.plural+\".\"+spec.group");
        causes.push(Cause::invalid("metadata.name", message));
    }
    let versions = spec["versions"].as_array().cloned().unwrap_or_default();
    let stored = versions.iter().filter(|version| version["storage"] == true);
    if stored.count() != 1 {
        let message = "Invalid value: must have exactly one version marked as storage version";
        causes.push(Cause::invalid("spec.versions", message));
    }
    for (index, version) in versions.iter().enumerate() {
        let schema = &version["schema"]["openAPIV3Schema"];
        let field = format!("spec.versions[{index}].schema.openAPIV3Schema");
        if schema["type"] != "object" {
            let message = "Required value: must be object at the root";
            causes.push(Cause::invalid(&format!("{field}.type"), message));
        }
        check_structural(schema, &field, causes);
    }
}

/// What a structural schema must not have, and what it must.
fn check_structural(schema: &Value, field: &str, causes: &mut Vec<Cause>) {
    if schema["additionalProperties"] == false {
        let message = "Forbidden: must not be used";
        causes.push(Cause::invalid(
            &format!("{field}.additionalProperties"),
            message,
        ));
    }
    let untyped = schema["x-kubernetes-int-or-string"] == true
        || schema["x-kubernetes-preserve-unknown-fields"] == true;
    if schema["type"].as_str().is_none_or(str::is_empty) && !untyped {
        let message = "Required value: must not be empty for specified object fields";
        causes.push(Cause::invalid(&format!("{field}.type"), message));
    }
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        check_structural(below, &format!("{field}.properties[{name}]"), causes);
    }
    for word in ["items", "additionalProperties"] {
        if schema[word].is_object() {
            check_structural(&schema[word], &format!("{field}.{word}"), causes);
        }
    }
}
