//! What it refuses.

use http::Request;
use http_body_util::Full;
use rstest::rstest;

use super::*;
use crate::client::Client;

struct Desk {
    oauth: Oauth,
    issuer: Issuer,
    client: Client,
}

impl Desk {
    async fn open() -> Self {
        let (authority, clock) = (Authority::default(), Clock::system());
        let issuer = Issuer::start(&authority, clock.clone()).await.unwrap();
        let oauth = Oauth::start(&authority, &issuer, clock).await.unwrap();
        for (id, proves) in [
            ("basic", Proves::Basic("s1".into())),
            ("post", Proves::Post("s2".into())),
        ] {
            oauth.register(OauthClient {
                id: id.into(),
                proves,
                scopes: vec!["read".into()],
                audiences: Vec::new(),
            });
        }
        let client = Client::direct(oauth.address(), &authority.pem());
        Self {
            oauth,
            issuer,
            client,
        }
    }

    async fn post(&self, path: &str, form: &str, basic: Option<&str>) -> (u16, serde_json::Value) {
        let mut request = Request::post(format!("https://{OAUTH_HOST}{path}"))
            .header("content-type", "application/x-www-form-urlencoded");
        if let Some(basic) = basic {
            request = request.header("authorization", format!("Basic {basic}"));
        }
        let body = Full::new(bytes::Bytes::copy_from_slice(form.as_bytes()));
        let answer = self.client.send(request.body(body).unwrap()).await.unwrap();
        let json = serde_json::from_slice(answer.text().as_bytes()).unwrap_or_default();
        (answer.status.as_u16(), json)
    }
}

/// `basic:s1`, `basic:s2`, `post:s2`, in base64.
const RIGHT: &str = "YmFzaWM6czE=";
const WRONG: &str = "YmFzaWM6czI=";
const BY_POST: &str = "cG9zdDpzMg==";

const CC: &str = "grant_type=client_credentials";

#[rstest]
#[case::nobody(CC, None, "invalid_client")]
#[case::wrong(CC, Some(WRONG), "invalid_client")]
#[case::another_way(CC, Some(BY_POST), "invalid_client")]
#[case::basic_by_post(
    "grant_type=client_credentials&client_id=basic&client_secret=s1",
    None,
    "invalid_client"
)]
#[case::two_ways(
    "grant_type=client_credentials&client_id=post&client_secret=s2",
    Some(RIGHT),
    "invalid_request"
)]
#[case::scope(
    "grant_type=client_credentials&scope=write",
    Some(RIGHT),
    "invalid_scope"
)]
#[case::audience(
    "grant_type=client_credentials&audience=x",
    Some(RIGHT),
    "invalid_target"
)]
#[case::twice(
    "grant_type=client_credentials&grant_type=client_credentials",
    Some(RIGHT),
    "invalid_request"
)]
#[case::other_grant("grant_type=password", Some(RIGHT), "unsupported_grant_type")]
#[case::no_grant("scope=read", Some(RIGHT), "invalid_request")]
#[case::unsigned_assertion(
    "grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&assertion=e30.e30.",
    None,
    "invalid_grant"
)]
#[tokio::test]
async fn is_refused(#[case] form: &str, #[case] basic: Option<&str>, #[case] code: &str) {
    let desk = Desk::open().await;
    let (status, json) = desk.post("/token", form, basic).await;
    assert_eq!(json["error"], code);
    assert_eq!(status, if code == "invalid_client" { 401 } else { 400 });
    assert_eq!(desk.oauth.issued(), 0);
}

#[tokio::test]
async fn only_the_clusters_tokens_for_us_are_exchanged() {
    let desk = Desk::open().await;
    let request = crate::fake::TokenRequest::new("qa", "app");
    let good = desk.issuer.mint(&request);
    let mut elsewhere = request.clone();
    elsewhere.audiences = vec!["vault".into()];
    let mut over = request.clone();
    over.lifetime = SignedDuration::ZERO;
    let form = |token: &str| {
        format!(
            "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token={token}\
             &subject_token_type=urn:ietf:params:oauth:token-type:jwt"
        )
    };
    let forged = format!("{}x", &good[..good.len() - 1]);
    for bad in [
        desk.issuer.mint(&elsewhere),
        desk.issuer.mint(&over),
        forged,
    ] {
        let (status, json) = desk.post("/token", &form(&bad), None).await;
        assert_eq!((status, &json["error"]), (400, &"invalid_request".into()));
    }
    let (status, json) = desk.post("/token", &form(&good), None).await;
    assert_eq!(status, 200);
    let token = json["access_token"].as_str().unwrap();
    assert_eq!(
        json["issued_token_type"],
        "urn:ietf:params:oauth:token-type:access_token"
    );
    let pod = request.pod.unwrap().0;
    assert_eq!(desk.oauth.introspect(token).unwrap().subject, pod);
}

#[tokio::test]
async fn only_the_owner_revokes_and_an_unknown_token_is_fine() {
    let desk = Desk::open().await;
    let (_, json) = desk.post("/token", CC, Some(RIGHT)).await;
    let token = json["access_token"].as_str().unwrap().to_owned();
    let form = format!("token={token}");
    assert_eq!(desk.post("/revoke", &form, None).await.0, 401);
    assert!(desk.oauth.introspect(&token).is_some());
    assert_eq!(desk.post("/revoke", "token=x", Some(RIGHT)).await.0, 200);
    assert_eq!(desk.post("/revoke", &form, Some(RIGHT)).await.0, 200);
    assert!(desk.oauth.introspect(&token).is_none());
    assert_eq!(desk.oauth.revocations(), 1);
}
