//! The rules of the chart, by Prometheus' own promtool: each alert fires when it should, and is silent when it should be.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use serde_json::{Value, json};

use crate::harness::tests_directory;

/// An alert, and what gateways show when it fires and when it does not.
struct Case {
    alert: &'static str,
    /// When it is looked at.
    at: &'static str,
    /// Metrics and their values, one a minute.
    fires: &'static [(&'static str, &'static str)],
    quiet: &'static [(&'static str, &'static str)],
    /// The labels that the alert has besides its severity.
    labels: &'static [(&'static str, &'static str)],
}

const PERMITTED: &str =
    r#"countersign_requests_total{outcome="permitted",reason="permitted",policy="qa/p"}"#;
const NOT_INJECTED: &str = r#"countersign_requests_total{outcome="refused",reason="credential_source_unavailable",policy="qa/p"}"#;
const REFUSED: &str =
    r#"countersign_requests_total{outcome="refused",reason="request_not_allowed",policy=""}"#;
const REFUSED_BY_POLICY: &str =
    r#"countersign_requests_total{outcome="refused",reason="rate_exceeded",policy="qa/p"}"#;
const ENDS: &str =
    r#"countersign_credential_expires_timestamp_seconds{pod="a",credential="qa/slack"}"#;
const STALE: &str = r#"countersign_credential_state{pod="a",credential="qa/slack",state="stale"}"#;
const GOOD: &str = r#"countersign_credential_state{pod="a",credential="qa/slack",state="good"}"#;

