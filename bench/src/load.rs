//! The loads: closed loops, each connection sending its next request when it has the last answer.

mod idle;

pub(crate) use idle::{IdleResult, idle, kibibytes_each, resting};

use std::time::Duration;

use anyhow::ensure;
use hdrhistogram::Histogram;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    client::{Connection, Protocol, Route},
    process::Process,
    upstream::drain,
};

/// What a closed loop does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loop {
    pub(crate) protocol: Protocol,
    /// Connections side by side.
    pub(crate) connections: usize,
    /// Requests side by side on one connection; more than one only for HTTP/2.
    pub(crate) streams: usize,
    /// Whether each request pays for a new connection.
    pub(crate) reconnect: bool,
    /// How long is measured; a quarter of it more is warm-up.
    pub(crate) measured: Duration,
}

/// What a closed loop showed.
#[derive(Debug)]
pub(crate) struct LoopResult {
    /// Whole requests, connection included where each has its own, in microseconds.
    pub(crate) latency: Histogram<u64>,
    pub(crate) elapsed: Duration,
    /// The gateway's, while measuring.
    pub(crate) cpu: Option<Duration>,
    /// The most memory the gateway had resident, in bytes.
    pub(crate) peak: Option<u64>,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
}

impl LoopResult {
    /// Whole requests a second.
    pub(crate) fn per_second(&self) -> f64 {
        as_float(self.latency.len()) / self.elapsed.as_secs_f64()
    }

    /// The gateway's CPU microseconds a request.
    pub(crate) fn cpu_micros(&self) -> Option<f64> {
        let cpu = self.cpu.filter(|_| !self.latency.is_empty())?;
        Some(cpu.as_secs_f64() * 1e6 / as_float(self.latency.len()))
    }
}

/// A worker that failed this often stops.
const ERRORS: u64 = 20;

/// Runs a closed loop, watching the gateway if the load goes through it.
pub(crate) async fn closed_loop(
    route: &Route,
    shape: Loop,
    gateway: Option<&Process>,
) -> anyhow::Result<LoopResult> {
    let begin = Instant::now() + shape.measured / 4;
    let end = begin + shape.measured;
    let mut workers = JoinSet::new();
    for _ in 0..shape.connections {
        if shape.streams == 1 {
            workers.spawn(Worker::new(begin, end).run(route.clone(), shape, None));
            continue;
        }
        let connection = route.open(shape.protocol).await?;
        for _ in 0..shape.streams {
            let shared = Some(connection.share()?);
            workers.spawn(Worker::new(begin, end).run(route.clone(), shape, shared));
        }
    }
    tokio::time::sleep_until(begin).await;
    if let Some(gateway) = gateway {
        gateway.forget_peak()?;
    }
    let cpu_before = gateway.map(Process::cpu).transpose()?;
    tokio::time::sleep_until(end).await;
    let cpu_after = gateway.map(Process::cpu).transpose()?;
    let mut result = LoopResult {
        latency: histogram()?,
        elapsed: shape.measured,
        cpu: cpu_after.zip(cpu_before).map(spent),
        peak: gateway.map(Process::peak).transpose()?,
        errors: 0,
        first_error: None,
    };
    while let Some(worker) = workers.join_next().await {
        let worker = worker??;
        result.latency.add(&worker.latency)?;
        result.errors += worker.errors;
        result.first_error = result.first_error.or(worker.first_error);
    }
    Ok(result)
}

struct Worker {
    begin: Instant,
    end: Instant,
}

struct Counted {
    latency: Histogram<u64>,
    errors: u64,
    first_error: Option<String>,
}

impl Worker {
    fn new(begin: Instant, end: Instant) -> Self {
        Self { begin, end }
    }

