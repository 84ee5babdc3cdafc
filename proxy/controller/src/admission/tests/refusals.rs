//! Pods that are refused: what would get round the relay or take its token, and annotations that say nothing.

use rstest::rstest;
use serde_json::{Value, json};

use super::{
    NamespaceFacts, NotInjected, Refusal, changed, inject, injected, names, namespace, pod,
    settings,
};

pub(crate) fn refused(pod: &Value, namespace: &NamespaceFacts) -> Vec<Refusal> {
    match inject(pod, namespace, &settings()) {
        Err(NotInjected::Refused(refusals)) => refusals,
        other => panic!("it was not refused: {other:?}"),
    }
}

/// Each with the value that is refused, and the nearest one that is not.
#[rstest]
#[case::host_network("host_network", &["spec", "hostNetwork"], json!(true), json!(false))]
#[case::host_pid("host_pid", &["spec", "hostPID"], json!(true), json!(false))]
#[case::shared("shared_process_namespace", &["spec", "shareProcessNamespace"], json!(true), json!(false))]
#[case::windows("unsupported_os", &["spec", "os"], json!({"name": "windows"}), json!({"name": "linux"}))]
#[case::pod_uid("relay_uid", &["spec", "securityContext"], json!({"runAsUser": 1337}), json!({"runAsUser": 1338}))]
#[case::pod_gid("relay_gid", &["spec", "securityContext"], json!({"runAsGroup": 1337}), json!({"runAsGroup": 1336}))]
#[case::fs_group("relay_gid", &["spec", "securityContext"], json!({"fsGroup": 1337}), json!({"fsGroup": 2000}))]
#[case::groups("relay_gid", &["spec", "securityContext"], json!({"supplementalGroups": [5, 1337]}), json!({"supplementalGroups": [5]}))]
#[case::app_uid("relay_uid", &["spec", "containers", "0", "securityContext"], json!({"runAsUser": 1337}), json!({"runAsUser": 10001}))]
#[case::init_gid("relay_gid", &["spec", "initContainers", "0", "securityContext"], json!({"runAsGroup": 1337}), json!({"runAsGroup": 1}))]
#[case::privileged("privileged", &["spec", "containers", "0", "securityContext"], json!({"privileged": true}), json!({"privileged": false}))]
#[case::net_admin("capability", &["spec", "containers", "0", "securityContext"], json!({"capabilities": {"add": ["NET_ADMIN"]}}), json!({"capabilities": {"add": ["NET_BIND_SERVICE"]}}))]
#[case::lower_case("capability", &["spec", "containers", "0", "securityContext"], json!({"capabilities": {"add": ["cap_net_raw"]}}), json!({"capabilities": {"drop": ["NET_RAW"]}}))]
#[case::sys_admin("capability", &["spec", "initContainers", "0", "securityContext"], json!({"capabilities": {"add": ["SYS_ADMIN"]}}), json!({"capabilities": {"add": ["SYS_TIME"]}}))]
#[case::all("capability", &["spec", "containers", "0", "securityContext"], json!({"capabilities": {"add": ["ALL"]}}), json!({"capabilities": {"add": []}}))]
#[case::kubelets_folder("host_path", &["spec", "volumes"], json!([{"name": "v", "hostPath": {"path": "/var/lib/kubelet/pods"}}]), json!([{"name": "v", "hostPath": {"path": "/var/log"}}]))]
#[case::above_it("host_path", &["spec", "volumes"], json!([{"name": "v", "hostPath": {"path": "/var/"}}]), json!([{"name": "v", "hostPath": {"path": "/var/lib/kubelets"}}]))]
#[case::twice("host_path", &["spec", "volumes"], json!([{"name": "v", "hostPath": {"path": "/var//lib/./kubelet"}}]), json!([{"name": "v", "hostPath": {"path": "/var//log"}}]))]
#[case::root("host_path", &["spec", "volumes"], json!([{"name": "v", "hostPath": {"path": "/"}}]), json!([{"name": "v", "emptyDir": {}}]))]
#[case::token("token_elsewhere", &["spec", "volumes"],
    json!([{"name": "mine", "projected": {"sources": [{"serviceAccountToken": {"audience": "countersign", "path": "t"}}]}}]),
    json!([{"name": "mine", "projected": {"sources": [{"serviceAccountToken": {"audience": "vault", "path": "t"}}]}}]))]
#[case::our_volume("token_elsewhere", &["spec", "containers", "0", "volumeMounts"],
    json!([{"name": "countersign-token", "mountPath": "/t"}]), json!([]))]
#[case::name_of_volume("reserved_name", &["spec", "volumes"],
    json!([{"name": "countersign-token", "emptyDir": {}}]), json!([{"name": "countersign-tokens", "emptyDir": {}}]))]
