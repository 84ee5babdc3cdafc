//! Reviews as an API server sends them, and the answers.

use base64::Engine as _;
use rstest::rstest;
use serde_json::{Value, json};

use super::{NamespaceFacts, changed, injected, names, namespace, patched, pod, settings};
use crate::admission::{
    LeftAlone, Mode,
    review::{self, Decision, Webhook},
};

fn review(object: &Value, more: &[(&str, Value)]) -> Value {
    let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
    let mut request = json!({
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "kind": kind, "operation": "CREATE",
        "resource": {"group": "", "version": "v1", "resource": "pods"}, "namespace": "qa",
        "userInfo": {"username": "system:serviceaccount:kube-system:job-controller"}, "object": object, "oldObject": null,
    });
    for (key, value) in more {
        request[*key] = value.clone();
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
}

fn asked(webhook: Webhook, review: &Value, namespace: &NamespaceFacts) -> (Value, Decision) {
    let request = review::read(review.to_string().as_bytes()).expect("it can be read");
    let (response, decision) = review::answer(webhook, &request, namespace, &settings());
    let answer: Value = serde_json::from_slice(&review::write(response)).expect("it is JSON");
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
    (answer["response"].clone(), decision)
}

#[test]
fn a_pod_is_patched() {
    let (response, decision) = asked(Webhook::Mutate, &review(&pod(), &[]), &namespace(&[]));
    assert_eq!(decision, Decision::Injected(Mode::Redirect));
    assert_eq!(
        (&response["allowed"], &response["patchType"]),
        (&json!(true), &json!("JSONPatch"))
    );
    let patch = response["patch"]
        .as_str()
        .map(|text| base64::engine::general_purpose::STANDARD.decode(text));
    let patch: Vec<Value> = serde_json::from_slice(&patch.unwrap().unwrap()).unwrap();
    assert_eq!(
        patched(pod(), &patch),
        injected(&pod(), &namespace(&[])).pod
    );
    assert_eq!(response["auditAnnotations"]["mode"], "redirect");
}

#[test]
fn whoever_creates_a_pod_by_hand_is_told_its_mode() {
    let warnings = |pod: &Value| {
        asked(Webhook::Mutate, &review(pod, &[]), &namespace(&[])).0["warnings"].to_string()
    };
    let by_hand = changed(pod(), &["metadata", "ownerReferences"], json!(null));
    assert!(warnings(&by_hand).contains("countersign: mode redirect, because"));
    assert!(!warnings(&pod()).contains("mode redirect"));
}

#[test]
fn a_pod_is_refused_with_403_and_what_to_change() {
    let wrong = changed(pod(), &["spec", "hostNetwork"], json!(true));
    for webhook in [Webhook::Mutate, Webhook::Validate] {
        let (response, decision) = asked(webhook, &review(&wrong, &[]), &namespace(&[]));
        assert_eq!(decision, Decision::Refused(vec!["host_network"]));
        assert_eq!(
            (&response["allowed"], &response["status"]["code"]),
            (&json!(false), &json!(403))
        );
        assert!(
            response["status"]["message"]
                .as_str()
                .unwrap()
                .contains("spec.hostNetwork")
        );
        assert!(response.get("patch").is_none());
    }
}

#[test]
fn what_was_changed_after_injection_is_refused() {
    let once = injected(&pod(), &namespace(&[])).pod;
    let (_, decision) = asked(Webhook::Validate, &review(&once, &[]), &namespace(&[]));
    assert_eq!(decision, Decision::LeftAlone(LeftAlone::AlreadyInjected));
    for (path, value) in [
        (&["spec", "containers", "0", "env"][..], json!([])),
        (&["spec", "initContainers"], json!([])),
        (
            &[
                "spec",
                "containers",
                "0",
                "securityContext",
                "capabilities",
                "drop",
            ],
            json!([]),
        ),
    ] {
        let stripped = changed(once.clone(), path, value);
        let (_, decision) = asked(Webhook::Validate, &review(&stripped, &[]), &namespace(&[]));
        assert_eq!(
            decision,
            Decision::Refused(vec!["changed_after_injection"]),
            "{path:?}"
        );
    }
    // A pod that never came by is not admitted either.
    let (_, decision) = asked(Webhook::Validate, &review(&pod(), &[]), &namespace(&[]));
    assert_eq!(decision, Decision::Refused(vec!["changed_after_injection"]));
}

#[rstest]
#[case::plain(json!({"name": "debug", "image": "busybox"}), None)]
#[case::kubectl_debug(json!({"name": "debug", "image": "busybox", "targetContainerName": "dashboard", "securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}}}), None)]
#[case::token(json!({"name": "debug", "image": "busybox", "volumeMounts": [{"name": "countersign-token", "mountPath": "/t"}]}), Some("token_elsewhere"))]
#[case::relays_processes(json!({"name": "debug", "image": "busybox", "targetContainerName": "countersign-relay"}), Some("token_elsewhere"))]
#[case::relays_uid(json!({"name": "debug", "image": "busybox", "securityContext": {"runAsUser": 1337}}), Some("relay_uid"))]
#[case::netadmin(json!({"name": "debug", "image": "busybox", "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}), Some("capability"))]
#[case::sysadmin(json!({"name": "debug", "image": "busybox", "securityContext": {"privileged": true}}), Some("privileged"))]
fn a_debug_container_cannot_take_the_token(
    #[case] container: Value,
    #[case] code: Option<&'static str>,
) {
    let running = injected(&pod(), &namespace(&[])).pod;
    let debugged = changed(
        running.clone(),
        &["spec", "ephemeralContainers"],
        json!([container]),
    );
    let more = [
        ("operation", json!("UPDATE")),
        ("subResource", json!("ephemeralcontainers")),
        ("oldObject", running),
    ];
    let (_, decision) = asked(
        Webhook::Validate,
        &review(&debugged, &more),
        &namespace(&[]),
    );
    let expected = code.map_or(Decision::Passed, |code| Decision::Refused(vec![code]));
    assert_eq!(decision, expected);
    // A pod without a relay is none of ours.
    let other = changed(pod(), &["spec", "ephemeralContainers"], json!([container]));
    let (_, decision) = asked(Webhook::Validate, &review(&other, &more), &namespace(&[]));
    assert_eq!(decision, Decision::Passed);
}

#[test]
fn another_image_does_not_take_the_relays_place() {
    let running = injected(&pod(), &namespace(&[])).pod;
    let update = |new: &Value| {
        let more = [
            ("operation", json!("UPDATE")),
            ("oldObject", running.clone()),
        ];
        asked(Webhook::Validate, &review(new, &more), &namespace(&[])).1
    };
    let evil = changed(
        running.clone(),
        &["spec", "initContainers", "1", "image"],
        json!("evil:1"),
    );
    assert_eq!(update(&evil), Decision::Refused(vec!["relay_image"]));
    // The app's own may be exchanged, and what a controller writes on a pod of an older version is let through.
    let newer = changed(
        running.clone(),
        &["spec", "containers", "0", "image"],
        json!("ghcr.io/acme/dashboard:1.4.3"),
    );
    assert_eq!(update(&newer), Decision::Passed);
    let finished = changed(running.clone(), &["metadata", "finalizers"], json!([]));
    assert_eq!(update(&finished), Decision::Passed);
}

#[test]
fn a_pod_that_is_left_alone_is_allowed_with_its_reason() {
    let out = changed(
        pod(),
        &["metadata", "annotations"],
        json!({names::INJECT: "disabled"}),
    );
    let allowed = namespace(&[(names::OPT_OUT, "allowed")]);
    for webhook in [Webhook::Mutate, Webhook::Validate] {
        let (response, decision) = asked(webhook, &review(&out, &[]), &allowed);
        assert_eq!(decision, Decision::LeftAlone(LeftAlone::OptedOut));
        assert_eq!(response["allowed"], true);
        assert!(response.get("patch").is_none());
    }
}

#[test]
fn other_objects_and_operations_pass() {
    for (key, value) in [
        (
            "kind",
            json!({"group": "apps", "version": "v1", "kind": "Deployment"}),
        ),
        ("operation", json!("DELETE")),
        ("subResource", json!("status")),
    ] {
        for webhook in [Webhook::Mutate, Webhook::Validate] {
            let (response, decision) = asked(
                webhook,
                &review(&pod(), &[(key, value.clone())]),
                &namespace(&[]),
            );
            assert_eq!(
                (decision, &response["allowed"]),
                (Decision::Passed, &json!(true)),
                "{key}"
            );
        }
    }
}

#[rstest]
#[case::no_json("{", "no AdmissionReview")]
#[case::another_kind(r#"{"apiVersion":"v1","kind":"Pod"}"#, "is not admission.k8s.io/v1")]
#[case::older(
    r#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview"}"#,
    "v1beta1"
)]
#[case::no_request(
    r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#,
    "no request"
)]
fn what_is_no_review_is_told(#[case] body: &str, #[case] part: &str) {
    let told = review::read(body.as_bytes()).unwrap_err();
    assert!(told.contains(part), "{told}");
}
