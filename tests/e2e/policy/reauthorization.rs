//! What stays open without requests (tunnels, WebSockets) is judged again: at a new revision, when
//! time changes policy's answer, and when the caller's proof ends.

use countersign_core::clock::Clock;
use countersign_tests::{
    client::{Ask, Client, Stream, read_head},
    environment::Environment,
    fake::{Protocol, TokenRequest},
    resources::{Resource, Resources},
};
use http::StatusCode;
use jiff::SignedDuration;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::client::TlsStream;

use crate::{
    harness::{EXAMPLE, HOST, SECRET, TestBed, UNMATCHED, echo_server, soon},
    identity::tokens::reviewed,
};

/// A connection whose other end sends back what comes.
pub(crate) struct Open<S>(S);

impl<S: AsyncRead + AsyncWrite + Unpin> Open<S> {
    /// That it is open: bytes come back as they were sent.
    pub(crate) async fn echo(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.0.write_all(bytes).await?;
        let mut back = vec![0; bytes.len()];
        soon("the echo", self.0.read_exact(&mut back)).await??;
        assert_eq!(back, bytes);
        Ok(())
    }

    /// That it is closed in order, and not cut off.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<()> {
        let read = soon("the end", self.0.read(&mut [0; 8])).await??;
        assert_eq!(read, 0, "it should end");
        Ok(())
    }
}

/// A WebSocket to the API, whose frames nobody on the way looks at.
pub(crate) async fn websocket(client: Client) -> anyhow::Result<Open<TlsStream<Stream>>> {
    let client = client.over(Protocol::Http1);
    let mut stream = client.tls_stream(HOST).await?;
    let head = format!(
        "GET /socket HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let answer = soon("101", read_head(&mut stream)).await??;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let mut open = Open(stream);
    open.echo(b"hello").await?;
    Ok(open)
}

/// Another workload with the same access, and another credential.
fn with_release_bot(env: &Environment) -> anyhow::Result<()> {
    let resources = Resources::from([
        Resource::workload("release-bot"),
        Resource::credential("second", "example").token_file("example"),
        Resource::access("release-uses-example", "release-bot", "example")
            .credential_named("second")
            .allow(json!({"methods": ["GET"], "paths": ["/**"]})),
    ]);
    Ok(env.write_policy("release.yaml", resources)?)
}

/// Takes GET away from the dashboard.
fn without_get(policy: &mut Resources) {
    policy.access(EXAMPLE)["allow"][0]["methods"] = json!(["HEAD", "POST", "PUT", "OPTIONS"]);
}

/// Changes what this test does not use.
fn without_head(policy: &mut Resources) {
    policy.access(EXAMPLE)["allow"][0]["methods"] = json!(["GET", "POST", "PUT", "OPTIONS"]);
}

#[track_caller]
pub(crate) fn check(record: &Value, reason: &str, blame: &str) {
    assert_eq!(record["outcome"], "refused", "{record}");
    assert_eq!(record["reason"], reason, "{record}");
    assert_eq!(record["blame"], blame, "{record}");
    assert!(record["detail"].is_string(), "{record}");
}

#[rstest]
#[case::rule_gone(without_get, "request_not_allowed")]
#[case::workload_gone(
    |policy: &mut Resources| policy.access(EXAMPLE)["workloads"] = json!(["release-bot"]),
    "target_not_granted"
)]
#[case::host_gone(
    |policy: &mut Resources| policy.target("example")["hosts"] = json!(["other.example.test"]),
    "host_unmatched"
)]
#[case::path_denied(
    |policy: &mut Resources| {
        let routes = policy.target("example")["routes"].as_array_mut();
        let denied = json!({"paths": ["/socket"], "deny": "closed"});
        routes.expect("it has routes").insert(0, denied);
    },
    "path_denied"
)]
#[case::credential_replaced(
    |policy: &mut Resources| policy.access(EXAMPLE)["credential"] = json!("second"),
    "access_changed"
)]
#[tokio::test]
async fn t44_a_websocket_that_a_new_revision_does_not_permit_is_closed(
    #[case] edit: fn(&mut Resources),
    #[case] reason: &str,
) -> anyhow::Result<()> {
    let mut bed = TestBed::builder()
        .prepare(|env, _| with_release_bot(env))
        .start()
        .await?;
    let mut socket = websocket(bed.client()).await?;
    bed.edit_policy(edit)?;
    socket.ended().await?;
    let record = bed.record().await?;
    check(&record, reason, "operator");
    assert_eq!(record["target"]["protocol"], "websocket");
    assert_eq!(record["upstream"]["status"], 101);
    assert_eq!(record["bytes"]["request"], 5, "{record}");
    assert_eq!(record["bytes"]["response"], 5, "{record}");
    let detail = record["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("not permitted any more"), "{detail}");
    Ok(())
}

#[tokio::test]
async fn t44_a_websocket_that_a_new_revision_permits_stays() -> anyhow::Result<()> {
    let mut bed = TestBed::builder()
        .prepare(|env, _| with_release_bot(env))
        .start()
        .await?;
    let mut stays = websocket(bed.client_of("release-bot")).await?;
    let mut goes = websocket(bed.client()).await?;
    // The order of policies changes nothing, nor does another credential beside the one in use.
    bed.edit_policy(without_head)?;
    goes.echo(b"still here").await?;
    bed.edit_policy(without_get)?;
    goes.ended().await?;
    let record = bed.record().await?;
    assert_eq!(record["workload"]["name"], "qa/nightly-dashboard");
    check(&record, "request_not_allowed", "operator");
    // A revision that cannot be used is none.
    bed.env.write_yaml("broken.yaml", "kind: [unclosed")?;
    assert!(bed.gateway.reloader().reload().is_err());
    stays.echo(b"still here").await?;
    drop(stays);
    let record = bed.record().await?;
    assert_eq!(record["outcome"], "permitted", "{record}");
    assert_eq!(record["workload"]["name"], "qa/release-bot");
    Ok(())
}

#[tokio::test]
async fn t23_frames_carry_no_credential_and_end_with_the_access() -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let mut socket = websocket(bed.client()).await?;
    // What would get the credential as a request is a frame here.
    let request = format!("GET /some HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: x\r\n\r\n");
    socket.echo(request.as_bytes()).await?;
    assert_eq!(bed.api.received().count(), 1);
    assert_eq!(
        bed.api.received().all()[0].header_values("authorization"),
        [format!("Bearer {SECRET}")]
    );
    bed.env.remove_policy("example.yaml")?;
    bed.reload()?;
    socket.ended().await?;
    check(&bed.record().await?, "host_unmatched", "operator");
    Ok(())
}