    async fn run(
        self,
        route: Route,
        shape: Loop,
        mut open: Option<Connection>,
    ) -> anyhow::Result<Counted> {
        let mut counted = Counted {
            latency: histogram()?,
            errors: 0,
            first_error: None,
        };
        while counted.errors < ERRORS {
            let start = Instant::now();
            if start >= self.end {
                break;
            }
            match one_request(&route, shape, &mut open).await {
                Ok(()) => {
                    let now = Instant::now();
                    if now >= self.begin && now <= self.end {
                        counted.latency.saturating_record(micros(now - start));
                    }
                }
                Err(error) => {
                    open = None;
                    counted.errors += 1;
                    counted.first_error.get_or_insert(format!("{error:#}"));
                }
            }
        }
        Ok(counted)
    }
}

async fn one_request(
    route: &Route,
    shape: Loop,
    open: &mut Option<Connection>,
) -> anyhow::Result<()> {
    let connection = match open {
        Some(connection) => connection,
        None => open.insert(route.open(shape.protocol).await?),
    };
    let response = connection.get("/small").await?;
    drain(response.into_body()).await?;
    if shape.reconnect {
        *open = None;
    }
    Ok(())
}

/// Connections that share a paced load, so that one slow answer does not hold the next request up.
const PACED: u32 = 8;

/// Sends so many requests a second over connections that are open, whether or not the answers keep
/// pace. Latency counts from when a request is sent; where the answer before came too late for that,
/// from when it was due.
pub(crate) async fn paced(
    route: &Route,
    per_second: u32,
    measured: Duration,
) -> anyhow::Result<Histogram<u64>> {
    let between = Duration::from_secs(1) / per_second;
    let mut workers = JoinSet::new();
    let first = Instant::now() + Duration::from_millis(200);
    let end = first + measured;
    for turn in 0..PACED {
        let mut connection = route.open(Protocol::H1).await?;
        workers.spawn(async move {
            let mut latency = histogram()?;
            let mut due = first + between * turn;
            while due < end {
                // The timer is as coarse as a millisecond, which is not the proxy's doing.
                let start = if Instant::now() < due {
                    tokio::time::sleep_until(due).await;
                    Instant::now()
                } else {
                    due
                };
                let response = connection.get("/small").await?;
                drain(response.into_body()).await?;
                latency.saturating_record(micros(start.elapsed()));
                due += between * PACED;
            }
            anyhow::Ok(latency)
        });
    }
    let mut all = histogram()?;
    while let Some(worker) = workers.join_next().await {
        all.add(&worker??)?;
    }
    Ok(all)
}

/// Asks for one name after the other, each for the first time, and tells the CPU time of one.
pub(crate) async fn unseen(
    route: &Route,
    names: impl ExactSizeIterator<Item = String>,
    gateway: &Process,
) -> anyhow::Result<Duration> {
    let count = u32::try_from(names.len())?;
    let before = gateway.cpu()?;
    for name in names {
        let mut connection = route.named(&name).open(Protocol::H1).await?;
        drain(connection.get("/small").await?.into_body()).await?;
    }
    Ok(spent((gateway.cpu()?, before)) / count)
}

/// The direction of a large body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Upload,
    Download,
}

/// What large bodies showed.
#[derive(Debug)]
pub(crate) struct BulkResult {
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
    pub(crate) cpu: Option<Duration>,
    /// By how much the gateway's resident memory grew at most.
    pub(crate) growth: Option<u64>,
}

impl BulkResult {
    /// The gateway's CPU microseconds a MiB.
    pub(crate) fn cpu_micros_a_mebibyte(&self) -> Option<f64> {
        let mebibytes = as_float(self.bytes) / f64::from(1 << 20);
        Some(self.cpu?.as_secs_f64() * 1e6 / mebibytes)
    }
}

