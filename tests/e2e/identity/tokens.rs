//! A proof of identity that is none, or is one no more: each refused with a reason of its own,
//! and nothing is sent upstream. What is told inside a tunnel is in `told_inside`.

use std::time::Duration;

use countersign_core::clock::Clock;
use countersign_tests::{
    client::Failure,
    environment::Environment,
    fake::{KeyKind, Misbehaviour, Protocol, TokenRequest},
};
use http::StatusCode;
use jiff::SignedDuration;
use rstest::rstest;
use serde_json::json;

use crate::harness::{HOST, TestBed, get, soon, until};

/// What a test makes of a good request for a token.
type Make = fn(&Environment, &TokenRequest) -> String;

fn good(env: &Environment, request: &TokenRequest) -> String {
    env.issuer.mint(request)
}

fn not_a_token(_: &Environment, _: &TokenRequest) -> String {
    "xoxb-this-is-no-token".to_owned()
}

fn not_yet_valid(env: &Environment, request: &TokenRequest) -> String {
    let mut claims = env.issuer.claims(request);
    let later = env.clock.now().as_second() + 3600;
    claims["nbf"] = json!(later);
    claims["exp"] = json!(later + 3600);
    env.issuer.sign(&env.issuer.header(), &claims)
}

fn other_issuer(env: &Environment, request: &TokenRequest) -> String {
    let mut claims = env.issuer.claims(request);
    claims["iss"] = json!("https://elsewhere.example");
    env.issuer.sign(&env.issuer.header(), &claims)
}

/// The claims of one token under the signature of another.
fn tampered(env: &Environment, request: &TokenRequest) -> String {
    let token = env.issuer.mint(request);
    let other = env.issuer.mint(&TokenRequest::new("qa", "other"));
    let (claims, _) = token.rsplit_once('.').expect("a token has three parts");
    let (_, signature) = other.rsplit_once('.').expect("a token has three parts");
    format!("{claims}.{signature}")
}

fn no_algorithm(env: &Environment, request: &TokenRequest) -> String {
    let header = json!({"alg": "none", "kid": env.issuer.key_id()});
    env.issuer.sign(&header, &env.issuer.claims(request))
}

fn unpublished_key(env: &Environment, request: &TokenRequest) -> String {
    let before = std::fs::read_to_string(env.directory().join("jwks.json"));
    env.issuer.rotate(KeyKind::Ec);
    assert!(before.is_ok_and(|jwks| !jwks.contains(&env.issuer.key_id())));
    env.issuer.mint(request)
}

#[rstest]
#[case::none_of_ours(not_a_token, "identity_malformed")]
#[case::not_yet_valid(not_yet_valid, "identity_not_yet_valid")]
#[case::other_issuer(other_issuer, "identity_issuer_unknown")]
#[case::tampered(tampered, "identity_invalid")]
#[case::no_algorithm(no_algorithm, "identity_invalid")]
#[case::unpublished_key(unpublished_key, "identity_invalid")]
#[tokio::test]
async fn a_bad_token_is_refused_with_its_own_reason(
    #[case] make: Make,
    #[case] reason: &str,
    #[values(false, true)] as_password: bool,
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let request = TokenRequest::new("qa", "nightly-dashboard");
    let token = make(&bed.env, &request);
    let client = bed.gateway.client(&bed.env);
    let client = if as_password {
        client.basic(&token)
    } else {
        client.bearer(&token)
    };
    let Err(Failure::Refused(answer)) = client.send(get("/some")).await else {
        anyhow::bail!("CONNECT was not refused");
    };
    assert_eq!(answer.status, StatusCode::PROXY_AUTHENTICATION_REQUIRED);
    assert_eq!(answer.json()["reason"], reason);
    assert!(answer.headers.contains_key("proxy-authenticate"));
    let record = bed.record().await?;
    assert_eq!(record["reason"], reason, "{record}");
    assert_eq!(record["outcome"], "refused");
    assert_eq!(bed.api.server().accepted_connections(), 0);
    // The gateway goes on.
    assert_eq!(bed.client().send(get("/well")).await?.text(), "GET /well");
    Ok(())
}

/// The near miss of the table above: the same request made without a lie.
#[tokio::test]
async fn a_good_token_is_taken_as_bearer_and_as_password() -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    let token = good(&bed.env, &TokenRequest::new("qa", "nightly-dashboard"));
    for client in [
        bed.client_with(&token),
        bed.gateway.client(&bed.env).basic(&token),
    ] {
        assert_eq!(client.send(get("/some")).await?.text(), "GET /some");
    }
    Ok(())
}

