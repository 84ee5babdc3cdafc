//! The dashboard asks for metrics that there are, and each metric is on it, or said not to be.

use std::{collections::BTreeSet, fs};

use countersign_tests::{
    environment::{DASHBOARD, Environment},
    process::Process,
};
use serde_json::Value;

use crate::harness::{auth_test, soon, tests_directory, until};

/// What the dashboard does not show, since it changes with nothing that an operator does.
const NOT_SHOWN: [(&str, &str); 7] = [
    (
        "process_start_time_seconds",
        "the time of a restart is in the events",
    ),
    (
        "process_virtual_memory_bytes",
        "it says nothing about memory that is used",
    ),
    ("countersign_spans_sent_total", "what is lost is shown"),
    (
        "countersign_config_last_reload_timestamp_seconds",
        "the revisions are shown",
    ),
    (
        "countersign_trust_leads",
        "of controllers, whose alerts tell",
    ),
    (
        "countersign_trust_requests_total",
        "of controllers, whose alerts tell",
    ),
    (
        "countersign_admission_events_lost_total",
        "of controllers, whose alerts tell",
    ),
];

/// Families of `docs/metrics.md`, which a test of the metrics compares with what there is.
fn documented() -> BTreeSet<String> {
    let page = fs::read_to_string(tests_directory().join("../docs/metrics.md")).expect("the page");
    let names = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// The name of a family by that of one of its series.
fn family(name: &str) -> &str {
    let histogram = ["_bucket", "_sum", "_count"];
    let base = histogram
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix));
    base.unwrap_or(name)
}

/// The metrics that the panels ask for.
fn asked() -> BTreeSet<String> {
    let file = tests_directory().join("../deploy/helm/countersign/files/dashboard.json");
    let text = fs::read_to_string(file).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let pattern = regex::Regex::new(r"\b(?:countersign|process)_[a-z0-9_]+").expect("a pattern");
    let mut names = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{} asks for nothing", panel["title"]);
        for target in targets {
            let expression = target["expr"].as_str().expect("an expression");
            let found = pattern.find_iter(expression);
            let found: Vec<_> = found.map(|name| family(name.as_str()).to_owned()).collect();
            let is_recorded = expression.contains("countersign:");
            assert!(is_recorded || !found.is_empty(), "{expression}");
            names.extend(found);
        }
    }
    names
}

#[test]
fn each_metric_is_on_the_dashboard_or_said_not_to_be() {
    let (documented, asked) = (documented(), asked());
    let unknown: Vec<_> = asked.difference(&documented).collect();
    assert!(unknown.is_empty(), "there are no metrics {unknown:?}");
    let not_shown: BTreeSet<_> = NOT_SHOWN
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    let shown_after_all: Vec<_> = not_shown.intersection(&asked).collect();
    assert!(shown_after_all.is_empty(), "{shown_after_all:?}");
    let accounted: BTreeSet<_> = asked.union(&not_shown).cloned().collect();
    let missing: Vec<_> = documented.difference(&accounted).collect();
    assert!(
        missing.is_empty(),
        "neither on the dashboard nor in NOT_SHOWN: {missing:?}"
    );
    println!(
        "{} metrics: {} on the dashboard, {} not",
        documented.len(),
        asked.len(),
        not_shown.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_shows_what_the_page_has_and_the_dashboard_asks_for() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let gateway = Process::start(&env, None).await?;
    let client = gateway.client().bearer(&env.token("qa", DASHBOARD));
    soon("an answer", client.send(auth_test())).await??;
    until("the count", async || {
        let metrics = gateway.admin("/metrics").await;
        metrics.is_ok_and(|text| text.contains("countersign_requests_total{"))
    })
    .await?;
    let text = gateway.admin("/metrics").await?;
    let lines = text
        .lines()
        .filter(|line| line.starts_with("countersign_") || line.starts_with("process_"));
    let shown: BTreeSet<_> = lines
        .filter_map(|line| line.split(['{', ' ']).next())
        .map(|name| family(name).to_owned())
        .collect();
    let unlisted: Vec<_> = shown
        .iter()
        .filter(|name| !documented().contains(*name))
        .collect();
    assert!(unlisted.is_empty(), "docs/metrics.md lacks {unlisted:?}");
    let asked = asked();
    let found = asked.intersection(&shown).count();
    println!(
        "a gateway after one request shows {found} of the {} metrics of the dashboard",
        asked.len()
    );
    for name in [
        "countersign_requests_total",
        "countersign_request_duration_seconds",
        "countersign_step_duration_seconds",
        "countersign_credential_state",
        "countersign_config_last_reload_successful",
        "countersign_proof_sources_missing",
        "process_cpu_seconds_total",
        "process_max_fds",
    ] {
        assert!(shown.contains(name), "{name} is not in {shown:?}");
    }
    Ok(())
}
