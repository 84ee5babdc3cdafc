//! What the API server answers, and when it is asked.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use countersign_core::bearer::Bearer as _;
use futures_util::FutureExt as _;
use rstest::rstest;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use super::*;

const OWN_TOKEN: &str = "gateway-token";
const SUBJECT: &str = "system:serviceaccount:qa:nightly-dashboard";
const POD: &str = "nightly-dashboard-29341-x8k2p";

/// A fake API server: accepts exactly one form of request, and answers as configured.
#[derive(Clone)]
struct ApiServer(Arc<ApiServerState>);

struct ApiServerState {
    answer: Mutex<(u16, Value)>,
    asked: AtomicUsize,
}

impl Respond for ApiServer {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let header = |name| {
            request
                .headers
                .get(name)
                .map(|value| value.to_str().unwrap())
        };
        if header("authorization") != Some("Bearer gateway-token") {
            self.0.asked.fetch_add(1, Ordering::SeqCst);
            return ResponseTemplate::new(401);
        }
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        if request.url.path() == path {
            self.0.asked.fetch_add(1, Ordering::SeqCst);
        }
        if request.method.as_str() != "POST" || request.url.path() != path {
            return ResponseTemplate::new(404);
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let asks_rightly = header("content-type") == Some("application/json")
            && body["apiVersion"] == "authentication.k8s.io/v1"
            && body["kind"] == "TokenReview"
            && body["spec"]["audiences"] == json!(["countersign"])
            && body["spec"]["token"]
                .as_str()
                .is_some_and(|token| token.split('.').count() == 3);
        if !asks_rightly {
            return ResponseTemplate::new(400);
        }
        let (status, answer) = self.0.answer.lock().unwrap().clone();
        ResponseTemplate::new(status).set_body_json(answer)
    }
}

fn yes() -> Value {
    json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "metadata": {},
        "spec": {},
        "status": {
            "authenticated": true,
            "audiences": ["countersign"],
            "user": {
                "username": SUBJECT,
                "uid": "14ee3fa4",
                "groups": ["system:serviceaccounts", "system:authenticated"],
                "extra": { "authentication.kubernetes.io/pod-name": [POD] },
            },
        },
    })
}

fn no() -> Value {
    json!({ "status": { "authenticated": false, "error": "[invalid bearer token]" } })
}

fn yes_but(pointer: &str, value: Value) -> Value {
    let mut answer = yes();
    *answer.pointer_mut(pointer).expect("it is there") = value;
    answer
}

struct Cluster {
    api: ApiServer,
    identifier: Identifier,
    directory: tempfile::TempDir,
    _server: MockServer,
}

impl Cluster {
    async fn start(status: u16, answer: Value) -> Self {
        Self::start_with(Duration::from_secs(10), status, answer).await
    }

    async fn start_with(cache_for: Duration, status: u16, answer: Value) -> Self {
        let server = MockServer::start().await;
        let api = ApiServer(Arc::new(ApiServerState {
            answer: Mutex::new((status, answer)),
            asked: AtomicUsize::new(0),
        }));
        let any = Mock::given(wiremock::matchers::any());
        any.respond_with(api.clone()).mount(&server).await;
        let directory = tempfile::tempdir().unwrap();
        let keys = write(directory.path(), "jwks.json", &jwks(&[&RSA]).to_string());
        let mut issuer = issuer(JwksSource::File(keys));
        issuer.token_review = Some(model::TokenReview {
            cluster: model::Cluster {
                url: server.uri(),
                ca_file: None,
                token_file: write(directory.path(), "token", OWN_TOKEN),
            },
            cache_for,
        });
        Self {
            api,
            identifier: Identifier::new(&[issuer], Clock::manual(now())).unwrap(),
            directory,
            _server: server,
        }
    }

    fn now_answers(&self, status: u16, answer: Value) {
        *self.api.0.answer.lock().unwrap() = (status, answer);
    }

    fn asked(&self) -> usize {
        self.api.0.asked.load(Ordering::SeqCst)
    }

    async fn by(&self, token: &Secret) -> Result<Arc<Caller>, IdentifyError> {
        let proof = Proof::ServiceAccountToken;
        let caller = self.identifier.by_token(token, proof).await;
        caller.map_err(|unproven| unproven.error().clone())
    }
}

fn revoked() -> IdentifyError {
    IdentifyError::Revoked {
        issuer: "prod-eu".into(),
        said: "\"[invalid bearer token]\"".into(),
    }
}

