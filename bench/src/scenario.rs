//! One run: starts the processes and sends every load both ways.

use std::{net::TcpListener, path::Path, time::Duration};

use anyhow::{Context, bail, ensure};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::Instant};

use crate::{
    Options,
    affinity::Cores,
    client::{Protocol, Route, Way},
    files::{self, Addresses, Files},
    load::{self, BulkResult, Direction, IdleResult, Loop, LoopResult},
    process::Process,
};

/// Large bodies of one kind that are moved one after the other.
const BODIES: u32 = 4;

/// How long resting connections are watched.
const REST: Duration = Duration::from_secs(3);

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) loops: Vec<(String, Way, LoopResult)>,
    pub(crate) bulk: Vec<(String, Way, BulkResult)>,
    pub(crate) idle: Vec<(Protocol, IdleResult)>,
    /// Decision records that were lost, by the gateway's own metric.
    pub(crate) dropped_records: u64,
    /// The gateway's resident memory before the first load.
    pub(crate) resident_at_start: u64,
}

impl Results {
    /// Requests that failed in any load.
    pub(crate) fn errors(&self) -> u64 {
        self.loops.iter().map(|(_, _, result)| result.errors).sum()
    }
}

/// The processes of one run and the two ways to them.
struct World {
    files: Files,
    gateway: Process,
    direct: Route,
    through: Route,
    addresses: Addresses,
    _upstream: Process,
}

/// Runs everything: each kind of load against a gateway of its own, so that what one leaves behind
/// in the allocator does not hide what the next one costs.
pub(crate) async fn run_all(
    options: &Options,
    binary: &Path,
    cores: &Cores,
) -> anyhow::Result<Results> {
    let mut results = Results::default();
    for protocol in [Protocol::H1, Protocol::H2] {
        let world = World::start(binary, cores).await?;
        let done = resting(options, &world, protocol, &mut results).await;
        world.finish(done, &mut results).await?;
    }
    let world = World::start(binary, cores).await?;
    results.resident_at_start = world.gateway.resident()?;
    let done = small_answers(options, &world, &mut results).await;
    world.finish(done, &mut results).await?;
    let world = World::start(binary, cores).await?;
    let done = large_bodies(options, &world, &mut results).await;
    world.finish(done, &mut results).await?;
    Ok(results)
}

async fn resting(
    options: &Options,
    world: &World,
    protocol: Protocol,
    results: &mut Results,
) -> anyhow::Result<()> {
    progress(&format!("{} idle connections", options.idle))?;
    // The first connection makes what all share: the leaf certificate, the credential.
    load::idle(&world.through, protocol, 1, Duration::ZERO, &world.gateway).await?;
    let result = load::idle(&world.through, protocol, options.idle, REST, &world.gateway);
    results.idle.push((protocol, result.await?));
    Ok(())
}

async fn small_answers(
    options: &Options,
    world: &World,
    results: &mut Results,
) -> anyhow::Result<()> {
    for (name, shape) in loops(options) {
        for route in [&world.direct, &world.through] {
            progress(&format!("{name}, {}", way_name(route.way)))?;
            let result = load::closed_loop(route, shape, world.watched(route.way)).await?;
            if let Some(error) = &result.first_error {
                progress(&format!("  {} errors, the first: {error}", result.errors))?;
            }
            results.loops.push((name.clone(), route.way, result));
        }
    }
    Ok(())
}

async fn large_bodies(
    options: &Options,
    world: &World,
    results: &mut Results,
) -> anyhow::Result<()> {
    for (name, protocol, direction) in [
        ("upload, HTTP/1.1", Protocol::H1, Direction::Upload),
        ("download, HTTP/1.1", Protocol::H1, Direction::Download),
        ("upload, HTTP/2", Protocol::H2, Direction::Upload),
        ("download, HTTP/2", Protocol::H2, Direction::Download),
    ] {
        for route in [&world.direct, &world.through] {
            progress(&format!("{name}, {}", way_name(route.way)))?;
            let (bytes, watched) = (options.body_bytes(), world.watched(route.way));
            let result = load::bulk(route, protocol, direction, bytes, BODIES, watched).await?;
            results.bulk.push((name.to_owned(), route.way, result));
        }
    }
    Ok(())
}