const CASES: &[Case] = &[
    Case {
        alert: "CountersignConfigRejected",
        at: "30m",
        fires: &[(
            r#"countersign_config_last_reload_successful{pod="a"}"#,
            "1x10 0x30",
        )],
        quiet: &[(
            r#"countersign_config_last_reload_successful{pod="a"}"#,
            "0x10 1x30",
        )],
        labels: &[("pod", "a")],
    },
    Case {
        alert: "CountersignStartedOnLastGoodRevision",
        at: "30m",
        fires: &[(
            r#"countersign_config_on_last_good_revision{pod="a"}"#,
            "1x60",
        )],
        quiet: &[(
            r#"countersign_config_on_last_good_revision{pod="a"}"#,
            "1x10 0x60",
        )],
        labels: &[("pod", "a")],
    },
    Case {
        alert: "CountersignCertificateEnds",
        at: "30m",
        fires: &[(
            r#"countersign_certificate_not_after_timestamp_seconds{pod="a",certificate="listener/proxy"}"#,
            "5000x60",
        )],
        quiet: &[(
            r#"countersign_certificate_not_after_timestamp_seconds{pod="a",certificate="listener/proxy"}"#,
            "6000x60",
        )],
        labels: &[("pod", "a"), ("certificate", "listener/proxy")],
    },
    Case {
        alert: "CountersignRecordsLost",
        at: "30m",
        fires: &[(
            r#"countersign_decisions_dropped_total{pod="a",class="identified"}"#,
            "0x27 3x10",
        )],
        quiet: &[(
            r#"countersign_decisions_dropped_total{pod="a",class="identified"}"#,
            "0x10 3x30",
        )],
        labels: &[("pod", "a"), ("class", "identified")],
    },
    Case {
        alert: "CountersignCredentialFailing",
        at: "30m",
        fires: &[(
            r#"countersign_credential_fetches_total{credential="qa/slack",result="credential_refused"}"#,
            "0+1x60",
        )],
        quiet: &[(
            r#"countersign_credential_fetches_total{credential="qa/slack",result="ok"}"#,
            "0+1x60",
        )],
        labels: &[("credential", "qa/slack")],
    },
    Case {
        alert: "CountersignRefusesMuch",
        at: "40m",
        fires: &[(REFUSED, "0+120x60")],
        quiet: &[(REFUSED, "0+30x60"), (PERMITTED, "0+600x60")],
        labels: &[("reason", "request_not_allowed")],
    },
    Case {
        alert: "CountersignConnectionsShed",
        at: "30m",
        fires: &[(
            r#"countersign_connections_shed_total{reason="source_full"}"#,
            "0+20x60",
        )],
        quiet: &[(
            r#"countersign_connections_shed_total{reason="source_full"}"#,
            "0+1x60",
        )],
        labels: &[("reason", "source_full")],
    },
    Case {
        alert: "CountersignAdmissionFails",
        at: "30m",
        fires: &[(
            r#"countersign_admission_failures_total{pod="c"}"#,
            "0x25 1x10",
        )],
        quiet: &[(r#"countersign_admission_failures_total{pod="c"}"#, "1x60")],
        labels: &[("pod", "c")],
    },
    Case {
        alert: "CountersignPodsWithoutRelay",
        at: "90m",
        fires: &[(
            r#"countersign_pods_without_relay{namespace_of_pods="qa",reason="older"}"#,
            "2x120",
        )],
        quiet: &[(
            r#"countersign_pods_without_relay{namespace_of_pods="qa",reason="older"}"#,
            "2x60 0x60",
        )],
        labels: &[("namespace_of_pods", "qa")],
    },
    Case {
        alert: "CountersignInjectionBudgetBurnsFast",
        at: "2h",
        fires: &[(PERMITTED, "0+98x180"), (NOT_INJECTED, "0+2x180")],
        // What policy refuses is no fault, and an outage that is over burns nothing.
        quiet: &[
            (PERMITTED, "0+100x180"),
            (REFUSED_BY_POLICY, "0+50x180"),
            (NOT_INJECTED, "0+2x100 200x80"),
        ],
        labels: &[],
    },
    Case {
        alert: "CountersignInjectionBudgetBurnsSlowly",
        at: "7h",
        fires: &[(PERMITTED, "0+992x480"), (NOT_INJECTED, "0+8x480")],
        quiet: &[(PERMITTED, "0+999x480"), (NOT_INJECTED, "0+1x480")],
        labels: &[],
    },
    Case {
        alert: "CountersignCredentialEnds",
        at: "30m",
        fires: &[(ENDS, "5000x60"), (STALE, "1x60")],
        // It is renewed in time, as those of an hour always are.
        quiet: &[(ENDS, "5000x60"), (GOOD, "1x60")],
        labels: &[("pod", "a"), ("credential", "qa/slack")],
    },
    Case {
        alert: "CountersignProbeFails",
        at: "30m",
        fires: &[(
            r#"countersign_probes_total{credential="qa/slack",result="rejected"}"#,
            "0x20 1x20",
        )],
        quiet: &[
            (
                r#"countersign_probes_total{credential="qa/slack",result="works"}"#,
                "0+1x60",
            ),
            (
                r#"countersign_probes_total{credential="qa/slack",result="unknown"}"#,
                "0+1x60",
            ),
        ],
        labels: &[("credential", "qa/slack"), ("result", "rejected")],
    },
    Case {
        alert: "CountersignRotationStuck",
        at: "50m",
        fires: &[(
            r#"countersign_credential_fetches_total{credential="qa/slack",result="credential_dead"}"#,
            "0x30 1x30",
        )],
        quiet: &[(
            r#"countersign_credential_fetches_total{credential="qa/slack",result="credential_source_unavailable"}"#,
            "0+1x60",
        )],
        labels: &[("credential", "qa/slack"), ("result", "credential_dead")],
    },
    Case {
        alert: "CountersignNoProofKeys",
        at: "30m",
        fires: &[(r#"countersign_proof_sources_missing{pod="a"}"#, "1x60")],
        quiet: &[(r#"countersign_proof_sources_missing{pod="a"}"#, "1x26 0x60")],
        labels: &[("pod", "a")],
    },
];

fn rules_file() -> std::path::PathBuf {
    tests_directory().join("../deploy/helm/countersign/files/rules.yaml")
}

/// The alerts of the chart, by name.
fn alerts() -> BTreeMap<String, Value> {
    let text = fs::read_to_string(rules_file()).expect("the rules");
    let rules: Value = serde_saphyr::from_str(&text).expect("YAML");
    let groups = rules["groups"].as_array().expect("groups").iter();
    let all = groups.flat_map(|group| group["rules"].as_array().expect("rules"));
    let named = all.filter_map(|rule| Some((rule["alert"].as_str()?.to_owned(), rule.clone())));
    named.collect()
}

/// A test of promtool for a case: what the alert says, in full, or that it is silent.
fn test_of(case: &Case, alert: &Value, fires: bool) -> Value {
    let series = if fires { case.fires } else { case.quiet };
    let series: Vec<_> = series
        .iter()
        .map(|(series, values)| json!({ "series": series, "values": values }))
        .collect();
    let filled = |text: &str| {
        let mut text = text.replace("{{ $value }}", "1");
        for (name, value) in case.labels {
            text = text.replace(&format!("{{{{ $labels.{name} }}}}"), value);
        }
        text
    };
    let annotations: BTreeMap<_, _> = alert["annotations"]
        .as_object()
        .expect("annotations")
        .iter()
        .map(|(name, text)| (name.clone(), filled(text.as_str().expect("a text"))))
        .collect();
    let mut labels: BTreeMap<_, _> = case.labels.iter().copied().collect();
    labels.insert(
        "severity",
        alert["labels"]["severity"].as_str().expect("a severity"),
    );
    let expected = fires.then(|| json!({ "exp_labels": labels, "exp_annotations": annotations }));
    json!({
        "interval": "1m",
        "input_series": series,
        "alert_rule_test": [{
            "eval_time": case.at,
            "alertname": case.alert,
            "exp_alerts": expected.into_iter().collect::<Vec<_>>(),
        }],
    })
}

/// Runs promtool; `None`, and said aloud, if the machine has none.
fn promtool(arguments: &[&std::ffi::OsStr]) -> Option<String> {
    let output = match Command::new("promtool").args(arguments).output() {
        Ok(output) => output,
        Err(error) => {
            countersign_tests::skipped(&format!(
                "promtool cannot be run ({error}); Debian's package prometheus has it"
            ));
            return None;
        }
    };
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{said}");
    Some(said)
}

#[test]
fn each_alert_fires_when_it_should_and_only_then() {
    let alerts = alerts();
    let tested: BTreeSet<_> = CASES.iter().map(|case| case.alert).collect();
    let written: BTreeSet<_> = alerts.keys().map(String::as_str).collect();
    assert_eq!(written, tested, "each alert has a case");
    let tests: Vec<_> = CASES
        .iter()
        .flat_map(|case| [true, false].map(|fires| test_of(case, &alerts[case.alert], fires)))
        .collect();
    let rules = rules_file().canonicalize().expect("the rules");
    let file = json!({ "rule_files": [rules], "evaluation_interval": "1m", "tests": tests });
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("alerts.yaml");
    fs::write(&path, file.to_string()).expect("the file is written");
    let words = ["check", "rules"].map(std::ffi::OsStr::new);
    for said in [
        promtool(&[words[0], words[1], rules.as_os_str()]),
        promtool(&["test".as_ref(), words[1], path.as_os_str()]),
    ]
    .into_iter()
    .flatten()
    {
        println!("{said}");
        assert!(said.contains("SUCCESS"), "{said}");
    }
}

#[test]
fn each_alert_has_a_place_that_says_what_to_do() {
    let page = fs::read_to_string(tests_directory().join("../docs/alerts.md")).expect("the page");
    for (name, alert) in alerts() {
        let url = format!("https://countersign.dev/alerts#{}", name.to_lowercase());
        assert_eq!(alert["annotations"]["runbook_url"], url, "{name}");
        assert!(
            page.contains(&format!("\n## {name}\n")),
            "docs/alerts.md has no {name}"
        );
        for text in ["summary", "description"] {
            assert!(
                alert["annotations"][text].is_string(),
                "{name} has no {text}"
            );
        }
    }
    let named = page
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .count();
    assert_eq!(
        named,
        alerts().len(),
        "docs/alerts.md has an alert too many"
    );
}
