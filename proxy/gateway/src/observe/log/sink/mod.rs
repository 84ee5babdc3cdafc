//! One of several places to which records go: with a queue and a thread of its own, so that one that is away, slow or
//! full holds up no other.
//!
//! What does not fit is lost and counted, unless the operator asked that it is not: then the queue takes it, and no
//! request is forwarded until there is room again ([`gate`](super::gate)). So the queue can outgrow its bound only by
//! records of requests that were in progress at that moment, whose records took memory already.

mod destination;
mod otlp;

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use bytes::Bytes;
use countersign_config::model::{DecisionSink, SinkPlace, WhenFull};
use countersign_core::metrics::Class;
use serde::Serialize;
use tokio::time::Instant;

pub(super) use self::destination::{Destination, OpenError};
use super::{COMPLAIN_EVERY, counts::Counts, document, gate::Gate};

/// What waits for all sinks together, in bytes; each has an equal part of it.
pub(super) const WAITING_BYTES: usize = 6 * 1024 * 1024;

/// How long a sink that must not lose anything rests after a failure; it doubles each time.
const FIRST_REST: Duration = Duration::from_millis(100);

/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// How long a sink waits for lines; a checkpoint may be due.
const IDLE: Duration = Duration::from_secs(1);

/// Whole lines of one class.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) class: Class,
    pub(super) bytes: Bytes,
    /// How many records they are.
    pub(super) records: u64,
}

/// The end of a sink that others see.
#[derive(Debug)]
pub(in crate::observe) struct Sink {
    name: Arc<str>,
    when_full: WhenFull,
    /// The most bytes that may wait.
    most: usize,
    queue: Mutex<Queue>,
    changed: Condvar,
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Queue {
    /// The first one is being written.
    waiting: VecDeque<Arc<Lines>>,
    bytes: usize,
    /// Lost records of which the sink was not told yet, by class.
    untold: [u64; 2],
    dropped: u64,
    /// Why the last attempt failed.
    error: Option<String>,
    /// Whether requests wait for it.
    full: bool,
    reopen: bool,
    closing: bool,
}

/// How a sink stands, for `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::observe) struct SinkStatus {
    name: Arc<str>,
    when_full: &'static str,
    /// `ok`, `failing` or `full`.
    state: &'static str,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    queued_bytes: usize,
    dropped: u64,
}

impl Sink {
    /// A sink among so many, whose thread is not there yet.
    pub(super) fn new(sink: &DecisionSink, among: usize, gate: &Arc<Gate>) -> Arc<Self> {
        Arc::new(Self {
            name: name(&sink.place),
            when_full: sink.when_full,
            most: WAITING_BYTES / among.max(1),
            queue: Mutex::default(),
            changed: Condvar::new(),
            gate: Arc::clone(gate),
        })
    }

    /// Takes lines, or loses them if there is no room and that is permitted. Never waits.
    pub(super) fn put(&self, lines: &Arc<Lines>, counts: &Counts) {
        let mut queue = self.queue();
        let fits = queue.bytes + lines.bytes.len() <= self.most;
        if self.when_full == WhenFull::Drop && !fits && !queue.waiting.is_empty() {
            queue.lose(lines.class, lines.records);
            drop(queue);
            counts.lost_by(&self.name, lines.class, lines.records);
            return;
        }
        queue.bytes += lines.bytes.len();
        queue.waiting.push_back(Arc::clone(lines));
        self.settle(&mut queue);
        drop(queue);
        self.changed.notify_one();
    }

    /// Opens files again: a tool has moved them.
    pub(super) fn reopen(&self) {
        self.queue().reopen = true;
        self.changed.notify_one();
    }

    /// Lets the thread end when everything is written, or cannot be.
    pub(super) fn close(&self) {
        self.queue().closing = true;
        self.changed.notify_one();
    }

    /// How it stands.
    pub(in crate::observe) fn status(&self) -> SinkStatus {
        let queue = self.queue();
        let state = match (queue.full, &queue.error) {
            (true, _) => "full",
            (false, Some(_)) => "failing",
            (false, None) => "ok",
        };
        SinkStatus {
            name: Arc::clone(&self.name),
            when_full: self.when_full.as_str(),
            state,
            error: queue.error.clone(),
            queued_bytes: queue.bytes,
            dropped: queue.dropped,
        }
    }

    /// Its name, in metrics too.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// For a sink that is written by the log's own thread: whether that failed.
    pub(super) fn written(&self, lost: Option<(u64, String)>) {
        let mut queue = self.queue();
        match lost {
            Some((records, error)) => {
                queue.dropped += records;
                queue.error = Some(error);
            }
            None => queue.error = None,
        }
    }

