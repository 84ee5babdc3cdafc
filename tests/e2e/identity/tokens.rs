//! A proof of identity that is none, or is one no more: each refused with a reason of its own,
//! and nothing is sent upstream.

use std::time::Duration;

use countersign_core::clock::Clock;
use countersign_tests::{
    client::Failure,
    fake::{KeyKind, Misbehaviour, Protocol, TokenRequest},
    world::{Options, World},
};
use http::StatusCode;
use jiff::SignedDuration;
use rstest::rstest;
use serde_json::json;

use crate::harness::site::{HOST, Site, get, soon};

/// What a test makes of a good request for a token.
type Make = fn(&World, &TokenRequest) -> String;

fn good(world: &World, request: &TokenRequest) -> String {
    world.issuer.mint(request)
}

fn not_a_token(_: &World, _: &TokenRequest) -> String {
    "xoxb-this-is-no-token".to_owned()
}

fn other_audience(world: &World, request: &TokenRequest) -> String {
    let mut request = request.clone();
    request.audiences = vec!["https://kubernetes.default.svc".to_owned()];
    world.issuer.mint(&request)
}

fn expired(world: &World, request: &TokenRequest) -> String {
    let mut request = request.clone();
    request.lifetime = SignedDuration::from_hours(-1);
    world.issuer.mint(&request)
}

fn not_yet_valid(world: &World, request: &TokenRequest) -> String {
    let mut claims = world.issuer.claims(request);
    let later = world.clock.now().as_second() + 3600;
    claims["nbf"] = json!(later);
    claims["exp"] = json!(later + 3600);
    world.issuer.sign(&world.issuer.header(), &claims)
}

fn other_issuer(world: &World, request: &TokenRequest) -> String {
    let mut claims = world.issuer.claims(request);
    claims["iss"] = json!("https://elsewhere.example");
    world.issuer.sign(&world.issuer.header(), &claims)
}

/// The claims of one token under the signature of another.
fn tampered(world: &World, request: &TokenRequest) -> String {
    let token = world.issuer.mint(request);
    let other = world.issuer.mint(&TokenRequest::new("qa", "other"));
    let (claims, _) = token.rsplit_once('.').expect("a token has three parts");
    let (_, signature) = other.rsplit_once('.').expect("a token has three parts");
    format!("{claims}.{signature}")
}

fn no_algorithm(world: &World, request: &TokenRequest) -> String {
    let header = json!({"alg": "none", "kid": world.issuer.key_id()});
    world.issuer.sign(&header, &world.issuer.claims(request))
}

fn unpublished_key(world: &World, request: &TokenRequest) -> String {
    let before = std::fs::read_to_string(world.directory().join("jwks.json"));
    world.issuer.rotate(KeyKind::Ec);
    assert!(before.is_ok_and(|jwks| !jwks.contains(&world.issuer.key_id())));
    world.issuer.mint(request)
}

#[rstest]
#[case::none_of_ours(not_a_token, "identity_malformed")]
#[case::other_audience(other_audience, "identity_audience")]
#[case::expired(expired, "identity_expired")]
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
    let mut site = Site::start().await?;
    let request = TokenRequest::new("qa", "nightly-dashboard");
    let token = make(&site.world, &request);
    let client = site.gateway.client(&site.world);
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
    let record = site.record().await?;
    assert_eq!(record["reason"], reason, "{record}");
    assert_eq!(record["outcome"], "refused");
    assert_eq!(site.api.accepted_connections(), 0);
    // The gateway goes on.
    assert_eq!(site.client().send(get("/well")).await?.text(), "GET /well");
    Ok(())
}

