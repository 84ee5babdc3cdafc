//! Lists and watches.

use futures_util::StreamExt as _;

use super::{Subject, Value, json};

const JSON: &str = "application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

fn said(event: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (
        text(&event["type"]),
        text(&event["object"]["metadata"]["name"]),
    )
}

fn event(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

pub(super) async fn lists_come_in_pages(subject: &Subject) {
    let path = subject.path("configmaps");
    for name in ["a", "b", "c"] {
        subject
            .post(&path, &subject.config_map(name, &json!({})))
            .await
            .expect(201);
    }
    let select = "labelSelector=none!%3Dx&fieldSelector=metadata.name!%3Dkube-root-ca.crt";
    let first = subject
        .get(&format!("{path}?limit=2&{select}"))
        .await
        .expect(200);
    assert_eq!(first["kind"], "ConfigMapList");
    assert!(first["items"][0]["kind"].is_null());
    let token = first["metadata"]["continue"].as_str().unwrap();
    subject
        .post(&path, &subject.config_map("d", &json!({})))
        .await
        .expect(201);
    let second = subject
        .get(&format!("{path}?limit=2&continue={token}&{select}"))
        .await
        .expect(200);
    // The rest is of the moment of the first page.
    let names: Vec<_> = second["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["metadata"]["name"])
        .collect();
    assert_eq!(names, ["c"]);
    assert_eq!(
        first["metadata"]["resourceVersion"],
        second["metadata"]["resourceVersion"]
    );
    assert!(second["metadata"]["continue"].is_null() || second["metadata"]["continue"] == "");
}

pub(super) async fn a_watch_tells_each_change(subject: &Subject) {
    let path = subject.path("configmaps");
    let list = subject.get(&path).await.expect(200);
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let mut events = subject
        .watch(
            &format!("{path}?watch=true&resourceVersion={version}"),
            JSON,
        )
        .await;
    let made = subject
        .post(&path, &subject.config_map("a", &json!({})))
        .await
        .expect(201);
    assert_eq!(said(&events.next().await.unwrap()), event("ADDED", "a"));
    let one = subject.path("configmaps/a");
    subject
        .merge(&one, &json!({"data": {"key": "1"}}))
        .await
        .expect(200);
    let modified = events.next().await.unwrap();
    assert_eq!(said(&modified), event("MODIFIED", "a"));
    assert_eq!(modified["object"]["kind"], "ConfigMap");
    subject.delete(&one).await.expect(200);
    let deleted = events.next().await.unwrap();
    assert_eq!(said(&deleted), event("DELETED", "a"));
    // The deletion has a version of its own.
    assert_ne!(
        deleted["object"]["metadata"]["resourceVersion"],
        modified["object"]["metadata"]["resourceVersion"]
    );
    // A watch from before tells it again.
    let version = made["metadata"]["resourceVersion"].as_str().unwrap();
    let mut again = subject
        .watch(
            &format!("{path}?watch=true&resourceVersion={version}"),
            JSON,
        )
        .await;
    assert_eq!(said(&again.next().await.unwrap()), event("MODIFIED", "a"));
    assert_eq!(said(&again.next().await.unwrap()), event("DELETED", "a"));
}

pub(super) async fn a_watch_by_labels_adds_and_deletes(subject: &Subject) {
    let path = subject.path("configmaps");
    let version = subject.get(&path).await.expect(200)["metadata"]["resourceVersion"].clone();
    let version = version.as_str().unwrap();
    let query = format!("{path}?watch=true&labelSelector=wanted%3Dyes&resourceVersion={version}");
    let mut events = subject.watch(&query, JSON).await;
    subject
        .post(&path, &subject.config_map("a", &json!({})))
        .await
        .expect(201);
    let one = subject.path("configmaps/a");
    subject
        .merge(&one, &json!({"metadata": {"labels": {"wanted": "yes"}}}))
        .await
        .expect(200);
    assert_eq!(said(&events.next().await.unwrap()), event("ADDED", "a"));
    subject
        .merge(&one, &json!({"metadata": {"labels": {"wanted": "no"}}}))
        .await
        .expect(200);
    assert_eq!(said(&events.next().await.unwrap()), event("DELETED", "a"));
}

pub(super) async fn initial_events_end_with_a_bookmark(subject: &Subject) {
    let path = subject.path("secrets");
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}});
    subject.post(&path, &secret).await.expect(201);
    let query = format!(
        "{path}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    );
    let mut events = subject.watch(&query, JSON).await;
    assert_eq!(said(&events.next().await.unwrap()), event("ADDED", "a"));
    let end = events.next().await.unwrap();
    assert_eq!(end["type"], "BOOKMARK");
    assert_eq!(
        end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    assert!(end["object"]["metadata"]["resourceVersion"].is_string());
}

pub(super) async fn metadata_alone_can_be_watched(subject: &Subject) {
    let path = subject.path("pods");
    subject.post(&path, &subject.pod("a")).await.expect(201);
    let mut events = subject.watch(&format!("{path}?watch=true"), METADATA).await;
    let added = events.next().await.unwrap();
    assert_eq!(said(&added), event("ADDED", "a"));
    assert_eq!(added["object"]["kind"], "PartialObjectMetadata");
    assert!(added["object"]["spec"].is_null());
    assert_eq!(added["object"]["metadata"]["labels"]["app"], "a");
}

pub(super) async fn options_that_do_not_go_together_are_refused(subject: &Subject) {
    let path = subject.path("configmaps");
    let only = format!("{path}?watch=true&sendInitialEvents=true");
    subject.get(&only).await.refused(
        422,
        "Invalid",
        "sendInitialEvents requires setting resourceVersionMatch",
    );
    let matched = format!("{path}?watch=true&resourceVersionMatch=NotOlderThan");
    subject.get(&matched).await.refused(
        422,
        "Invalid",
        "resourceVersionMatch is forbidden for watch",
    );
    subject
        .get(&format!("{path}?resourceVersionMatch=Exact"))
        .await
        .expect(422);
    subject
        .get(&format!("{path}?watch=true&resourceVersion=x"))
        .await
        .expect(400);
}

pub(super) async fn fields_that_cannot_be_selected_are_refused(subject: &Subject) {
    let path = subject.path("pods");
    let refused = subject
        .get(&format!("{path}?fieldSelector=spec.image%3Dx"))
        .await;
    refused.refused(400, "BadRequest", "field label not supported: spec.image");
    let mut pod = subject.pod("a");
    pod["spec"]["nodeName"] = "node-7".into();
    subject.post(&path, &pod).await.expect(201);
    subject.post(&path, &subject.pod("b")).await.expect(201);
    let found = subject
        .get(&format!("{path}?fieldSelector=spec.nodeName%3Dnode-7"))
        .await
        .expect(200);
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    let found = subject
        .get(&format!("{path}?labelSelector=app+in+(b,c)"))
        .await
        .expect(200);
    assert_eq!(found["items"][0]["metadata"]["name"], "b");
}
