//! Who may do what.

use super::{
    Answer, Body, Method, Request, StatusCode, Subject, Value, json, kinds::signing_request, send,
};

async fn as_nobody(subject: &Subject, method: Method, path: &str, body: &Value) -> Answer {
    send(&subject.nobody, method, path, "application/json", body).await
}

/// Grants `nobody` some rules in the case's namespace.
async fn grant(subject: &Subject, rules: Value) {
    let path = format!(
        "/apis/rbac.authorization.k8s.io/v1/namespaces/{}",
        subject.namespace
    );
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "some"}, "rules": rules,
    });
    subject
        .post(&format!("{path}/roles"), &role)
        .await
        .expect(201);
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "some"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "some"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "nobody"}],
    });
    subject
        .post(&format!("{path}/rolebindings"), &binding)
        .await
        .expect(201);
}

pub(super) async fn what_no_role_grants_is_forbidden(subject: &Subject) {
    let get =
        |path: String| async move { as_nobody(subject, Method::GET, &path, &Value::Null).await };
    let namespace = &subject.namespace;
    let said = format!(
        "pods is forbidden: User \"nobody\" cannot list resource \"pods\" in API group \"\" in the namespace \"{namespace}\""
    );
    get(subject.path("pods"))
        .await
        .refused(403, "Forbidden", &said);
    let said = "jobs.batch is forbidden: User \"nobody\" cannot watch resource \"jobs\" in API group \"batch\" at the cluster scope";
    get("/apis/batch/v1/jobs?watch=true".to_owned())
        .await
        .refused(403, "Forbidden", said);
    let said = "secrets \"a\" is forbidden: User \"nobody\" cannot get resource \"secrets\"";
    get(subject.path("secrets/a"))
        .await
        .refused(403, "Forbidden", said);
    get("/metrics".to_owned())
        .await
        .refused(403, "Forbidden", "cannot get path \"/metrics\"");
    // Even whether it exists.
    get("/apis/none.example.com/v1/nothing".to_owned())
        .await
        .expect(403);
    get("/version".to_owned()).await.expect(200);
}

pub(super) async fn the_issuer_says_who_it_is(subject: &Subject) {
    let path = "/.well-known/openid-configuration";
    as_nobody(subject, Method::GET, path, &Value::Null)
        .await
        .expect(403);
    let told = subject.get(path).await.expect(200);
    let issuer = told["issuer"].as_str().expect("it has an issuer");
    assert!(issuer.starts_with("https://"), "{issuer}");
}

pub(super) async fn everybody_may_ask_who_they_are(subject: &Subject) {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let told = as_nobody(subject, Method::POST, path, &review)
        .await
        .expect(201);
    assert_eq!(told["status"]["userInfo"]["username"], "nobody");
}

/// A real server reads new roles a moment after they were made.
async fn once_allowed(subject: &Subject, path: &str) {
    while as_nobody(subject, Method::GET, path, &Value::Null)
        .await
        .status
        == StatusCode::FORBIDDEN
    {
        tokio::task::yield_now().await;
    }
}

pub(super) async fn a_role_grants_in_its_namespace_and_by_name(subject: &Subject) {
    let object = subject.config_map("mine", &json!({}));
    subject
        .post(&subject.path("configmaps"), &object)
        .await
        .expect(201);
    grant(subject, json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"], "verbs": ["get", "list"]},
    ])).await;
    let get =
        |path: String| async move { as_nobody(subject, Method::GET, &path, &Value::Null).await };
    once_allowed(subject, &subject.path("pods")).await;
    get(subject.path("pods/a")).await.expect(403);
    get("/api/v1/pods".to_owned()).await.expect(403);
    get("/api/v1/namespaces/default/pods".to_owned())
        .await
        .expect(403);
    get(subject.path("configmaps/mine")).await.expect(200);
    get(subject.path("configmaps/other")).await.expect(403);
    get(subject.path("configmaps")).await.expect(403);
    get(subject.path("configmaps?fieldSelector=metadata.name%3Dmine"))
        .await
        .expect(200);
}

pub(super) async fn everybody_may_ask_about_themselves(subject: &Subject) {
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let ask = |resource: &'static str| async move {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "verb": "watch", "group": "", "resource": resource, "namespace": subject.namespace,
            }},
        });
        let body = as_nobody(subject, Method::POST, path, &review)
            .await
            .expect(201);
        body["status"]["allowed"].as_bool().unwrap()
    };
    assert!(!ask("pods").await);
    grant(
        subject,
        json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]),
    )
    .await;
    once_allowed(subject, &subject.path("pods")).await;
    assert!(ask("pods").await);
    assert!(!ask("secrets").await);
    let neither = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {},
    });
    as_nobody(subject, Method::POST, path, &neither)
        .await
        .expect(422);
}

pub(super) async fn a_bad_token_is_unauthorized(subject: &Subject) {
    let request = Request::get(subject.path("pods"))
        .header("authorization", "Bearer nonsense")
        .body(Body::empty())
        .unwrap();
    // The client puts its own token only where there is none.
    let response = subject.nobody.send(request).await.unwrap();
    assert_ne!(response.status(), StatusCode::OK);
}

pub(super) async fn approving_needs_a_right_on_the_signer(subject: &Subject) {
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let made = subject
        .post(path, &signing_request(&subject.namespace))
        .await
        .expect(201);
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": subject.namespace},
        "rules": [{
            "apiGroups": ["certificates.k8s.io"],
            "resources": ["certificatesigningrequests", "certificatesigningrequests/approval"],
            "verbs": ["get", "update"],
        }],
    });
    subject
        .post("/apis/rbac.authorization.k8s.io/v1/clusterroles", &role)
        .await
        .expect(201);
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": subject.namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": subject.namespace},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "nobody"}],
    });
    subject
        .post(
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            &binding,
        )
        .await
        .expect(201);
    let path = format!("{path}/{}", subject.namespace);
    once_allowed(subject, &path).await;
    let mut approved = made;
    approved["status"] = json!({"conditions": [{"type": "Approved", "status": "True", "reason": "Test", "message": "yes"}]});
    let refused = as_nobody(subject, Method::PUT, &format!("{path}/approval"), &approved).await;
    refused.refused(
        403,
        "Forbidden",
        "user not permitted to approve requests with signerName \"countersign.dev/gateway\"",
    );
}
