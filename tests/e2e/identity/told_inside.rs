//! A token whose signature is its issuer's and which is refused for good: the refusal comes inside the tunnel, as an
//! error of the API, and the record says whose token it is. Whatever may pass, or nobody vouches for, is refused at
//! CONNECT.

use std::time::Duration;

use bytes::Bytes;
use countersign_tests::{
    client::{Ask, Client, Failure, Session},
    environment::{DASHBOARD, Environment},
    fake::{Protocol, TokenRequest},
    resources::Resource,
};
use http::StatusCode;
use http_body_util::Full;
use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};

use super::tokens::reviewed;
use crate::harness::{HOST, TestBed, get, post_message, soon};

type Make = fn(&Environment, &TokenRequest) -> String;

fn with_claims(
    env: &Environment,
    request: &TokenRequest,
    change: impl FnOnce(&mut Value),
) -> String {
    let mut claims = env.issuer.claims(request);
    change(&mut claims);
    env.issuer.sign(&env.issuer.header(), &claims)
}

pub(crate) fn other_audience(env: &Environment, request: &TokenRequest) -> String {
    let mut request = request.clone();
    request.audiences = vec!["vault".to_owned(), "countersign-dev".to_owned()];
    env.issuer.mint(&request)
}

pub(crate) fn expired(env: &Environment, request: &TokenRequest) -> String {
    let mut request = request.clone();
    request.lifetime = SignedDuration::from_hours(-1);
    env.issuer.mint(&request)
}

fn of_a_secret(env: &Environment, request: &TokenRequest) -> String {
    let mut request = request.clone();
    request.lifetime = SignedDuration::from_hours(10_000);
    env.issuer.mint(&request)
}

fn of_no_service_account(env: &Environment, request: &TokenRequest) -> String {
    with_claims(env, request, |claims| {
        claims["sub"] = json!("system:node:node-1");
    })
}

fn not_yet_valid(env: &Environment, request: &TokenRequest) -> String {
    with_claims(env, request, |claims| {
        for claim in ["nbf", "exp"] {
            claims[claim] = json!(claims[claim].as_i64().unwrap_or_default() + 3600);
        }
    })
}

/// Another's audience under a signature of another token.
fn unsigned(env: &Environment, request: &TokenRequest) -> String {
    let token = other_audience(env, request);
    let other = env.issuer.mint(request);
    let (claims, _) = token.rsplit_once('.').expect("a token has three parts");
    let (_, signature) = other.rsplit_once('.').expect("a token has three parts");
    format!("{claims}.{signature}")
}

fn dashboard() -> TokenRequest {
    let mut request = TokenRequest::new("qa", DASHBOARD);
    request.pod = Some(("nightly-1".to_owned(), "uid-1".to_owned()));
    request
}

/// What Slack's SDKs show.
#[track_caller]
fn is_told_by_slack(answer: &Value, record: &Value) {
    let (reason, id) = (&record["reason"], record["id"].as_str().unwrap_or_default());
    assert_eq!(answer["ok"], false, "{answer}");
    assert_eq!(answer["error"], *reason, "{answer}");
    let told = answer["response_metadata"]["messages"][0]
        .as_str()
        .unwrap_or_default();
    assert!(told.starts_with("[ERROR] Countersign: "), "{answer}");
    assert!(
        told.ends_with(&format!("({}, {id})", reason.as_str().unwrap_or_default())),
        "{told}"
    );
}