/// A test bed whose clock the test moves.
async fn timed(conditions: Value) -> anyhow::Result<(TestBed, Clock)> {
    // A Monday, 06:10 in Berlin.
    let clock = Clock::manual("2026-11-23T05:10:00Z".parse()?);
    let mut bed = TestBed::builder()
        .clock(&clock)
        .policy(|policy| policy.access(EXAMPLE)["conditions"] = conditions)
        .start()
        .await?;
    let mut request = TokenRequest::new("qa", "nightly-dashboard");
    request.lifetime = SignedDuration::from_hours(2);
    bed.token = bed.env.issuer.mint(&request);
    Ok((bed, clock))
}

#[rstest]
#[case::not_after(
    json!({"notAfter": "2026-11-23T05:45:00Z"}),
    35,
    0,
    "policy_expired",
    "operator"
)]
#[case::window(
    json!({"schedule": {"cron": "0 6 * * MON-FRI", "duration": "45m", "timeZone": "Europe/Berlin"}}),
    35,
    0,
    "outside_schedule",
    "operator"
)]
#[case::expression(
    json!({"when": "now < timestamp('2026-11-23T05:45:00Z')"}),
    35,
    60,
    "condition_false",
    "operator"
)]
#[case::token(json!({"rate": "1000/h"}), 120, 0, "identity_expired", "caller")]
#[tokio::test]
async fn t23_a_websocket_ends_when_time_ends_its_access(
    #[case] conditions: Value,
    #[case] minutes: i64,
    // An expression announces no moment.
    #[case] seconds_late: i64,
    #[case] reason: &str,
    #[case] blame: &str,
) -> anyhow::Result<()> {
    let (mut bed, clock) = timed(conditions).await?;
    let end = clock.now() + SignedDuration::from_mins(minutes);
    let mut socket = websocket(bed.client()).await?;
    clock.pass(end - SignedDuration::from_secs(1));
    socket.echo(b"to the last second").await?;
    clock.pass(end + SignedDuration::from_secs(seconds_late));
    socket.ended().await?;
    let record = bed.record().await?;
    check(&record, reason, blame);
    assert_eq!(record["target"]["protocol"], "websocket");
    Ok(())
}

