//! What is special to the stand-in; what it has in common with the real server is in `conformance`.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::{
    client::{Answer, Client},
    fake::TokenRequest,
};

const REVIEW_PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ACCESS_PATH: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

struct Cluster {
    issuer: Issuer,
    server: ApiServer,
    clock: Clock,
}

impl Cluster {
    async fn start() -> Self {
        let authority = Authority::default();
        let clock = Clock::manual("2026-11-23T05:10:00Z".parse().unwrap());
        let issuer = Issuer::start(&authority, clock.clone()).await.unwrap();
        let server = ApiServer::start(&authority, &issuer, clock.clone())
            .await
            .unwrap();
        Self {
            issuer,
            server,
            clock,
        }
    }

    async fn send(&self, request: http::request::Builder, body: String) -> Answer {
        Client::direct(self.server.address(), self.server.ca_pem())
            .send(request.body(Full::new(Bytes::from(body))).unwrap())
            .await
            .unwrap()
    }

    async fn review(&self, token: &str, audience: &str) -> Value {
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        });
        let request = Request::post(format!("https://localhost{REVIEW_PATH}"))
            .header("authorization", format!("Bearer {}", self.server.bearer()));
        let answer = self.send(request, body.to_string()).await;
        assert_eq!(answer.status, StatusCode::CREATED);
        answer.json()["status"].clone()
    }
}

#[tokio::test]
async fn a_token_of_a_living_pod_is_authenticated() {
    let cluster = Cluster::start().await;
    let request = TokenRequest::new("qa", "nightly-dashboard");
    cluster.server.add_pod(&request);
    let token = cluster.issuer.mint(&request);
    let status = cluster.review(&token, "countersign").await;
    assert_eq!(status["authenticated"], true);
    assert_eq!(status["audiences"], json!(["countersign"]));
    assert_eq!(
        status["user"]["username"],
        "system:serviceaccount:qa:nightly-dashboard"
    );
    let (name, uid) = request.pod.unwrap();
    let extra = &status["user"]["extra"];
    assert_eq!(
        extra["authentication.kubernetes.io/pod-name"],
        json!([name])
    );
    assert_eq!(extra["authentication.kubernetes.io/pod-uid"], json!([uid]));
}

#[tokio::test]
async fn a_deleted_or_recreated_pod_is_not() {
    let cluster = Cluster::start().await;
    let request = TokenRequest::new("qa", "nightly-dashboard");
    cluster.server.add_pod(&request);
    let token = cluster.issuer.mint(&request);
    cluster.server.delete_pod(&request);
    let status = cluster.review(&token, "countersign").await;
    assert_eq!(status["authenticated"], false);
    assert!(status["error"].as_str().unwrap().contains("invalidated"));

    let mut recreated = request.clone();
    recreated.pod = request.pod.map(|(name, _)| (name, random::uuid()));
    cluster.server.add_pod(&recreated);
    assert_eq!(
        cluster.review(&token, "countersign").await["authenticated"],
        false
    );
}

#[tokio::test]
async fn audience_and_lifetime_are_checked() {
    let cluster = Cluster::start().await;
    let mut request = TokenRequest::new("qa", "nightly-dashboard");
    request.pod = None;
    let token = cluster.issuer.mint(&request);
    assert_eq!(
        cluster.review(&token, "countersign").await["authenticated"],
        true
    );
    assert_eq!(
        cluster.review(&token, "vault").await["authenticated"],
        false
    );
    cluster
        .clock
        .set(cluster.clock.now() + SignedDuration::from_hours(1) + SignedDuration::from_secs(60));
    assert_eq!(
        cluster.review(&token, "countersign").await["authenticated"],
        true
    );
    cluster
        .clock
        .set(cluster.clock.now() + SignedDuration::from_secs(1));
    assert_eq!(
        cluster.review(&token, "countersign").await["authenticated"],
        false
    );
}

#[tokio::test]
async fn the_gateways_own_token_is_demanded() {
    let cluster = Cluster::start().await;
    for (authorization, expected) in [
        ("Bearer gateway-", StatusCode::UNAUTHORIZED),
        ("bearer", StatusCode::FORBIDDEN),
        ("", StatusCode::FORBIDDEN),
    ] {
        let request = Request::get(format!("https://localhost{JWKS_PATH}"))
            .header("authorization", authorization);
        assert_eq!(cluster.send(request, String::new()).await.status, expected);
    }
    let good = Request::get(format!("https://localhost{JWKS_PATH}")).header(
        "authorization",
        format!("Bearer {}", cluster.server.bearer()),
    );
    assert_eq!(
        cluster.send(good, String::new()).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn an_outage_ends() {
    let cluster = Cluster::start().await;
    let good = || {
        Request::get(format!("https://localhost{JWKS_PATH}")).header(
            "authorization",
            format!("Bearer {}", cluster.server.bearer()),
        )
    };
    cluster
        .server
        .set_outage(Some(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(
        cluster.send(good(), String::new()).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    cluster.server.set_outage(None);
    assert_eq!(
        cluster.send(good(), String::new()).await.status,
        StatusCode::OK
    );
}

/// Kubernetes' own messages: the gateway tells its user from them, and whether a role is missing at all.
#[tokio::test]
async fn what_no_role_grants_is_forbidden_and_can_be_asked_about() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    server.grant(Grant::one("qa", "slack", &["list"]));
    let authorized = |method: Method, path: &str| {
        Request::builder()
            .method(method)
            .uri(format!("https://localhost{path}"))
            .header("authorization", format!("Bearer {}", server.bearer()))
    };
    let allows = async |attributes: Value| {
        let body = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": attributes,
        });
        let answer = cluster
            .send(authorized(Method::POST, ACCESS_PATH), body.to_string())
            .await;
        assert_eq!(answer.status, StatusCode::CREATED);
        answer.json()["status"]["allowed"].as_bool().unwrap()
    };
    let keys = json!({"nonResourceAttributes": {"verb": "get", "path": JWKS_PATH}});
    let secret = |verb| {
        json!({"resourceAttributes": {
            "verb": verb, "group": "", "resource": "secrets", "namespace": "qa", "name": "slack",
        }})
    };
    assert!(allows(keys.clone()).await && allows(secret("list")).await);
    assert!(!allows(secret("watch")).await);
    server.set_cluster_rights(&[]);
    assert!(!allows(keys).await);
    let answer = cluster
        .send(authorized(Method::GET, JWKS_PATH), String::new())
        .await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let status = answer.json();
    assert_eq!(status["reason"], "Forbidden");
    assert_eq!(
        status["message"],
        format!(
            "forbidden: User \"{}\" cannot get path \"{JWKS_PATH}\"",
            access::USER
        )
    );
}
