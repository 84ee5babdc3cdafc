//! The product beside its peers, in one run: each round starts every contender in turn, sends it the
//! same loads, and stops it, so that a slow minute of the machine is slow for all. Medians of the
//! rounds are told, and how they stand to a bare interceptor that checks and records nothing.
//!
//! Each contender runs on the gateway's cores with one worker, before the same stand-in API, which
//! refuses everything but the real credential: so each of them puts it on.

mod json;
mod own;
mod peers;
mod table;

use std::{
    fs,
    future::Future,
    net::SocketAddr,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::{
    affinity::Cores,
    client::{Protocol, Route},
    files::{self, Addresses, Files},
    load::{self, Direction, Loop},
    process::Process,
    scenario::{free_address, progress, ready},
};
use peers::Peer;

/// Bytes of one large body, and how many of them.
const BODY: u64 = 64 * 1024 * 1024;
const BODIES: u32 = 2;

/// The rate of the load that is paced.
const PER_SECOND: u32 = 200;

/// At how many counts of idle connections memory is looked at, and how long they rest before.
const STEPS: usize = 5;
const REST: Duration = Duration::from_secs(3);

/// How many unseen names are asked for before it counts.
const WARM: usize = 50;

/// What is compared, and how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Compare {
    /// Rounds; medians are told.
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    /// How long each load of a round is measured, in seconds, after a warm-up of a quarter of that.
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    seconds: f64,
    /// Keep-alive connections side by side.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// How many connections rest in the memory measurement.
    #[arg(long, default_value_t = 5000)]
    idle: usize,
    /// Only these contenders, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<Peer>,
    /// No round begins that would end later than this, in minutes.
    #[arg(long, default_value_t = 11.0)]
    minutes: f64,
    /// Where to write the figures for bench/plots.py.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What one contender showed in one round; `None` where it cannot do it.
#[derive(Debug, Default, Clone)]
pub(super) struct Shown {
    /// CPU microseconds a request, keep-alive, HTTP/1.1.
    pub(super) h1: Option<f64>,
    /// Requests a second of that.
    pub(super) h1_rate: Option<f64>,
    /// CPU microseconds a request, HTTP/2.
    pub(super) h2: Option<f64>,
    /// CPU microseconds a new connection with its one request.
    pub(super) new: Option<f64>,
    /// CPU microseconds a MiB, down and up.
    pub(super) down: Option<f64>,
    pub(super) up: Option<f64>,
    /// Latency of one request at a time, in microseconds.
    pub(super) latency: Option<Histogram<u64>>,
    /// The same at 200 requests a second.
    pub(super) paced_p50: Option<f64>,
    pub(super) paced_p99: Option<f64>,
    /// CPU microseconds of the first request to a name never seen.
    pub(super) unseen: Option<f64>,
    /// KiB of resident memory an idle connection.
    pub(super) idle: Option<f64>,
    /// MiB of resident memory before the first request.
    pub(super) resident: Option<f64>,
}

impl Shown {
    /// The latency at a quantile of one request at a time, in microseconds.
    fn at(&self, quantile: f64) -> Option<f64> {
        let latency = self.latency.as_ref()?;
        Some(load::as_float(latency.value_at_quantile(quantile)))
    }
}

/// All rounds of one contender.
pub(super) struct Contest {
    pub(super) peer: Peer,
    pub(super) rounds: Vec<Shown>,
    /// Bytes of resident memory by idle connections.
    pub(super) memory: Vec<(usize, u64)>,
}

/// A contender that runs, and the way through it.
struct Running {
    process: Option<Process>,
    route: Route,
}

/// Runs all rounds and prints the table.
pub(crate) async fn run(
    compare: &Compare,
    gateway: &Path,
    cores: &Cores,
    machine: &[String],
) -> anyhow::Result<()> {
    let chosen = |peer: &Peer| compare.only.is_empty() || compare.only.contains(peer);
    let mut contests = Vec::new();
    for peer in Peer::ALL.into_iter().filter(chosen) {
        match peer.missing() {
            Some(why) => progress(&format!("SKIPPED: {}: {why}", peer.name()))?,
            None => contests.push(Contest {
                peer,
                rounds: Vec::new(),
                memory: Vec::new(),
            }),
        }
    }
    ensure!(!contests.is_empty(), "there is nobody to compare");
    let begin = Instant::now();
    let most = Duration::from_secs_f64(compare.minutes.clamp(0.1, 600.0) * 60.0);
    for round in 1..=compare.rounds {
        let done = u32::try_from(round - 1)?;
        if done > 0 && begin.elapsed() * (done + 1) / done > most {
            progress(&format!("{done} rounds only: another would take too long"))?;
            break;
        }
        for contest in &mut contests {
            progress(&format!("round {round}, {}", contest.peer.name()))?;
            let shown = one_round(compare, contest.peer, gateway, cores)
                .await
                .with_context(|| format!("{} in round {round}", contest.peer.name()))?;
            contest.rounds.push(shown);
        }
    }
    for contest in &mut contests {
        progress(&format!("idle connections, {}", contest.peer.name()))?;
        contest.memory = resting(compare, contest.peer, gateway, cores).await?;
        if let Some(last) = contest.rounds.last_mut() {
            last.idle = load::kibibytes_each(&contest.memory);
        }
    }
    if let Some(path) = &compare.json {
        json::write(path, machine, &contests)?;
    }
    let mut text = table::markdown(machine, compare, &contests)?;
    if contests
        .iter()
        .any(|contest| contest.peer == Peer::Countersign)
    {
        text += &own::measure(compare, gateway, cores).await?.markdown()?;
    }
    files::say(&text)?;
    Ok(())
}

impl Compare {
    pub(super) fn idle(&self) -> usize {
        self.idle
    }

    pub(super) fn measured(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.clamp(0.1, 60.0))
    }

    fn shape(&self, protocol: Protocol, connections: usize, streams: usize) -> Loop {
        Loop {
            protocol,
            connections,
            streams,
            reconnect: false,
            measured: self.measured(),
        }
    }
}

