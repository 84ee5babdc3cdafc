//! Roots, SVIDs and the listener's own certificate change while requests run.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use countersign_config::host::Host;
use countersign_tests::client::read_head;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::harness::{echo_server, soon, until};

const CLIENTS: usize = 4;

struct Load {
    client: Mutex<Client>,
    done: AtomicUsize,
    over: AtomicBool,
}

impl Load {
    async fn run(self: Arc<Self>) -> anyhow::Result<()> {
        while !self.over.load(Ordering::Relaxed) {
            let client = self.client.lock().expect("not poisoned").clone();
            let (status, body) = client.ask(None).await?;
            anyhow::ensure!(status.is_success(), "{status}: {body}");
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Until every client has begun and ended a request since now.
    async fn round(&self) -> anyhow::Result<()> {
        let goal = self.done.load(Ordering::Relaxed) + 2 * CLIENTS;
        until("requests go on", async || {
            self.done.load(Ordering::Relaxed) >= goal
        })
        .await
    }
}

#[tokio::test]
async fn everything_rotates_and_no_request_fails() -> anyhow::Result<()> {
    let mesh = Mesh::start().await;
    let next = TrustDomain::new(DOMAIN, Clock::system());
    let next_servers = TrustDomain::new("servers.example.com", Clock::system());
    let roots = mesh.servers.pem() + &next_servers.pem();
    let client = |pair: Pair| Client::new(mesh.bed.gateway.address(), &roots, Some(&pair));
    let old_client = client(mesh.domain.svid(PATH));
    let new_client = client(next.svid(PATH));
    let mut open = old_client.open().await?;
    assert!(open.ask(None).await?.0.is_success());
    let load = Arc::new(Load {
        client: Mutex::new(old_client.clone()),
        done: AtomicUsize::new(0),
        over: AtomicBool::new(false),
    });
    let running: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(Arc::clone(&load).run()))
        .collect();
    load.round().await?;
    assert!(new_client.ask(None).await.is_err(), "it is not trusted yet");

    publish(&mesh.bed.env, "2", &(mesh.domain.pem() + &next.pem()));
    until("the new root is trusted", async || {
        new_client.ask(None).await.is_ok()
    })
    .await?;
    // The workload's agent renews its SVID.
    *load.client.lock().expect("not poisoned") = new_client.clone();
    load.round().await?;

    // The listener's own certificate, of another authority, to tell it from the old one.
    let strict = Client::new(
        mesh.bed.gateway.address(),
        &next_servers.pem(),
        Some(&next.svid(PATH)),
    );
    assert!(strict.ask(None).await.is_err(), "it is not shown yet");
    let beside = mesh.file("tls.new");
    fs::write(&beside, next_servers.server().credential_bundle())?;
    fs::rename(&beside, mesh.file("tls.pem"))?;
    until("the listener shows its new certificate", async || {
        strict.ask(None).await.is_ok()
    })
    .await?;
    load.round().await?;
    assert!(open.ask(None).await?.0.is_success(), "it stays open");

    publish(&mesh.bed.env, "3", &next.bundle());
    until("the old root is withdrawn", async || {
        old_client.ask(None).await.is_err()
    })
    .await?;
    load.round().await?;
    let (status, _) = open.ask(None).await?;
    assert_eq!(status, 407, "an open connection is withdrawn too");

    load.over.store(true, Ordering::Relaxed);
    for client in running {
        client.await??;
    }
    let done = load.done.load(Ordering::Relaxed);
    println!("{done} requests while everything rotated, none failed");

    // A half-written file changes nothing.
    fs::write(&beside, "-----BEGIN CERTIFICATE-----\n")?;
    fs::rename(&beside, mesh.file("tls.pem"))?;
    assert!(mesh.bed.gateway.reloader().reload().is_ok());
    assert!(strict.ask(None).await?.0.is_success());
    Ok(())
}

/// A tunnel that the gateway does not read, to an end that sends back what comes.
async fn tunnel(mesh: &Mesh, svid: &Pair) -> anyhow::Result<TlsStream<TcpStream>> {
    let mut stream = mesh.client(Some(svid)).tls().await?;
    let head = "CONNECT echo.example.test:7 HTTP/1.1\r\nHost: echo.example.test:7\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let answer = read_head(&mut stream).await?;
    anyhow::ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    echo(&mut stream).await?;
    Ok(stream)
}

async fn echo(stream: &mut TlsStream<TcpStream>) -> anyhow::Result<()> {
    stream.write_all(b"hello").await?;
    let mut back = [0; 5];
    stream.read_exact(&mut back).await?;
    assert_eq!(&back, b"hello");
    Ok(())
}

async fn ended(stream: &mut TlsStream<TcpStream>) -> anyhow::Result<()> {
    let mut unread = [0];
    let end = soon("the tunnel's end", stream.read(&mut unread));
    assert_eq!(end.await??, 0);
    Ok(())
}

async fn echoing(clock: Clock) -> anyhow::Result<Mesh> {
    let address = echo_server().await?;
    let mesh = Mesh::with(clock, |gateway| {
        gateway.unmatched = model::Unmatched::Tunnel;
        let host = Host::parse("echo.example.test").expect("a host");
        gateway.upstream.resolve.insert((host, 7), address);
    });
    Ok(mesh.await)
}

#[tokio::test]
async fn a_tunnel_ends_with_its_callers_certificate() -> anyhow::Result<()> {
    let clock = Clock::manual(Clock::system().now());
    let mut mesh = echoing(clock.clone()).await?;
    let mut tunnel = tunnel(&mesh, &mesh.domain.svid(PATH)).await?;
    clock.pass(clock.now() + hours(1) - SignedDuration::from_secs(2));
    echo(&mut tunnel).await?;
    clock.pass(clock.now() + SignedDuration::from_secs(2));
    ended(&mut tunnel).await?;
    let record = mesh.bed.record().await?;
    assert_eq!(record["reason"], "identity_expired", "{record}");
    Ok(())
}

#[tokio::test]
async fn a_tunnel_ends_when_its_trust_domain_does_not_vouch_any_more() -> anyhow::Result<()> {
    let mut mesh = echoing(Clock::system()).await?;
    let mut tunnel = tunnel(&mesh, &mesh.domain.svid(PATH)).await?;
    let next = TrustDomain::new(DOMAIN, Clock::system());
    publish(&mesh.bed.env, "2", &(mesh.domain.pem() + &next.pem()));
    mesh.bed.reload()?;
    echo(&mut tunnel).await?;
    publish(&mesh.bed.env, "3", &next.bundle());
    mesh.bed.reload()?;
    ended(&mut tunnel).await?;
    let record = mesh.bed.record().await?;
    assert_eq!(record["reason"], "identity_invalid", "{record}");
    Ok(())
}
