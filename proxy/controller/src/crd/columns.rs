//! What `kubectl get` shows.

use countersign_config::resource::Kind;
use serde_json::{Value, json};

pub(super) fn of(kind: Kind) -> Vec<Value> {
    let mut columns = own(kind);
    columns.push(column("Ready", "string", &condition("Ready", "status")));
    columns.push(wide("Reason", "string", &condition("Ready", "reason")));
    columns.push(column("Age", "date", ".metadata.creationTimestamp"));
    columns
}

fn own(kind: Kind) -> Vec<Value> {
    match kind {
        Kind::Workload => vec![
            column("Owner", "string", ".spec.owner"),
            column("Review by", "string", ".spec.reviewBy"),
            column("Targets", "string", ".status.targets"),
            wide("Last used", "date", ".status.lastUsedTime"),
        ],
        Kind::Credential => vec![
            column("Target", "string", ".spec.target"),
            column("Rotate by", "string", ".spec.rotateBy"),
            column(
                "Obtained",
                "string",
                &condition("CredentialReady", "status"),
            ),
            wide("Last used", "date", ".status.lastUsedTime"),
        ],
        Kind::AccessPolicy => vec![
            column("Target", "string", ".spec.target"),
            column("Workloads", "string", ".spec.workloads"),
            column("Mode", "string", ".spec.mode"),
            wide("Last used", "date", ".status.lastUsedTime"),
        ],
        Kind::TargetService => vec![
            column("Hosts", "string", ".spec.hosts"),
            wide("Extends", "string", ".spec.extends"),
        ],
        Kind::Gateway => Vec::new(),
    }
}

fn condition(kind: &str, field: &str) -> String {
    format!(".status.conditions[?(@.type==\"{kind}\")].{field}")
}

fn column(name: &str, kind: &str, path: &str) -> Value {
    json!({ "name": name, "type": kind, "jsonPath": path })
}

/// Only with `-o wide`.
fn wide(name: &str, kind: &str, path: &str) -> Value {
    json!({ "name": name, "type": kind, "jsonPath": path, "priority": 1 })
}
