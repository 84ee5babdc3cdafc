//! What somebody with rights in one namespace can do: one test for each row of `docs/namespaces.md`.

use rstest::rstest;

use super::*;

/// Applies an object in the namespace `qa` beside the tenant `web`, and returns what is wrong with it. Nothing of it
/// is in force, and `web` has what it had.
#[track_caller]
fn refused(kind: Kind, spec: Value) -> Verdict {
    let mut cluster = Cluster::with_tenants(&["qa", "web"]);
    let before = cluster.load();
    cluster.apply(kind, "qa", "attempt", spec);
    let verdict = cluster.verdict(kind, "qa", "attempt");
    assert_eq!(
        (verdict.accepted, verdict.in_force),
        (false, None),
        "{verdict:?}"
    );
    assert_eq!(
        cluster.load().policies.revision(),
        before.policies.revision()
    );
    verdict
}

#[test]
fn a_policy_grants_nothing_to_workloads_of_another_namespace() {
    for other in ["web/nightly", "web/there-is-none"] {
        let mut spec = policy("nightly", "qase");
        spec["workloads"] = json!(["nightly", other]);
        let verdict = refused(Kind::AccessPolicy, spec);
        // The same, whether it exists or not.
        assert_eq!(
            errors(&verdict)[0],
            ("other-namespace", "spec.workloads[1]")
        );
        assert!(!verdict.findings[0].message.contains("web"));
    }
    // Its own may be written with the namespace.
    let mut cluster = Cluster::with_tenants(&["qa"]);
    cluster.apply(
        Kind::AccessPolicy,
        "qa",
        "more",
        policy("qa/nightly", "qase"),
    );
    assert!(cluster.verdict(Kind::AccessPolicy, "qa", "more").accepted);
}

#[rstest]
#[case::account(json!({"serviceAccount": "nightly", "namespace": "web"}), "other-namespace", "namespace")]
#[case::spiffe_id(json!({"spiffeId": "spiffe://prod.example.com/ns/web/sa/nightly"}), "other-namespace", "spiffeId")]
#[case::spiffe_id_of_a_machine(json!({"spiffeId": "spiffe://prod.example.com/vm/db"}), "other-namespace", "spiffeId")]
#[case::near_miss(json!({"spiffeId": "spiffe://prod.example.com/ns/qa2/sa/nightly"}), "other-namespace", "spiffeId")]
#[case::cluster(json!({"serviceAccount": "nightly", "cluster": "dev-us"}), "other-cluster", "cluster")]
fn a_workload_selects_nobody_of_another_namespace_or_cluster(
    #[case] selector: Value,
    #[case] code: &str,
    #[case] key: &str,
) {
    let verdict = refused(
        Kind::Workload,
        json!({ "owner": "team", "match": [selector] }),
    );
    assert_eq!(errors(&verdict), [(code, &*format!("spec.match[0].{key}"))]);
}

#[test]
fn a_workload_selects_its_own_namespace_in_this_cluster_alone() {
    let mut cluster = Cluster::new();
    let spec = json!({ "owner": "team", "match": [
        { "serviceAccount": "nightly", "namespace": "qa" },
        { "spiffeId": "spiffe://prod.example.com/ns/qa/sa/nightly" },
    ]});
    cluster.apply(Kind::Workload, "qa", "nightly", spec);
    let loaded = cluster.load();
    let selector = &loaded.policies.workloads()[0].selectors[0];
    assert_eq!(selector.namespace.as_deref(), Some("qa"));
    assert_eq!(selector.cluster.as_deref(), Some("prod-eu"));
}

#[rstest]
#[case::not_allowed("web/reader")]
#[case::not_there("web/there-is-none")]
#[case::not_accepted("web/broken")]
fn a_policy_uses_no_credential_that_its_namespace_may_not_use(#[case] reference: &str) {
    let mut cluster = Cluster::with_tenants(&["qa", "web"]);
    cluster.apply(
        Kind::Credential,
        "web",
        "broken",
        json!({ "target": "qase" }),
    );
    let mut spec = policy("nightly", "qase");
    spec["credential"] = json!(reference);
    cluster.apply(Kind::AccessPolicy, "qa", "attempt", spec);
    let verdict = cluster.verdict(Kind::AccessPolicy, "qa", "attempt");
    assert_eq!(verdict.in_force, None);
    // What it says does not depend on what is there.
    let name = reference.to_owned();
    let shown = verdict.findings[0].to_string().replace(&name, "NAME");
    assert_eq!(
        shown,
        "spec.credential: credential-not-allowed: there is no Credential `NAME` that the namespace `qa` may use; use one of this namespace, or ask for `qa` in its `allowedNamespaces`"
    );
}

#[test]
fn a_credential_is_used_where_its_owner_allows_it_and_until_then() {
    let mut cluster = Cluster::with_tenants(&["qa", "web"]);
    let mut shared = credential("qase");
    shared["allowedNamespaces"] = json!(["qa"]);
    cluster.apply(Kind::Credential, "web", "shared", shared);
    let mut spec = policy("nightly", "qase");
    spec["credential"] = json!("web/shared");
    cluster.apply(Kind::AccessPolicy, "qa", "borrows", spec);
    assert!(
        cluster
            .verdict(Kind::AccessPolicy, "qa", "borrows")
            .accepted
    );
    cluster.apply(Kind::Credential, "web", "shared", credential("qase"));
    let verdict = cluster.verdict(Kind::AccessPolicy, "qa", "borrows");
    assert_eq!((verdict.accepted, verdict.in_force), (false, None));
}

