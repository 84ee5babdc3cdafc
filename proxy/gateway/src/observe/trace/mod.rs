//! Spans: made from finished records, and sent to a collector from a thread of their own.
//!
//! The request path makes none. It notes whose trace a request belongs to, and everything else is in the record with its
//! timings. The log's thread hands over the lines of sampled requests; what does not fit in the queue is lost and counted,
//! and so is what the collector does not take. Nothing waits for a collector.

mod exporter;
mod spans;

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use countersign_config::model::Traces;
use countersign_core::metrics::{Metrics, SpansLost};
use tokio::time::Instant;

use self::{exporter::Exporter, spans::Finished};
use super::{closed::Closed, otlp::SetupError, sampler::Sampler};

/// What may wait to be sent, in bytes.
pub(super) const WAITING_BYTES: usize = 768 * 1024;

/// The most requests that are sent at a time.
const BATCH: usize = 64;

/// The shortest time between two log messages about a collector that takes nothing.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Where finished requests are handed over.
#[derive(Debug)]
pub(super) struct Tracer {
    sampler: Sampler,
    queue: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    metrics: OnceLock<Metrics>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Finished>,
    bytes: usize,
    closing: bool,
}

/// Why no spans can be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum TraceError {
    /// To this collector.
    #[error("nothing can be sent to {endpoint}")]
    Collector {
        /// Its URL.
        endpoint: String,
        /// Why.
        source: SetupError,
    },
    /// The system gave no thread.
    #[error("the system gave no thread")]
    Thread(#[source] io::Error),
}

impl Tracer {
    /// Starts the thread that sends. The collector need not be there yet.
    ///
    /// # Errors
    /// When its URL or its roots cannot be used, or the system gives no thread.
    pub(super) fn start(traces: &Traces, gateway: &str) -> Result<Self, TraceError> {
        let exporter = Exporter::new(traces, gateway).map_err(|source| TraceError::Collector {
            endpoint: traces.collector.endpoint.clone(),
            source,
        })?;
        let queue = Arc::new(Shared::default());
        let sending = Arc::clone(&queue);
        let thread = thread::Builder::new()
            .name("spans".into())
            .spawn(move || sending.send(exporter))
            .map_err(TraceError::Thread)?;
        Ok(Self {
            sampler: Sampler::new(traces),
            queue,
            thread: Some(thread),
        })
    }

    /// Which requests it sends.
    pub(super) fn sampler(&self) -> Sampler {
        self.sampler
    }

    /// Hands a request over, whose record is this line, if it is sampled. Never waits.
    pub(super) fn add(&self, closed: &Closed, line: &[u8], metrics: Option<&Metrics>) {
        if !self.sampler.keeps(&closed.entry, closed.outcome) {
            return;
        }
        let finished = Finished::new(closed, line);
        let spans = finished.spans();
        if let Some(metrics) = metrics {
            self.queue.metrics.get_or_init(|| metrics.clone());
        }
        let mut queue = self.queue.lock();
        let bytes = queue.bytes + finished.bytes();
        if bytes > WAITING_BYTES {
            drop(queue);
            if let Some(metrics) = metrics {
                metrics.spans_lost(SpansLost::QueueFull, spans);
            }
            return;
        }
        queue.bytes = bytes;
        queue.waiting.push(finished);
        drop(queue);
        self.queue.changed.notify_one();
    }

    /// Sends what waits, once, and ends.
    pub(super) fn end(&mut self) {
        self.queue.lock().closing = true;
        self.queue.changed.notify_one();
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the thread that sends spans failed");
        }
    }
}

impl Shared {
    /// Sends until the queue is closed and empty, or cannot be emptied.
    fn send(&self, mut exporter: Exporter) {
        let mut complained: Option<Instant> = None;
        loop {
            let (batch, closing) = self.next();
            if batch.is_empty() {
                return;
            }
            let all: u64 = batch.iter().map(Finished::spans).sum();
            let (sent, rejected, failed) = match exporter.export(batch) {
                Ok(rejected) => (all.saturating_sub(rejected), rejected.min(all), 0),
                Err(error) => {
                    if complained.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
                        complained = Some(Instant::now());
                        tracing::error!(%error, "spans cannot be sent and are lost");
                    }
                    (0, 0, all)
                }
            };
            // At the end a collector that takes nothing is not asked again.
            let rest = if closing && failed > 0 {
                self.give_up()
            } else {
                0
            };
            if let Some(metrics) = self.metrics.get() {
                metrics.spans_sent(sent);
                metrics.spans_lost(SpansLost::Rejected, rejected);
                metrics.spans_lost(SpansLost::Collector, failed + rest);
            }
        }
    }

    /// The next requests; none at the end.
    fn next(&self) -> (Vec<Finished>, bool) {
        let waits = |queue: &mut Queue| queue.waiting.is_empty() && !queue.closing;
        let queue = self.changed.wait_while(self.lock(), waits);
        let mut queue = queue.unwrap_or_else(PoisonError::into_inner);
        let count = queue.waiting.len().min(BATCH);
        let batch: Vec<_> = queue.waiting.drain(..count).collect();
        queue.bytes -= batch.iter().map(Finished::bytes).sum::<usize>();
        (batch, queue.closing)
    }

    /// Empties the queue; returns how many spans were in it.
    fn give_up(&self) -> u64 {
        let mut queue = self.lock();
        queue.bytes = 0;
        let rest = std::mem::take(&mut queue.waiting);
        rest.iter().map(Finished::spans).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
