//! The decision log: bounded queues, and the thread that writes what is in them.
//!
//! The request path never waits for a disk or a pipe. If a queue is full, or the sink cannot be written,
//! records are lost and counted: at once in `countersign_decisions_dropped_total`, and in a
//! `countersign.dropped/v1` line of the log as soon as it can be written again.
//!
//! Records of identified callers have a queue and a file of their own, so that unidentified callers cannot
//! displace them; and no workload can fill the queue of the others.

mod class;
mod digest;
mod document;
mod event;
mod file;
mod lane;
mod memory;
mod recent;
mod seal;
mod shed;
mod top;
mod used;
mod uses;
mod writer;

use std::{
    io,
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, Thread},
    time::Duration,
};

use countersign_config::{
    history::LastUse,
    memory::DECISIONS,
    model::{DecisionSink, Observe},
};
use countersign_core::{
    budget::narrow,
    clock::Clock,
    metrics::{Class, Metrics},
};
use tokio::sync::oneshot;

use self::{
    class::class_of,
    event::Events,
    lane::{Bounds, Lane, Outlet, lane},
    recent::RECENT_BYTES,
    seal::Sealer,
    shed::ShedConnections,
    used::LastUsed,
    uses::Uses,
    writer::{Outputs, Writer},
};
pub(super) use self::{event::Event, recent::Recent};
pub use self::{event::Happened, memory::MemoryLog};
use super::{closed::Closed, count};

/// Records of one class that wait to be written.
const LANE_RECORDS: usize = 8192;

/// The bounds of the queue for identified callers.
const IDENTIFIED: Bounds = Bounds {
    records: LANE_RECORDS,
    bytes: 8 * 1024 * 1024,
};

/// The bounds of the queue for all others.
const UNIDENTIFIED: Bounds = Bounds {
    records: LANE_RECORDS,
    bytes: 4 * 1024 * 1024,
};

/// The most bytes that a decision log may queue.
pub const QUEUED_BYTES: usize = IDENTIFIED.bytes + UNIDENTIFIED.bytes;

// There are at most two batches, which grow by doubling; one may contain a summary of each caller.
const _: () = assert!(
    QUEUED_BYTES + RECENT_BYTES + 4 * writer::BATCH_BYTES <= narrow(DECISIONS),
    "the records that wait are more than the table of budgets has"
);

/// Where finished records go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DecisionLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    way: Way,
    counts: Counts,
}

#[derive(Debug)]
enum Way {
    /// To the writer's thread.
    Queues(Queues),
    /// For tests: at once, on the caller's thread.
    Memory(MemoryLog),
}

/// The sending ends.
#[derive(Debug)]
struct Queues {
    identified: Lane,
    unidentified: Lane,
    control: SyncSender<Control>,
    writer: Arc<OnceLock<Thread>>,
}

/// The receiving ends.
#[derive(Debug)]
struct Inlet {
    identified: Outlet,
    unidentified: Outlet,
    control: Receiver<Control>,
    writer: Arc<OnceLock<Thread>>,
}

/// What both ends of the queues share.
#[derive(Debug, Clone, Default)]
struct Counts(Arc<CountsInner>);

#[derive(Debug, Default)]
struct CountsInner {
    /// Lost records that the log has not reported yet.
    identified_dropped: AtomicU64,
    unidentified_dropped: AtomicU64,
    shed: ShedConnections,
    events: Events,
    recent: Arc<Recent>,
    uses: Uses,
    used: OnceLock<Arc<LastUsed>>,
    observer: OnceLock<(Metrics, Clock)>,
}

#[derive(Debug)]
enum Control {
    /// Open the files again: a tool has moved them.
    Reopen,
    /// Write what came before, answer, and end.
    Shutdown(oneshot::Sender<()>),
}

