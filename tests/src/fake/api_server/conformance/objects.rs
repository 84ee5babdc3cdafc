//! Making, changing and deleting objects.

use super::{Method, Subject, json};

pub(super) async fn names_are_checked(subject: &Subject) {
    let path = subject.path("configmaps");
    let bad = subject.config_map("Not_A_Name", &json!({}));
    subject
        .post(&path, &bad)
        .await
        .refused(422, "Invalid", "metadata.name: Invalid value");
    let mut other = subject.config_map("a", &json!({}));
    other["metadata"]["namespace"] = "default".into();
    subject
        .post(&path, &other)
        .await
        .refused(400, "BadRequest", "does not match the namespace");
    let unnamed = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}});
    subject
        .post(&path, &unnamed)
        .await
        .refused(422, "Invalid", "name or generateName is required");
    let generated =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "a-"}});
    let made = subject.post(&path, &generated).await.expect(201);
    assert!(made["metadata"]["name"].as_str().unwrap().starts_with("a-"));
    let wrong = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}});
    subject.post(&path, &wrong).await.refused(
        400,
        "BadRequest",
        "does not match the expected API version",
    );
    subject.get("/api/v1/nonsense").await.expect(404);
    let missing = subject.get(&subject.path("configmaps/none")).await;
    missing.refused(404, "NotFound", "configmaps \"none\" not found");
}

pub(super) async fn what_is_there_cannot_be_made_again(subject: &Subject) {
    let path = subject.path("configmaps");
    let object = subject.config_map("a", &json!({"key": "value"}));
    let made = subject.post(&path, &object).await.expect(201);
    assert!(
        made["metadata"]["uid"].is_string() && made["metadata"]["creationTimestamp"].is_string()
    );
    subject.post(&path, &object).await.refused(
        409,
        "AlreadyExists",
        "configmaps \"a\" already exists",
    );
    let mut versioned = subject.config_map("b", &json!({}));
    versioned["metadata"]["resourceVersion"] = "1".into();
    let answer = subject.post(&path, &versioned).await;
    assert!(!answer.status.is_success(), "{}", answer.body);
}

