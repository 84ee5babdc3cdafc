//! The decision log: bounded queues, and the thread that writes what is in them.
//!
//! The request path never waits for a disk or a pipe. If a queue is full, or the sink cannot be written,
//! records are lost and counted: at once in `countersign_decisions_dropped_total`, and in a
//! `countersign.dropped/v1` line of the log as soon as it can be written again.
//!
//! Records of identified callers have a queue and a file of their own, so that unidentified callers cannot
//! displace them; and no workload can fill the queue of the others.

mod class;
mod counts;
mod digest;
mod document;
mod error;
mod event;
mod file;
mod gate;
mod lane;
mod memory;
mod outputs;
mod recent;
mod seal;
mod shed;
mod sink;
mod top;
mod used;
mod uses;
mod writer;

use std::{
    collections::VecDeque,
    io,
    net::IpAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, Thread},
    time::Duration,
};

use countersign_config::{
    history::LastUse,
    memory::DECISIONS,
    model::{DecisionSink, Observe, WhenFull},
};
use countersign_core::{
    budget::narrow,
    clock::Clock,
    metrics::{Class, Metrics},
};
use tokio::sync::oneshot;

pub use self::file::beside as unidentified_file;
use self::{
    class::{class_of, was_forwarded},
    counts::Counts,
    gate::Gate,
    lane::{Bounds, Lane, Outlet, lane},
    outputs::Outputs,
    recent::RECENT_BYTES,
    seal::Sealer,
    sink::{Destination, Sink},
    used::LastUsed,
    writer::{Delivery, SingleSink, Writer},
};
pub use self::{
    error::{DrainTimedOut, LogError, SinkError, TracesError},
    event::Happened,
    gate::RecordsFull,
    memory::MemoryLog,
};
pub(super) use self::{event::Event, recent::Recent, sink::SinkStatus};
use super::{
    closed::Closed,
    sampler::Sampler,
    trace::{self, Tracer},
};

/// The shortest time between two log messages about a sink that cannot be written.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

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
    QUEUED_BYTES / 2 + sink::WAITING_BYTES <= QUEUED_BYTES
        && QUEUED_BYTES + RECENT_BYTES + 4 * writer::BATCH_BYTES + trace::WAITING_BYTES
            <= narrow(DECISIONS),
    "the records that wait are more than the table of budgets has"
);

/// Where finished records go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DecisionLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    way: Way,
    counts: Counts,
    /// Where records go; nothing in tests.
    sinks: Vec<Arc<Sink>>,
    /// Whether requests may be forwarded; `None` if no sink cares.
    gate: Option<Arc<Gate>>,
    /// Which requests have their spans sent; `None` if none have.
    sampler: Option<Sampler>,
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
    /// Records of forwarded requests that must not be lost and did not fit.
    overflow: Overflow,
    control: SyncSender<Control>,
    writer: Arc<OnceLock<Thread>>,
}

/// The receiving ends.
#[derive(Debug)]
struct Inlet {
    identified: Outlet,
    unidentified: Outlet,
    overflow: Overflow,
    control: Receiver<Control>,
    writer: Arc<OnceLock<Thread>>,
}

/// Bounded by the requests that were in progress when the gate closed: their records took memory already.
type Overflow = Arc<Mutex<VecDeque<Box<Closed>>>>;

/// The line of a record.
#[cfg(test)]
pub(super) fn line_of(closed: &Closed) -> Vec<u8> {
    let mut line = Vec::new();
    document::write_line(closed, &mut line);
    line
}

#[derive(Debug)]
enum Control {
    /// Open the files again: a tool has moved them.
    Reopen,
    /// Write what came before, answer, and end.
    Shutdown(oneshot::Sender<()>),
}

