//! What the relay costs a pod: its memory when idle and with a thousand connections.

use std::{io, net::SocketAddr};

use anyhow::Context as _;
use countersign_tests::netns::{Pod, TestBed, available};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::TUNNEL;

/// How many, and how many of them are being made at a time.
const CONNECTIONS: usize = 1000;
const AT_A_TIME: usize = 50;

/// The most that one more connection may cost, in KiB: what HTTP/2 and two tasks need, and no buffer
/// while it waits.
const MOST_FOR_ONE: u64 = 12;

const ECHO: &str = "203.0.113.99:7008";

/// Sends back what comes, until the client leaves.
async fn echo(listener: TcpListener) {
    let mut open = JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        open.spawn(async move {
            let (mut reader, mut writer) = stream.split();
            // The client hangs up when it is done.
            drop(tokio::io::copy(&mut reader, &mut writer).await);
        });
    }
}

/// Opens all connections, says so, and keeps them until it is told to stop.
async fn open_all(opened: mpsc::Sender<()>, stop: oneshot::Receiver<()>) -> io::Result<()> {
    let address: SocketAddr = ECHO.parse().map_err(io::Error::other)?;
    let mut kept = Vec::new();
    while kept.len() < CONNECTIONS {
        let mut opening = JoinSet::new();
        for _ in 0..AT_A_TIME {
            opening.spawn(async move {
                let mut stream = TcpStream::connect(address).await?;
                stream.write_all(b"\0ping").await?;
                stream.read_exact(&mut [0; 5]).await?;
                io::Result::Ok(stream)
            });
        }
        for stream in opening.join_all().await {
            let number = kept.len();
            let numbered = |error: io::Error| {
                io::Error::new(error.kind(), format!("connection {number}: {error}"))
            };
            kept.push(stream.map_err(numbered)?);
        }
    }
    opened.send(()).await.map_err(io::Error::other)?;
    // An error is that nobody waits any more.
    drop(stop.await);
    drop(kept);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_cost_little_memory() -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    // The ends of all connections that the relay does not have are this process's.
    countersign_core::open_files::raise_limit();
    let bed = TestBed::start(TUNNEL).await?;
    let _gateway = bed.gateway(0).await?;
    let mut pod = Pod::start(&bed, &[0]).await?;
    let internet = &bed.network.internet;
    let listener = internet.inside(|| std::net::TcpListener::bind(ECHO))??;
    listener.set_nonblocking(true)?;
    let echoing = tokio::spawn(echo(TcpListener::from_std(listener)?));

    let idle = pod.relay_process()?.status("VmRSS")?;
    let threads = pod.relay_process()?.status("Threads")?;
    let (opened, mut all_open) = mpsc::channel(1);
    let (stop, stopped) = oneshot::channel();
    let clients = pod.namespace().spawn(open_all(opened, stopped))?;
    let open = tokio::time::timeout(std::time::Duration::from_mins(1), all_open.recv()).await?;
    if open.is_some() {
        let relay = pod.relay_process()?;
        let (busy, files) = (relay.status("VmRSS")?, relay.open_files()?);
        countersign_tests::told(&format!(
            "the relay holds {idle} KiB when idle ({threads} threads) and {busy} KiB with \
             {CONNECTIONS} connections ({files} open files)"
        ));
        assert!(files >= CONNECTIONS);
        let one = busy.saturating_sub(idle) / CONNECTIONS as u64;
        assert!(one <= MOST_FOR_ONE, "one connection costs {one} KiB");
    }
    // An error is that it has ended already, which the next lines tell.
    let _ended = stop.send(());
    let clients = tokio::task::spawn_blocking(move || clients.join()).await?;
    clients.map_err(|_| anyhow::anyhow!("the clients panicked"))???;
    open.context("not all could be opened")?;
    echoing.abort();
    Ok(())
}
