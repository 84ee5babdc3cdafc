use std::collections::BTreeMap;

use countersign_config::model::ResourceName;
use rstest::rstest;

use super::*;

fn selector(cluster: Option<&str>, account: &str) -> Selector {
    Selector {
        cluster: cluster.map(Into::into),
        namespace: None,
        service_account: Some(account.into()),
        cron_job: None,
        pod_labels: BTreeMap::new(),
        images: Vec::new(),
        spiffe_id: None,
    }
}

fn workload(name: &str, selectors: Vec<Selector>) -> Arc<Workload> {
    Arc::new(Workload {
        name: ResourceName::namespaced("qa", name),
        owner: "qa@example.com".into(),
        purpose: None,
        environment: None,
        review_by: None,
        selectors,
    })
}

fn workloads() -> Vec<Arc<Workload>> {
    let in_pods = Selector {
        cron_job: Some("nightly".into()),
        ..selector(Some("prod-us"), "in-pods")
    };
    let elsewhere = Selector {
        namespace: Some("ops".into()),
        ..selector(None, "elsewhere")
    };
    vec![
        workload(
            "dashboard",
            vec![in_pods.clone(), selector(Some("prod-eu"), "dash")],
        ),
        workload("elsewhere", vec![elsewhere]),
        workload("pods-only", vec![in_pods]),
    ]
}

#[rstest]
#[case::workload("qa/dashboard", "prod-eu system:serviceaccount:qa:dash")]
#[case::its_account("qa/dash", "prod-eu system:serviceaccount:qa:dash")]
#[case::in_full(
    "system:serviceaccount:qa:dash",
    "prod-eu system:serviceaccount:qa:dash"
)]
#[case::other_namespace("qa/elsewhere", "first system:serviceaccount:ops:elsewhere")]
#[case::nobody("qa/nobody", "first system:serviceaccount:qa:nobody")]
fn a_name_means_a_service_account(#[case] name: &str, #[case] expected: &str) {
    let found = resolve(name, &workloads(), ["first", "second"].into_iter()).unwrap();
    assert_eq!(format!("{} {}", found.cluster, found.claim()), expected);
}

#[rstest]
#[case("dashboard")]
#[case("qa/")]
#[case("qa/a/b")]
#[case("system:serviceaccount:qa")]
#[case::what_only_a_pod_can_prove("qa/pods-only")]
fn what_cannot_be_proven_is_refused(#[case] name: &str) {
    resolve(name, &workloads(), std::iter::empty()).unwrap_err();
}

#[test]
fn without_any_cluster_it_is_the_local_one() {
    assert_eq!(
        resolve("a/b", &[], std::iter::empty()).unwrap().cluster,
        "local"
    );
}