    /// Writes what comes until it is closed. For a thread of its own.
    pub(super) fn run(&self, mut destination: Destination, counts: &Counts) {
        let mut rest = FIRST_REST;
        let mut complained: Option<Instant> = None;
        loop {
            let next = self.next(&mut destination);
            let Some((lines, untold)) = next else {
                destination.end();
                return;
            };
            let told;
            let written = if untold > 0 {
                told = with_dropped(untold, &lines, counts);
                destination.write(&told)
            } else {
                destination.write(&lines)
            };
            let mut queue = self.queue();
            match written {
                Ok(lost) => {
                    rest = FIRST_REST;
                    queue.pop();
                    queue.untold[index(lines.class)] -= untold;
                    queue.dropped += lost;
                    queue.error = None;
                    self.settle(&mut queue);
                    drop(queue);
                    if lost > 0 {
                        counts.lost_by(&self.name, lines.class, lost);
                    }
                    counts.sink_works(&self.name, true);
                }
                Err(error) => {
                    let due = complained.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY);
                    if due {
                        complained = Some(Instant::now());
                        tracing::error!(sink = %self.name, %error, "decision records cannot be written there");
                    }
                    queue.error = Some(error);
                    let may_lose = self.when_full == WhenFull::Drop || queue.closing;
                    if may_lose {
                        queue.pop();
                        queue.lose(lines.class, lines.records);
                    }
                    self.settle(&mut queue);
                    counts.write_failed();
                    counts.sink_works(&self.name, false);
                    if may_lose {
                        drop(queue);
                        counts.lost_by(&self.name, lines.class, lines.records);
                    } else {
                        let rests = |queue: &mut Queue| !queue.closing;
                        drop(self.changed.wait_timeout_while(queue, rest, rests));
                        rest = (rest * 2).min(LONGEST_REST);
                    }
                }
            }
        }
    }

    /// The next lines, and how many lost ones they must tell of; nothing at the end.
    fn next(&self, destination: &mut Destination) -> Option<(Arc<Lines>, u64)> {
        let mut queue = self.queue();
        loop {
            if std::mem::take(&mut queue.reopen) {
                destination.reopen();
            }
            if let Some(lines) = queue.waiting.front() {
                let lines = Arc::clone(lines);
                let untold = queue.untold[index(lines.class)];
                drop(queue);
                destination.sign_if_due();
                return Some((lines, untold));
            }
            if queue.closing {
                return None;
            }
            let waited = self.changed.wait_timeout(queue, IDLE);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            drop(queue);
            destination.sign_if_due();
            queue = self.queue();
        }
    }

    /// Opens or closes the gate, if requests depend on this sink.
    fn settle(&self, queue: &mut Queue) {
        if self.when_full == WhenFull::Drop {
            return;
        }
        // Closed only when it is full, and opened when half of it is free: not once for each request.
        let full = queue.bytes > if queue.full { self.most / 2 } else { self.most };
        if full != queue.full {
            queue.full = full;
            self.gate.set(self.when_full, &self.name, full);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn pop(&mut self) {
        if let Some(lines) = self.waiting.pop_front() {
            self.bytes -= lines.bytes.len();
        }
    }

    fn lose(&mut self, class: Class, records: u64) {
        self.untold[index(class)] += records;
        self.dropped += records;
    }
}

/// Starts the thread of a sink.
pub(super) fn start(
    sink: Arc<Sink>,
    destination: Destination,
    counts: Counts,
) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new()
        .name("records".into())
        .spawn(move || sink.run(destination, &counts))
}

/// The lines after one that tells of lost records.
fn with_dropped(dropped: u64, lines: &Lines, counts: &Counts) -> Lines {
    let mut bytes = Vec::with_capacity(lines.bytes.len() + 256);
    document::write_dropped(dropped, lines.class, counts.now(), &mut bytes);
    bytes.extend_from_slice(&lines.bytes);
    Lines {
        class: lines.class,
        bytes: bytes.into(),
        records: lines.records,
    }
}

fn index(class: Class) -> usize {
    match class {
        Class::Identified => 0,
        Class::Unidentified => 1,
    }
}

fn name(place: &SinkPlace) -> Arc<str> {
    match place {
        SinkPlace::Stdout(_) => "stdout".into(),
        SinkPlace::File { path, .. } => format!("file:{}", path.display()).into(),
        SinkPlace::Otlp(collector) => format!("otlp:{}", collector.endpoint).into(),
    }
}

#[cfg(test)]
mod tests;
