//! Server-side apply.

use super::{Subject, json};

pub(super) async fn an_apply_makes_and_changes(subject: &Subject) {
    let path = subject.path("configmaps/a?fieldManager=one");
    let object = subject.config_map("a", &json!({"key": "1"}));
    let made = subject.apply(&path, &object).await.expect(201);
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!(
        (&entry["manager"], &entry["operation"]),
        (&json!("one"), &json!("Apply"))
    );
    assert_eq!(entry["fieldsV1"], json!({"f:data": {"f:key": {}}}));
    let again = subject.apply(&path, &object).await.expect(200);
    assert_eq!(
        made["metadata"]["resourceVersion"],
        again["metadata"]["resourceVersion"]
    );
    let object = subject.config_map("a", &json!({"key": "2"}));
    assert_eq!(
        subject.apply(&path, &object).await.expect(200)["data"]["key"],
        "2"
    );
}

pub(super) async fn a_field_has_one_manager(subject: &Subject) {
    let one = subject.path("configmaps/a?fieldManager=one");
    let two = subject.path("configmaps/a?fieldManager=two");
    subject
        .apply(&one, &subject.config_map("a", &json!({"key": "1"})))
        .await
        .expect(201);
    let other = subject.config_map("a", &json!({"key": "2", "own": "2"}));
    let refused = subject.apply(&two, &other).await;
    let body = refused.expect(409);
    let said = body["message"].as_str().unwrap();
    assert_eq!(
        said,
        "Apply failed with 1 conflict: conflict with \"one\": .data.key"
    );
    assert_eq!(
        body["details"]["causes"][0]["reason"],
        "FieldManagerConflict"
    );
    // The same value is no conflict.
    let same = subject.config_map("a", &json!({"key": "1", "own": "2"}));
    subject.apply(&two, &same).await.expect(200);
    let forced = subject
        .apply(&format!("{two}&force=true"), &other)
        .await
        .expect(200);
    assert_eq!(forced["data"], json!({"key": "2", "own": "2"}));
    // What an update wrote is the updater's.
    let by_update = subject.path("configmaps/a?fieldManager=kubectl-edit");
    subject
        .merge(&by_update, &json!({"data": {"own": "3"}}))
        .await
        .expect(200);
    let refused = subject.apply(&two, &other).await;
    refused.refused(
        409,
        "Conflict",
        "conflict with \"kubectl-edit\" using v1: .data.own",
    );
}

pub(super) async fn what_is_no_longer_applied_goes(subject: &Subject) {
    let one = subject.path("configmaps/a?fieldManager=one");
    let both = subject.config_map("a", &json!({"key": "1", "own": "1"}));
    subject.apply(&one, &both).await.expect(201);
    let two = subject.path("configmaps/a?fieldManager=two");
    subject
        .apply(&two, &subject.config_map("a", &json!({"key": "1"})))
        .await
        .expect(200);
    // Another still wants the one, and nobody the other.
    let less = subject
        .apply(&one, &subject.config_map("a", &json!({"more": "1"})))
        .await
        .expect(200);
    assert_eq!(less["data"], json!({"key": "1", "more": "1"}));
}

pub(super) async fn a_status_is_applied_apart(subject: &Subject) {
    subject
        .post(&subject.path("pods"), &subject.pod("a"))
        .await
        .expect(201);
    let condition = |kind: &str, status: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
            "status": {"conditions": [{"type": kind, "status": status}]},
        })
    };
    let one = subject.path("pods/a/status?fieldManager=one");
    subject
        .apply(&one, &condition("Ready", "True"))
        .await
        .expect(200);
    let two = subject.path("pods/a/status?fieldManager=two");
    subject
        .apply(&two, &condition("example.com/Other", "True"))
        .await
        .expect(200);
    let pod = subject.get(&subject.path("pods/a")).await.expect(200);
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    let mut kinds: Vec<_> = conditions
        .iter()
        .map(|it| it["type"].as_str().unwrap())
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["Ready", "example.com/Other"]);
    let refused = subject.apply(&two, &condition("Ready", "False")).await;
    refused.refused(409, "Conflict", "conflict with \"one\"");
}

pub(super) async fn an_apply_says_who(subject: &Subject) {
    let path = subject.path("configmaps/a");
    let object = subject.config_map("a", &json!({}));
    subject
        .apply(&path, &object)
        .await
        .refused(422, "Invalid", "fieldManager: Required value");
    let mut managed = object.clone();
    managed["metadata"]["managedFields"] = json!([{"manager": "x", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}}]);
    let refused = subject
        .apply(&format!("{path}?fieldManager=one"), &managed)
        .await;
    refused.refused(400, "BadRequest", "metadata.managedFields must be nil");
}
