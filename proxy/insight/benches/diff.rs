//! How long it takes to compare two revisions of 3,000 policies.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros write undocumented items, and a benchmark may stop"
)]

use std::{fmt::Write as _, fs, hint::black_box};

use countersign_config::{load, policy::PolicySet};
use countersign_insight::diff::diff;
use criterion::{Criterion, criterion_group, criterion_main};

const WORKLOADS: usize = 1000;

/// Three policies for each workload: one for Slack, one for Qase, one in a window.
fn resources(edit: impl Fn(usize, &str) -> String) -> PolicySet {
    let mut text = String::new();
    let head = "---\napiVersion: countersign.dev/v1alpha1\nkind:";
    for (name, target) in [("bot", "slack"), ("reader", "qase")] {
        let _ = writeln!(
            text,
            "{head} Credential\nmetadata: {{ name: {name}, namespace: qa }}\nspec: {{ target: {target}, static: {{ token: {{ file: /run/{name} }} }} }}"
        );
    }
    for number in 0..WORKLOADS {
        let _ = writeln!(
            text,
            "{head} Workload\nmetadata: {{ name: w{number}, namespace: qa }}\nspec: {{ owner: qa@example.com, match: [{{ cluster: prod, serviceAccount: w{number} }}] }}"
        );
        let policies = [
            (
                "posts",
                "slack",
                "bot",
                "methods: [POST], hosts: [slack.com], paths: [\"/api/chat.postMessage\", \"/api/files.*\"]",
                "",
            ),
            (
                "reads",
                "qase",
                "reader",
                "methods: [GET], paths: [\"/v1/run/*\", \"/v1/result/**\"]",
                "conditions: { rate: 60/m }",
            ),
            (
                "nightly",
                "qase",
                "reader",
                "methods: [POST], paths: [\"/v1/run/*\"]",
                "conditions: { schedule: { cron: \"0 6 * * MON-FRI\", duration: 45m, timeZone: Europe/Berlin } }",
            ),
        ];
        for (name, target, credential, rule, conditions) in policies {
            let policy = format!(
                "{head} AccessPolicy\nmetadata: {{ name: {name}-{number}, namespace: qa }}\nspec:\n  owner: qa@example.com\n  workloads: [w{number}]\n  target: {target}\n  credential: {credential}\n  allow: [{{ {rule} }}]\n  {conditions}\n"
            );
            text.push_str(&edit(number, &policy));
        }
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("r.yaml"), text).unwrap();
    load::resources(&[directory.path()]).unwrap().policies
}

fn compare(criterion: &mut Criterion) {
    let now = "2026-11-23T05:10:00Z".parse().unwrap();
    let old = resources(|_, policy| policy.to_owned());
    let two_edits = resources(|number, policy| match number {
        7 => policy.replace("/api/chat.postMessage", "/api/chat.*"),
        8 => policy.replace("0 6 * * MON-FRI", "0 7 * * MON-FRI"),
        _ => policy.to_owned(),
    });
    let all_edited = resources(|_, policy| {
        policy
            .replace("/v1/run/*", "/v1/run/**")
            .replace("/api/files.*", "/api/files.get*")
    });
    assert_eq!(diff(&old, &two_edits, now).differences.len(), 3);
    let mut group = criterion.benchmark_group("diff of 3,000 policies");
    group.sample_size(10);
    for (name, new) in [
        ("the same", &old),
        ("two edits", &two_edits),
        ("every policy edited", &all_edited),
    ] {
        let differences = diff(&old, new, now).differences.len();
        group.bench_function(format!("{name}, {differences} differences"), |bencher| {
            bencher.iter(|| black_box(diff(&old, new, now)));
        });
    }
    group.finish();
}

criterion_group!(benches, compare);
criterion_main!(benches);