/// The near miss of the table above: the same request made without a lie.
#[tokio::test]
async fn a_good_token_is_taken_as_bearer_and_as_password() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let token = good(&site.world, &TokenRequest::new("qa", "nightly-dashboard"));
    for client in [
        site.gateway.client(&site.world).bearer(&token),
        site.gateway.client(&site.world).basic(&token),
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
    let options = Options {
        clock: clock.clone(),
        ..Options::default()
    };
    let mut site = Site::with(options, |_, _| Ok(())).await?;
    let mut request = TokenRequest::new("qa", "nightly-dashboard");
    request.lifetime = SignedDuration::from_mins(10);
    let token = site.world.issuer.mint(&request);
    let client = site.gateway.client(&site.world).bearer(&token);
    let mut session = client.over(protocol).open(HOST).await?;
    clock.set(clock.now() + SignedDuration::from_secs(599));
    assert_eq!(session.send(get("/within")).await?.text(), "GET /within");
    assert_eq!(site.record().await?["outcome"], "permitted");

    clock.set(clock.now() + SignedDuration::from_secs(1));
    let answer = session.send(get("/beyond")).await?;
    assert_eq!(answer.status, StatusCode::PROXY_AUTHENTICATION_REQUIRED);
    let record = site.record().await?;
    assert_eq!(record["reason"], "identity_expired", "{record}");
    // The connection is closed, so that the client must bring a new proof.
    let closed = soon("the closing", async {
        while session.send(get("/again")).await.is_ok() {}
    });
    closed.await?;
    assert_eq!(site.api.memory().count(), 1);
    Ok(())
}

/// A client that comes back later finds it closed, and does not lose a request on it.
#[rstest]
#[tokio::test]
async fn a_resting_connection_ends_with_its_proof(
    #[values(Protocol::Http1, Protocol::Http2)] protocol: Protocol,
) -> anyhow::Result<()> {
    let clock = Clock::manual(Clock::system().now());
    let options = Options {
        clock: clock.clone(),
        ..Options::default()
    };
    let site = Site::with(options, |_, _| Ok(())).await?;
    let mut request = TokenRequest::new("qa", "nightly-dashboard");
    request.lifetime = SignedDuration::from_mins(10);
    let token = site.world.issuer.mint(&request);
    let client = site.gateway.client(&site.world).bearer(&token);
    let mut session = client.over(protocol).open(HOST).await?;
    assert_eq!(session.send(get("/within")).await?.text(), "GET /within");
    clock.pass(clock.now() + SignedDuration::from_secs(599));
    assert_eq!(session.send(get("/within")).await?.text(), "GET /within");
    clock.pass(clock.now() + SignedDuration::from_secs(1));
    soon("the closing", session.closed()).await
}

/// A world whose gateway asks the API server about each token, and remembers a yes briefly.
pub(crate) async fn reviewed() -> anyhow::Result<Site> {
    let options = Options {
        token_review: true,
        ..Options::default()
    };
    Site::with(options, |_, gateway| {
        for issuer in &mut gateway.issuers {
            if let Some(review) = &mut issuer.token_review {
                review.cache_for = Duration::from_millis(200);
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_deleted_pods_token_loses_access_on_an_open_connection() -> anyhow::Result<()> {
    let mut site = reviewed().await?;
    let request = TokenRequest::new("qa", "nightly-dashboard");
    site.world.api_server.add_pod(&request);
    let token = site.world.issuer.mint(&request);
    let client = site.gateway.client(&site.world).bearer(&token);
    let mut session = client.over(Protocol::Http2).open(HOST).await?;
    assert_eq!(session.send(get("/alive")).await?.status, StatusCode::OK);
    assert_eq!(site.record().await?["outcome"], "permitted");

    site.world.api_server.delete_pod(&request);
    let revoked = soon("the loss of access", async {
        loop {
            let status = session.send(get("/gone")).await?.status;
            let record = site.record().await?;
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
    let mut site = reviewed().await?;
    site.world.api_server.set_outage(outage);
    site.world.api_server.misbehave(misbehaviour);
    let Err(Failure::Refused(answer)) = site.client().send(get("/some")).await else {
        anyhow::bail!("CONNECT was not refused");
    };
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let record = site.record().await?;
    assert_eq!(record["reason"], "identity_review_unavailable", "{record}");
    assert_eq!(record["blame"], "platform");
    assert_eq!(site.api.accepted_connections(), 0);

    site.world.api_server.set_outage(None);
    site.world.api_server.misbehave(None);
    let back = Box::pin(async {
        while site.client().send(get("/well")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    soon("recovery", back).await
}
