//! A grant that comes, changes its approval, goes and comes back.

use super::*;
use crate::history::fixture;

const RESOURCES: &str = r#"apiVersion: countersign.dev/v1alpha1
kind: Workload
metadata: { name: w, namespace: qa }
spec: { owner: qa@example.com, match: [{ cluster: prod, serviceAccount: w }] }
---
apiVersion: countersign.dev/v1alpha1
kind: Credential
metadata: { name: c, namespace: qa }
spec: { target: qase, static: { token: { file: /run/token } } }
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: p, namespace: qa }
spec:
  owner: qa@example.com
  approvedBy: WHO
  workloads: [w]
  target: qase
  credential: c
  allow: [{ methods: [GET], paths: ["PATH"] }]
"#;

fn history(revisions: &[(&'static str, &str, &str)]) -> History {
    let texts = revisions.iter();
    fixture::history(texts.map(|(name, path, who)| {
        let text = RESOURCES.replace("PATH", path).replace("WHO", who);
        (*name, text)
    }))
}

fn since(revisions: &[(&'static str, &str, &str)]) -> Since {
    let history = history(revisions);
    let newest = history.revision(revisions.len() - 1).expect("it is sound");
    let policies = &newest.loaded.policies;
    let asked = Asked::read("GET", "https://api.qase.io/v1/run/1", policies).expect("a request");
    let now = "2027-01-01T00:00:00Z".parse().expect("a time");
    let mut answer = who_can(policies, &asked, &Usage::default(), now);
    answer.look_back(&history, &asked).expect("it is sound");
    let [grant] = &answer.grants[..] else {
        panic!("{answer:?}")
    };
    grant.since.clone().expect("it is in the newest revision")
}

#[test]
fn a_grant_is_as_old_as_its_last_return_and_names_its_approvals() {
    let since = since(&[
        ("a", "/v1/run/*", "ada"),
        ("b", "/v1/other", "ada"),
        ("c", "/v1/run/*", "ada"),
        ("d", "/v1/**", "ada"),
        ("e", "/v1/run/*", "grace"),
    ]);
    assert_eq!((&*since.revision, since.or_earlier), ("c", false));
    let approvals = since.approvals.iter();
    let approvals: Vec<_> = approvals
        .map(|one| (one.by.as_deref().unwrap_or_default(), &*one.revision))
        .collect();
    assert_eq!(approvals, [("ada", "c"), ("grace", "e")]);
}

#[test]
fn what_is_in_the_oldest_revision_may_be_older() {
    let since = since(&[("a", "/v1/run/*", "ada"), ("b", "/v1/run/1", "ada")]);
    assert_eq!((&*since.revision, since.or_earlier), ("a", true));
    assert!(
        since
            .text()
            .ends_with("or earlier, the oldest that is kept")
    );
}
