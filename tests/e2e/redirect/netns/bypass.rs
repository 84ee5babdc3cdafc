//! What cannot pass the relay by, and what does.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::Context as _;
use countersign_tests::netns::{
    APP, GATEWAYS, Options, Owner, POD, Pod, RELAY, STRANGER, STRANGER_6, TestBed, available, run,
};
use tokio::time::Instant;

use super::TUNNEL;

/// From which address the stranger is called when this owner does.
async fn called_from(
    pod: &Pod<'_>,
    owner: Owner,
    whom: SocketAddr,
) -> anyhow::Result<std::net::IpAddr> {
    let mut nc = pod.app_as(owner, "nc")?;
    nc.args(["-w", "20", &whom.ip().to_string(), &whom.port().to_string()]);
    let shown = run(nc, "hello\n").await?;
    let from = shown.stdout.trim().parse();
    from.with_context(|| format!("{owner:?} heard nothing from {whom}: {shown:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_relays_own_uid_and_gid_together_pass() -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(TUNNEL).await?;
    let _gateway = bed.gateway(0).await?;
    let pod = Pod::start(&bed, &[0]).await?;
    let redirected = [
        APP,
        Owner { uid: 0, gid: 0 },
        Owner {
            uid: 10002,
            gid: 10002,
        },
        Owner {
            uid: RELAY.uid,
            gid: APP.gid,
        },
        Owner {
            uid: APP.uid,
            gid: RELAY.gid,
        },
        Owner {
            uid: 0,
            gid: RELAY.gid,
        },
    ];
    for owner in redirected {
        for whom in [STRANGER, STRANGER_6] {
            let from = called_from(&pod, owner, whom).await?;
            assert!(GATEWAYS[0].has(from), "{owner:?} came from {from}");
        }
    }
    // So nothing else must be given that uid and gid.
    for whom in [STRANGER, STRANGER_6] {
        let from = called_from(&pod, RELAY, whom).await?;
        assert!(POD.has(from), "the relay came from {from}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_relay_nothing_leaves() -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(TUNNEL).await?;
    let pod = Pod::bare(&bed)?;
    let before = called_from_by_root(&pod).await?;
    assert!(before.success, "without rules there is a way: {before:?}");
    pod.redirect(&["--apply", "--check"]).await?.succeeded();
    let after = called_from_by_root(&pod).await?;
    assert!(!after.success, "{after:?}");
    assert_eq!(after.stdout, "");
    Ok(())
}

async fn called_from_by_root(pod: &Pod<'_>) -> anyhow::Result<countersign_tests::netns::Shown> {
    let mut nc = tokio::process::Command::from(pod.namespace().command("nc"));
    nc.args(["-w", "5", &STRANGER.ip().to_string(), "7007"]);
    run(nc, "hello\n").await
}

/// The rules leave out somebody else: what the relay sends comes back to it, once for each try.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_redirected_to_itself_does_not_loop() -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(Options::default()).await?;
    let mut gateway = bed.gateway(0).await?;
    let mut pod = Pod::bare(&bed)?;
    let wrong = ["--apply", "--uid", "4242", "--gid", "4242"];
    pod.redirect(&wrong).await?.succeeded();
    pod.relay(&[0], &[]).await?;
    let relay = pod.relay_process()?;
    let looped = |printed: &str| printed.contains("relay-loop").then_some(());
    relay.said(looped).await?;
    let printed = relay.printed();
    assert!(
        printed.contains("the redirection rules are wrong"),
        "{printed}"
    );
    let readiness = pod.readiness()?;
    assert!(readiness.starts_with("HTTP/1.1 503"), "{readiness}");
    // Each try is one connection to itself and no more.
    let relay = pod.relay_process()?;
    let tries = |printed: &str| printed.matches("relay-loop").count();
    relay
        .said(|printed| (tries(printed) >= 3).then_some(()))
        .await?;
    assert!(relay.open_files()? < 40, "{}", relay.open_files()?);
    assert!(tries(&relay.printed()) < 10, "{}", relay.printed());
    gateway.process.kill().await?;
    Ok(())
}

/// Nobody was redirected there who dials the port himself.
#[tokio::test(flavor = "multi_thread")]
async fn the_redirected_port_itself_leads_nowhere() -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(TUNNEL).await?;
    let _gateway = bed.gateway(0).await?;
    let mut pod = Pod::start(&bed, &[0]).await?;
    for port in ["127.0.0.1", "::1"] {
        let mut nc = pod.app("nc")?;
        nc.args(["-w", "20", port, "15001"]);
        let shown = run(nc, "hello\n").await?;
        assert_eq!(shown.stdout, "");
    }
    let twice = |printed: &str| {
        let closed = ["relay-loop", "relay-no-destination"];
        let lines = closed.map(|reason| printed.matches(reason).count());
        (lines.iter().sum::<usize>() == 2).then_some(())
    };
    pod.relay_process()?.said(twice).await
}

#[tokio::test(flavor = "multi_thread")]
async fn quic_is_rejected_at_once() -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(Options::default()).await?;
    let pod = Pod::bare(&bed)?;
    let targets = [STRANGER, STRANGER_6].map(|address| SocketAddr::new(address.ip(), 443));
    for target in targets {
        let server = bed.network.internet.inside(|| UdpSocket::bind(target))??;
        server.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut packet = [0; 16];
        send(&pod, target)?.expect("without rules it goes");
        assert_eq!(server.recv(&mut packet)?, 4, "and arrives");

        pod.redirect(&["--apply"]).await?.succeeded();
        let began = Instant::now();
        let error = send(&pod, target)?.expect_err("the rules reject it");
        let refused = [
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::PermissionDenied,
        ];
        assert!(refused.contains(&error.kind()), "{error}");
        assert!(began.elapsed() < Duration::from_secs(2), "at once");
        server.set_nonblocking(true)?;
        let nothing = server.recv(&mut packet).expect_err("nothing arrives");
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        pod.redirect(&["--remove"]).await?.succeeded();
    }
    Ok(())
}

/// Sends four bytes and waits a moment for what comes of it; nothing is success.
fn send(pod: &Pod<'_>, target: SocketAddr) -> io::Result<io::Result<()>> {
    pod.namespace().inside(|| {
        let any = if target.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(target)?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        socket.send(b"quic")?;
        match socket.recv(&mut [0; 16]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            received => received.map(drop),
        }
    })
}
