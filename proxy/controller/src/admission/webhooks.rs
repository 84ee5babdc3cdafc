//! What tells the API server to call the webhook: for pods of opted-in namespaces, and for nothing else.

use serde_json::{Value, json};

use super::{
    names::{ENABLED, INJECT},
    settings::Settings,
};

/// The name of both configurations.
pub const CONFIGURATION: &str = "countersign-injection";

/// The mutating and the validating configuration. `service` is the webhook's Service, in our own namespace; `ca` is
/// the PEM of the CA of its certificate, or empty where the controller writes it.
///
/// Pods are not selected by labels: whoever creates a pod could choose one that passes by.
pub fn configurations(settings: &Settings, service: &str, ca: &str) -> [Value; 2] {
    let mutating = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": CONFIGURATION},
        "webhooks": [webhook(settings, service, ca, "inject.countersign.dev", "/mutate", &json!([
            rule(&["CREATE"], "pods"),
        ]), &[])],
    });
    let mut validate = webhook(
        settings,
        service,
        ca,
        "validate.countersign.dev",
        "/validate",
        &json!([
            rule(&["CREATE", "UPDATE"], "pods"),
            rule(&["UPDATE"], "pods/ephemeralcontainers"),
        ]),
        &[json!({
            // Labels, finalizers and status of a pod that runs are no concern of ours, and must never wait for us.
            "name": "spec-changed",
            "expression": "request.operation == 'CREATE' || object.spec != oldObject.spec",
        })],
    );
    if let Some(validate) = validate.as_object_mut() {
        validate.remove("reinvocationPolicy");
    }
    let validating = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": CONFIGURATION},
        "webhooks": [validate],
    });
    [mutating, validating]
}

fn rule(operations: &[&str], resource: &str) -> Value {
    json!({
        "operations": operations, "apiGroups": [""], "apiVersions": ["v1"],
        "resources": [resource], "scope": "Namespaced",
    })
}

fn webhook(
    settings: &Settings,
    service: &str,
    ca: &str,
    name: &str,
    path: &str,
    rules: &Value,
    more: &[Value],
) -> Value {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    let mut conditions = vec![json!({
        // A kubelet runs its static pods whatever is answered.
        "name": "not-of-a-node",
        "expression": "!('system:nodes' in request.userInfo.groups)",
    })];
    conditions.extend_from_slice(more);
    let mut client = json!({"service": {
        "namespace": settings.own_namespace, "name": service, "path": path, "port": 443,
    }});
    if !ca.is_empty() {
        client["caBundle"] = json!(STANDARD.encode(ca));
    }
    json!({
        "name": name,
        "admissionReviewVersions": ["v1"],
        "clientConfig": client,
        "failurePolicy": "Fail",
        "matchPolicy": "Equivalent",
        "reinvocationPolicy": "IfNeeded",
        "sideEffects": "NoneOnDryRun",
        "timeoutSeconds": 10,
        "rules": rules,
        "matchConditions": conditions,
        "namespaceSelector": {"matchExpressions": [
            {"key": INJECT, "operator": "In", "values": [ENABLED]},
            {"key": "kubernetes.io/metadata.name", "operator": "NotIn",
                "values": ["kube-system", settings.own_namespace]},
        ]},
    })
}
