//! Expectations about two policies, and mistakes in their files.

use std::fs;

use countersign_config::load;
use rstest::rstest;

use super::*;

const RESOURCES: &str = r#"apiVersion: countersign.dev/v1alpha1
kind: Workload
metadata: { name: a, namespace: qa }
spec: { owner: qa@example.com, match: [{ cluster: prod, serviceAccount: a }] }
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: reads, namespace: qa }
spec:
  owner: qa@example.com
  workloads: [a]
  target: qase
  credential: c
  allow: [{ methods: [GET], paths: ["/v1/run/*"] }]
  conditions: { schedule: { cron: "0 6 * * *", duration: 45m, timeZone: Europe/Berlin } }
---
apiVersion: countersign.dev/v1alpha1
kind: Credential
metadata: { name: c, namespace: qa }
spec: { target: qase, static: { token: { file: /run/token } } }
"#;

const GET: &str = "as: qa/a, request: \"GET https://api.qase.io/v1/run/DEMO\"";
const OPEN: &str = "at: \"2026-11-23T05:10:00Z\"";

fn results(text: &str) -> Result<Results, Vec<Mistake>> {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("r.yaml"), RESOURCES).expect("it can be written");
    let loaded = load::resources(&[directory.path()]).expect("they are sound");
    let now = "2026-11-23T12:00:00Z".parse().expect("a time");
    run(&loaded.policies, text, now)
}

fn one(case: &str) -> Case {
    let results = results(&format!("tests:\n  - {{ {case} }}\n"));
    results
        .unwrap_or_else(|mistakes| panic!("{mistakes:?}"))
        .cases
        .remove(0)
}

#[rstest]
#[case(&format!("{GET}, {OPEN}, expect: permit"))]
#[case(&format!("{GET}, {OPEN}, expect: permit, policy: qa/reads, rule: 0, credential: qa/c"))]
#[case(&format!("{GET}, expect: deny, reason: outside_schedule"))]
#[case(&format!("{GET}, expect: deny"))]
#[case(
    "as: qa/b, request: \"GET https://api.qase.io/v1/run/1\", expect: deny, reason: workload_unknown"
)]
#[case("as: qa/a, request: \"GET https://elsewhere.org/\", expect: unmatched")]
fn what_is_as_expected_passes(#[case] case: &str) {
    assert_eq!(one(case).failure, None);
}

#[rstest]
#[case(&format!("{GET}, {OPEN}, expect: deny"), "expected deny, but it is permitted by qa/reads allow[0] with qa/c")]
#[case(&format!("{GET}, expect: permit"), "expected permit, but it is denied: outside_schedule")]
#[case(&format!("{GET}, expect: deny, reason: policy_expired"), "expected deny: policy_expired, but it is denied: outside_schedule")]
#[case(&format!("{GET}, {OPEN}, expect: permit, rule: 1"), "expected permit allow[1], but it is permitted by qa/reads allow[0] with qa/c")]
#[case(&format!("{GET}, expect: unmatched"), "expected unmatched, but it is denied: outside_schedule")]
fn what_is_not_as_expected_fails_and_says_how(#[case] case: &str, #[case] failure: &str) {
    assert_eq!(one(case).failure.as_deref(), Some(failure));
}

#[rstest]
#[case::nobody(
    "as: qa/typo, request: \"GET https://api.qase.io/v1/run/1\", expect: deny",
    "no workload matches this caller"
)]
#[case::no_name(
    "as: typo, request: \"GET https://api.qase.io/v1/run/1\", expect: deny",
    "neither a workload"
)]
#[case::expect(&format!("{GET}, expect: allow"), "write `permit`")]
#[case::reason(&format!("{GET}, expect: deny, reason: outside_shedule"), "did you mean `outside_schedule`?")]
#[case::reason_of_a_permit(&format!("{GET}, expect: permit, reason: no_route"), "only a request that is denied")]
#[case::policy_of_a_denial(&format!("{GET}, expect: deny, policy: qa/reads"), "only a request that is permitted")]
#[case::unknown_policy(&format!("{GET}, expect: permit, policy: qa/read"), "there is no AccessPolicy")]
#[case::time(&format!("{GET}, at: tomorrow, expect: deny"), "this is not a time")]
#[case::clear(
    "as: qa/a, request: \"GET http://api.qase.io/\", expect: deny",
    "must start with https://"
)]
#[case::crooked(
    "as: qa/a, request: \"GET https://api.qase.io/a/../b\", expect: deny",
    "not canonical"
)]
#[case::no_url("as: qa/a, request: GET, expect: deny", "write a method and a URL")]
#[case::unknown_key(&format!("{GET}, expct: deny"), "expct")]
fn a_mistake_is_told_with_its_place(#[case] case: &str, #[case] message: &str) {
    let mistakes = results(&format!("tests:\n  - {{ {case} }}\n")).expect_err("a mistake");
    assert!(mistakes[0].message.contains(message), "{mistakes:?}");
    assert_eq!(mistakes[0].line, 2, "{mistakes:?}");
}

#[test]
fn all_mistakes_are_told_at_once_and_none_is_no_success() {
    let text = format!(
        "tests:\n  - {{ {GET}, expect: maybe }}\n  - {{ as: x, request: y, expect: deny }}\n"
    );
    let lines: Vec<_> = results(&text)
        .expect_err("mistakes")
        .iter()
        .map(|mistake| mistake.line)
        .collect();
    assert_eq!(lines, [2, 3, 3]);
    assert!(results("tests: []").is_err());
    assert!(results("").is_err());
}

#[test]
fn junit_is_escaped() {
    let results = results(&format!(
        "tests:\n  - {{ name: \"<a> & \\\"b\\\"\", {GET}, expect: permit }}\n"
    ));
    let text = results.expect("it is sound").junit("x.yaml");
    assert!(
        text.contains("name=\"&lt;a&gt; &amp; &quot;b&quot;\""),
        "{text}"
    );
    assert!(
        text.contains("failures=\"1\"") && text.contains("<failure message=\"expected permit, but"),
        "{text}"
    );
}
