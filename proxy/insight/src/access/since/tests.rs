//! A grant that comes, changes its approval, goes and comes back.

use std::io::Write as _;

use countersign_config::{
    history::{Head, KeptRevision},
    load::ResourceText,
};
use flate2::{Compression, write::GzEncoder};

use super::*;

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

fn history(revisions: &[(&str, &str, &str)]) -> History {
    let mut documents = Vec::new();
    for (day, (name, path, who)) in revisions.iter().enumerate() {
        let day = i64::try_from(day).expect("few");
        let since = Timestamp::from_second(1_795_000_000 + day * 86_400).expect("a time");
        let text = ResourceText {
            path: "/policy/qa.yaml".into(),
            text: RESOURCES.replace("PATH", path).replace("WHO", who),
        };
        let kept = KeptRevision::new(name, since, [&text], str::to_owned);
        let (head, content) = kept.document();
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&content).expect("it is memory");
        documents.push((head, packed.finish().expect("it is memory")));
    }
    let heads = documents.iter().map(|(head, _)| head.clone()).collect();
    History::new(heads, move |wanted: &Head| {
        let found = documents.iter().find(|(head, _)| head == wanted);
        Ok(found.expect("it is asked for what there is").1.clone())
    })
}

fn since(revisions: &[(&str, &str, &str)]) -> Since {
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