#[rstest]
#[tokio::test]
async fn a_connection_does_not_outlive_its_proof(
    #[values(Protocol::Http1, Protocol::Http2)] protocol: Protocol,
) -> anyhow::Result<()> {
    let clock = Clock::manual(Clock::system().now());
    let mut bed = TestBed::builder().clock(&clock).start().await?;
    let mut request = TokenRequest::new("qa", "nightly-dashboard");
    request.lifetime = SignedDuration::from_mins(10);
    let token = bed.env.issuer.mint(&request);
    let client = bed.client_with(&token);
    let mut session = client.over(protocol).open(HOST).await?;
    clock.set(clock.now() + SignedDuration::from_secs(599));
    assert_eq!(session.send(get("/within")).await?.text(), "GET /within");
    assert_eq!(bed.record().await?["outcome"], "permitted");

    clock.set(clock.now() + SignedDuration::from_secs(1));
    let answer = session.send(get("/beyond")).await?;
    assert_eq!(answer.status, StatusCode::PROXY_AUTHENTICATION_REQUIRED);
    let record = bed.record().await?;
    assert_eq!(record["reason"], "identity_expired", "{record}");
    // The connection is closed, so that the client must bring a new proof.
    until("the closing", async || {
        session.send(get("/again")).await.is_err()
    })
    .await?;
    assert_eq!(bed.api.received().count(), 1);
    Ok(())
}

/// A client that comes back later finds it closed, and does not lose a request on it.
#[rstest]
#[tokio::test]
async fn a_resting_connection_ends_with_its_proof(
    #[values(Protocol::Http1, Protocol::Http2)] protocol: Protocol,
) -> anyhow::Result<()> {
    let clock = Clock::manual(Clock::system().now());
    let bed = TestBed::builder().clock(&clock).start().await?;
    let mut request = TokenRequest::new("qa", "nightly-dashboard");
    request.lifetime = SignedDuration::from_mins(10);
    let token = bed.env.issuer.mint(&request);
    let client = bed.client_with(&token);
    let mut session = client.over(protocol).open(HOST).await?;
    assert_eq!(session.send(get("/within")).await?.text(), "GET /within");
    clock.pass(clock.now() + SignedDuration::from_secs(599));
    assert_eq!(session.send(get("/within")).await?.text(), "GET /within");
    clock.pass(clock.now() + SignedDuration::from_secs(1));
    soon("the closing", session.closed()).await
}

/// An environment whose gateway asks the API server about each token, and remembers a yes briefly.
pub(crate) async fn reviewed() -> anyhow::Result<TestBed> {
    TestBed::builder()
        .token_review()
        .gateway(|gateway| {
            for issuer in &mut gateway.issuers {
                if let Some(review) = &mut issuer.token_review {
                    review.cache_for = Duration::from_millis(200);
                }
            }
        })
        .start()
        .await
}

#[tokio::test]
async fn a_deleted_pods_token_loses_access_on_an_open_connection() -> anyhow::Result<()> {
    let mut bed = reviewed().await?;
    let request = TokenRequest::new("qa", "nightly-dashboard");
    bed.env.api_server.add_pod(&request);
    let token = bed.env.issuer.mint(&request);
    let client = bed.client_with(&token);
    let mut session = client.over(Protocol::Http2).open(HOST).await?;
    assert_eq!(session.send(get("/alive")).await?.status, StatusCode::OK);
    assert_eq!(bed.record().await?["outcome"], "permitted");

    bed.env.api_server.delete_pod(&request);
    let revoked = soon("the loss of access", async {
        loop {
            let status = session.send(get("/gone")).await?.status;
            let record = bed.record().await?;
            if status != StatusCode::OK {
                assert_eq!(status, StatusCode::PROXY_AUTHENTICATION_REQUIRED);
                return anyhow::Ok(record);
            }
        }
    });
    let record = revoked.await??;
    assert_eq!(record["reason"], "identity_revoked", "{record}");
    Ok(())
}

#[rstest]
#[case::answers_503(Some(StatusCode::SERVICE_UNAVAILABLE), None)]
#[case::resets(None, Some(Misbehaviour::ResetOnAccept))]
#[case::other_certificate(None, Some(Misbehaviour::WrongName))]
#[tokio::test]
async fn an_api_server_that_is_down_has_its_own_reason(
    #[case] outage: Option<StatusCode>,
    #[case] misbehaviour: Option<Misbehaviour>,
) -> anyhow::Result<()> {
    let mut bed = reviewed().await?;
    bed.env.api_server.set_outage(outage);
    bed.env.api_server.misbehave(misbehaviour);
    let Err(Failure::Refused(answer)) = bed.client().send(get("/some")).await else {
        anyhow::bail!("CONNECT was not refused");
    };
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let record = bed.record().await?;
    assert_eq!(record["reason"], "identity_review_unavailable", "{record}");
    assert_eq!(record["blame"], "platform");
    assert_eq!(bed.api.server().accepted_connections(), 0);

    bed.env.api_server.set_outage(None);
    bed.env.api_server.misbehave(None);
    until("recovery", async || {
        bed.client().send(get("/well")).await.is_ok()
    })
    .await
}
