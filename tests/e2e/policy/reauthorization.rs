//! What stays open without requests (tunnels, WebSockets) is judged again: at a new revision, when
//! time changes policy's answer, and when the caller's proof ends.

use std::{fs, net::SocketAddr};

use countersign_config::{host::Host, model::Unmatched};
use countersign_core::clock::Clock;
use countersign_tests::{
    client::{Ask, Client, Stream, read_head},
    fake::{Protocol, TokenRequest},
    world::{Options, World},
};
use http::StatusCode;
use jiff::SignedDuration;
use rstest::rstest;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::client::TlsStream;

use crate::{
    harness::site::{HOST, SECRET, Site, UNMATCHED, soon},
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

/// Changes the file of the API's resources, and takes the new revision.
fn change(site: &Site, from: &str, to: &str) -> anyhow::Result<()> {
    let written = fs::read_to_string(site.world.policy_directory().join("example.yaml"))?;
    anyhow::ensure!(written.contains(from), "nothing to change");
    let changed = written.replace(from, to);
    site.world.write_policy("example.yaml", &changed)?;
    site.gateway.reloader().reload()?;
    Ok(())
}

/// Another workload with the same access, and another credential.
const RELEASE: &str = r#"
apiVersion: countersign.dev/v1alpha1
kind: Workload
metadata: { name: release-bot, namespace: qa }
spec:
  owner: release@example.com
  match: [{ cluster: prod-eu, serviceAccount: release-bot }]
---
apiVersion: countersign.dev/v1alpha1
kind: Credential
metadata: { name: second, namespace: qa }
spec: { target: example, static: { token: { file: {secrets}/example } } }
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: release-uses-example, namespace: qa }
spec:
  owner: release@example.com
  workloads: [release-bot]
  target: example
  credential: second
  allow: [{ methods: [GET], paths: ["/**"] }]
"#;

fn with_release_bot(world: &World) -> anyhow::Result<()> {
    let secrets = world.secret_directory().display().to_string();
    let resources = RELEASE.replace("{secrets}", &secrets);
    Ok(world.write_policy("release.yaml", &resources)?)
}

#[track_caller]
pub(crate) fn check(record: &Value, reason: &str, blame: &str) {
    assert_eq!(record["outcome"], "refused", "{record}");
    assert_eq!(record["reason"], reason, "{record}");
    assert_eq!(record["blame"], blame, "{record}");
    assert!(record["detail"].is_string(), "{record}");
}

#[rstest]
#[case::rule_gone("methods: [GET, ", "methods: [", "request_not_allowed")]
#[case::workload_gone("[nightly-dashboard]", "[release-bot]", "target_not_granted")]
#[case::host_gone("hosts: [api.", "hosts: [other.", "host_unmatched")]
#[case::path_denied(
    "  routes:\n",
    "  routes:\n    - { paths: [\"/socket\"], deny: \"closed\" }\n",
    "path_denied"
)]
#[case::credential_replaced("credential: example\n", "credential: second\n", "access_changed")]
#[tokio::test]
async fn t44_a_websocket_that_a_new_revision_does_not_permit_is_closed(
    #[case] from: &str,
    #[case] to: &str,
    #[case] reason: &str,
) -> anyhow::Result<()> {
    let mut site = Site::with(Options::default(), |world, _| with_release_bot(world)).await?;
    let mut socket = websocket(site.client()).await?;
    change(&site, from, to)?;
    socket.ended().await?;
    let record = site.record().await?;
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
    let mut site = Site::with(Options::default(), |world, _| with_release_bot(world)).await?;
    let token = site.world.token("qa", "release-bot");
    let other = site.gateway.client(&site.world).bearer(&token);
    let mut stays = websocket(other).await?;
    let mut goes = websocket(site.client()).await?;
    // The order of policies changes nothing, nor does another credential beside the one in use.
    change(&site, "HEAD, ", "")?;
    goes.echo(b"still here").await?;
    change(&site, "methods: [GET, ", "methods: [")?;
    goes.ended().await?;
    let record = site.record().await?;
    assert_eq!(record["workload"]["name"], "qa/nightly-dashboard");
    check(&record, "request_not_allowed", "operator");
    // A revision that cannot be used is none.
    site.world.write_policy("broken.yaml", "kind: [unclosed")?;
    assert!(site.gateway.reloader().reload().is_err());
    stays.echo(b"still here").await?;
    drop(stays);
    let record = site.record().await?;
    assert_eq!(record["outcome"], "permitted", "{record}");
    assert_eq!(record["workload"]["name"], "qa/release-bot");
    Ok(())
}