/// Moves one large body after the other over one connection: one to warm up, then `times`.
pub(crate) async fn bulk(
    route: &Route,
    protocol: Protocol,
    direction: Direction,
    bytes: u64,
    times: u32,
    gateway: Option<&Process>,
) -> anyhow::Result<BulkResult> {
    let mut connection = route.open(protocol).await?;
    drain(connection.get("/small").await?.into_body()).await?;
    let before = gateway.map(Process::resident).transpose()?;
    if let Some(gateway) = gateway {
        gateway.forget_peak()?;
    }
    one_body(&mut connection, direction, bytes).await?;
    let cpu_before = gateway.map(Process::cpu).transpose()?;
    let start = Instant::now();
    for _ in 0..times {
        one_body(&mut connection, direction, bytes).await?;
    }
    let elapsed = start.elapsed();
    let cpu_after = gateway.map(Process::cpu).transpose()?;
    let peak = gateway.map(Process::peak).transpose()?;
    Ok(BulkResult {
        bytes: bytes * u64::from(times),
        elapsed,
        cpu: cpu_after.zip(cpu_before).map(spent),
        growth: peak
            .zip(before)
            .map(|(peak, before)| peak.saturating_sub(before)),
    })
}

async fn one_body(
    connection: &mut Connection,
    direction: Direction,
    bytes: u64,
) -> anyhow::Result<()> {
    let moved = match direction {
        Direction::Upload => {
            let response = connection.post("/upload", bytes).await?;
            let text = http_body_util::BodyExt::collect(response.into_body()).await?;
            String::from_utf8(text.to_bytes().to_vec())?.parse()?
        }
        Direction::Download => {
            let response = connection.get(&format!("/download/{bytes}")).await?;
            drain(response.into_body()).await?
        }
    };
    ensure!(moved == bytes, "{moved} of {bytes} bytes arrived");
    Ok(())
}

fn spent((after, before): (Duration, Duration)) -> Duration {
    after.saturating_sub(before)
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

#[allow(
    clippy::cast_precision_loss,
    reason = "counts of a benchmark stay far below 2^52"
)]
pub(crate) fn as_float(count: u64) -> f64 {
    count as f64
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        files::{self, Files},
        upstream,
    };

    const SHORT: Loop = Loop {
        protocol: Protocol::H1,
        connections: 2,
        streams: 1,
        reconnect: false,
        measured: Duration::from_millis(200),
    };

    async fn stand_in(files: &Files) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let directory = files.directory().to_owned();
        tokio::spawn(async move { upstream::serve_on(listener, &directory).await });
        address
    }

    fn install_provider() {
        // The process has one; the second test finds it installed already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }

    #[tokio::test]
    async fn the_stand_in_serves_every_load_to_who_has_the_credential() {
        install_provider();
        let files = Files::new().await.unwrap();
        let address = stand_in(&files).await;
        let route = Route::direct(address, &files.upstream_roots(), files::REAL).unwrap();
        let shared = Loop {
            protocol: Protocol::H2,
            streams: 4,
            ..SHORT
        };
        let new_each = Loop {
            reconnect: true,
            ..SHORT
        };
        for shape in [SHORT, shared, new_each] {
            let result = closed_loop(&route, shape, None).await.unwrap();
            assert_eq!((result.errors, result.first_error), (0, None));
            assert!(!result.latency.is_empty());
        }
        for protocol in [Protocol::H1, Protocol::H2] {
            for direction in [Direction::Upload, Direction::Download] {
                let moved = bulk(&route, protocol, direction, 1_000_003, 2, None).await;
                assert_eq!(moved.unwrap().bytes, 2_000_006);
            }
        }
    }

    #[tokio::test]
    async fn a_wrong_credential_is_an_error_and_no_request() {
        install_provider();
        let files = Files::new().await.unwrap();
        let address = stand_in(&files).await;
        let roots: &Path = &files.upstream_roots();
        let wrong = format!("{}x", files::REAL);
        for credential in ["dummy", &wrong] {
            let route = Route::direct(address, roots, credential).unwrap();
            let result = closed_loop(&route, SHORT, None).await.unwrap();
            assert_eq!(result.latency.len(), 0);
            assert!(result.errors > 0);
            assert_eq!(
                result.first_error.as_deref(),
                Some("/small was answered 401 Unauthorized")
            );
        }
    }
}