/// Why a decision log cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be opened for appending.
    #[error("the decision log {path} cannot be opened")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory of the checkpoints cannot be used.
    #[error("{path} (observe.audit.directory) cannot be used")]
    Audit {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system gave no thread.
    #[error("the decision log's thread cannot be started")]
    Thread(#[source] io::Error),
}

/// The records left in the queue could not be written in time; they are lost.
#[derive(Debug, thiserror::Error)]
#[error("the decision log could not be written in time")]
pub struct DrainTimedOut;

impl DecisionLog {
    /// Opens the sink and starts the writer's thread. Does not wait for a reader of the sink.
    pub fn start(observe: &Observe, gateway: &str) -> Result<Self, LogError> {
        let outputs = match &observe.decisions {
            DecisionSink::Stdout => Outputs::stream(Box::new(io::stdout())),
            DecisionSink::File(path) => {
                Outputs::files(path).map_err(|(path, source)| LogError::Open { path, source })?
            }
        };
        let sealer = match &observe.audit {
            Some(audit) => {
                Some(
                    Sealer::open(audit, gateway).map_err(|source| LogError::Audit {
                        path: audit.directory.clone(),
                        source,
                    })?,
                )
            }
            None => None,
        };
        Self::write_to(outputs, sealer)
    }

    /// A log that gives its lines to `writer`, whole lines at a time, on a thread of its own.
    pub fn to_writer(writer: Box<dyn io::Write + Send>) -> Result<Self, LogError> {
        Self::write_to(Outputs::stream(writer), None)
    }

    fn write_to(outputs: Outputs, sealer: Option<Sealer>) -> Result<Self, LogError> {
        let (log, inlet) = Self::queues(IDENTIFIED, UNIDENTIFIED);
        let writer = Writer::new(outputs, sealer, log.0.counts.clone());
        thread::Builder::new()
            .name("decisions".into())
            .spawn(move || writer.run(&inlet))
            .map_err(LogError::Thread)?;
        Ok(log)
    }

    /// For tests: a log that keeps its records, readable as soon as they are closed.
    pub fn memory() -> (Self, MemoryLog) {
        let memory = MemoryLog::default();
        let log = Self(Arc::new(Shared {
            way: Way::Memory(memory.clone()),
            counts: Counts::default(),
        }));
        (log, memory)
    }

    /// Reopens the files at their paths, after a tool has moved them. Does nothing for other sinks, or
    /// shortly after another call: the writer checks every second anyway.
    pub fn reopen(&self) {
        if let Way::Queues(queues) = &self.0.way {
            if queues.control.try_send(Control::Reopen).is_err() {
                tracing::debug!("the decision log is in_flight or closed: not asked to reopen");
            }
            queues.wake();
        }
    }

    /// Waits until everything written so far is in the sink, at most for `within`, and ends the
    /// writer. Records closed afterwards are lost and counted.
    pub async fn shutdown(&self, within: Duration) -> Result<(), DrainTimedOut> {
        let Way::Queues(queues) = &self.0.way else {
            return Ok(());
        };
        let drained = async {
            let (done, answer) = oneshot::channel();
            let mut message = Control::Shutdown(done);
            loop {
                match queues.control.try_send(message) {
                    Ok(()) => break,
                    Err(TrySendError::Disconnected(_)) => return Ok(()),
                    Err(TrySendError::Full(back)) => message = back,
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            queues.wake();
            // Without a reply the writer has ended some other way.
            answer.await.map_err(|_| DrainTimedOut)
        };
        tokio::time::timeout(within, drained)
            .await
            .unwrap_or(Err(DrainTimedOut))
    }

    /// From now on, counts in `metrics`; the first call wins.
    pub(super) fn count_in(&self, metrics: &Metrics, clock: &Clock) {
        self.0
            .counts
            .0
            .observer
            .get_or_init(|| (metrics.clone(), clock.clone()));
    }

    /// Takes what was used since the last call.
    pub(super) fn take_uses(&self) -> LastUse {
        self.0.counts.0.uses.take()
    }

    /// The latest lines, for the admin endpoint.
    pub(super) fn recent(&self) -> &Arc<Recent> {
        &self.0.counts.0.recent
    }

    /// From now on, notes what was used last.
    pub(crate) fn note_use(&self) -> Arc<LastUsed> {
        Arc::clone(self.0.counts.0.used.get_or_init(Arc::default))
    }

    /// Hands a finished record over, without waiting.
    pub(super) fn write(&self, closed: Box<Closed>) {
        match &self.0.way {
            Way::Memory(memory) => {
                self.0.counts.record(&closed);
                self.0.counts.0.recent.push(&memory.push(&closed));
            }
            Way::Queues(queues) => {
                let class = class_of(&closed);
                match queues.lane(class).put(closed) {
                    Ok(()) => queues.wake(),
                    Err(closed) => {
                        // The writer does not see it, but the request still counts.
                        self.0.counts.record(&closed);
                        self.0.counts.dropped(class, 1);
                    }
                }
            }
        }
    }

    /// Tells what happened to the gateway itself.
    pub(super) fn tell(&self, event: Event) {
        match &self.0.way {
            Way::Memory(memory) => self.0.counts.0.recent.push(&memory.push_event(&event)),
            Way::Queues(queues) => {
                self.0.counts.0.events.add(event);
                queues.wake();
            }
        }
    }

    /// Counts a connection that was closed in favour of others; the log reports totals.
    pub(super) fn shed(&self, class: Class, source: IpAddr, why: &'static str) {
        let counts = &self.0.counts;
        counts.0.shed.add(class, source, why, counts.now());
    }

    /// A log and the other end of its queues.
    fn queues(identified: Bounds, unidentified: Bounds) -> (Self, Inlet) {
        let (identified, identified_outlet) = lane(identified);
        let (unidentified, unidentified_outlet) = lane(unidentified);
        let (control, asked) = sync_channel(4);
        let writer = Arc::default();
        let inlet = Inlet {
            identified: identified_outlet,
            unidentified: unidentified_outlet,
            control: asked,
            writer: Arc::clone(&writer),
        };
        let log = Self(Arc::new(Shared {
            way: Way::Queues(Queues {
                identified,
                unidentified,
                control,
                writer,
            }),
            counts: Counts::default(),
        }));
        (log, inlet)
    }
}

impl Queues {
    fn lane(&self, class: Class) -> &Lane {
        match class {
            Class::Identified => &self.identified,
            Class::Unidentified => &self.unidentified,
        }
    }

    /// Wakes the writer if it is idle.
    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }
}

impl Inlet {
    /// The current thread is the writer from now on.
    fn wake_me(&self) {
        self.writer.get_or_init(thread::current);
    }

    /// Whether all logs are dropped.
    fn is_closed(&self) -> bool {
        self.identified.is_closed()
    }
}

impl Counts {
    /// Counts a finished request.
    fn record(&self, closed: &Closed) {
        self.0.uses.record(closed);
        if let Some((metrics, _)) = self.0.observer.get() {
            count::finished(metrics, closed);
        }
        if let Some(used) = self.0.used.get() {
            used.note(closed);
        }
    }

    /// Counts lost records.
    fn dropped(&self, class: Class, count: u64) {
        self.untold(class).fetch_add(count, Ordering::Relaxed);
        if let Some((metrics, _)) = self.0.observer.get() {
            metrics.decisions_dropped(class, count);
        }
    }

    /// Counts a record that is part of a summary.
    fn summarized(&self, class: Class) {
        if let Some((metrics, _)) = self.0.observer.get() {
            metrics.decision_summarized(class);
        }
    }

    /// Counts a failed attempt to write.
    fn write_failed(&self) {
        if let Some((metrics, _)) = self.0.observer.get() {
            metrics.decision_write_failed();
        }
    }

    /// Takes the lost records that the log has not reported yet; the caller must write a line for them.
    fn take_dropped(&self, class: Class) -> u64 {
        self.untold(class).swap(0, Ordering::Relaxed)
    }

    /// Returns what [`Self::take_dropped`] took, when the line could not be written.
    fn untake_dropped(&self, class: Class, count: u64) {
        self.untold(class).fetch_add(count, Ordering::Relaxed);
    }

    fn untold(&self, class: Class) -> &AtomicU64 {
        match class {
            Class::Identified => &self.0.identified_dropped,
            Class::Unidentified => &self.0.unidentified_dropped,
        }
    }

    fn now(&self) -> jiff::Timestamp {
        self.0
            .observer
            .get()
            .map_or_else(|| Clock::system().now(), |(_, clock)| clock.now())
    }
}

#[cfg(test)]
mod tests;
