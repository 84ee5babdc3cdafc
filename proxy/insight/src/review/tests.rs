//! A review of some workloads, each with something that is not in order.

use std::fs;

use countersign_config::load;

use super::*;
use crate::{
    diff::{Difference, diff},
    reader::Reader,
    record::Entry,
    usage::Observed,
};

const RESOURCES: &str = r#"apiVersion: countersign.dev/v1alpha1
kind: Workload
metadata: { name: a, namespace: qa }
spec:
  owner: qa@example.com
  purpose: Reads runs
  environment: production
  reviewBy: 2026-11-01
  match: [{ cluster: prod, serviceAccount: shared }]
---
apiVersion: countersign.dev/v1alpha1
kind: Workload
metadata: { name: b, namespace: qa }
spec:
  owner: tbd
  environment: staging
  match: [{ cluster: prod, serviceAccount: shared }, { cluster: prod, serviceAccount: b }]
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: wide, namespace: qa }
spec:
  owner: qa@example.com
  workloads: [a]
  target: qase
  credential: c
  allow: [{ methods: [GET, POST], paths: ["/v1/**"] }]
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: idle, namespace: qa }
spec:
  owner: qa@example.com
  workloads: [b]
  target: qase
  credential: c
  allow: [{ methods: [DELETE], paths: ["/v1/run/*"] }]
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: emergency, namespace: qa }
spec:
  owner: qa@example.com
  workloads: [b]
  target: qase
  credential: c
  breakGlass: true
  approvedBy: security@example.com
  allow: [{ methods: [PUT], paths: ["/v1/run/*"] }]
---
apiVersion: countersign.dev/v1alpha1
kind: Credential
metadata: { name: c, namespace: qa }
spec: { target: qase, static: { token: { file: /run/token } }, rotateBy: 2026-10-01 }
"#;

fn policies() -> PolicySet {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("r.yaml"), RESOURCES).expect("it can be written");
    load::resources(&[directory.path()])
        .expect("they are sound")
        .policies
}

fn line(time: &str, fields: &str) -> String {
    format!(
        r#"{{"schema":"countersign.decision/v1","time":"{time}","id":"x","reason":"ok","caller":{{"proof":"service-account-token","issuer":"prod","subject":"system:serviceaccount:qa:shared"}},{fields}}}"#
    ) + "\n"
}

fn log() -> String {
    let made = |day: u32, run: u32| {
        line(
            &format!("2026-07-{day:02}T05:10:00Z"),
            &format!(
                r#""outcome":"permitted","workload":{{"name":"qa/a"}},"policy":{{"name":"qa/wide","rule":0}},"target":{{"authority":"api.qase.io:443","method":"GET","path":"/v1/run/{run}"}},"credential":{{"name":"qa/c","age_s":60}}"#
            ),
        )
    };
    let mut log: String = (1..=20).map(|day| made(day, day)).collect();
    log += &made(21, 1).replace("2026-07-21", "2026-11-20");
    log += &line(
        "2026-11-21T00:00:00Z",
        r#""outcome":"tunnelled","target":{"authority":"slack.com:443"}"#,
    );
    log += &line(
        "2026-11-21T00:00:01Z",
        r#""outcome":"refused","target":{"authority":"api.qase.io:443","method":"GET","path":"/"}"#,
    )
    .replace("\"reason\":\"ok\"", "\"reason\":\"workload_unknown\"");
    log
}

fn usage(policies: &PolicySet) -> (Usage, Observed<'_>) {
    let (mut usage, mut observed) = (Usage::default(), Observed::new(policies));
    Reader::stream("-", std::io::Cursor::new(log())).each(|line| {
        if let Entry::Decision(decision) = &line.entry {
            usage.add(decision);
            observed.add(decision);
        }
    });
    (usage, observed)
}

fn review(policies: &PolicySet, sign_offs: &SignOffs) -> Review {
    let (usage, _) = usage(policies);
    Review::of(Subject {
        policies,
        governance: None,
        usage: &usage,
        sign_offs,
        now: "2026-11-23T00:00:00Z".parse().expect("a time"),
        unused_days: 90,
    })
}

#[test]
fn each_thing_that_is_not_in_order_is_found_and_nothing_else() {
    let policies = policies();
    let review = review(&policies, &SignOffs::default());
    let found: Vec<_> = review
        .findings
        .iter()
        .map(|finding| (finding.code, finding.subject.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("environments-mixed", "Credential qa/c"),
            ("host-tunnelled", "host slack.com"),
            ("no-owner", "Workload qa/b"),
            ("review-overdue", "Workload qa/a"),
            ("rotation-overdue", "Credential qa/c"),
            ("account-shared", "ServiceAccount qa/shared"),
            ("caller-unknown", "caller system:serviceaccount:qa:shared"),
            ("credential-shared", "Credential qa/c"),
            // Not `qa/emergency`, which is kept for emergencies.
            ("grant-unused", "AccessPolicy qa/idle"),
            ("rule-too-wide", "AccessPolicy qa/wide"),
            ("no-purpose", "Workload qa/b"),
            ("no-review-date", "Workload qa/b"),
        ]
    );
    assert!(
        review
            .findings
            .iter()
            .all(|finding| !finding.remedy.is_empty())
    );
}

