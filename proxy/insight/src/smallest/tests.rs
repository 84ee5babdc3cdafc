//! What a change would do, on a few resources.

use std::fs;

use countersign_config::load;
use rstest::rstest;

use super::*;
use crate::{
    diff::{Difference, diff},
    request::{Asked, caller},
};

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
  conditions: { notAfter: "2026-11-20T00:00:00Z" }
---
apiVersion: countersign.dev/v1alpha1
kind: Credential
metadata: { name: c, namespace: qa }
spec: { target: qase, static: { token: { file: /run/token } } }
"#;

#[rstest]
#[case::rule("qa/a", "prod", "POST", "https://api.qase.io/v1/run/1", "2026-11-19T00:00:00Z", &["add to `allow` of AccessPolicy qa/reads: { hosts: [\"api.qase.io\"], methods: [POST], paths: [\"/v1/run/1\"] }"], true)]
#[case::end("qa/a", "prod", "GET", "https://api.qase.io/v1/run/1", "2026-11-20T00:00:00Z", &["move `conditions.notAfter` of AccessPolicy qa/reads to 2026-11-21T00:00:00Z"], true)]
#[case::cluster("qa/a", "other", "GET", "https://api.qase.io/v1/run/1", "2026-11-19T00:00:00Z", &["add to `match` of Workload qa/a: { cluster: \"other\", namespace: \"qa\", serviceAccount: \"a\" }"], true)]
#[case::both("qa/a", "prod", "PUT", "https://api.qase.io/v1/run/1", "2026-11-20T00:00:00Z", &["add to `allow` of AccessPolicy qa/reads: { hosts: [\"api.qase.io\"], methods: [PUT], paths: [\"/v1/run/1\"] }", "move `conditions.notAfter` of AccessPolicy qa/reads to 2026-11-21T00:00:00Z"], true)]
#[case::nowhere("qa/a", "prod", "GET", "https://elsewhere.org/", "2026-11-19T00:00:00Z", &["write a TargetService with this host, and an AccessPolicy for it"], false)]
fn the_change_is_the_smallest_and_enough(
    #[case] who: &str,
    #[case] cluster: &str,
    #[case] method: &str,
    #[case] url: &str,
    #[case] now: &str,
    #[case] steps: &[&str],
    #[case] is_enough: bool,
) {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("r.yaml"), RESOURCES).expect("it can be written");
    let old = load::resources(&[directory.path()])
        .expect("they are sound")
        .policies;
    let caller = caller(who, Some(cluster), &old).expect("a caller");
    let asked = Asked::read(method, url, &old).expect("a request");
    let now = now.parse().expect("a time");
    let change = smallest(&old, &caller, &asked.facts(), now).expect("it is refused");
    assert_eq!(change.steps, steps);
    assert_eq!(change.policies.is_some(), is_enough);
    let Some(new) = change.policies else { return };
    assert!(
        new.decide(&new.recognise(&caller), &caller, &asked.facts(), now)
            .is_permit()
    );
    assert!(smallest(&new, &caller, &asked.facts(), now).is_none());
    // What else it would permit is computed; a rule for one path permits nothing else.
    let report = diff(&old, &new, now);
    assert!(!report.differences.is_empty());
    assert!(
        report
            .differences
            .iter()
            .all(|difference| difference.kind() == "permits")
    );
    if method == "POST" {
        let paths: Vec<_> = report
            .differences
            .iter()
            .flat_map(Difference::paths)
            .map(|path| path.to_string())
            .collect();
        assert_eq!(paths, ["/v1/run/1"]);
    }
}