#[tokio::test]
async fn a_yes_is_remembered_as_long_as_configured() {
    let cluster = Cluster::start(201, yes()).await;
    let token = RSA.good_token();
    let caller = cluster.by(&token).await.unwrap();
    for _ in 0..100 {
        cluster.by(&token).await.unwrap();
        cluster.identifier.confirm(&caller).await.unwrap();
    }
    assert_eq!(cluster.asked(), 1);
    pass(Duration::from_secs(10)).await;
    cluster.identifier.confirm(&caller).await.unwrap();
    assert_eq!(cluster.asked(), 2);
}

/// THREATS 38.
#[tokio::test]
async fn a_deleted_pod_loses_access_within_the_bound() {
    let cluster = Cluster::start(201, yes()).await;
    let token = RSA.good_token();
    let caller = cluster.by(&token).await.unwrap();
    cluster.now_answers(201, no());
    pass(Duration::from_secs(10)).await;
    assert_eq!(cluster.identifier.confirm(&caller).await, Err(revoked()));
    // The rejection is cached too, for everyone with the token.
    for _ in 0..20 {
        assert_eq!(cluster.identifier.confirm(&caller).await, Err(revoked()));
        assert_eq!(cluster.by(&token).await.unwrap_err(), revoked());
    }
    assert_eq!(cluster.asked(), 2);
    pass(Duration::from_secs(5)).await;
    assert_eq!(cluster.by(&token).await.unwrap_err(), revoked());
    assert_eq!(cluster.asked(), 3);
}

#[tokio::test]
async fn a_yes_that_grows_old_is_renewed_beside_the_request() {
    let cluster = Cluster::start_with(Duration::from_secs(400), 201, yes()).await;
    let caller = cluster.by(&RSA.good_token()).await.unwrap();
    cluster.now_answers(201, no());
    pass(Duration::from_mins(5)).await;
    let at_once = cluster.identifier.confirm(&caller).now_or_never();
    assert_eq!(at_once, Some(Ok(())));
    // Long before the positive review expires.
    let noticed = async {
        while cluster.identifier.confirm(&caller).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let noticed = tokio::time::timeout(Duration::from_secs(30), noticed).await;
    assert!(
        noticed.is_ok(),
        "the review beside the request was never heard"
    );
    assert_eq!(cluster.identifier.confirm(&caller).await, Err(revoked()));
}

#[tokio::test]
async fn many_requests_of_one_token_make_one_review() {
    let cluster = Cluster::start(201, yes()).await;
    let token = RSA.good_token();
    let all = (0..200).map(|_| cluster.by(&token));
    let results = futures_util::future::join_all(all).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(cluster.asked(), 1);
}

#[rstest]
#[case::no(no(), "Revoked")]
#[case::empty_status(json!({ "status": {} }), "Revoked")]
#[case::no_status(json!({}), "ReviewUnavailable")]
#[case::other_user(
    yes_but("/status/user/username", json!("system:serviceaccount:qa:other")),
    "ReviewMismatch"
)]
#[case::no_user(yes_but("/status/user", json!({})), "ReviewMismatch")]
#[case::other_audience(yes_but("/status/audiences", json!(["vault"])), "ReviewMismatch")]
#[case::no_audience(yes_but("/status/audiences", json!([])), "ReviewMismatch")]
#[case::other_pod(
    yes_but("/status/user/extra", json!({ "authentication.kubernetes.io/pod-name": ["other"] })),
    "ReviewMismatch"
)]
#[case::two_pods(
    yes_but("/status/user/extra", json!({ "authentication.kubernetes.io/pod-name": [POD, POD] })),
    "ReviewMismatch"
)]
#[case::truth_as_text(yes_but("/status/authenticated", json!("true")), "ReviewUnavailable")]
#[case::no_object(json!([]), "ReviewUnavailable")]
#[tokio::test]
async fn whatever_is_no_clear_yes_is_refused(#[case] answer: Value, #[case] expected: &str) {
    let cluster = Cluster::start(201, answer).await;
    let refused = format!("{:?}", cluster.by(&RSA.good_token()).await.unwrap_err());
    assert!(refused.starts_with(expected), "{refused}");
}

