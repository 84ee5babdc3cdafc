//! The schema of what is reported about an object.

use countersign_config::resource::Kind;
use serde_json::{Value, json};

use super::structural::PRESERVE;

pub(super) fn schema(kind: Kind) -> Value {
    let mut status = json!({
        "type": "object",
        "description": "What the gateways do with it; written by one of them.",
        "properties": {
            "observedGeneration": {
                "type": "integer",
                "format": "int64",
                "description": "The generation that this status is about.",
            },
            "acceptedGeneration": {
                "type": "integer",
                "format": "int64",
                "description": "The generation in force; none is if it is not here.",
            },
            "conditions": conditions(),
            "findings": findings(),
            "inForce": {
                "type": "object",
                "description": "The spec in force, while a later one is not accepted. A gateway that starts reads it here.",
                "properties": {
                    "generation": { "type": "integer", "format": "int64" },
                    "spec": { "type": "object", PRESERVE: true },
                },
            },
        },
    });
    let properties = &mut status["properties"];
    if kind != Kind::TargetService {
        properties["lastUsedTime"] = json!({
            "type": "string",
            "format": "date-time",
            "description": "When a request used it last, to the hour.",
        });
    }
    if kind == Kind::Workload {
        properties["targets"] = json!({
            "type": "array",
            "description": "The targets that it may reach, and by which policies.",
            "items": { "type": "string" },
        });
        properties["access"] = json!({
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "target": { "type": "string" },
                    "policy": { "type": "string" },
                    "mode": { "type": "string" },
                },
            },
        });
    }
    status
}

/// As in Kubernetes' own kinds.
fn conditions() -> Value {
    json!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": { "type": "string", "description": "Ready, Accepted or CredentialReady." },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
                "reason": { "type": "string" },
                "message": { "type": "string" },
                "lastTransitionTime": { "type": "string", "format": "date-time" },
                "observedGeneration": { "type": "integer", "format": "int64" },
            },
        },
    })
}

fn findings() -> Value {
    json!({
        "type": "array",
        "description": "What `countersign check` says about it.",
        "items": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "severity": { "type": "string", "enum": ["error", "warning"] },
                "code": { "type": "string" },
                "path": { "type": "string", "description": "Where, such as spec.allow[0].methods[1]." },
                "message": { "type": "string" },
                "remedy": { "type": "string" },
            },
        },
    })
}
