//! The decision log: a bounded queue and the one thread that writes what is in it.
//!
//! The request path never waits for a disk or a pipe. When the queue is full, or the sink cannot
//! be written, records are lost and counted: in `countersign_decisions_dropped_total` at once, and
//! by a `countersign.dropped/v1` line in the log itself as soon as it can be written again.

mod file;
mod memory;
mod writer;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use countersign_config::model::DecisionSink;
use tokio::sync::oneshot;

pub use self::memory::MemoryLog;
use self::{
    file::RotatingFile,
    writer::{Output, Writer},
};
use super::{Metrics, record::Closed};
use crate::clock::Clock;

/// Records that wait to be written. Each slot is a pointer; a record behind it is about 1 KiB.
const QUEUE: usize = 8192;

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
    Queue(SyncSender<Message>),
    /// For tests: at once, on the caller's thread.
    Memory(MemoryLog),
}

/// What the two ends of the queue both know.
#[derive(Debug, Clone, Default)]
struct Counts(Arc<CountsInner>);

#[derive(Debug, Default)]
struct CountsInner {
    /// Lost records that no line in the log stands for yet.
    dropped: AtomicU64,
    observer: OnceLock<(Metrics, Clock)>,
}

#[derive(Debug)]
enum Message {
    Record(Box<Closed>),
    /// Open the file again: a tool has moved it.
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
    /// The system gave no thread.
    #[error("the decision log's thread cannot be started")]
    Thread(#[source] io::Error),
}

/// The records left in the queue could not be written in time; they are lost.
#[derive(Debug, thiserror::Error)]
#[error("the decision log could not be written in time")]
pub struct DrainTimedOut;

impl DecisionLog {
    /// Opens the sink and starts the thread that writes to it.
    pub fn start(sink: &DecisionSink) -> Result<Self, LogError> {
        let output = match sink {
            DecisionSink::Stdout => Output::Stream(Box::new(io::stdout())),
            DecisionSink::File(path) => {
                Output::File(RotatingFile::open(path).map_err(|source| LogError::Open {
                    path: path.clone(),
                    source,
                })?)
            }
        };
        Self::write_to(output)
    }

    /// A log that gives its lines to `writer`, whole lines at a time, on a thread of its own.
    pub fn to_writer(writer: Box<dyn io::Write + Send>) -> Result<Self, LogError> {
        Self::write_to(Output::Stream(writer))
    }

    fn write_to(output: Output) -> Result<Self, LogError> {
        let (log, messages) = Self::queue(QUEUE);
        let writer = Writer::new(output, log.0.counts.clone());
        thread::Builder::new()
            .name("decisions".into())
            .spawn(move || writer.run(&messages))
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

    /// Opens the file again at its path, after a tool has moved it. Does nothing for other sinks,
    /// nor when the queue is full: the writer finds out by itself within a second.
    pub fn reopen(&self) {
        if let Way::Queue(queue) = &self.0.way
            && queue.try_send(Message::Reopen).is_err()
        {
            tracing::debug!("the decision log's queue is full or closed: not asked to reopen");
        }
    }

    /// Waits until everything written so far is in the sink, at most for `within`, and ends the
    /// writer. Records closed afterwards are lost and counted.
    pub async fn shutdown(&self, within: Duration) -> Result<(), DrainTimedOut> {
        let Way::Queue(queue) = &self.0.way else {
            return Ok(());
        };
        let drained = async {
            let (done, answer) = oneshot::channel();
            let mut message = Message::Shutdown(done);
            loop {
                match queue.try_send(message) {
                    Ok(()) => break,
                    Err(TrySendError::Disconnected(_)) => return Ok(()),
                    Err(TrySendError::Full(back)) => message = back,
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // An answer that never comes means that the writer ended some other way.
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

    /// Hands a finished record over, without waiting.
    pub(super) fn write(&self, closed: Box<Closed>) {
        match &self.0.way {
            Way::Memory(memory) => {
                self.0.counts.record(&closed);
                memory.push(&closed);
            }
            Way::Queue(queue) => match queue.try_send(Message::Record(closed)) {
                Ok(()) => {}
                Err(
                    TrySendError::Full(Message::Record(closed))
                    | TrySendError::Disconnected(Message::Record(closed)),
                ) => {
                    // The writer will not see it: the request itself still counts.
                    self.0.counts.record(&closed);
                    self.0.counts.dropped(1);
                }
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    unreachable!("a message comes back as it was sent")
                }
            },
        }
    }

    /// A log and the other end of its queue.
    fn queue(length: usize) -> (Self, Receiver<Message>) {
        let (queue, messages) = sync_channel(length);
        let log = Self(Arc::new(Shared {
            way: Way::Queue(queue),
            counts: Counts::default(),
        }));
        (log, messages)
    }
}

impl Counts {
    /// Counts a finished request.
    fn record(&self, closed: &Closed) {
        if let Some((metrics, _)) = self.0.observer.get() {
            metrics.record(closed);
        }
    }

    /// Counts lost records.
    fn dropped(&self, count: u64) {
        self.0.dropped.fetch_add(count, Ordering::Relaxed);
        if let Some((metrics, _)) = self.0.observer.get() {
            metrics.decisions_dropped(count);
        }
    }

    /// Counts a failed attempt to write.
    fn write_failed(&self) {
        if let Some((metrics, _)) = self.0.observer.get() {
            metrics.decision_write_failed();
        }
    }

    /// The lost records that no line stands for yet; the caller must write one.
    fn take_dropped(&self) -> u64 {
        self.0.dropped.swap(0, Ordering::Relaxed)
    }

    /// Puts back what [`Self::take_dropped`] gave, when its line could not be written.
    fn untake_dropped(&self, count: u64) {
        self.0.dropped.fetch_add(count, Ordering::Relaxed);
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