/// Kubernetes' own texts, and what they mean to whoever reads them.
#[rstest]
#[case::pod_gone(
    "[invalid bearer token, service account token has been invalidated]",
    "is gone, or was made anew"
)]
#[case::another_key(
    "[invalid bearer token, go-jose/go-jose: error in cryptographic primitive]",
    "is `tokenReview` of another cluster than `jwks`?"
)]
#[case::another_issuer("", "as for a token of another cluster")]
#[case::other(
    "[invalid bearer token, xoxb-1234567890-canary]",
    "\"[invalid bearer token, [redacted]]\""
)]
#[tokio::test]
async fn what_the_api_server_says_of_a_token_is_told(#[case] error: &str, #[case] meaning: &str) {
    let answer = json!({ "status": { "authenticated": false, "error": error } });
    let cluster = Cluster::start(201, answer).await;
    let told = cluster.by(&RSA.good_token()).await.unwrap_err();
    assert_eq!(kind(&told), "Revoked");
    let told = told.to_string();
    assert!(told.contains(meaning) && !told.contains("canary"), "{told}");
}

#[rstest]
#[case::user("/status/user/username", json!("system:serviceaccount:qa:other"), "another user, \"system:serviceaccount:qa:other\"")]
#[case::audience("/status/audiences", json!(["vault"]), "it is for \"vault\", not for \"countersign\"")]
#[case::no_audience("/status/audiences", json!([]), "it is for no audience")]
#[tokio::test]
async fn what_contradicts_the_token_is_named(
    #[case] pointer: &str,
    #[case] value: Value,
    #[case] expected: &str,
) {
    let cluster = Cluster::start(201, yes_but(pointer, value)).await;
    let told = cluster.by(&RSA.good_token()).await.unwrap_err().to_string();
    assert!(told.contains(expected), "{told}");
}

#[rstest]
#[case::without_pod(yes_but("/status/user/extra", json!({})))]
#[case::more_audiences(yes_but("/status/audiences", json!(["vault", "countersign"])))]
#[tokio::test]
async fn these_are_a_yes(#[case] answer: Value) {
    let cluster = Cluster::start(200, answer).await;
    cluster.by(&RSA.good_token()).await.unwrap();
}

#[rstest]
#[case(401)]
#[case(403)]
#[case(429)]
#[case(500)]
#[case(503)]
#[case(302)]
#[tokio::test]
async fn a_server_that_cannot_say_is_not_the_callers_fault(#[case] status: u16) {
    let cluster = Cluster::start(status, yes()).await;
    let token = RSA.good_token();
    for _ in 0..10 {
        let refused = cluster.by(&token).await.unwrap_err();
        assert!(
            matches!(refused, IdentifyError::ReviewUnavailable { .. }),
            "{refused:?}"
        );
        let told = refused.to_string();
        assert_eq!(
            told.contains("with rules: [{apiGroups: [authentication.k8s.io], resources: [tokenreviews], verbs: [create]}]"),
            status == 403,
            "{told}"
        );
        assert_eq!(
            told.contains("does not accept the gateway's own token (401), whatever its roles"),
            status == 401,
            "{told}"
        );
    }
    assert_eq!(cluster.asked(), 1);
    cluster.now_answers(201, yes());
    pass(Duration::from_secs(1)).await;
    cluster.by(&token).await.unwrap();
}

#[tokio::test]
async fn an_outage_does_not_cut_short_a_yes_and_does_not_prolong_it() {
    let cluster = Cluster::start(201, yes()).await;
    let caller = cluster.by(&RSA.good_token()).await.unwrap();
    cluster.now_answers(503, json!({}));
    pass(Duration::from_secs(8)).await;
    while cluster.asked() < 2 {
        cluster.identifier.confirm(&caller).await.unwrap();
        tokio::task::yield_now().await;
    }
    cluster.identifier.confirm(&caller).await.unwrap();
    pass(Duration::from_secs(2)).await;
    let refused = cluster.identifier.confirm(&caller).await.unwrap_err();
    assert!(
        matches!(refused, IdentifyError::ReviewUnavailable { .. }),
        "{refused:?}"
    );
}

/// Polls a future that waits for the end of a proof, while the API server is asked for the nth time.
async fn asked_for(
    cluster: &Cluster,
    count: usize,
    open: &mut (impl Future<Output = IdentifyError> + Unpin),
) {
    let asked = async {
        while cluster.asked() < count {
            tokio::task::yield_now().await;
        }
    };
    let asked = tokio::time::timeout(Duration::from_secs(30), asked);
    tokio::select! {
        biased;
        error = open => panic!("it ended: {error}"),
        asked = asked => asked.expect("it is asked"),
    }
}