async fn one_round(
    compare: &Compare,
    peer: Peer,
    gateway: &Path,
    cores: &Cores,
) -> anyhow::Result<Shown> {
    let files = Files::new().await?;
    let (_upstream, upstream) = Process::upstream(&files)?;
    let running = start(compare, peer, gateway, cores, &files, upstream).await?;
    let watched = running.process.as_ref();
    let mut shown = Shown {
        resident: watched.map(Process::resident).transpose()?.map(mebibytes),
        ..Shown::default()
    };
    let route = &running.route;
    let measure = async |what, shape| {
        let result = load::closed_loop(route, shape, watched);
        let result = within(compare, what, result).await?;
        let first = result.first_error.clone().unwrap_or_default();
        ensure!(
            result.errors == 0,
            "{what}: {} failed: {first}",
            result.errors
        );
        anyhow::Ok(result)
    };
    let many = compare.shape(Protocol::H1, compare.connections, 1);
    let many = measure("keep-alive h1", many).await?;
    shown.h1 = many.cpu_micros();
    shown.h1_rate = Some(many.per_second());
    if peer.speaks_http2() {
        let streams = measure("h2", compare.shape(Protocol::H2, 4, 8)).await?;
        shown.h2 = streams.cpu_micros();
    }
    let new = Loop {
        reconnect: true,
        ..compare.shape(Protocol::H1, 8, 1)
    };
    shown.new = measure("new connections", new).await?.cpu_micros();
    let one = measure("one at a time", compare.shape(Protocol::H1, 1, 1)).await?;
    shown.latency = Some(one.latency);
    let paced = load::paced(route, PER_SECOND, compare.measured());
    let paced = within(compare, "paced", paced).await?;
    shown.paced_p50 = Some(load::as_float(paced.value_at_quantile(0.5)));
    shown.paced_p99 = Some(load::as_float(paced.value_at_quantile(0.99)));
    if let (true, Some(process)) = (peer.mints(), watched) {
        let names = |numbers: Range<usize>| numbers.map(files::name);
        // The first ones make what all share.
        let warm = load::unseen(route, names(0..WARM), process);
        within(compare, "unseen names", warm).await?;
        let unseen = load::unseen(route, names(WARM..files::NAMES), process);
        let unseen = within(compare, "unseen names", unseen).await?;
        shown.unseen = Some(unseen.as_secs_f64() * 1e6);
    }
    for (what, direction, into) in [
        ("download", Direction::Download, &mut shown.down),
        ("upload", Direction::Upload, &mut shown.up),
    ] {
        let moved = load::bulk(route, Protocol::H1, direction, BODY, BODIES, watched);
        *into = within(compare, what, moved).await?.cpu_micros_a_mebibyte();
    }
    Ok(shown)
}

/// Fails what takes far longer than it should: a peer that hangs is told by what it hangs at.
async fn within<T>(
    compare: &Compare,
    what: &str,
    load: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let limit = compare.measured() * 2 + Duration::from_secs(20);
    let done = tokio::time::timeout(limit, load).await;
    done.with_context(|| format!("{what}: it hangs"))?
        .with_context(|| what.to_owned())
}

async fn resting(
    compare: &Compare,
    peer: Peer,
    gateway: &Path,
    cores: &Cores,
) -> anyhow::Result<Vec<(usize, u64)>> {
    let files = Files::new().await?;
    let (_upstream, upstream) = Process::upstream(&files)?;
    let running = start(compare, peer, gateway, cores, &files, upstream).await?;
    let Some(process) = &running.process else {
        return Ok(Vec::new());
    };
    let counts: Vec<usize> = (1..=STEPS)
        .map(|step| compare.idle * step / STEPS)
        .collect();
    let limit = REST * 2 * u32::try_from(STEPS)? + Duration::from_secs(90);
    let resting = load::resting(&running.route, &counts, REST, process);
    let done = tokio::time::timeout(limit, resting).await;
    done.context("idle connections: it hangs")?
        .context("idle connections")
}

/// Starts a contender and waits until a request comes through.
async fn start(
    compare: &Compare,
    peer: Peer,
    gateway: &Path,
    cores: &Cores,
    files: &Files,
    upstream: SocketAddr,
) -> anyhow::Result<Running> {
    let addresses = Addresses {
        upstream,
        proxy: free_address()?,
        admin: free_address()?,
    };
    let mut process = match peer {
        Peer::Direct => {
            let route = peer.route(files, &addresses)?;
            return Ok(Running {
                process: None,
                route,
            });
        }
        Peer::Countersign => {
            let config = files.write_gateway(&addresses)?;
            let mut process = Process::gateway(gateway, &config, files, cores)?;
            ready(&mut process, addresses).await?;
            process
        }
        other => {
            let command = other.command(files, &addresses)?;
            Process::pinned(command, &files.process_log(), cores)?
        }
    };
    let route = peer.route(files, &addresses)?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = within(compare, "the first request", answers(&route)).await {
        let log = || fs::read_to_string(files.process_log()).unwrap_or_default();
        process.still_runs().with_context(log)?;
        ensure!(Instant::now() < deadline, "{error:#}\n{}", log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(Running {
        process: Some(process),
        route,
    })
}

async fn answers(route: &Route) -> anyhow::Result<()> {
    let mut connection = route.open(Protocol::H1).await?;
    connection.get("/small").await.map(drop)
}

fn mebibytes(bytes: u64) -> f64 {
    load::as_float(bytes) / f64::from(1 << 20)
}