#[case::name_of_container("reserved_name", &["spec", "containers", "0", "name"], json!("countersign-relay"), json!("relay"))]
#[case::anothers_relay("reserved_name", &["spec", "initContainers"],
    json!([{"name": "countersign-relay", "image": "evil/countersign-relay:0.1.0"}]), json!([{"name": "relay", "image": "a"}]))]
#[case::path("reserved_path", &["spec", "containers", "0", "volumeMounts"],
    json!([{"name": "v", "mountPath": "/etc/countersign/ca/x"}]), json!([{"name": "v", "mountPath": "/etc/countersign/cab"}]))]
#[case::port("port_taken", &["spec", "containers", "0", "ports"], json!([{"containerPort": 3128}]), json!([{"containerPort": 3129}]))]
#[case::wish("annotation_invalid", &["metadata", "annotations"], json!({"countersign.dev/inject": "no"}), json!({"countersign.dev/inject": "enabled"}))]
#[case::mode("annotation_invalid", &["metadata", "annotations"], json!({"countersign.dev/mode": "Proxy"}), json!({"countersign.dev/mode": "proxy"}))]
#[case::position("annotation_invalid", &["metadata", "annotations"], json!({"countersign.dev/position": "after:prepar"}), json!({"countersign.dev/position": "after:prepare"}))]
#[case::dummy("annotation_invalid", &["metadata", "annotations"], json!({"countersign.dev/dummy-env": "A=b"}), json!({"countersign.dev/dummy-env": "A"}))]
#[case::dummy_of_ours("annotation_invalid", &["metadata", "annotations"], json!({"countersign.dev/dummy-env": "HTTPS_PROXY"}), json!({"countersign.dev/dummy-env": ""}))]
#[case::malformed("pod_malformed", &["spec", "volumes"], json!("none"), json!(null))]
#[case::empty("pod_malformed", &["spec", "containers"], json!([]), json!([{"name": "a", "image": "a"}]))]
fn a_pod_is_refused_and_its_neighbour_is_not(
    #[case] code: &str,
    #[case] path: &[&str],
    #[case] wrong: Value,
    #[case] right: Value,
) {
    let refusals = refused(&changed(pod(), path, wrong), &namespace(&[]));
    assert_eq!(refusals[0].code, code, "{refusals:?}");
    assert!(!refusals[0].field.is_empty() && refusals[0].message.len() > 20);
    injected(&changed(pod(), path, right), &namespace(&[]));
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let wrong = changed(pod(), &["spec", "hostNetwork"], json!(true));
    let context = json!({"privileged": true, "runAsUser": 1337});
    let wrong = changed(
        wrong,
        &["spec", "containers", "0", "securityContext"],
        context,
    );
    let refusals = refused(&wrong, &namespace(&[]));
    let codes: Vec<_> = refusals.iter().map(|it| it.code).collect();
    assert_eq!(codes, ["host_network", "privileged", "relay_uid"]);
    let told = NotInjected::Refused(refusals).to_string();
    assert!(
        told.contains("spec.containers[0].securityContext.privileged: "),
        "{told}"
    );
}

#[test]
fn a_pod_gets_out_only_where_its_namespace_allows_it() {
    let out = changed(
        pod(),
        &["metadata", "annotations"],
        json!({names::INJECT: "disabled"}),
    );
    let refusals = refused(&out, &namespace(&[(names::OPT_OUT, "true")]));
    assert_eq!(refusals[0].code, "opt_out_not_allowed");
    assert!(
        refusals[0]
            .message
            .contains("kubectl label namespace qa countersign.dev/opt-out=allowed")
    );
}

#[test]
fn a_mode_that_pod_security_forbids_is_refused_here_already() {
    let asked = changed(
        pod(),
        &["metadata", "annotations"],
        json!({names::MODE: "redirect"}),
    );
    for level in ["restricted", "baseline"] {
        let refusals = refused(&asked, &namespace(&[(names::POD_SECURITY, level)]));
        assert_eq!(refusals[0].code, "mode_forbidden");
    }
    injected(&asked, &namespace(&[(names::POD_SECURITY, "privileged")]));
}

/// Text of others does not end or recolour our lines.
#[test]
fn t72_values_are_told_on_lines_of_our_own_making() {
    let asked = changed(
        pod(),
        &["metadata", "annotations"],
        json!({names::MODE: "a\nb\u{1b}[2J"}),
    );
    let told = NotInjected::Refused(refused(&asked, &namespace(&[]))).to_string();
    assert!(!told.contains('\n') && !told.contains('\u{1b}'), "{told}");
}