#[rstest]
#[case::other_audience(other_audience, "identity_audience", "Ask qa-platform@example.com. (")]
#[case::expired(expired, "identity_expired", "Ask qa-platform@example.com. (")]
#[case::of_a_secret(
    of_a_secret,
    "identity_too_long_lived",
    "Ask qa-platform@example.com. ("
)]
#[case::of_no_service_account(of_no_service_account, "identity_invalid", "not valid. (")]
#[tokio::test]
async fn a_final_refusal_is_told_inside_the_tunnel(
    #[case] make: Make,
    #[case] reason: &str,
    #[case] told: &str,
    #[values(Protocol::Http1, Protocol::Http2)] protocol: Protocol,
    #[values(false, true)] over_tls: bool,
) -> anyhow::Result<()> {
    let builder = TestBed::builder();
    let builder = if over_tls {
        builder.tls_listener()
    } else {
        builder
    };
    let mut bed = builder.start().await?;
    let probes = bed.env.slack.received().count();
    let token = make(&bed.env, &dashboard());
    let client = bed.client_with(&token).over(protocol);
    let request = post_message("C0123456789", "hello");
    let answer = if over_tls {
        let roots = bed.env.authority.pem();
        let tunnel = client
            .tunnel(Ask::Http2, "slack.com:443", Some(&roots))
            .await?;
        let stream = client.greet(tunnel, "slack.com").await?;
        Session::over(stream).await?.send(request).await?
    } else {
        client.send(request).await?
    };
    assert_eq!(answer.status, StatusCode::OK);
    let record = bed.recorded(reason).await?;
    is_told_by_slack(&answer.json(), &record);
    assert!(answer.text().contains(told), "{}", answer.text());
    assert!(!answer.text().contains(&token));
    assert_eq!(record["outcome"], "refused");
    assert_eq!(
        record["target"]["path"], "/api/chat.postMessage",
        "{record}"
    );
    assert_eq!(record["target"]["name"], "slack", "{record}");
    // It is not taken for a caller.
    assert_eq!(record["caller"]["subject"], Value::Null, "{record}");
    assert_eq!(record["workload"], Value::Null, "{record}");
    let of = &record["refused_token"];
    assert_eq!(of["pod"], "nightly-1", "{record}");
    assert_eq!(of["issuer"], "prod-eu", "{record}");
    if reason == "identity_invalid" {
        assert_eq!(of["namespace"], Value::Null);
        assert_eq!(of["subject"], "system:node:node-1");
    } else {
        assert_eq!(
            (&of["namespace"], &of["service_account"]),
            (&json!("qa"), &json!(DASHBOARD))
        );
    }
    let audiences = match reason {
        "identity_audience" => json!(["vault", "countersign-dev"]),
        _ => json!(["countersign"]),
    };
    assert_eq!(of["audiences"], audiences, "{record}");
    assert_eq!(
        bed.env.slack.received().count(),
        probes,
        "it was sent upstream"
    );
    Ok(())
}

/// The tunnel ends with the refusal, and there is one record for each request.
#[rstest]
#[tokio::test]
async fn after_the_refusal_the_tunnel_is_closed(
    #[values(Protocol::Http1, Protocol::Http2)] protocol: Protocol,
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let client = bed
        .client_with(&other_audience(&bed.env, &dashboard()))
        .over(protocol);
    let mut session = client.open(HOST).await?;
    let answer = session.send(get("/some")).await?;
    // A target without a format of its own: 407 would be a proxy's.
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(!answer.headers.contains_key("proxy-authenticate"));
    assert_eq!(answer.json()["reason"], "identity_audience");
    soon("the closing", session.closed()).await?;
    bed.refused("identity_audience").await?;
    let records = bed.gateway.stop().await?;
    assert_eq!(records.len(), 1, "{records:?}");
    Ok(())
}

#[rstest]
#[case::nobody_vouches_for_it(unsigned, "slack.com", "identity_invalid", 407)]
#[case::it_passes(not_yet_valid, "slack.com", "identity_not_yet_valid", 407)]
#[case::a_wildcard(other_audience, "wss-primary.slack.com", "identity_audience", 407)]
#[case::no_target(other_audience, "unmatched.example.test", "identity_audience", 407)]
#[case::another_port(other_audience, "slack.com:8443", "identity_audience", 407)]
#[case::not_decrypted(other_audience, "plain.example.test", "identity_audience", 407)]
#[tokio::test]
async fn what_is_not_told_inside_is_refused_at_connect(
    #[case] make: Make,
    #[case] host: &str,
    #[case] reason: &str,
    #[case] status: u16,
) -> anyhow::Result<()> {
    let mut bed = TestBed::builder()
        .policy(|policy| {
            policy.push(
                Resource::target("plain", &["plain.example.test"]).with("intercept", json!(false)),
            );
            policy.push(Resource::access("uses-plain", DASHBOARD, "plain").allow(json!({})));
        })
        .start()
        .await?;
    let token = make(&bed.env, &dashboard());
    let authority = if host.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:443")
    };
    let head = format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nProxy-Authorization: Bearer {token}\r\n\r\n"
    );
    let answer = bed.to_proxy(&head).await?;
    let record = bed.recorded(reason).await?;
    let id = record["id"].as_str().unwrap_or_default();
    // Most clients show no more of it than the first line.
    let line = answer.lines().next().unwrap_or_default();
    assert!(
        line.starts_with(&format!("HTTP/1.1 {status} Countersign: ")),
        "{answer}"
    );
    assert!(line.ends_with(&format!("({reason}, {id})")), "{answer}");
    assert_eq!(record["target"]["protocol"], "connect");
    if reason == "identity_invalid" {
        assert_eq!(record["refused_token"], Value::Null, "{record}");
    } else {
        assert_eq!(record["refused_token"]["pod"], "nightly-1", "{record}");
    }
    Ok(())
}