#[tokio::test]
async fn t23_frames_carry_no_credential_and_end_with_the_access() -> anyhow::Result<()> {
    let mut site = Site::start().await?;
    let mut socket = websocket(site.client()).await?;
    // What would get the credential as a request is a frame here.
    let request = format!("GET /some HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: x\r\n\r\n");
    socket.echo(request.as_bytes()).await?;
    assert_eq!(site.api.memory().count(), 1);
    assert_eq!(
        site.api.memory().all()[0].header_values("authorization"),
        [format!("Bearer {SECRET}")]
    );
    site.world.remove_policy("example.yaml")?;
    site.gateway.reloader().reload()?;
    socket.ended().await?;
    check(&site.record().await?, "host_unmatched", "operator");
    Ok(())
}

/// A site whose clock the test moves.
async fn timed(conditions: &str) -> anyhow::Result<(Site, Clock)> {
    // A Monday, 06:10 in Berlin.
    let clock = Clock::manual("2026-11-23T05:10:00Z".parse()?);
    let options = Options {
        clock: clock.clone(),
        ..Options::default()
    };
    let mut site = Site::with(options, |world, _| {
        let path = world.policy_directory().join("example.yaml");
        let with = format!("credential: example\n  conditions: {conditions}\n");
        let written = fs::read_to_string(path)?.replace("credential: example\n", &with);
        Ok(world.write_policy("example.yaml", &written)?)
    })
    .await?;
    let mut request = TokenRequest::new("qa", "nightly-dashboard");
    request.lifetime = SignedDuration::from_hours(2);
    site.token = site.world.issuer.mint(&request);
    Ok((site, clock))
}

#[rstest]
#[case::not_after(
    "{ notAfter: 2026-11-23T05:45:00Z }",
    35,
    0,
    "policy_expired",
    "operator"
)]
#[case::window(
    "{ schedule: { cron: \"0 6 * * MON-FRI\", duration: 45m, timeZone: Europe/Berlin } }",
    35,
    0,
    "outside_schedule",
    "operator"
)]
#[case::expression(
    "{ when: \"now < timestamp('2026-11-23T05:45:00Z')\" }",
    35,
    60,
    "condition_false",
    "operator"
)]
#[case::token("{ rate: 1000/h }", 120, 0, "identity_expired", "caller")]
#[tokio::test]
async fn t23_a_websocket_ends_when_time_ends_its_access(
    #[case] conditions: &str,
    #[case] minutes: i64,
    // An expression announces no moment.
    #[case] seconds_late: i64,
    #[case] reason: &str,
    #[case] blame: &str,
) -> anyhow::Result<()> {
    let (mut site, clock) = timed(conditions).await?;
    let end = clock.now() + SignedDuration::from_mins(minutes);
    let mut socket = websocket(site.client()).await?;
    clock.pass(end - SignedDuration::from_secs(1));
    socket.echo(b"to the last second").await?;
    clock.pass(end + SignedDuration::from_secs(seconds_late));
    socket.ended().await?;
    let record = site.record().await?;
    check(&record, reason, blame);
    assert_eq!(record["target"]["protocol"], "websocket");
    Ok(())
}