#[test]
fn no_name_of_another_namespace_is_suggested() {
    let mut cluster = Cluster::with_tenants(&["web"]);
    cluster.apply(
        Kind::Credential,
        "web",
        "payroll-reader",
        credential("qase"),
    );
    cluster.apply(Kind::Workload, "qa", "nightly", workload("nightly"));
    let mut spec = policy("nightly", "qase");
    spec["credential"] = json!("payroll-reade");
    spec["workloads"] = json!(["nightli"]);
    cluster.apply(Kind::AccessPolicy, "qa", "attempt", spec);
    let verdict = cluster.verdict(Kind::AccessPolicy, "qa", "attempt");
    let shown: Vec<_> = verdict.findings.iter().map(ToString::to_string).collect();
    let shown = shown.join("\n");
    assert!(
        !shown.contains("web") && !shown.contains("payroll-reader"),
        "{shown}"
    );
    assert!(shown.contains("`nightly`"), "{shown}");
}

#[rstest]
#[case::new_api("intranet", "api.example.com")]
#[case::name_of_the_catalog("qase", "api.qase.io")]
#[case::host_of_the_catalog("mine", "slack.com")]
fn a_target_of_a_tenant_is_not_used_and_hides_nothing(#[case] name: &str, #[case] host: &str) {
    let mut cluster = Cluster::with_tenants(&["qa", "web"]);
    let before = cluster.load();
    cluster.apply(Kind::TargetService, "qa", name, target(host));
    let verdict = cluster.verdict(Kind::TargetService, "qa", name);
    assert_eq!(
        (errors(&verdict), verdict.in_force),
        (vec![("target-not-allowed", "metadata.name")], None)
    );
    let after = cluster.load();
    assert_eq!(after.policies.revision(), before.policies.revision());
    assert_eq!(policies(&after.policies), ["qa/reads", "web/reads"]);
    // In the operator's namespace it is, if it does not take a host of another.
    cluster.apply(Kind::TargetService, "platform", name, target(host));
    let accepted = cluster
        .verdict(Kind::TargetService, "platform", name)
        .accepted;
    assert_eq!(accepted, name != "mine");
}

#[rstest]
#[case::file(json!({"file": "/var/run/secrets/kubernetes.io/serviceaccount/token"}), "file", true)]
#[case::vault(json!({"vault": {"path": "web/qase", "key": "token"}}), "vault", true)]
#[case::program(json!({"exec": {"command": ["/bin/cat", "/etc/shadow"]}}), "exec", false)]
fn a_credential_reads_nothing_that_is_the_gateways(
    #[case] source: Value,
    #[case] key: &str,
    #[case] may_operator: bool,
) {
    let spec = json!({ "target": "qase", "static": { "token": source } });
    let verdict = refused(Kind::Credential, spec.clone());
    let path = format!("spec.static.token.{key}");
    assert_eq!(errors(&verdict), [("secret-source-not-allowed", &*path)]);
    let mut cluster = Cluster::new();
    cluster.apply(Kind::Credential, "platform", "reader", spec);
    let accepted = cluster
        .verdict(Kind::Credential, "platform", "reader")
        .accepted;
    assert_eq!(accepted, may_operator);
}

#[test]
fn no_source_of_a_credential_is_forgotten() {
    let file = json!({ "file": "/run/secrets/a/b" });
    let client = json!({ "id": "a", "key": { "privateKey": file } });
    for (provider, path) in [
        (
            json!({"basic": {"username": "a", "password": file}}),
            "basic.password.file",
        ),
        (
            json!({"tokenExchange": {"tokenUrl": "https://a.example/t", "client": client}}),
            "tokenExchange.client.key.privateKey.file",
        ),
        (
            json!({"jwt": {"issuer": "a", "key": {"privateKey": {"kubernetesSecret": {"name": "a", "key": "b"}}},
                "claims": {"file": "of my own"},
                "installation": {"url": "https://a.example/t", "caFile": "/etc/roots.pem"}}}),
            "jwt.installation.caFile",
        ),
    ] {
        let mut spec = provider;
        spec["target"] = json!("qase");
        let verdict = refused(Kind::Credential, spec);
        assert_eq!(
            errors(&verdict),
            [("secret-source-not-allowed", &*format!("spec.{path}"))]
        );
    }
}

#[test]
fn the_secret_of_a_credential_is_of_its_own_namespace() {
    // The reference has no namespace to write, and an attempt to add one is refused.
    let mut spec = credential("qase");
    spec["static"]["token"]["kubernetesSecret"]["namespace"] = json!("web");
    let verdict = refused(Kind::Credential, spec);
    let path = "spec.static.token.kubernetesSecret.namespace";
    assert_eq!(errors(&verdict), [("unknown-key", path)]);
}
