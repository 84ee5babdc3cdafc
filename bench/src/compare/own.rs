//! What is measured of the product alone: a start with many policies, reloads under load, and what a
//! second worker costs.

use std::{fmt::Write, path::Path, time::Duration};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::{Compare, PER_SECOND, within};
use crate::{
    affinity::Cores,
    client::{Protocol, Route},
    files::{Addresses, Files},
    load::{self, as_float},
    process::Process,
    scenario::{admin, free_address, progress, ready},
};

/// The policies of a large gateway; there is a workload to each three.
const POLICIES: usize = 3000;

/// How often it is started.
const STARTS: usize = 5;

/// How often its files change while the load is paced.
const BETWEEN_RELOADS: Duration = Duration::from_millis(500);

/// What the product showed.
pub(super) struct Own {
    /// From the start of the process until it says that it is ready, in milliseconds: the first,
    /// which makes its certificate authority, and the median of the later ones.
    first_start: f64,
    start: f64,
    /// Paced load with all these policies: at rest, and while they are reloaded.
    steady: Histogram<u64>,
    reloading: Histogram<u64>,
    reloads: u64,
    /// CPU microseconds a keep-alive request with one worker and with two, on all cores, of which the
    /// load has its own share.
    one_worker: f64,
    two_workers: f64,
}

/// Measures all of it.
pub(super) async fn measure(
    compare: &Compare,
    binary: &Path,
    cores: &Cores,
) -> anyhow::Result<Own> {
    let (files, _upstream, addresses) = site().await?;
    let config = files.write_gateway(&addresses)?;
    files.write_many(POLICIES, 0)?;
    let start = async || start(binary, &config, &files, cores, addresses).await;
    progress("countersign alone: starts")?;
    let (_, first_start) = start().await?;
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(start().await?.1);
    }
    starts.sort_by(f64::total_cmp);

    progress("countersign alone: reloads")?;
    let (gateway, _) = start().await?;
    let route = Route::gateway(addresses.proxy, &files.gateway_roots(), &files.token)?;
    // The first requests make what all share.
    let warm = load::paced(&route, PER_SECOND, compare.measured() / 2);
    within(compare, "paced, to warm up", warm).await?;
    let rest = load::paced(&route, PER_SECOND, compare.measured() * 2);
    let steady = within(compare, "paced", rest).await?;
    let before = reloads(addresses).await?;
    let load = load::paced(&route, PER_SECOND, compare.measured() * 2);
    let load = within(compare, "paced, with reloads", load);
    let reloading = tokio::select! {
        done = load => done?,
        failed = change_often(&files) => return Err(failed),
    };
    let reloads = reloads(addresses).await? - before;
    ensure!(reloads > 1, "{reloads} reloads while the files changed");
    drop(gateway);

    progress("countersign alone: workers")?;
    let one_worker = with_threads(1, compare, binary, cores).await?;
    let two_workers = with_threads(2, compare, binary, cores).await?;
    Ok(Own {
        first_start,
        start: starts[STARTS / 2],
        steady,
        reloading,
        reloads,
        one_worker,
        two_workers,
    })
}

/// Files, a stand-in API that runs, and addresses for it and a gateway.
async fn site() -> anyhow::Result<(Files, Process, Addresses)> {
    let files = Files::new().await?;
    let (api, upstream) = Process::upstream(&files)?;
    let addresses = Addresses {
        upstream,
        proxy: free_address()?,
        admin: free_address()?,
    };
    Ok((files, api, addresses))
}

/// Starts the gateway, and tells after how many milliseconds it was ready.
async fn start(
    binary: &Path,
    config: &Path,
    files: &Files,
    cores: &Cores,
    addresses: Addresses,
) -> anyhow::Result<(Process, f64)> {
    let begin = Instant::now();
    let mut process = Process::gateway(binary, config, files, cores)?;
    while !matches!(admin(addresses, "/readyz").await, Ok((200, _))) {
        process.still_runs()?;
        ensure!(begin.elapsed().as_secs() < 20, "it does not become ready");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok((process, begin.elapsed().as_secs_f64() * 1e3))
}

/// Writes other policies again and again; ends only when it cannot.
async fn change_often(files: &Files) -> anyhow::Error {
    for change in 1.. {
        tokio::time::sleep(BETWEEN_RELOADS).await;
        if let Err(error) = files.write_many(POLICIES, change) {
            return error.into();
        }
    }
    anyhow::anyhow!("no number is left")
}

async fn reloads(addresses: Addresses) -> anyhow::Result<u64> {
    let (_, metrics) = admin(addresses, "/metrics").await?;
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(r#"countersign_config_reloads_total{result="ok"} "#));
    Ok(line.context("the gateway counts no reloads")?.parse()?)
}

/// The CPU microseconds of a keep-alive request, the load's cores being the gateway's too.
async fn with_threads(
    threads: usize,
    compare: &Compare,
    binary: &Path,
    cores: &Cores,
) -> anyhow::Result<f64> {
    let (files, _upstream, addresses) = site().await?;
    let config = files.write_gateway(&addresses)?;
    let shared = cores.shared();
    let mut process = Process::gateway_with(Some(threads), binary, &config, &files, &shared)?;
    ready(&mut process, addresses).await?;
    let route = Route::gateway(addresses.proxy, &files.gateway_roots(), &files.token)?;
    let shape = compare.shape(Protocol::H1, compare.connections, 1);
    let result = load::closed_loop(&route, shape, Some(&process));
    let result = within(compare, "keep-alive", result).await?;
    ensure!(result.errors == 0, "{} failed", result.errors);
    result.cpu_micros().context("it did nothing")
}

impl Own {
    pub(super) fn markdown(&self) -> Result<String, std::fmt::Error> {
        let p99 = |latency: &Histogram<u64>| as_float(latency.value_at_quantile(0.99));
        let mut text = String::from("\n| countersign alone | |\n|---|---:|\n");
        let mut row = |what: &str, shown: String| writeln!(text, "| {what} | {shown} |");
        row(
            &format!("start to ready, {POLICIES} policies, ms (the very first, with a new CA)"),
            format!("{:.0} ({:.0})", self.start, self.first_start),
        )?;
        row(
            "200 a second with them, p50 / p99 / most, us",
            spread(&self.steady),
        )?;
        row(
            &format!("the same during {} reloads of them", self.reloads),
            format!(
                "{}; p99 is {:.2} times",
                spread(&self.reloading),
                p99(&self.reloading) / p99(&self.steady)
            ),
        )?;
        row(
            "keep-alive h1, CPU us a request, 1 worker / 2 workers",
            format!(
                "{:.1} / {:.1}; two cores do {:.2} times the work of one",
                self.one_worker,
                self.two_workers,
                2.0 * self.one_worker / self.two_workers
            ),
        )?;
        Ok(text)
    }
}

fn spread(latency: &Histogram<u64>) -> String {
    format!(
        "{} / {} / {}",
        latency.value_at_quantile(0.5),
        latency.value_at_quantile(0.99),
        latency.max()
    )
}
