//! Hosts that are not decrypted (`intercept: false`): a tunnel by policy, for that host alone.

use countersign_config::model::Unmatched;
use countersign_core::clock::Clock;
use countersign_tests::{
    client::{Ask, Failure},
    environment::DASHBOARD,
    fake::TokenRequest,
    resources::{Resource, Resources},
};
use http::StatusCode;
use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::{
    harness::{HOST, TestBed, UNMATCHED, exchange, get, soon},
    policy::refused,
};

fn pinned_host() -> Resources {
    Resources::from([
        Resource::target("pinned", &[UNMATCHED, "*.pinned.example.test"])
            .with("intercept", json!(false)),
        Resource::access("dashboard-calls-pinned", DASHBOARD, "pinned")
            .allow(json!({"hosts": [UNMATCHED]}))
            .with("conditions", json!({"notAfter": "2026-11-23T05:45:00Z"})),
    ])
}

/// A test bed with such a host, a clock that the test moves, and a token that outlives the policy.
async fn pinned(unmatched: Unmatched) -> anyhow::Result<(TestBed, Clock)> {
    let clock = Clock::manual("2026-11-23T05:10:00Z".parse()?);
    let mut bed = TestBed::builder()
        .clock(&clock)
        .prepare(|env, gateway| {
            gateway.unmatched = unmatched;
            gateway.upstream.allow_addresses = vec!["127.0.0.0/8".parse()?];
            Ok(env.write_policy("pinned.yaml", pinned_host())?)
        })
        .start()
        .await?;
    bed.token = token(&bed, "nightly-dashboard");
    Ok((bed, clock))
}

fn token(bed: &TestBed, account: &str) -> String {
    let mut request = TokenRequest::new("qa", account);
    request.lifetime = SignedDuration::from_hours(2);
    bed.env.issuer.mint(&request)
}

fn through() -> anyhow::Result<http::Request<http_body_util::Full<bytes::Bytes>>> {
    let mut request = get("/through");
    *request.uri_mut() = format!("https://{UNMATCHED}/through").parse()?;
    Ok(request)
}

#[rstest]
#[tokio::test]
async fn a_tunnel_by_policy_is_carried_unread(
    #[values(Unmatched::Deny, Unmatched::Tunnel)] unmatched: Unmatched,
) -> anyhow::Result<()> {
    let (mut bed, _clock) = pinned(unmatched).await?;
    let client = bed.end_to_end_client();
    assert_eq!(client.send(through()?).await?.text(), "GET /through");
    let record = bed.record().await?;
    assert_eq!(record["outcome"], "tunnelled", "{record}");
    assert_eq!(record["workload"]["name"], "qa/nightly-dashboard");
    assert_eq!(record["policy"]["name"], "qa/dashboard-calls-pinned");
    assert_eq!(record["target"]["name"], "pinned");
    assert_eq!(record["credential"], Value::Null);
    Ok(())
}

#[rstest]
#[case::another_workload("release-bot", 0, "unmatched.example.test:443", "workload_unknown")]
#[case::too_late(
    "nightly-dashboard",
    35,
    "unmatched.example.test:443",
    "policy_expired"
)]
#[case::another_host(
    "nightly-dashboard",
    0,
    "a.pinned.example.test:443",
    "request_not_allowed"
)]
#[case::another_port(
    "nightly-dashboard",
    0,
    "unmatched.example.test:8443",
    "governed_elsewhere"
)]
#[tokio::test]
async fn a_tunnel_that_policy_does_not_permit_is_refused(
    #[case] account: &str,
    #[case] minutes: i64,
    #[case] target: &str,
    #[case] reason: &str,
) -> anyhow::Result<()> {
    let (mut bed, clock) = pinned(Unmatched::Tunnel).await?;
    clock.pass(clock.now() + SignedDuration::from_mins(minutes));
    bed.token = token(&bed, account);
    let client = bed.end_to_end_client();
    let asked = client.tunnel(Ask::Http11, target, None).await;
    let Err(Failure::Connect(answer)) = asked.map(drop) else {
        anyhow::bail!("{target} was carried");
    };
    assert!(answer.to_string().starts_with("HTTP/1.1 403 "), "{answer}");
    refused(&mut bed, reason).await?;
    Ok(())
}

#[tokio::test]
async fn t01_a_tunnel_by_policy_is_for_its_host_alone() -> anyhow::Result<()> {
    let (mut bed, _clock) = pinned(Unmatched::Tunnel).await?;
    let client = bed.end_to_end_client();
    for name in [
        HOST,
        "other.example.test",
        "a.pinned.example.test",
        "127.0.0.1",
    ] {
        let target = format!("{UNMATCHED}:443");
        let tunnel = client.tunnel(Ask::Http11, &target, None).await?;
        assert!(client.greet(tunnel, name).await.is_err(), "{name}");
        refused(&mut bed, "authority_mismatch").await?;
    }
    let target = format!("{UNMATCHED}:443");
    let mut tunnel = client.tunnel(Ask::Http11, &target, None).await?;
    let bytes = format!("GET / HTTP/1.1\r\nHost: {UNMATCHED}\r\n\r\n");
    let answer = exchange(&mut tunnel, &bytes).await?;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    refused(&mut bed, "plaintext_refused").await?;
    Ok(())
}

/// Nor is it carried by its address, where unmatched connections are.
#[tokio::test]
async fn t68_a_host_that_is_not_decrypted_by_its_address() -> anyhow::Result<()> {
    let (mut bed, _clock) = pinned(Unmatched::Tunnel).await?;
    let client = bed.end_to_end_client();
    let target = bed.api.address().to_string();
    let tunnel = client.tunnel(Ask::Http11, &target, None).await?;
    assert!(client.greet(tunnel, UNMATCHED).await.is_err());
    refused(&mut bed, "governed_elsewhere").await?;
    Ok(())
}

#[tokio::test]
async fn a_request_that_we_would_see_is_refused() -> anyhow::Result<()> {
    let (mut bed, _clock) = pinned(Unmatched::Deny).await?;
    let answer = bed.client().send_absolute(through()?).await?;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    refused(&mut bed, "tunnel_only").await?;
    Ok(())
}

#[rstest]
#[case::time(false, "policy_expired")]
#[case::revision(true, "host_unmatched")]
#[tokio::test]
async fn t44_a_tunnel_by_policy_ends_with_its_permission(
    #[case] revision: bool,
    #[case] reason: &str,
) -> anyhow::Result<()> {
    let (mut bed, clock) = pinned(Unmatched::Deny).await?;
    let client = bed.end_to_end_client();
    let target = format!("{UNMATCHED}:443");
    let tunnel = client.tunnel(Ask::Http11, &target, None).await?;
    let mut stream = client.greet(tunnel, UNMATCHED).await?;
    // A revision that changes nothing for it closes nothing.
    bed.env.write_yaml("more.yaml", "# nothing\n")?;
    bed.reload()?;
    if revision {
        bed.env.remove_policy("pinned.yaml")?;
        bed.reload()?;
    } else {
        clock.pass("2026-11-23T05:45:00Z".parse()?);
    }
    let ended = soon("the end", stream.read(&mut [0; 8])).await?;
    assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    let record = refused(&mut bed, reason).await?;
    assert_eq!(record["policy"]["name"], "qa/dashboard-calls-pinned");
    Ok(())
}