fn loops(options: &Options) -> Vec<(String, Loop)> {
    let many = options.connections;
    let shape = |protocol, connections, streams, reconnect| Loop {
        protocol,
        connections,
        streams,
        reconnect,
        measured: options.measured(),
    };
    vec![
        (
            "keep-alive, HTTP/1.1, 1 connection".into(),
            shape(Protocol::H1, 1, 1, false),
        ),
        (
            format!("keep-alive, HTTP/1.1, {many} connections"),
            shape(Protocol::H1, many, 1, false),
        ),
        (
            "keep-alive, HTTP/2, 1 connection".into(),
            shape(Protocol::H2, 1, 1, false),
        ),
        (
            "keep-alive, HTTP/2, 4 connections of 8 streams".into(),
            shape(Protocol::H2, 4, 8, false),
        ),
        (
            "new connection each, HTTP/1.1, 1 at a time".into(),
            shape(Protocol::H1, 1, 1, true),
        ),
        (
            "new connection each, HTTP/1.1, 8 at a time".into(),
            shape(Protocol::H1, 8, 1, true),
        ),
    ]
}

impl World {
    async fn start(binary: &Path, cores: &Cores) -> anyhow::Result<Self> {
        let files = Files::new().await?;
        let (upstream, address) = Process::upstream(&files)?;
        let addresses = Addresses {
            upstream: address,
            proxy: free_address()?,
            admin: free_address()?,
        };
        let config = files.write_gateway(&addresses)?;
        let mut gateway = Process::gateway(binary, &config, &files, cores)?;
        if let Err(error) = ready(&mut gateway, addresses).await {
            let log = std::fs::read_to_string(files.process_log()).unwrap_or_default();
            return Err(error.context(format!("the gateway does not start:\n{log}")));
        }
        Ok(Self {
            direct: Route::direct(address, &files.upstream_roots(), files::REAL)?,
            through: Route::gateway(addresses.proxy, &files.gateway_roots(), &files.token)?,
            files,
            gateway,
            addresses,
            _upstream: upstream,
        })
    }

    /// Adds what the gateway says of itself; shows its log if its load failed.
    async fn finish(self, done: anyhow::Result<()>, results: &mut Results) -> anyhow::Result<()> {
        done.with_context(|| {
            let log = std::fs::read_to_string(self.files.process_log()).unwrap_or_default();
            format!("the gateway's log:\n{log}")
        })?;
        let (_, metrics) = admin(self.addresses, "/metrics").await?;
        let name = "countersign_decisions_dropped_total{class=";
        let mut dropped = metrics
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.split_once("} "))
            .map(|(_, count)| count.parse::<u64>())
            .peekable();
        dropped
            .peek()
            .context("the gateway has no metric of lost records")?;
        results.dropped_records += dropped.sum::<Result<u64, _>>()?;
        Ok(())
    }

    fn watched(&self, way: Way) -> Option<&Process> {
        match way {
            Way::Direct => None,
            Way::Gateway => Some(&self.gateway),
        }
    }
}

/// Waits until the gateway says it is ready, at most 20 s.
pub(crate) async fn ready(gateway: &mut Process, addresses: Addresses) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        gateway.still_runs()?;
        match admin(addresses, "/readyz").await {
            Ok((200, _)) => return Ok(()),
            Ok(_) | Err(_) if Instant::now() < deadline => {}
            Ok((status, body)) => bail!("/readyz says {status}: {body}"),
            Err(error) => return Err(error),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks the gateway's admin endpoint.
pub(crate) async fn admin(addresses: Addresses, path: &str) -> anyhow::Result<(u16, String)> {
    let stream = TcpStream::connect(addresses.admin).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = http::Request::get(path)
        .header(http::header::HOST, addresses.admin.to_string())
        .body(Empty::<bytes::Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8(body.to_vec())?))
}

/// An address that was free a moment ago.
pub(crate) fn free_address() -> anyhow::Result<std::net::SocketAddr> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    ensure!(address.port() != 0, "the system gave no port");
    Ok(address)
}

/// How a way is called in the report.
pub(crate) fn way_name(way: Way) -> &'static str {
    match way {
        Way::Direct => "direct",
        Way::Gateway => "gateway",
    }
}

pub(crate) fn progress(text: &str) -> std::io::Result<()> {
    use std::io::Write;
    writeln!(std::io::stderr(), "{text}")
}