/// Windows that follow each other are one.
#[tokio::test]
async fn a_websocket_stays_while_windows_overlap() -> anyhow::Result<()> {
    let schedule = json!({"cron": "*/10 * * * *", "duration": "15m", "timeZone": "Europe/Berlin"});
    let (bed, clock) = timed(json!({"schedule": schedule})).await?;
    let mut socket = websocket(bed.client()).await?;
    for _ in 0..10 {
        clock.pass(clock.now() + SignedDuration::from_mins(5));
        socket.echo(b"still here").await?;
    }
    Ok(())
}

/// The bound is the time for which the API server's yes is remembered, and one question.
#[tokio::test]
async fn t38_a_deleted_pods_websocket_is_closed() -> anyhow::Result<()> {
    let mut bed = reviewed().await?;
    let request = TokenRequest::new("qa", "nightly-dashboard");
    bed.env.api_server.add_pod(&request);
    let token = bed.env.issuer.mint(&request);
    let client = bed.client_with(&token);
    let mut socket = websocket(client.clone()).await?;
    let mut second = websocket(client).await?;
    bed.env.api_server.delete_pod(&request);
    for socket in [&mut socket, &mut second] {
        socket.ended().await?;
        check(&bed.record().await?, "identity_revoked", "caller");
    }
    Ok(())
}

#[tokio::test]
async fn a_websocket_is_closed_when_the_api_server_stays_away() -> anyhow::Result<()> {
    let mut bed = reviewed().await?;
    let mut socket = websocket(bed.client()).await?;
    let outage = Some(StatusCode::SERVICE_UNAVAILABLE);
    bed.env.api_server.set_outage(outage);
    socket.ended().await?;
    check(
        &bed.record().await?,
        "identity_review_unavailable",
        "platform",
    );
    Ok(())
}

/// A test bed whose gateway carries unmatched connections unread.
pub(crate) async fn tunnelling(clock: Clock) -> anyhow::Result<TestBed> {
    let address = echo_server().await?;
    TestBed::builder()
        .clock(&clock)
        .tunnel_unmatched()
        .resolve(UNMATCHED, 443, address)
        .start()
        .await
}

pub(crate) async fn tunnel(bed: &TestBed) -> anyhow::Result<Open<Stream>> {
    let target = format!("{UNMATCHED}:443");
    let tunnel = bed.client().tunnel(Ask::Http11, &target, None).await?;
    let mut open = Open(tunnel);
    open.echo(b"hello").await?;
    Ok(open)
}

#[tokio::test]
async fn t44_a_tunnel_to_a_host_that_is_governed_now_is_closed() -> anyhow::Result<()> {
    let mut bed = tunnelling(Clock::system()).await?;
    let mut tunnel = tunnel(&bed).await?;
    bed.edit_policy(without_head)?;
    tunnel.echo(b"still here").await?;
    bed.edit_policy(|policy| policy.target("example")["hosts"] = json!([HOST, UNMATCHED]))?;
    tunnel.ended().await?;
    let record = bed.record().await?;
    check(&record, "access_changed", "operator");
    assert_eq!(record["target"]["authority"], format!("{UNMATCHED}:443"));
    Ok(())
}

#[tokio::test]
async fn a_tunnel_ends_with_its_callers_token() -> anyhow::Result<()> {
    let clock = Clock::manual(Clock::system().now());
    let mut bed = tunnelling(clock.clone()).await?;
    let mut request = TokenRequest::new("qa", "nightly-dashboard");
    request.lifetime = SignedDuration::from_mins(10);
    bed.token = bed.env.issuer.mint(&request);
    let mut tunnel = tunnel(&bed).await?;
    clock.pass(clock.now() + SignedDuration::from_secs(599));
    tunnel.echo(b"still here").await?;
    clock.pass(clock.now() + SignedDuration::from_secs(1));
    tunnel.ended().await?;
    check(&bed.record().await?, "identity_expired", "caller");
    Ok(())
}
