//! Objects are accepted one by one.

use super::*;
use crate::model::Governance;

#[test]
fn one_tenants_mistake_does_not_freeze_anothers_change() {
    let mut cluster = Cluster::with_tenants(&["qa", "web"]);
    let mut broken = policy("nightly", "qase");
    broken["allow"][0]["methods"] = json!(["get"]);
    broken["allow"][0]["paths"] = json!(["/v1/defect/*"]);
    cluster.apply(Kind::AccessPolicy, "qa", "reads", broken);
    let mut changed = policy("nightly", "qase");
    changed["allow"][0]["paths"] = json!(["/v1/result/*"]);
    cluster.apply(Kind::AccessPolicy, "web", "reads", changed);
    let loaded = cluster.load();
    let paths = |namespace: &str| {
        let name = format!("{namespace}/reads");
        let policies = loaded.policies.policies();
        let policy = policies.iter().find(|policy| *policy.name.as_str() == name);
        policy.unwrap().allow[0].paths.written().to_vec()
    };
    assert_eq!(paths("qa").len(), 1);
    assert_eq!(&*paths("qa")[0], "/v1/run/*");
    assert_eq!(&*paths("web")[0], "/v1/result/*");
    let verdict = cluster.verdict(Kind::AccessPolicy, "qa", "reads");
    assert_eq!((verdict.generation, verdict.in_force), (2, Some(1)));
    assert!(!verdict.accepted);
    assert_eq!(
        errors(&verdict),
        [("bad-method", "spec.allow[0].methods[0]")]
    );
    let verdict = cluster.verdict(Kind::AccessPolicy, "web", "reads");
    assert_eq!((verdict.in_force, verdict.accepted), (Some(2), true));
}

#[test]
fn the_finding_is_the_one_of_check() {
    let mut cluster = Cluster::with_tenants(&["qa"]);
    let mut spec = policy("nightly", "qase");
    spec["conditions"] = json!({ "notAftre": "2027-06-30T00:00:00Z" });
    cluster.apply(Kind::AccessPolicy, "qa", "reads", spec);
    let verdict = cluster.verdict(Kind::AccessPolicy, "qa", "reads");
    let shown = verdict.findings[0].to_string();
    assert!(
        shown.starts_with("spec.conditions.notAftre: unknown-key: ")
            && shown.contains("`notAfter`"),
        "{shown}"
    );
}

#[test]
fn an_object_that_was_never_right_is_not_in_force_and_neither_is_what_needs_it() {
    let mut cluster = Cluster::with_tenants(&["web"]);
    let mut wrong = workload("nightly");
    wrong["match"][0]["images"] = json!(["ghcr.io/acme/dashboard:latest"]);
    cluster.apply(Kind::Workload, "qa", "nightly", wrong);
    cluster.apply(Kind::Credential, "qa", "reader", credential("qase"));
    cluster.apply(Kind::AccessPolicy, "qa", "reads", policy("nightly", "qase"));
    let loaded = cluster.load();
    assert_eq!(policies(&loaded.policies), ["web/reads"]);
    let verdict = cluster.verdict(Kind::AccessPolicy, "qa", "reads");
    assert_eq!(errors(&verdict), [("not-accepted", "spec.workloads[0]")]);
    // It is accepted as soon as what it needs is right.
    cluster.apply(Kind::Workload, "qa", "nightly", workload("nightly"));
    assert_eq!(
        policies(&cluster.load().policies),
        ["qa/reads", "web/reads"]
    );
}

#[test]
fn a_broken_edit_of_a_workload_leaves_its_policies_in_force() {
    let mut cluster = Cluster::with_tenants(&["qa"]);
    cluster.apply(
        Kind::Workload,
        "qa",
        "nightly",
        json!({ "owner": "team", "match": [{}] }),
    );
    let loaded = cluster.load();
    assert_eq!(policies(&loaded.policies), ["qa/reads"]);
    let accounts: Vec<_> = loaded.policies.workloads().iter().collect();
    assert_eq!(
        accounts[0].selectors[0].service_account.as_deref(),
        Some("nightly")
    );
}