/// Windows that follow each other are one.
#[tokio::test]
async fn a_websocket_stays_while_windows_overlap() -> anyhow::Result<()> {
    let schedule =
        "{ schedule: { cron: \"*/10 * * * *\", duration: 15m, timeZone: Europe/Berlin } }";
    let (site, clock) = timed(schedule).await?;
    let mut socket = websocket(site.client()).await?;
    for _ in 0..10 {
        clock.pass(clock.now() + SignedDuration::from_mins(5));
        socket.echo(b"still here").await?;
    }
    Ok(())
}

/// The bound is the time for which the API server's yes is remembered, and one question.
#[tokio::test]
async fn t38_a_deleted_pods_websocket_is_closed() -> anyhow::Result<()> {
    let mut site = reviewed().await?;
    let request = TokenRequest::new("qa", "nightly-dashboard");
    site.world.api_server.add_pod(&request);
    let token = site.world.issuer.mint(&request);
    let client = site.gateway.client(&site.world).bearer(&token);
    let mut socket = websocket(client.clone()).await?;
    let mut second = websocket(client).await?;
    site.world.api_server.delete_pod(&request);
    for socket in [&mut socket, &mut second] {
        socket.ended().await?;
        check(&site.record().await?, "identity_revoked", "caller");
    }
    Ok(())
}

#[tokio::test]
async fn a_websocket_is_closed_when_the_api_server_stays_away() -> anyhow::Result<()> {
    let mut site = reviewed().await?;
    let mut socket = websocket(site.client()).await?;
    let outage = Some(StatusCode::SERVICE_UNAVAILABLE);
    site.world.api_server.set_outage(outage);
    socket.ended().await?;
    check(
        &site.record().await?,
        "identity_review_unavailable",
        "platform",
    );
    Ok(())
}

/// A server that speaks no protocol, and its address.
async fn echoes() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.into_split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    Ok(address)
}

/// A site whose gateway carries unmatched connections unread.
pub(crate) async fn tunnelling(clock: Clock) -> anyhow::Result<Site> {
    let address = echoes().await?;
    let options = Options {
        clock,
        ..Options::default()
    };
    Site::with(options, |_, gateway| {
        gateway.unmatched = Unmatched::Tunnel;
        let host = Host::parse(UNMATCHED)?;
        gateway.upstream.resolve.insert((host, 443), address);
        Ok(())
    })
    .await
}

pub(crate) async fn tunnel(site: &Site) -> anyhow::Result<Open<Stream>> {
    let target = format!("{UNMATCHED}:443");
    let tunnel = site.client().tunnel(Ask::Http11, &target, None).await?;
    let mut open = Open(tunnel);
    open.echo(b"hello").await?;
    Ok(open)
}

#[tokio::test]
async fn t44_a_tunnel_to_a_host_that_is_governed_now_is_closed() -> anyhow::Result<()> {
    let mut site = tunnelling(Clock::system()).await?;
    let mut tunnel = tunnel(&site).await?;
    change(&site, "HEAD, ", "")?;
    tunnel.echo(b"still here").await?;
    change(
        &site,
        "[api.example.test]",
        "[api.example.test, unmatched.example.test]",
    )?;
    tunnel.ended().await?;
    let record = site.record().await?;
    check(&record, "access_changed", "operator");
    assert_eq!(record["target"]["authority"], format!("{UNMATCHED}:443"));
    Ok(())
}

#[tokio::test]
async fn a_tunnel_ends_with_its_callers_token() -> anyhow::Result<()> {
    let clock = Clock::manual(Clock::system().now());
    let mut site = tunnelling(clock.clone()).await?;
    let mut request = TokenRequest::new("qa", "nightly-dashboard");
    request.lifetime = SignedDuration::from_mins(10);
    site.token = site.world.issuer.mint(&request);
    let mut tunnel = tunnel(&site).await?;
    clock.pass(clock.now() + SignedDuration::from_secs(599));
    tunnel.echo(b"still here").await?;
    clock.pass(clock.now() + SignedDuration::from_secs(1));
    tunnel.ended().await?;
    check(&site.record().await?, "identity_expired", "caller");
    Ok(())
}
