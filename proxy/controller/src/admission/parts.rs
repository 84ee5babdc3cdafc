//! What injection adds to a pod: two containers and three volumes.

use serde_json::{Value, json};

use super::{
    names::{
        CA_PATH, CA_VOLUME, GATEWAY_CA_PATH, GATEWAY_CA_VOLUME, REDIRECT, RELAY, TOKEN_PATH,
        TOKEN_VOLUME,
    },
    settings::Settings,
};

/// How long a pod's token is valid, in seconds: the least that Kubernetes allows.
pub(super) const TOKEN_SECONDS: u32 = 600;

/// How long the app waits for the relay before the kubelet starts the relay again, in seconds.
const START_SECONDS: u32 = 120;

/// The relay, a native sidecar. `drain` is its `--drain`; a pod with `resources` of its own for all containers
/// gives it none, since their sum must not be larger.
pub(super) fn relay(settings: &Settings, drain: &str, with_resources: bool) -> Value {
    let ports = settings.ports;
    let mut args: Vec<String> = settings
        .gateways
        .iter()
        .map(|gateway| format!("--gateway={gateway}"))
        .collect();
    args.extend([
        format!("--gateway-ca={GATEWAY_CA_PATH}/ca.crt"),
        format!("--token-file={TOKEN_PATH}/token"),
        format!("--http=127.0.0.1:{}", ports.http),
        format!("--redirected=127.0.0.1:{0},[::1]:{0}", ports.redirected),
        // The kubelet's probes come to the pod's address.
        format!("--health=0.0.0.0:{}", ports.health),
        format!("--drain={drain}"),
        "--log=json".to_owned(),
    ]);
    let mut container = json!({
        "name": RELAY,
        "image": settings.relay_image,
        "restartPolicy": "Always",
        "args": args,
        "startupProbe": {
            "httpGet": {"path": "/readyz", "port": ports.health},
            "periodSeconds": 1,
            "timeoutSeconds": 3,
            "failureThreshold": START_SECONDS,
        },
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": ports.health},
            "timeoutSeconds": 3,
        },
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": settings.relay_uid,
            "runAsGroup": settings.relay_gid,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": TOKEN_VOLUME, "mountPath": TOKEN_PATH, "readOnly": true},
            {"name": GATEWAY_CA_VOLUME, "mountPath": GATEWAY_CA_PATH, "readOnly": true},
        ],
    });
    complete(
        &mut container,
        settings,
        with_resources.then_some(&settings.relay_resources),
    );
    container
}

/// The init container that redirects the pod's connections to the relay, or fails.
pub(super) fn redirect(settings: &Settings, with_resources: bool) -> Value {
    let mut args = vec![
        "redirect".to_owned(),
        "--apply".to_owned(),
        "--check".to_owned(),
        format!("--uid={}", settings.relay_uid),
        format!("--gid={}", settings.relay_gid),
        format!("--port={}", settings.ports.redirected),
    ];
    let ranges = &settings.cluster_ranges;
    args.extend(ranges.iter().map(|range| format!("--exclude-cidr={range}")));
    let mut container = json!({
        "name": REDIRECT,
        "image": settings.redirect_image,
        "args": args,
        "securityContext": {
            "runAsNonRoot": false,
            "runAsUser": 0,
            "runAsGroup": 0,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    });
    complete(
        &mut container,
        settings,
        with_resources.then_some(&settings.redirect_resources),
    );
    container
}

fn complete(container: &mut Value, settings: &Settings, resources: Option<&Value>) {
    if !settings.image_pull_policy.is_empty() {
        container["imagePullPolicy"] = json!(settings.image_pull_policy);
    }
    if let Some(resources) = resources {
        container["resources"] = resources.clone();
    }
}

/// The pod's token, the CA of the gateways' certificates, and the roots that apps trust.
pub(super) fn volumes(settings: &Settings) -> [Value; 3] {
    let token = json!({
        "audience": settings.audience,
        "expirationSeconds": TOKEN_SECONDS,
        "path": "token",
    });
    [
        json!({"name": TOKEN_VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}}),
        json!({"name": GATEWAY_CA_VOLUME, "configMap": {"name": settings.gateway_ca_config_map}}),
        json!({"name": CA_VOLUME, "configMap": {"name": settings.trust_config_map}}),
    ]
}

/// The mount of the roots in each container of the app.
pub(super) fn ca_mount() -> Value {
    json!({"name": CA_VOLUME, "mountPath": CA_PATH, "readOnly": true})
}

/// The relay's `--drain`: five seconds less than the pod's grace, so that the kubelet need not kill it, and at most
/// its default.
pub(super) fn drain_seconds(grace: Option<i64>) -> i64 {
    (grace.unwrap_or(30) - 5).clamp(1, 25)
}