#[test]
fn deleting_works_at_once_whatever_else_is_wrong() {
    for (kind, name) in [
        (Kind::AccessPolicy, "reads"),
        (Kind::Credential, "reader"),
        (Kind::Workload, "nightly"),
    ] {
        let mut cluster = Cluster::with_tenants(&["qa", "web"]);
        cluster.apply(Kind::AccessPolicy, "qa", "broken", json!({ "owner": "" }));
        cluster.delete(kind, "qa", name);
        let loaded = cluster.load();
        assert_eq!(policies(&loaded.policies), ["web/reads"], "{kind}");
        if kind != Kind::AccessPolicy {
            let verdict = cluster.verdict(Kind::AccessPolicy, "qa", "reads");
            assert_eq!((verdict.accepted, verdict.in_force), (false, None));
            assert_eq!(errors(&verdict)[0].0, "dangling-reference");
        }
    }
}

#[test]
fn a_deleted_workload_takes_no_other_with_it() {
    let mut cluster = Cluster::with_tenants(&["qa"]);
    cluster.apply(Kind::Workload, "qa", "hourly", workload("hourly"));
    let mut both = policy("nightly", "qase");
    both["workloads"] = json!(["nightly", "hourly"]);
    cluster.apply(Kind::AccessPolicy, "qa", "reads", both);
    cluster.load();
    cluster.delete(Kind::Workload, "qa", "hourly");
    let loaded = cluster.load();
    let reads = &loaded.policies.policies()[0];
    let names: Vec<_> = reads
        .workloads
        .iter()
        .map(|workload| workload.name.as_str())
        .collect();
    assert_eq!(names, ["qa/nightly"]);
    let verdict = cluster.verdict(Kind::AccessPolicy, "qa", "reads");
    assert_eq!((verdict.accepted, verdict.in_force), (false, Some(2)));
}

#[test]
fn what_was_accepted_is_in_force_again_when_what_it_needs_is_back() {
    let mut cluster = Cluster::with_tenants(&["qa"]);
    cluster.delete(Kind::Credential, "qa", "reader");
    assert!(cluster.load().policies.policies().is_empty());
    cluster.apply(Kind::AccessPolicy, "qa", "reads", json!({ "owner": "" }));
    assert!(cluster.load().policies.policies().is_empty());
    cluster.apply(Kind::Credential, "qa", "reader", credential("qase"));
    assert_eq!(policies(&cluster.load().policies), ["qa/reads"]);
    let verdict = cluster.verdict(Kind::AccessPolicy, "qa", "reads");
    assert_eq!((verdict.accepted, verdict.in_force), (false, Some(1)));
}

#[test]
fn an_object_of_the_same_name_does_not_inherit_what_a_deleted_one_had() {
    let mut cluster = Cluster::with_tenants(&["qa"]);
    cluster.delete(Kind::AccessPolicy, "qa", "reads");
    cluster.apply(
        Kind::AccessPolicy,
        "qa",
        "reads",
        json!({ "owner": "team" }),
    );
    assert!(cluster.load().policies.policies().is_empty());
}

#[test]
fn a_gateway_that_starts_finds_what_was_in_force_in_the_status() {
    let mut cluster = Cluster::with_tenants(&["qa"]);
    let object = json!({
        "metadata": { "name": "reads", "namespace": "qa", "uid": "a", "generation": 7 },
        "spec": { "owner": "" },
        "status": { "inForce": { "generation": 6, "spec": policy("nightly", "qase") } },
    });
    let object = Object::read(Kind::AccessPolicy, &object).unwrap();
    cluster.objects.insert(object.key.clone(), object);
    cluster.forget();
    assert_eq!(policies(&cluster.load().policies), ["qa/reads"]);
    let verdict = cluster.verdict(Kind::AccessPolicy, "qa", "reads");
    assert_eq!((verdict.accepted, verdict.in_force), (false, Some(6)));
}

#[test]
fn a_wrong_target_never_falls_back_to_something_wider() {
    // Narrower than the catalog's: one host, and one path.
    let mut narrow = target("api.qase.io");
    narrow["routes"][0]["paths"] = json!(["/v1/run/**"]);
    let mut cluster = Cluster::with_tenants(&["qa"]);
    cluster.apply(Kind::TargetService, "platform", "qase", narrow);
    cluster.load();
    cluster.apply(
        Kind::TargetService,
        "platform",
        "qase",
        json!({ "hosts": ["*"] }),
    );
    let is_narrow = |loaded: &Loaded| {
        let target = &loaded.policies.policies()[0].target;
        target.routes[0].paths.written().len() == 1
    };
    assert!(
        is_narrow(&cluster.load()),
        "the last accepted one is in force"
    );
    // One that was never right hides the catalog's as well.
    cluster.forget();
    let loaded = cluster.load();
    assert!(loaded.policies.policies().is_empty());
    let verdict = cluster.verdict(Kind::AccessPolicy, "qa", "reads");
    assert!(
        errors(&verdict).contains(&("not-accepted", "spec.target")),
        "{verdict:?}"
    );
    cluster.delete(Kind::TargetService, "platform", "qase");
    assert!(
        !is_narrow(&cluster.load()),
        "without the object it is the catalog's again"
    );
}

