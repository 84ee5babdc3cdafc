//! What a gateway's `governance` finds at the resources, and where.

use std::fs;

use rstest::rstest;

use super::gateways::with;
use crate::{load, problem::Problem, setting::Setting};

/// A workload with a purpose and a review, its policy until the end of the year, and a credential.
const RESOURCES: &str = r#"apiVersion: countersign.dev/v1alpha1
kind: Workload
metadata: { name: a, namespace: qa }
spec:
  owner: qa@example.com
  purpose: Posts results
  environment: production
  reviewBy: 2026-12-31
  match: [{ serviceAccount: a }]
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: p, namespace: qa }
spec:
  owner: qa@example.com
  workloads: [a]
  target: qase
  credential: c
  allow: [{ methods: [GET], paths: ["/v1/run/*"] }]
  conditions: { notAfter: "2027-06-30T00:00:00Z" }
---
apiVersion: countersign.dev/v1alpha1
kind: Credential
metadata: { name: c, namespace: qa }
spec:
  target: qase
  static: { token: { file: /run/token } }
"#;

fn found(governance: &str, resources: &str, now: &str) -> Vec<(bool, Problem)> {
    let (gateway, _) = with(&format!("governance: {governance}")).expect("a gateway");
    let setting = Setting::at(now.parse().expect("a time")).of(&gateway);
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("r.yaml"), resources).expect("it can be written");
    let (refused, problems) = match load::resources_in(&[directory.path()], &setting) {
        Ok(loaded) => (false, loaded.warnings),
        Err(problems) => (true, problems),
    };
    let problems = problems.0.into_iter();
    let own = problems.filter(|problem| problem.code.starts_with("governance-"));
    own.map(|problem| (refused, problem)).collect()
}

fn place(problem: &Problem) -> (&'static str, usize) {
    (
        problem.code,
        problem.place.as_ref().map_or(0, |place| place.line),
    )
}

const NOW: &str = "2026-11-23T05:10:00Z";

const ALL: &str = "{ owners: [\"*@example.com\"], requirePurpose: true, requireEnvironment: true, reviewWithinDays: 60, requireNotAfter: [production], maxWorkloadsPerCredential: 1, forbidAnyPath: true }";

#[test]
fn what_complies_is_not_reported() {
    assert!(found(ALL, RESOURCES, NOW).is_empty());
}

#[rstest]
#[case::owner_of_a_workload("owner: qa@example.com\n  purpose", "owner: qa@example.org\n  purpose", ("governance-owner", 5))]
#[case::owner_of_a_policy("owner: qa@example.com\n  workloads", "owner: qa@example.com.org\n  workloads", ("governance-owner", 15))]
#[case::purpose("  purpose: Posts results\n", "", ("governance-purpose", 4))]
#[case::blank_purpose("purpose: Posts results", "purpose: \" \"", ("governance-purpose", 6))]
#[case::environment("  environment: production\n", "", ("governance-environment", 4))]
#[case::no_review("  reviewBy: 2026-12-31\n", "", ("governance-review", 4))]
#[case::late_review("reviewBy: 2026-12-31", "reviewBy: 2027-12-31", ("governance-review", 8))]
#[case::no_end("  conditions: { notAfter: \"2027-06-30T00:00:00Z\" }\n", "", ("governance-end", 14))]
#[case::any_path("/v1/run/*", "/**", ("governance-any-path", 19))]
#[case::no_paths("methods: [GET], paths: [\"/v1/run/*\"]", "methods: [GET]", ("governance-any-path", 19))]
fn what_does_not_comply_is_refused_at_its_place(
    #[case] from: &str,
    #[case] to: &str,
    #[case] expected: (&str, usize),
) {
    let resources = RESOURCES.replace(from, to);
    assert_ne!(resources, RESOURCES);
    let found = found(ALL, &resources, NOW);
    assert_eq!(
        found
            .iter()
            .map(|(_, problem)| place(problem))
            .collect::<Vec<_>>(),
        [expected]
    );
    assert!(found[0].0, "it is refused");
    assert!(!found[0].1.remedy.is_empty());
}

#[test]
fn a_credential_of_too_many_workloads_is_refused() {
    let second = RESOURCES
        .split("---")
        .next()
        .expect("a workload")
        .replace("name: a,", "name: b,");
    let resources = RESOURCES.replace("workloads: [a]", "workloads: [a, b]") + "---\n" + &second;
    let found = found(ALL, &resources, NOW);
    assert_eq!(
        found
            .iter()
            .map(|(_, problem)| place(problem))
            .collect::<Vec<_>>(),
        [("governance-shared-credential", 24)]
    );
    assert!(
        found[0].1.message.contains("qa/a, qa/b"),
        "{}",
        found[0].1.message
    );
}

#[test]
fn an_exception_counts_until_its_end_and_then_it_is_a_warning() {
    let excepted = ALL.replace(
        "{ owners",
        "{ exceptions: [{ rule: purpose, resource: qa/a, reason: SEC-1, until: 2026-11-30 }], owners",
    );
    let resources = RESOURCES.replace("  purpose: Posts results\n", "");
    assert!(found(&excepted, &resources, "2026-11-30T23:59:59Z").is_empty());
    let ended = found(&excepted, &resources, "2026-12-01T00:00:00Z");
    assert_eq!(ended.len(), 1);
    let (refused, problem) = &ended[0];
    assert!(!refused, "a gateway starts even if a day has passed");
    assert!(
        problem
            .message
            .ends_with("its exception ended on 2026-11-30"),
        "{}",
        problem.message
    );
    // Of another resource, or from another rule.
    for other in ["resource: qa/b", "rule: environment, resource: qa/a"] {
        let excepted = excepted
            .replace("rule: purpose, resource: qa/a", other)
            .replace("[{ resource", "[{ rule: purpose, resource");
        assert_eq!(found(&excepted, &resources, NOW).len(), 1, "{other}");
    }
}

#[test]
fn on_trial_it_only_warns() {
    let resources = RESOURCES.replace("  purpose: Posts results\n", "");
    let found = found(
        &ALL.replace("{ owners", "{ mode: observe, owners"),
        &resources,
        NOW,
    );
    assert_eq!(found.len(), 1);
    assert!(!found[0].0);
}

#[rstest]
#[case("{ reviewWithinDays: 0 }", "out-of-range")]
#[case("{ maxWorkloadsPerCredential: 0 }", "out-of-range")]
#[case("{ owners: [\"\"] }", "empty-value")]
#[case("{ requirePurpse: true }", "unknown-key")]
#[case(
    "{ exceptions: [{ rule: purpose, resource: qa/a, until: 2026-11-30 }] }",
    "missing-key"
)]
#[case(
    "{ exceptions: [{ rule: purpose, resource: qa/a, reason: x, until: soon }] }",
    "bad-date"
)]
#[case(
    "{ exceptions: [{ rule: all, resource: qa/a, reason: x, until: 2026-11-30 }] }",
    "unknown-value"
)]
fn its_own_mistakes_are_found(#[case] governance: &str, #[case] code: &str) {
    let problems = with(&format!("governance: {governance}")).expect_err("a mistake");
    assert_eq!(
        problems
            .0
            .iter()
            .map(|problem| problem.code)
            .collect::<Vec<_>>(),
        [code]
    );
}
