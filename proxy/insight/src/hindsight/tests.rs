//! A policy that is changed, broken and mended, and what is said of a refusal in between.

use super::*;
use crate::history::fixture;

const WORKLOAD: &str = r#"apiVersion: countersign.dev/v1alpha1
kind: Workload
metadata: { name: nightly, namespace: qa }
spec: { owner: qa@example.com, match: [{ cluster: prod, serviceAccount: nightly }] }
---
apiVersion: countersign.dev/v1alpha1
kind: Credential
metadata: { name: c, namespace: qa }
spec: { target: qase, static: { token: { file: /run/token } } }
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: reads, namespace: qa }
spec:
  owner: platform@example.com
  approvedBy: lead@example.com
  workloads: [nightly]
  target: qase
  credential: c
  allow: [{ methods: [GET], paths: ["PATH"] }]
"#;

const RECORD: &str = r#"{"schema":"countersign.decision/v1","time":"2026-11-23T06:00:00Z","id":"0194","outcome":"refused",
"reason":"request_not_allowed","revision":"broken","caller":{"proof":"service-account-token","issuer":"prod",
"subject":"system:serviceaccount:qa:nightly"},"workload":{"name":"qa/nightly"},
"target":{"name":"qase","authority":"api.qase.io:443","method":"GET","path":"/v1/run/7"}}"#;

/// Revisions by name, and the path that each permits.
fn history(revisions: &[(&'static str, &str)]) -> History {
    let texts = revisions.iter();
    fixture::history(texts.map(|(name, path)| (*name, WORKLOAD.replace("PATH", path))))
}

fn look(history: &History) -> Hindsight {
    let record: record::Decision<'_> = serde_json::from_str(RECORD).unwrap();
    let now = "2026-11-28T00:00:00Z".parse().unwrap();
    hindsight(&record, history, None, now).unwrap()
}

#[test]
fn the_change_that_caused_a_refusal_is_named_and_the_one_that_mended_it() {
    let told = look(&history(&[
        ("first", "/v1/run/*"),
        ("second", "/v1/**"),
        ("third", "/v1/rum/*"),
        ("broken", "/v1/run"),
        ("mended", "/v1/run/*"),
    ]));
    let then = told.then.unwrap();
    assert_eq!(then.revision, "broken");
    assert_eq!(then.decision, "refused (request_not_allowed)");
    // Not the revision in force then, but the first one that refuses it.
    let cause = told.caused_by.unwrap();
    assert_eq!((&*cause.before, &*cause.revision), ("second", "third"));
    let [resource] = &cause.resources[..] else {
        panic!("{cause:#?}")
    };
    assert_eq!(
        (resource.kind, &*resource.name),
        ("AccessPolicy", "qa/reads")
    );
    assert_eq!(resource.owner.as_deref(), Some("platform@example.com"));
    assert_eq!(resource.approved.as_deref(), Some("lead@example.com"));
    assert!(
        resource
            .diff
            .contains("-  allow: [{ methods: [GET], paths: [\"/v1/**\"] }]\n+"),
        "{}",
        resource.diff
    );
    assert_eq!(told.changed_by.unwrap().revision, "mended");
    let now = told.now.unwrap();
    assert!(now.sent && now.decision.starts_with("permitted by qa/reads"));
    assert!(
        told.smallest.is_none() && told.notes.is_empty(),
        "{:?}",
        told.notes
    );
}

#[test]
fn what_is_refused_still_has_its_smallest_change_and_what_that_permits() {
    let told = look(&history(&[("broken", "/v1/run")]));
    assert!(told.caused_by.is_none() && told.changed_by.is_none());
    assert_eq!(
        told.nearest,
        [
            "AccessPolicy qa/reads, allow rule 0 (of platform@example.com): `paths` is /v1/run, and would have to cover /v1/run/7"
        ]
    );
    let remedy = told.smallest.unwrap();
    assert!(remedy.is_enough && remedy.more == 0);
    assert!(remedy.steps[0].starts_with("add to `allow` of AccessPolicy qa/reads"));
    let [only] = &remedy.permits[..] else {
        panic!("{remedy:#?}")
    };
    assert!(
        only.contains("qa/nightly") && only.contains("/v1/run/7"),
        "{only}"
    );
}

#[test]
fn a_revision_that_is_not_kept_is_told() {
    let told = look(&history(&[("later", "/v1/run/*")]));
    assert!(told.then.is_none() && told.now.is_some());
    assert_eq!(
        told.notes,
        ["the revision broken is not kept; the oldest one is later of 2026-11-20T00:00:00Z"]
    );
}

#[test]
fn a_kept_revision_that_was_changed_is_an_error() {
    let sound = history(&[("broken", "/v1/run")]);
    let heads = sound.heads().to_vec();
    let changed = History::new(heads, |_| Ok(b"not gzip".to_vec()));
    let record: record::Decision<'_> = serde_json::from_str(RECORD).unwrap();
    let failed = hindsight(&record, &changed, None, Timestamp::UNIX_EPOCH);
    assert!(
        matches!(failed, Err(HistoryError::Read { .. })),
        "{failed:?}"
    );
}
