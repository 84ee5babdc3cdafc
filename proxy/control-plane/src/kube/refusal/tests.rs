//! What a refusal is told as.

use countersign_config::model::Cluster;
use rstest::rstest;
use serde_json::json;

use super::*;

#[rstest]
#[case::resource(
    "tokenreviews.authentication.k8s.io is forbidden: User \"system:serviceaccount:a:b\" cannot create resource \"tokenreviews\" in API group \"authentication.k8s.io\" at the cluster scope",
    Some("system:serviceaccount:a:b")
)]
#[case::path(
    "forbidden: User \"system:anonymous\" cannot get path \"/openid/v1/jwks\"",
    Some("system:anonymous")
)]
#[case::quota(
    "secrets \"x\" is forbidden: exceeded quota: few, requested: secrets=1",
    None
)]
#[case::terminating(
    "secrets \"x\" is forbidden: unable to create new content in namespace qa because it is being terminated",
    None
)]
#[case::none("", None)]
fn only_rbac_names_a_user(#[case] message: &str, #[case] user: Option<&str>) {
    assert_eq!(user_of(message), user);
}

/// An API server that is not there: what it answered is given.
async fn told(status: u16, message: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let token_file = directory.path().join("token");
    std::fs::write(&token_file, "canary").unwrap();
    let kube = Kube::new(&Cluster {
        url: "https://127.0.0.1:1".to_owned(),
        ca_file: None,
        token_file,
    });
    let reason = if status == 401 {
        "Unauthorized"
    } else {
        "Forbidden"
    };
    let body = json!({"kind": "Status", "message": message, "reason": reason, "code": status});
    let answer = KubeResponse {
        status: StatusCode::from_u16(status).unwrap(),
        body: Zeroizing::new(body.to_string().into_bytes()),
    };
    let needed = vec![Right::on_secret("create", "qa", "slack")];
    let error = kube.refusal(&answer, needed).await.to_string();
    assert!(!error.contains("canary"), "{error}");
    error
}

/// Only the first of these is mended by a role.
#[rstest]
#[case::no_role(
    403,
    "secrets is forbidden: User \"system:serviceaccount:a:b\" cannot create resource \"secrets\" in API group \"\" in the namespace \"qa\"",
    "it does not allow the gateway (system:serviceaccount:a:b) to create Secrets in namespace qa; bind"
)]
#[case::no_message(
    403,
    "",
    "it does not allow the gateway to create Secrets in namespace qa; bind"
)]
#[case::token(
    401,
    "Unauthorized",
    "it does not accept the gateway's own token (401), whatever its roles"
)]
#[case::token_removed(
    403,
    "secrets is forbidden: User \"system:anonymous\" cannot create resource \"secrets\" in API group \"\" in the namespace \"qa\"",
    "it takes the gateway for nobody (system:anonymous) although a token was sent"
)]
#[case::quota(
    403,
    "secrets \"slack\" is forbidden: exceeded quota: few, requested: secrets=1, used: secrets=9, limited: secrets=9",
    "though not for want of a role: secrets \"slack\" is forbidden: exceeded quota: few"
)]
#[case::webhook(
    403,
    "admission webhook \"policy.example.com\" denied the request: no",
    "though not for want of a role: admission webhook"
)]
#[tokio::test]
async fn a_refusal_is_told_as_what_it_is(
    #[case] status: u16,
    #[case] message: &str,
    #[case] expected: &str,
) {
    let told = told(status, message).await;
    assert!(
        told.starts_with(expected) || told.contains(expected),
        "{told}"
    );
    assert_eq!(
        told.contains("Role in namespace"),
        expected.ends_with("bind"),
        "{told}"
    );
}