#[test]
fn of_two_targets_with_one_host_the_one_in_force_counts() {
    let mut cluster = Cluster::new();
    cluster.apply(
        Kind::TargetService,
        "platform",
        "b",
        target("api.example.com"),
    );
    cluster.load();
    cluster.apply(
        Kind::TargetService,
        "platform",
        "a",
        target("api.example.com"),
    );
    let verdict = cluster.verdict(Kind::TargetService, "platform", "a");
    assert_eq!(errors(&verdict), [("overlapping-targets", "spec.hosts[0]")]);
    assert!(
        cluster
            .verdict(Kind::TargetService, "platform", "b")
            .accepted
    );
}

#[test]
fn what_stands_in_the_files_is_not_replaced() {
    let mut cluster = Cluster::new();
    cluster.files = json!({
        "apiVersion": "countersign.dev/v1alpha1",
        "kind": "Workload",
        "metadata": { "name": "nightly", "namespace": "qa" },
        "spec": workload("from-files"),
    })
    .to_string();
    cluster.apply(Kind::Workload, "qa", "nightly", workload("from-cluster"));
    cluster.apply(Kind::Credential, "qa", "reader", credential("qase"));
    cluster.apply(Kind::AccessPolicy, "qa", "reads", policy("nightly", "qase"));
    let loaded = cluster.load();
    let account = &loaded.policies.workloads()[0].selectors[0].service_account;
    assert_eq!(account.as_deref(), Some("from-files"));
    assert_eq!(policies(&loaded.policies), ["qa/reads"]);
    let verdict = cluster.verdict(Kind::Workload, "qa", "nightly");
    assert_eq!(errors(&verdict), [("duplicate-name", "metadata.name")]);
}

#[test]
fn the_revision_tells_what_is_in_force() {
    let mut cluster = Cluster::with_tenants(&["qa"]);
    let one = cluster.load();
    cluster.apply(Kind::AccessPolicy, "qa", "broken", json!({ "owner": "" }));
    let two = cluster.load();
    assert_eq!(one.policies.revision(), two.policies.revision());
    cluster.apply(Kind::AccessPolicy, "qa", "more", policy("nightly", "qase"));
    let three = cluster.load();
    assert_ne!(two.policies.revision(), three.policies.revision());
    let changes = two.fingerprints.changes(&three.fingerprints);
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].name, "qa/more");
}

/// What the operator asks of every resource is asked of objects too.
#[test]
fn governance_holds_for_objects() {
    let mut cluster = Cluster::new();
    cluster.setting.governance = Some(Governance {
        require_purpose: true,
        forbid_any_path: true,
        ..Governance::default()
    });
    cluster.apply(Kind::Credential, "qa", "reader", credential("qase"));
    cluster.apply(Kind::Workload, "qa", "nightly", workload("nightly"));
    let has = |verdict: &Verdict, code| errors(verdict).iter().any(|(found, _)| *found == code);
    let verdict = cluster.verdict(Kind::Workload, "qa", "nightly");
    assert!(has(&verdict, "governance-purpose"), "{verdict:?}");
    let mut good = workload("nightly");
    good["purpose"] = json!("Posts results");
    cluster.apply(Kind::Workload, "qa", "nightly", good);
    let mut any = policy("nightly", "qase");
    any["allow"][0]["paths"] = json!(["/**"]);
    cluster.apply(Kind::AccessPolicy, "qa", "reads", any);
    let verdict = cluster.verdict(Kind::AccessPolicy, "qa", "reads");
    assert!(has(&verdict, "governance-any-path"), "{verdict:?}");
    cluster.apply(Kind::AccessPolicy, "qa", "reads", policy("nightly", "qase"));
    assert_eq!(policies(&cluster.load().policies), ["qa/reads"]);
}