#[tokio::test]
async fn what_is_open_is_asked_about_once_a_period_and_ends_with_a_no() {
    let cluster = Cluster::start(201, yes()).await;
    let caller = cluster.by(&RSA.good_token()).await.unwrap();
    let withdrawn = || cluster.identifier.withdrawn(&caller);
    let both = futures_util::future::select(Box::pin(withdrawn()), Box::pin(withdrawn()));
    let mut open = Box::pin(async { both.await.factor_first().0 });
    for period in 2..5 {
        asked_for(&cluster, period - 1, &mut open).await;
        cluster.identifier.confirm(&caller).await.unwrap();
        assert!(open.as_mut().now_or_never().is_none());
        pass(Duration::from_secs(10)).await;
        asked_for(&cluster, period, &mut open).await;
        assert_eq!(cluster.asked(), period);
    }
    cluster.identifier.confirm(&caller).await.unwrap();
    cluster.now_answers(201, no());
    assert!(open.as_mut().now_or_never().is_none());
    pass(Duration::from_secs(10)).await;
    assert_eq!(open.await, revoked());
}

#[tokio::test]
async fn what_is_open_outlives_a_short_outage() {
    let cluster = Cluster::start(201, yes()).await;
    let caller = cluster.by(&RSA.good_token()).await.unwrap();
    let mut open = Box::pin(cluster.identifier.withdrawn(&caller));
    assert!(open.as_mut().now_or_never().is_none());
    cluster.now_answers(503, json!({}));
    pass(Duration::from_secs(10)).await;
    asked_for(&cluster, 2, &mut open).await;
    assert!(cluster.identifier.confirm(&caller).await.is_err());
    assert!(open.as_mut().now_or_never().is_none());
    cluster.now_answers(201, yes());
    pass(Duration::from_secs(1)).await;
    asked_for(&cluster, 3, &mut open).await;
    cluster.identifier.confirm(&caller).await.unwrap();
    assert!(open.as_mut().now_or_never().is_none());
}

#[tokio::test]
async fn what_is_open_does_not_outlive_a_long_outage() {
    let cluster = Cluster::start(201, yes()).await;
    let caller = cluster.by(&RSA.good_token()).await.unwrap();
    let review = caller.review.as_ref().unwrap();
    pass(Duration::from_secs(19)).await;
    assert!(review.patience().is_some());
    pass(Duration::from_secs(1)).await;
    assert!(review.patience().is_none());
    cluster.now_answers(503, json!({}));
    let ended = cluster.identifier.withdrawn(&caller).await;
    assert!(
        matches!(ended, IdentifyError::ReviewUnavailable { .. }),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_run_is_over_when_its_pod_is_gone_and_not_when_nobody_can_say() {
    let cluster = Cluster::start(201, yes()).await;
    let caller = cluster.by(&RSA.good_token()).await.unwrap();
    let mut over = Box::pin(async {
        caller.over(&cluster.identifier.clock).await;
        revoked()
    });
    assert!(over.as_mut().now_or_never().is_none());
    cluster.now_answers(503, json!({}));
    pass(Duration::from_secs(30)).await;
    asked_for(&cluster, 2, &mut over).await;
    assert!(over.as_mut().now_or_never().is_none());
    cluster.now_answers(201, no());
    pass(Duration::from_secs(30)).await;
    assert_eq!(over.await, revoked());
    assert_eq!(cluster.asked(), 3);
}

#[tokio::test]
async fn the_gateways_own_token_is_read_afresh() {
    let cluster = Cluster::start(201, yes()).await;
    write(cluster.directory.path(), "token", "outdated");
    let refused = cluster.by(&RSA.good_token()).await.unwrap_err();
    assert!(
        matches!(refused, IdentifyError::ReviewUnavailable { .. }),
        "{refused:?}"
    );
    std::fs::remove_file(cluster.directory.path().join("token")).unwrap();
    pass(Duration::from_secs(1)).await;
    let refused = cluster.by(&RSA.good_token()).await.unwrap_err();
    assert!(refused.to_string().contains("does not exist"), "{refused}");
    write(cluster.directory.path(), "token", OWN_TOKEN);
    pass(Duration::from_secs(1)).await;
    cluster.by(&RSA.good_token()).await.unwrap();
}

#[tokio::test]
async fn a_bad_signature_never_reaches_the_api_server() {
    let cluster = Cluster::start(201, yes()).await;
    let header = json!({ "alg": "RS256", "kid": "rsa-1" });
    let forged = OTHER_RSA.token(&header, &claims());
    assert_eq!(
        kind(&cluster.by(&forged).await.unwrap_err()),
        "BadSignature"
    );
    assert_eq!(cluster.asked(), 0);
}
