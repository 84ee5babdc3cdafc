//! `countersign doctor`, against an installation that is healthy and against broken ones: what it prints is what
//! `docs/doctor.md` shows.

mod installed;

use std::{fs, sync::Mutex};

use anyhow::Context as _;
use countersign_tests::fake::{Authority, ClusterRight};
use serde_json::{Value, json};

use self::installed::Installed;
use crate::harness::tests_directory;

/// The section of the page about one case, and what is printed now: they must be the same.
fn documented(title: &str, printed: &str) -> anyhow::Result<()> {
    static WRITING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = WRITING.lock();
    let file = tests_directory().join("../docs/doctor.md");
    let page = fs::read_to_string(&file)?;
    let printed = steady(printed);
    let (before, section) = page
        .split_once(&format!("\n### {title}\n"))
        .with_context(|| format!("docs/doctor.md has no section {title}:\n{printed}"))?;
    let (between, block) = section.split_once("```text\n").context("it has a block")?;
    let (block, after) = block.split_once("```").context("the block ends")?;
    if std::env::var_os("COUNTERSIGN_WRITE_DOCS").is_some() {
        let page = format!("{before}\n### {title}\n{between}```text\n{printed}```{after}");
        return Ok(fs::write(&file, page)?);
    }
    anyhow::ensure!(
        block == printed,
        "docs/doctor.md, {title}, must show (COUNTERSIGN_WRITE_DOCS=1 writes it):\n{printed}"
    );
    Ok(())
}

/// Without what differs from run to run: times and ages.
fn steady(printed: &str) -> String {
    let patterns = [
        (
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z",
            "2026-12-01T06:00:00Z",
        ),
        (
            r"written ((\d+[dhms] ?)+|less than 1s) ago",
            "written 2h ago",
        ),
        (r", (\d+[dhms] )+ago;", ", 1h ago;"),
    ];
    let mut text = printed.to_owned();
    for (pattern, instead) in patterns {
        let pattern = regex::Regex::new(pattern).expect("it is a pattern");
        text = pattern.replace_all(&text, instead).into_owned();
    }
    text
}

#[tokio::test]
async fn a_healthy_installation_is_found_healthy() -> anyhow::Result<()> {
    let installed = Installed::start().await?;
    let told = installed
        .doctor(&["-n", "qa", "cronjob/nightly-dashboard"])
        .await?;
    assert_eq!(told.code, 0, "{}", told.text);
    documented("Healthy", &told.text)?;
    let json = installed.doctor(&["-o", "json"]).await?;
    let report: Value = serde_json::from_str(&json.text)?;
    assert_eq!(report["sections"][0]["title"], "Cluster");
    let strict = installed.doctor(&["-n", "qa", "--strict"]).await?;
    assert_eq!(strict.code, 0, "{}", strict.text);
    Ok(())
}

#[tokio::test]
async fn the_controller_is_away() -> anyhow::Result<()> {
    let installed = Installed::start().await?;
    installed.change(
        "apps/v1",
        "deployments",
        "countersign",
        "countersign-controller",
        |it| {
            it["status"] = json!({"replicas": 2, "readyReplicas": 0});
        },
    );
    installed.change(
        "discovery.k8s.io/v1",
        "endpointslices",
        "countersign",
        "countersign-controller-1",
        |it| {
            it["endpoints"] = json!([]);
        },
    );
    installed.server().set_object(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "countersign-controller-5f9c7-x2b4d", "namespace": "countersign",
            "labels": {"app.kubernetes.io/component": "controller", "app.kubernetes.io/part-of": "countersign"},
        },
        "spec": {"containers": [{"name": "controller", "image": "countersign:0.1.0"}]},
        "status": {"phase": "Running", "containerStatuses": [{
            "name": "controller", "ready": false, "restartCount": 4,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 1m20s restarting failed container"}},
        }]},
    }));
    installed.stop_webhook();
    let told = installed.doctor(&["-n", "qa"]).await?;
    assert_eq!(told.code, 1, "{}", told.text);
    documented("The controller is away", &told.text)
}

#[tokio::test]
async fn a_right_was_taken_away() -> anyhow::Result<()> {
    let installed = Installed::start().await?;
    installed
        .server()
        .set_cluster_rights(&[ClusterRight::ReadKeys]);
    installed.change(
        "rbac.authorization.k8s.io/v1",
        "clusterroles",
        "",
        "countersign-gateway",
        |role| {
            let rules = role["rules"].as_array_mut().expect("it has rules");
            rules.retain(|rule| rule["resources"][0] != "tokenreviews");
        },
    );
    installed.change(
        "rbac.authorization.k8s.io/v1",
        "clusterroles",
        "",
        "countersign-controller",
        |role| {
            let rules = role["rules"].as_array_mut().expect("it has rules");
            rules.retain(|rule| rule["resources"][0] != "namespaces");
        },
    );
    let told = installed.doctor(&[]).await?;
    assert_eq!(told.code, 1, "{}", told.text);
    documented("A right was taken away", &told.text)
}

#[tokio::test]
async fn another_issuer_and_a_clock_that_is_ahead() -> anyhow::Result<()> {
    let installed = Installed::start().await?;
    installed.gateway_file("https://oidc.example.com/prod");
    installed.set_ahead("node-2", jiff::SignedDuration::from_secs(300));
    let told = installed.doctor(&[]).await?;
    assert_eq!(told.code, 1, "{}", told.text);
    let text = told.text.replace("299 s ahead", "300 s ahead");
    documented("Another issuer, and a clock that is ahead", &text)
}