#[test]
fn few_records_prove_no_idleness() {
    let policies = policies();
    let review = Review::of(Subject {
        policies: &policies,
        governance: None,
        usage: &Usage::default(),
        sign_offs: &SignOffs::default(),
        now: "2026-11-23T00:00:00Z".parse().expect("a time"),
        unused_days: 1,
    });
    let codes: Vec<_> = review.findings.iter().map(|finding| finding.code).collect();
    assert!(
        !codes.contains(&"grant-unused") && !codes.contains(&"rule-too-wide"),
        "{codes:?}"
    );
}

#[test]
fn a_narrower_rule_loses_nothing_that_was_observed() {
    let policies = policies();
    let (usage, observed) = usage(&policies);
    let suggestions = suggestions(&policies, &usage);
    let yaml: Vec<_> = suggestions.iter().map(|one| one.yaml.as_str()).collect();
    assert_eq!(
        yaml,
        [
            "# AccessPolicy qa/wide\nallow:\n  - hosts: [\"api.qase.io\"]\n    methods: [\"GET\"]\n    paths: [\"/v1/run/*\"]\n"
        ]
    );
    let narrowed = applied(&policies, &suggestions);
    // Twenty runs, and the tunnel.
    assert_eq!(observed.len(), 21);
    assert_eq!(observed.lost_in(&narrowed), Vec::<String>::new());
    let now = "2026-11-23T00:00:00Z".parse().expect("a time");
    let kinds: Vec<_> = diff(&policies, &narrowed, now)
        .differences
        .iter()
        .map(Difference::kind)
        .collect();
    assert!(
        !kinds.is_empty() && kinds.iter().all(|kind| *kind == "refuses"),
        "{kinds:?}"
    );
    // Had it been narrower still, it would have been noticed.
    let nothing = applied(&policies, &[]);
    assert!(observed.lost_in(&nothing).is_empty());
    let directory = tempfile::tempdir().expect("a directory");
    let text = RESOURCES.replace("/v1/**", "/v1/run/1");
    fs::write(directory.path().join("r.yaml"), text).expect("it can be written");
    let narrow = load::resources(&[directory.path()])
        .expect("they are sound")
        .policies;
    assert_eq!(observed.lost_in(&narrow).len(), 19);
}

#[test]
fn a_sign_off_is_read_by_the_next_review_and_other_files_are_not_written_over() {
    let policies = policies();
    let mut sign_offs = SignOffs::default();
    sign_offs.add(
        "qa/a",
        SignOff {
            by: "ada@example.com".to_owned(),
            at: "2026-11-22T10:00:00Z".parse().expect("a time"),
            revision: "r".to_owned(),
        },
    );
    let read = SignOffs::read(&sign_offs.text()).expect("it is such a file");
    let review = review(&policies, &read);
    let signed: Vec<_> = review
        .workloads
        .iter()
        .map(|row| row.signed_off.as_deref())
        .collect();
    assert_eq!(
        signed,
        [Some("2026-11-22T10:00:00Z by ada@example.com"), None]
    );
    assert!(SignOffs::read("{}").is_err());
    assert!(SignOffs::read("apiVersion: v1").is_err());
    assert!(SignOffs::read(&sign_offs.text().replace("/v1", "/v2")).is_err());
}

#[test]
fn all_formats_have_the_same_workloads_and_escape_what_they_must() {
    let text = RESOURCES
        .replace("Reads runs", "'<script>alert(1)</script>'")
        .replace("owner: tbd", "owner: '=cmd|x'");
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("r.yaml"), text).expect("it can be written");
    let policies = load::resources(&[directory.path()])
        .expect("they are sound")
        .policies;
    let review = review(&policies, &SignOffs::default());
    let html = review.html();
    assert!(
        !html.contains("<script") && html.contains("&#60;script&#62;"),
        "{html}"
    );
    assert!(
        !html.contains("http://") && !html.contains("https://"),
        "no assets of others"
    );
    let csv = review.csv();
    assert!(csv.contains("\"'=cmd|x\""), "{csv}");
    assert_eq!(csv.lines().count(), 4);
    assert!(review.markdown().contains("=cmd\\|x"));
    assert_eq!(review.json()["workloads"].as_array().map(Vec::len), Some(2));
    assert!(review.text().contains("qa/emergency -> qase, break-glass"));
}