impl DecisionLog {
    /// Opens the sink and starts the writer's thread. Does not wait for a reader of the sink.
    pub fn start(observe: &Observe, gateway: &str) -> Result<Self, LogError> {
        let mut sealer = match &observe.audit {
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
        let gate = Arc::new(Gate::default());
        let among = observe.decisions.len();
        let sinks = observe.decisions.iter();
        let sinks: Vec<_> = sinks.map(|sink| Sink::new(sink, among, &gate)).collect();
        let mut destinations = Vec::new();
        for sink in &observe.decisions {
            // The first sink that can be sealed has the chains.
            let sealer = sealer.take_if(|_| sink.place.can_be_sealed());
            let destination = Destination::open(&sink.place, gateway, sealer);
            destinations.push(destination.map_err(LogError::of)?);
        }
        let must_not_lose = |sink: &DecisionSink| sink.when_full != WhenFull::Drop;
        let gate = observe.decisions.iter().any(must_not_lose).then_some(gate);
        let delivery = match (&gate, destinations.pop()) {
            (None, Some(Destination::Lines(only)))
                if destinations.is_empty() && only.is_plain() =>
            {
                let (outputs, sealer) = only.into_parts();
                Delivery::Inline(Box::new(SingleSink {
                    outputs,
                    sealer,
                    sink: sinks.first().map(Arc::clone),
                }))
            }
            (_, last) => {
                destinations.extend(last);
                let ends = sinks.iter().map(Arc::clone);
                Delivery::Sinks(ends.zip(destinations).collect())
            }
        };
        let tracer = observe.traces.as_ref();
        let tracer = tracer
            .map(|traces| Tracer::start(traces, gateway))
            .transpose();
        let tracer = tracer.map_err(TracesError).map_err(LogError::Traces)?;
        Self::write_to(delivery, sinks, gate, tracer)
    }

    /// A log that gives its lines to `writer`, whole lines at a time, on a thread of its own.
    pub fn to_writer(writer: Box<dyn io::Write + Send>) -> Result<Self, LogError> {
        let single = SingleSink {
            outputs: Outputs::stream(writer),
            sealer: None,
            sink: None,
        };
        Self::write_to(Delivery::Inline(Box::new(single)), Vec::new(), None, None)
    }

    fn write_to(
        delivery: Delivery,
        sinks: Vec<Arc<Sink>>,
        gate: Option<Arc<Gate>>,
        tracer: Option<Tracer>,
    ) -> Result<Self, LogError> {
        let bounds = match &delivery {
            Delivery::Inline(_) => [IDENTIFIED, UNIDENTIFIED],
            // The rest of the room is for what waits at the sinks.
            Delivery::Sinks(_) => [IDENTIFIED, UNIDENTIFIED].map(|bounds| Bounds {
                bytes: bounds.bytes / 2,
                ..bounds
            }),
        };
        let [identified, unidentified] = bounds;
        let sampler = tracer.as_ref().map(Tracer::sampler);
        let (log, inlet) = Self::queues_with(identified, unidentified, sinks, gate, sampler);
        let counts = log.0.counts.clone();
        let writer = Writer::start(delivery, counts, tracer).map_err(LogError::Thread)?;
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
            sinks: Vec::new(),
            gate: None,
            sampler: None,
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
                self.0.counts.0.recent.push(memory.push(&closed).into());
            }
            Way::Queues(queues) => {
                let class = class_of(&closed);
                match queues.lane(class).put(closed) {
                    Ok(()) => queues.wake(),
                    Err(closed) if self.0.gate.is_some() && was_forwarded(&closed) => {
                        let mut overflow = queues
                            .overflow
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner);
                        overflow.push_back(closed);
                        drop(overflow);
                        queues.wake();
                    }
                    Err(closed) => {
                        // The writer does not see it, but the request still counts.
                        self.0.counts.record(&closed);
                        self.0.counts.dropped(class, 1);
                        self.0.counts.untraced(&closed);
                    }
                }
            }
        }
    }

    /// Which requests have their spans sent, if any have.
    pub(super) fn sampler(&self) -> Option<Sampler> {
        self.0.sampler
    }

    /// Whether a request may be forwarded now, without waiting.
    pub(super) fn has_room(&self) -> bool {
        self.0.gate.as_ref().is_none_or(|gate| gate.is_open())
    }

    /// Waits until a request may be forwarded, for a bounded time.
    pub(super) async fn room(&self) -> Result<(), RecordsFull> {
        match &self.0.gate {
            Some(gate) => gate.pass().await,
            None => Ok(()),
        }
    }

    /// The time by the clock that records have.
    pub(super) fn now(&self) -> jiff::Timestamp {
        self.0.counts.now()
    }

    /// How the sinks stand.
    pub(super) fn sinks(&self) -> Vec<SinkStatus> {
        self.0.sinks.iter().map(|sink| sink.status()).collect()
    }

    /// Tells what happened to the gateway itself.
    pub(super) fn tell(&self, event: Event) {
        match &self.0.way {
            Way::Memory(memory) => self
                .0
                .counts
                .0
                .recent
                .push(memory.push_event(&event).into()),
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
    #[cfg(test)]
    fn queues(identified: Bounds, unidentified: Bounds) -> (Self, Inlet) {
        Self::queues_with(identified, unidentified, Vec::new(), None, None)
    }

    fn queues_with(
        identified: Bounds,
        unidentified: Bounds,
        sinks: Vec<Arc<Sink>>,
        gate: Option<Arc<Gate>>,
        sampler: Option<Sampler>,
    ) -> (Self, Inlet) {
        let (identified, identified_outlet) = lane(identified);
        let (unidentified, unidentified_outlet) = lane(unidentified);
        let (control, asked) = sync_channel(4);
        let writer = Arc::default();
        let overflow = Overflow::default();
        let inlet = Inlet {
            overflow: Arc::clone(&overflow),
            identified: identified_outlet,
            unidentified: unidentified_outlet,
            control: asked,
            writer: Arc::clone(&writer),
        };
        let log = Self(Arc::new(Shared {
            way: Way::Queues(Queues {
                identified,
                unidentified,
                overflow,
                control,
                writer,
            }),
            counts: Counts::sampling(sampler),
            sinks,
            gate,
            sampler,
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

    /// Records that did not fit and must not be lost.
    fn overflow(&self) -> VecDeque<Box<Closed>> {
        let mut overflow = self.overflow.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *overflow)
    }

    /// Whether all logs are dropped.
    fn is_closed(&self) -> bool {
        self.identified.is_closed()
    }
}

#[cfg(test)]
mod tests;