#[tokio::test]
async fn a_namespace_has_an_old_root() -> anyhow::Result<()> {
    let installed = Installed::start().await?;
    let old = Authority::expired("Countersign root").pem();
    installed.change("v1", "configmaps", "qa", "countersign-ca", |map| {
        map["data"] = json!({"root.pem": old, "bundle.pem": old});
    });
    installed
        .server()
        .delete_object("v1", "configmaps", "qa", "countersign-gateway-ca");
    let told = installed.doctor(&["-n", "qa"]).await?;
    assert_eq!(told.code, 1, "{}", told.text);
    documented("A namespace has an old root", &told.text)
}

#[tokio::test]
async fn nobody_opted_in_and_the_job_is_unknown() -> anyhow::Result<()> {
    let installed = Installed::start().await?;
    installed.change("v1", "namespaces", "", "qa", |namespace| {
        namespace["metadata"]["labels"] = json!({"kubernetes.io/metadata.name": "qa"});
    });
    installed.server().delete_object(
        "countersign.dev/v1alpha1",
        "workloads",
        "qa",
        "nightly-dashboard",
    );
    installed.server().delete_object(
        "apiextensions.k8s.io/v1",
        "customresourcedefinitions",
        "",
        "targetservices.countersign.dev",
    );
    let told = installed
        .doctor(&["-n", "qa", "cronjob/nightly-dashboard"])
        .await?;
    assert_eq!(told.code, 1, "{}", told.text);
    documented("A forgotten label, workload and definition", &told.text)
}

/// What no gateway has read, and what was refused, is not accepted.
#[tokio::test]
async fn what_became_of_each_object_is_told() -> anyhow::Result<()> {
    let installed = Installed::start().await?;
    let api = "countersign.dev/v1alpha1";
    installed.change(api, "workloads", "qa", "nightly-dashboard", |workload| {
        workload["status"] = json!({});
    });
    let refused = "no Credential is named slak; did you mean slack?";
    installed.change(
        api,
        "accesspolicies",
        "qa",
        "dashboard-posts-to-slack",
        |policy| {
            policy["status"]["conditions"][0] = json!({
                "type": "Accepted", "status": "False", "reason": "Invalid", "message": refused,
            });
        },
    );
    let told = installed.doctor(&["-n", "qa"]).await?;
    assert_eq!(told.code, 1, "{}", told.text);
    for part in [
        "accepted in qa: 2 Credential, 1 AccessPolicy",
        "no gateway has said yet what it makes of 1 Workload in qa",
        &format!("AccessPolicy dashboard-posts-to-slack: {refused}"),
    ] {
        assert!(told.text.contains(part), "{part}: {}", told.text);
    }
    Ok(())
}

#[tokio::test]
async fn whoever_may_nothing_is_told_what_is_not_known() -> anyhow::Result<()> {
    let installed = Installed::start().await?;
    let token = installed
        .server()
        .add_user("guest", &["system:authenticated"]);
    let told = installed
        .doctor_as(&token, &["--system-namespace", "countersign"])
        .await?;
    assert_eq!(told.code, 1, "{}", told.text);
    assert!(!told.text.contains("FAIL"), "{}", told.text);
    for part in [
        "you may not list deployments.apps",
        "you may not list namespaces",
    ] {
        assert!(told.text.contains(part), "{}", told.text);
    }
    let told = installed.doctor_as("nobody's", &[]).await?;
    assert_eq!(told.code, 2, "{}", told.text);
    assert!(
        told.text.contains("does not accept your credentials"),
        "{}",
        told.text
    );
    Ok(())
}

#[tokio::test]
async fn an_api_server_that_is_away_is_no_finding() -> anyhow::Result<()> {
    let installed = Installed::start().await?;
    let told = installed.doctor(&["-n", "../x"]).await?;
    assert_eq!(told.code, 2, "{}", told.text);
    installed
        .server()
        .set_outage(Some(http::StatusCode::SERVICE_UNAVAILABLE));
    let told = installed.doctor(&[]).await?;
    assert_eq!(told.code, 2, "{}", told.text);
    assert!(
        told.text.contains("the API server answers 503"),
        "{}",
        told.text
    );
    Ok(())
}

/// The kubelet is played: the probe's own program runs here, and its last words become the pod's.
#[tokio::test]
async fn a_probe_tells_whether_networkpolicies_are_in_force() -> anyhow::Result<()> {
    let installed = Installed::start().await?;
    let told = installed
        .probed(
            "qa",
            &json!({
                "countersign.countersign.svc:9901": false,
                "kubernetes.default.svc:443": true,
                "countersign.countersign.svc:3128": true,
            }),
        )
        .await?;
    assert_eq!(told.code, 1, "{}", told.text);
    for part in [
        "ok    a pod of qa reaches countersign.countersign.svc:3128",
        "ok    a pod of qa does not reach countersign.countersign.svc:9901, as it must be",
        "FAIL  a pod of qa reaches kubernetes.default.svc:443: nobody enforces NetworkPolicies there",
    ] {
        assert!(told.text.contains(part), "{}", told.text);
    }
    assert!(installed.pods("qa").is_empty(), "the probe is still there");
    Ok(())
}

#[tokio::test]
async fn reach_tells_which_places_answer() -> anyhow::Result<()> {
    let open = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let open = open.local_addr()?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let closed = listener.local_addr()?;
    drop(listener);
    let told = installed::run(&[
        "doctor".to_owned(),
        format!("--reach={open}"),
        format!("--reach={closed}"),
    ])
    .await?;
    assert_eq!(told.code, 0, "{}", told.text);
    let told: Value = serde_json::from_str(&told.text)?;
    // The listener is gone by then only if nobody waits: it is kept in the accept queue.
    assert_eq!(told[closed.to_string()], false, "{told}");
    Ok(())
}
