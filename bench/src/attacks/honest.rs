//! Ten workloads that send 200 requests a second together, as if nothing were the matter.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::{task::JoinSet, time::Instant};

use super::world::World;
use crate::{
    client::{Connection, Protocol, Route},
    upstream::drain,
};

/// How many workloads, and requests of each in a second.
pub(super) const WORKLOADS: usize = 10;
const PER_SECOND: u32 = 20;

/// Every so many requests of a workload begin with a new connection.
const NEW_EVERY: u32 = 10;

/// A job gives up then.
const PATIENCE: Duration = Duration::from_secs(10);

/// What happened to honest requests that began in a stretch of time.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    /// Which stretch; requests that began in another do not count.
    stretch: u64,
    /// Whether requests that begin now count.
    open: bool,
    pub(super) sent: u64,
    pub(super) answered: u64,
    pub(super) failed: u64,
    pub(super) latency: Histogram<u64>,
    pub(super) first_error: Option<String>,
}

impl Watched {
    fn new(stretch: u64) -> anyhow::Result<Self> {
        Ok(Self {
            stretch,
            open: stretch > 0,
            sent: 0,
            answered: 0,
            failed: 0,
            latency: Histogram::new_with_max(60_000_000, 3)?,
            first_error: None,
        })
    }
}

/// The load.
pub(super) struct Honest {
    seen: Arc<Mutex<Watched>>,
    workers: JoinSet<()>,
}

impl Honest {
    /// Opens a connection for each workload and begins.
    pub(super) async fn start(world: &World) -> anyhow::Result<Self> {
        let seen = Arc::new(Mutex::new(Watched::new(0)?));
        let mut workers = JoinSet::new();
        for (number, route) in world.honest()?.into_iter().enumerate() {
            let connection = route.open(Protocol::H1).await?;
            workers.spawn(work(route, connection, Arc::clone(&seen), number));
        }
        Ok(Self { seen, workers })
    }

    /// What happens to the requests that begin from now on for so long, whenever they end.
    pub(super) async fn watch(&self, stretch: Duration) -> anyhow::Result<Watched> {
        let next = lock(&self.seen).stretch + 1;
        *lock(&self.seen) = Watched::new(next)?;
        tokio::time::sleep(stretch).await;
        lock(&self.seen).open = false;
        let end = Instant::now() + 2 * PATIENCE;
        loop {
            let now = lock(&self.seen).clone();
            if now.answered + now.failed >= now.sent || Instant::now() > end {
                return Ok(now);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the load.
    pub(super) async fn stop(mut self) {
        self.workers.shutdown().await;
    }
}

/// Sends at a steady pace, whether or not the answers keep it; a lost connection is opened again.
async fn work(route: Route, first: Connection, seen: Arc<Mutex<Watched>>, number: usize) {
    let mut open = Some(first);
    let between = Duration::from_secs(1) / PER_SECOND;
    let offset = between * u32::try_from(number).unwrap_or(0) / 10;
    let mut due = Instant::now() + offset;
    for turn in 0_u32.. {
        // The timer is as coarse as a millisecond, which is not the gateway's doing.
        let start = if Instant::now() < due {
            tokio::time::sleep_until(due).await;
            Instant::now()
        } else {
            due
        };
        if turn % NEW_EVERY == NEW_EVERY - 1 {
            open = None;
        }
        let stretch = begin(&seen);
        let outcome = tokio::time::timeout(PATIENCE, request(&route, &mut open)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in time")));
        let mut seen = lock(&seen);
        if outcome.is_err() {
            open = None;
        }
        due += between;
        if stretch != Some(seen.stretch) {
            continue;
        }
        match outcome {
            Ok(()) => {
                seen.answered += 1;
                let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
                seen.latency.saturating_record(micros);
            }
            Err(error) => {
                seen.failed += 1;
                let after = start.elapsed().as_millis();
                seen.first_error
                    .get_or_insert(format!("{error:#}, after {after} ms"));
            }
        }
    }
}

/// Counts a request that begins, and tells in which stretch.
fn begin(seen: &Mutex<Watched>) -> Option<u64> {
    let mut seen = lock(seen);
    seen.sent += u64::from(seen.open);
    seen.open.then_some(seen.stretch)
}

async fn request(route: &Route, open: &mut Option<Connection>) -> anyhow::Result<()> {
    let connection = match open {
        Some(connection) => connection,
        None => open.insert(route.open(Protocol::H1).await?),
    };
    let response = connection.get("/small").await?;
    drain(response.into_body()).await?;
    Ok(())
}

/// Locks; a panic of another worker spoils no count.
fn lock(seen: &Mutex<Watched>) -> std::sync::MutexGuard<'_, Watched> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