pub(super) async fn a_stale_version_is_a_conflict(subject: &Subject) {
    let made = subject.config_map("a", &json!({"key": "1"}));
    let first = subject
        .post(&subject.path("configmaps"), &made)
        .await
        .expect(201);
    let path = subject.path("configmaps/a");
    let mut second = first.clone();
    second["data"]["key"] = "2".into();
    subject.put(&path, &second).await.expect(200);
    let stale = subject.put(&path, &second).await;
    stale.refused(
        409,
        "Conflict",
        "the object has been modified; please apply your changes to the latest version",
    );
    // Without a version the last one wins.
    subject.put(&path, &made).await.expect(200);
    let mut other = made.clone();
    other["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000".into();
    subject.put(&path, &other).await.refused(
        409,
        "Conflict",
        "Precondition failed: UID in precondition",
    );
}

pub(super) async fn what_changes_nothing_makes_no_version(subject: &Subject) {
    let object = subject.config_map("a", &json!({"key": "1"}));
    let first = subject
        .post(&subject.path("configmaps"), &object)
        .await
        .expect(201);
    let path = subject.path("configmaps/a");
    let again = subject.put(&path, &first).await.expect(200);
    assert_eq!(
        first["metadata"]["resourceVersion"],
        again["metadata"]["resourceVersion"]
    );
    let dry = subject
        .merge(
            &format!("{path}?dryRun=All"),
            &json!({"data": {"key": "2"}}),
        )
        .await
        .expect(200);
    assert_eq!(dry["data"]["key"], "2");
    assert_eq!(subject.get(&path).await.expect(200)["data"]["key"], "1");
    subject
        .merge(&format!("{path}?dryRun=Some"), &json!({}))
        .await
        .expect(422);
}

pub(super) async fn unknown_fields_are_dropped_or_refused(subject: &Subject) {
    let path = subject.path("configmaps");
    let mut object = subject.config_map("a", &json!({}));
    object["nonsense"] = true.into();
    let strict = subject
        .post(&format!("{path}?fieldValidation=Strict"), &object)
        .await;
    strict.refused(400, "BadRequest", "unknown field \"nonsense\"");
    let made = subject.post(&path, &object).await.expect(201);
    assert!(made["nonsense"].is_null());
    let wrong = subject.config_map("b", &json!({"key": 7}));
    subject.post(&path, &wrong).await.refused(
        400,
        "BadRequest",
        "cannot be handled as a ConfigMap",
    );
}

pub(super) async fn a_finalizer_holds_a_deletion(subject: &Subject) {
    let mut object = subject.config_map("a", &json!({}));
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    subject
        .post(&subject.path("configmaps"), &object)
        .await
        .expect(201);
    let path = subject.path("configmaps/a");
    let dying = subject.delete(&path).await.expect(200);
    assert!(
        dying["metadata"]["deletionTimestamp"].is_string(),
        "{dying}"
    );
    assert!(subject.get(&path).await.expect(200)["metadata"]["deletionTimestamp"].is_string());
    subject
        .merge(&path, &json!({"metadata": {"finalizers": null}}))
        .await
        .expect(200);
    subject.get(&path).await.expect(404);
}

pub(super) async fn a_pod_on_a_node_ends_with_grace(subject: &Subject) {
    let mut pod = subject.pod("a");
    pod["spec"]["nodeName"] = "node-1".into();
    pod["spec"]["terminationGracePeriodSeconds"] = 7.into();
    let pods = subject.path("pods");
    subject.post(&pods, &pod).await.expect(201);
    let path = subject.path("pods/a");
    let dying = subject.delete(&path).await.expect(200);
    assert_eq!(dying["metadata"]["deletionGracePeriodSeconds"], 7);
    assert!(dying["metadata"]["deletionTimestamp"].is_string());
    // The kubelet ends it.
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
    subject
        .send(Method::DELETE, &path, "application/json", &options)
        .await
        .expect(200);
    subject.get(&path).await.expect(404);
    // One that no node has taken goes at once.
    subject.post(&pods, &subject.pod("b")).await.expect(201);
    let gone = subject.delete(&subject.path("pods/b")).await.expect(200);
    assert_eq!(gone["kind"], "Pod");
    subject.get(&subject.path("pods/b")).await.expect(404);
}

pub(super) async fn preconditions_hold(subject: &Subject) {
    let object = subject.config_map("a", &json!({}));
    subject
        .post(&subject.path("configmaps"), &object)
        .await
        .expect(201);
    let path = subject.path("configmaps/a");
    let other = json!({
        "apiVersion": "v1", "kind": "DeleteOptions",
        "preconditions": {"uid": "00000000-0000-0000-0000-000000000000"},
    });
    let answer = subject
        .send(Method::DELETE, &path, "application/json", &other)
        .await;
    answer.refused(409, "Conflict", "Precondition failed: UID in precondition");
    let gone = subject.delete(&path).await.expect(200);
    assert_eq!(
        (&gone["kind"], &gone["status"]),
        (&json!("Status"), &json!("Success"))
    );
}

pub(super) async fn a_pod_has_a_status_of_its_own(subject: &Subject) {
    let mut pod = subject.pod("a");
    pod["status"] = json!({"phase": "Running"});
    let made = subject.post(&subject.path("pods"), &pod).await.expect(201);
    assert_eq!(made["status"]["phase"], "Pending");
    let path = subject.path("pods/a");
    let status = json!({"status": {"phase": "Running", "podIP": "10.0.0.7"}, "metadata": {"labels": {"x": "y"}}});
    subject
        .merge(&format!("{path}/status"), &status)
        .await
        .expect(200);
    let now = subject.get(&path).await.expect(200);
    assert_eq!(now["status"]["phase"], "Running");
    subject
        .merge(&path, &json!({"status": {"phase": "Failed"}}))
        .await
        .expect(200);
    assert_eq!(
        subject.get(&path).await.expect(200)["status"]["phase"],
        "Running"
    );
    let moved = json!({"spec": {"serviceAccountName": "other"}});
    subject
        .merge(&path, &moved)
        .await
        .refused(422, "Invalid", "pod updates may not change fields");
}

pub(super) async fn a_dying_namespace_takes_nothing(subject: &Subject) {
    let path = format!("/api/v1/namespaces/{}", subject.namespace);
    let dying = subject.delete(&path).await.expect(200);
    assert_eq!(dying["status"]["phase"], "Terminating");
    let object = subject.config_map("a", &json!({}));
    let refused = subject.post(&subject.path("configmaps"), &object).await;
    refused.refused(403, "Forbidden", "because it is being terminated");
    let elsewhere = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let nowhere = subject
        .post("/api/v1/namespaces/no-such-place/configmaps", &elsewhere)
        .await;
    nowhere.refused(404, "NotFound", "namespaces \"no-such-place\" not found");
}

pub(super) async fn json_patches_are_applied_or_refused(subject: &Subject) {
    let object = subject.config_map("a", &json!({"key": "1"}));
    subject
        .post(&subject.path("configmaps"), &object)
        .await
        .expect(201);
    let path = subject.path("configmaps/a");
    let kind = "application/json-patch+json";
    let patch = json!([
        {"op": "test", "path": "/data/key", "value": "1"},
        {"op": "replace", "path": "/data/key", "value": "2"},
    ]);
    let patched = subject
        .send(Method::PATCH, &path, kind, &patch)
        .await
        .expect(200);
    assert_eq!(patched["data"]["key"], "2");
    subject
        .send(Method::PATCH, &path, kind, &patch)
        .await
        .expect(422);
    subject
        .send(Method::PATCH, &path, "application/json", &json!({}))
        .await
        .expect(415);
}