#[tokio::test]
async fn what_the_api_server_says_is_told_inside_and_that_it_says_nothing_is_not()
-> anyhow::Result<()> {
    let mut bed = reviewed().await?;
    let request = dashboard();
    bed.env.api_server.add_pod(&request);
    let token = bed.env.issuer.mint(&request);
    let post = || post_message("C0123456789", "hello");
    bed.env
        .api_server
        .set_outage(Some(StatusCode::SERVICE_UNAVAILABLE));
    let Err(Failure::Refused(answer)) = bed.client_with(&token).send(post()).await else {
        anyhow::bail!("CONNECT was not refused");
    };
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let record = bed.recorded("identity_review_unavailable").await?;
    // Whose request it was is known all the same.
    assert_eq!(record["refused_token"]["pod"], "nightly-1", "{record}");

    bed.env.api_server.set_outage(None);
    bed.env.api_server.delete_pod(&request);
    let mut other = request.clone();
    other.service_account_uid = "another".to_owned();
    let token = bed.env.issuer.mint(&other);
    let answer = bed.client_with(&token).send(post()).await?;
    let record = bed.recorded("identity_revoked").await?;
    is_told_by_slack(&answer.json(), &record);
    assert_eq!(record["refused_token"]["pod"], "nightly-1", "{record}");
    Ok(())
}

/// The request is there, so it needs no tunnel to be answered in its API's language.
#[rstest]
#[case::https("https://slack.com/api/chat.postMessage", "slack.com:443")]
#[case::in_clear("http://slack.com/api/chat.postMessage", "slack.com:80")]
#[tokio::test]
async fn a_request_in_absolute_form_is_refused_in_the_language_of_its_api(
    #[case] uri: &str,
    #[case] authority: &str,
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let token = other_audience(&bed.env, &dashboard());
    let answer = bed.absolute(&token, uri).await?;
    let record = bed.recorded("identity_audience").await?;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    is_told_by_slack(&serde_json::from_str(body)?, &record);
    assert_eq!(record["target"]["authority"], authority);
    assert_eq!(
        record["refused_token"]["service_account"], DASHBOARD,
        "{record}"
    );
    // One that nobody vouches for is not.
    let answer = bed.absolute(&unsigned(&bed.env, &dashboard()), uri).await?;
    assert!(answer.starts_with("HTTP/1.1 407 "), "{answer}");
    Ok(())
}

/// A client that makes no request is recorded nevertheless, and once.
#[rstest]
#[case::leaves(false)]
#[case::does_not_trust_us(true)]
#[tokio::test]
async fn a_tunnel_without_a_request_leaves_the_refusal(#[case] greets: bool) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let token = other_audience(&bed.env, &dashboard());
    if greets {
        let client = Client::through(bed.gateway.address(), &bed.env.authority.pem());
        assert!(client.bearer(&token).open("slack.com").await.is_err());
    } else {
        let client = bed.client_with(&token);
        drop(client.tunnel(Ask::Http11, "slack.com:443", None).await?);
    }
    let record = bed.recorded("identity_audience").await?;
    assert_eq!(record["target"]["protocol"], "connect", "{record}");
    assert_eq!(record["target"]["authority"], "slack.com:443");
    let records = bed.gateway.stop().await?;
    assert_eq!(records.len(), 1, "{records:?}");
    Ok(())
}

/// It is a stranger's: it may not rest, and gives way first.
#[tokio::test]
async fn a_tunnel_without_a_request_is_closed_soon() -> anyhow::Result<()> {
    let mut bed = TestBed::builder()
        .limits(|limits| limits.unidentified.rest = Duration::from_millis(100))
        .start()
        .await?;
    let client = bed.client_with(&other_audience(&bed.env, &dashboard()));
    let mut session: Session<Full<Bytes>> = client.open("slack.com").await?;
    soon("the closing", session.closed()).await?;
    bed.recorded("identity_audience").await?;
    let strangers = "countersign_client_connections_by_class{class=\"unidentified\"}";
    assert_eq!(bed.metric(strangers).await?, Some(0));
    Ok(())
}
