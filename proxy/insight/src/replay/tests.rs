//! What a change would do, on a few resources.

use std::fs;

use countersign_config::load;

use super::*;
use crate::{reader::Reader, record::Entry};

const OLD: &str = r#"apiVersion: countersign.dev/v1alpha1
kind: Workload
metadata: { name: a, namespace: qa }
spec: { owner: qa@example.com, match: [{ cluster: prod, serviceAccount: a, cronJob: nightly }] }
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: reads, namespace: qa }
spec:
  owner: qa@example.com
  workloads: [a]
  target: qase
  credential: c
  allow: [{ methods: [GET], paths: ["/v1/run/*", "/v1/case/*"] }]
---
apiVersion: countersign.dev/v1alpha1
kind: Credential
metadata: { name: c, namespace: qa }
spec: { target: qase, static: { token: { file: /run/token } } }
"#;

fn policies(text: &str) -> PolicySet {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("r.yaml"), text).expect("it can be written");
    load::resources(&[directory.path()])
        .expect("they are sound")
        .policies
}

fn line(path: &str, proof: &str) -> String {
    format!(
        r#"{{"schema":"countersign.decision/v1","time":"2026-11-23T05:10:03.412Z","id":"id{path}","outcome":"permitted","reason":"ok","caller":{{"proof":{proof},"issuer":"prod","subject":"system:serviceaccount:qa:a"}},"workload":{{"name":"qa/a"}},"target":{{"authority":"api.qase.io:443","method":"GET","path":"{path}"}}}}"#
    )
}

#[test]
fn only_what_would_change_is_told() {
    let (old, new) = (
        policies(OLD),
        policies(&OLD.replace(", \"/v1/case/*\"", "")),
    );
    let proof = "\"service-account-token\"";
    let log = [
        line("/v1/run/1", proof),
        line("/v1/case/1", proof),
        line("/v1/case/2", proof),
        line("/v1/case/3", "null"),
    ];
    let mut replay = Replay::new(&old, &new);
    let log = std::io::Cursor::new(log.join("\n") + "\n");
    Reader::stream("-", log).each(|line| {
        if let Entry::Decision(decision) = &line.entry {
            replay.add(decision);
        }
    });
    let json = replay.json();
    assert_eq!(
        (&json["requests"], &json["skipped"]),
        (&json!(3), &json!(1))
    );
    let changes = json["changes"].as_array().expect("changes");
    assert_eq!(changes.len(), 1, "{json:#}");
    assert_eq!(changes[0]["count"], 2);
    assert_eq!(changes[0]["lastId"], "id/v1/case/2");
    assert_eq!(changes[0]["paths"], json!(["/v1/case/1", "/v1/case/2"]));
    assert_eq!(changes[0]["before"], "permitted by qa/reads with qa/c");
    assert_eq!(changes[0]["after"], "refused (request_not_allowed)");
}

#[test]
fn an_expression_about_the_query_is_unknown() {
    let when = "  conditions: { when: \"!has(request.query.limit)\" }\n---\napiVersion: countersign.dev/v1alpha1\nkind: Credential";
    let new = OLD.replace(
        "---\napiVersion: countersign.dev/v1alpha1\nkind: Credential",
        when,
    );
    let new = new.replace(", \"/v1/case/*\"", "");
    let (old, new) = (policies(OLD), policies(&new));
    let mut replay = Replay::new(&old, &new);
    let log = std::io::Cursor::new(line("/v1/case/1", "\"x\"") + "\n");
    Reader::stream("-", log).each(|line| {
        if let Entry::Decision(decision) = &line.entry {
            replay.add(decision);
        }
    });
    assert_eq!(
        replay.json()["changes"][0]["unknown"],
        json!(["!has(request.query.limit)"])
    );
}

#[test]
fn expressions_that_differ_only_about_the_query_are_not_passed_over() {
    let with = |limit: u32| {
        OLD.replace(
            "---\napiVersion: countersign.dev/v1alpha1\nkind: Credential",
            &format!("  conditions: {{ when: \"!has(request.query.limit) || int(request.query.limit) <= {limit}\" }}\n---\napiVersion: countersign.dev/v1alpha1\nkind: Credential"),
        )
    };
    let (old, new) = (policies(&with(100)), policies(&with(50)));
    let replayed = |new| {
        let mut replay = Replay::new(&old, new);
        let log = std::io::Cursor::new(line("/v1/case/1", "\"x\"") + "\n");
        Reader::stream("-", log).each(|line| {
            if let Entry::Decision(decision) = &line.entry {
                replay.add(decision);
            }
        });
        replay.is_empty()
    };
    assert!(!replayed(&new));
    assert!(replayed(&old));
}
