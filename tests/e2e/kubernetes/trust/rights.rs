//! What the roles of controller and gateway grant: each rule with what it is for. The stand-in refuses all else.

use serde_json::{Value, json};

/// The user of a controller.
pub(super) const CONTROLLER: &str = "system:serviceaccount:countersign:countersign-controller";
/// The user of a gateway.
pub(super) const GATEWAY: &str = "system:serviceaccount:countersign:countersign";

fn rule(group: &str, resources: &[&str], names: &[&str], verbs: &[&str]) -> Value {
    let mut rule = json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    if !names.is_empty() {
        rule["resourceNames"] = json!(names);
    }
    rule
}

/// In the whole cluster.
pub(super) fn controller_cluster() -> Vec<Value> {
    let bundles = ["countersign-ca", "countersign-gateway-ca"];
    let requests = "certificatesigningrequests";
    let signers = ["countersign.dev/interception", "countersign.dev/gateway"];
    vec![
        // Which namespaces have opted in.
        rule("", &["namespaces"], &[], &["get", "list", "watch"]),
        // The bundles; `create` cannot be narrowed by name.
        rule(
            "",
            &["configmaps"],
            &bundles,
            &["get", "list", "watch", "patch"],
        ),
        rule("", &["configmaps"], &[], &["create"]),
        // A rotation: which pods trust the old root alone, and which gateways are left.
        rule("", &["pods"], &[], &["list"]),
        // Gateways' requests.
        rule(
            "certificates.k8s.io",
            &[requests],
            &[],
            &["get", "list", "watch"],
        ),
        rule(
            "certificates.k8s.io",
            &[
                "certificatesigningrequests/approval",
                "certificatesigningrequests/status",
            ],
            &[],
            &["update"],
        ),
        rule(
            "certificates.k8s.io",
            &["signers"],
            &signers,
            &["approve", "sign"],
        ),
        // The CA of the webhook's certificate.
        rule(
            "admissionregistration.k8s.io",
            &[
                "mutatingwebhookconfigurations",
                "validatingwebhookconfigurations",
            ],
            &["countersign-injection"],
            &["get", "update"],
        ),
        // Events about pods that are left alone.
        rule("events.k8s.io", &["events"], &[], &["create", "patch"]),
    ]
}

/// In its own namespace.
pub(super) fn controller_own() -> Vec<Value> {
    let secrets = ["countersign-trust", "countersign-webhook", "own-root"];
    let write = ["get", "list", "watch", "update"];
    vec![
        // The roots and their keys, and the webhook's key.
        rule("", &["secrets"], &secrets, &write),
        rule("", &["secrets"], &[], &["create"]),
        // The public state.
        rule(
            "",
            &["configmaps"],
            &["countersign-trust"],
            &["get", "list", "watch", "patch"],
        ),
        // One controller leads.
        rule("coordination.k8s.io", &["leases"], &[], &["create"]),
        rule(
            "coordination.k8s.io",
            &["leases"],
            &["countersign-controller"],
            &["get", "update"],
        ),
    ]
}

/// Of a gateway, in the whole cluster.
pub(super) fn gateway_cluster() -> Vec<Value> {
    let verbs = ["create", "get", "list", "watch"];
    vec![rule(
        "certificates.k8s.io",
        &["certificatesigningrequests"],
        &[],
        &verbs,
    )]
}

/// Of a gateway, in its own namespace.
pub(super) fn gateway_own() -> Vec<Value> {
    vec![rule(
        "",
        &["configmaps"],
        &["countersign-trust"],
        &["get", "list", "watch"],
    )]
}

/// A role and its binding to a user.
pub(super) fn bound(name: &str, user: &str, namespace: &str, rules: &[Value]) -> [Value; 2] {
    let (kind, metadata) = if namespace.is_empty() {
        ("ClusterRole", json!({"name": name}))
    } else {
        ("Role", json!({"name": name, "namespace": namespace}))
    };
    let version = "rbac.authorization.k8s.io/v1";
    [
        json!({"apiVersion": version, "kind": kind, "metadata": metadata, "rules": rules}),
        json!({
            "apiVersion": version, "kind": format!("{kind}Binding"), "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }),
    ]
}
