//! The record of one request: opened at accept, closed exactly once.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use super::{DecisionLog, Entry, Metrics};
use crate::clock::Clock;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It went through, whatever the upstream said to it.
    Permitted,
    /// We did not let it go.
    Refused {
        /// The stable reason code.
        reason: &'static str,
        /// Whose fault it is.
        blame: &'static str,
    },
    /// It was permitted, but the upstream or the client broke it.
    Failed {
        /// The stable reason code.
        reason: &'static str,
        /// Whose fault it is.
        blame: &'static str,
    },
    /// It was carried on without being decrypted.
    Tunnelled,
}

impl Outcome {
    /// What a record that nobody concluded ends with: the client went away and its task was
    /// dropped.
    const ABANDONED: Self = Self::Failed {
        reason: "client_gone",
        blame: "caller",
    };

    /// The outcome's name in records and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Permitted => "permitted",
            Self::Refused { .. } => "refused",
            Self::Failed { .. } => "failed",
            Self::Tunnelled => "tunnelled",
        }
    }

    /// The reason code; that of a request which went through is the outcome's name.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Permitted | Self::Tunnelled => self.name(),
            Self::Refused { reason, .. } | Self::Failed { reason, .. } => reason,
        }
    }

    /// Whose fault it is, if there is a fault.
    pub fn blame(&self) -> Option<&'static str> {
        match self {
            Self::Permitted | Self::Tunnelled => None,
            Self::Refused { blame, .. } | Self::Failed { blame, .. } => Some(blame),
        }
    }
}

/// Opens records. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    log: DecisionLog,
    metrics: Metrics,
    clock: Clock,
}

impl Recorder {
    /// A recorder that writes to `log`, which from then on counts what it writes in `metrics`. A
    /// log counts in the metrics of its first recorder only.
    pub fn new(log: DecisionLog, metrics: Metrics, clock: Clock) -> Self {
        log.count_in(&metrics, &clock);
        Self(Arc::new(Shared {
            log,
            metrics,
            clock,
        }))
    }

    /// Opens the record of a request that was just accepted.
    pub fn open(&self) -> Record {
        let time = self.0.clock.now();
        Record {
            open: Some(Box::new(Closed {
                time,
                entry: Entry::new(new_id(time)),
                outcome: Outcome::ABANDONED,
                total: Duration::ZERO,
                bytes: (0, 0),
            })),
            opened: Instant::now(),
            recorder: self.clone(),
        }
    }

    /// The metrics, for what is no request: connections, reloads, credential fetches.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The log, for draining it at the end.
    pub fn log(&self) -> &DecisionLog {
        &self.0.log
    }
}

/// What is handed to the log. Boxed when the record is opened, so that closing it allocates
/// nothing.
#[derive(Debug)]
pub(super) struct Closed {
    /// When the request was accepted.
    pub(super) time: Timestamp,
    /// Everything that was filled in.
    pub(super) entry: Entry,
    /// How it ended.
    pub(super) outcome: Outcome,
    /// From opening to closing.
    pub(super) total: Duration,
    /// Body bytes at closing, request and response: the counters may still move.
    pub(super) bytes: (u64, u64),
}

/// The open record of one request. Derefs to its [`Entry`].
///
/// It is closed by [`Record::close`], or when it is dropped: then with the outcome that
/// [`Record::conclude`] set, or else as failed because the client went away.
#[derive(Debug)]
#[must_use = "dropping a record closes it as `client_gone`"]
pub struct Record {
    /// Empty only while it is dropped.
    open: Option<Box<Closed>>,
    opened: Instant,
    recorder: Recorder,
}

impl Record {
    /// Closes the record.
    pub fn close(mut self, outcome: Outcome) {
        self.conclude(outcome);
    }

    /// Sets the outcome that the record will be closed with when it is dropped. The last one
    /// counts.
    pub fn conclude(&mut self, outcome: Outcome) {
        if let Some(open) = &mut self.open {
            open.outcome = outcome;
        }
    }

    /// The time since the record was opened.
    pub fn elapsed(&self) -> Duration {
        self.opened.elapsed()
    }
}

impl Deref for Record {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.open.as_ref().expect("emptied only by drop").entry
    }
}

impl DerefMut for Record {
    fn deref_mut(&mut self) -> &mut Entry {
        &mut self.open.as_mut().expect("emptied only by drop").entry
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(mut closed) = self.open.take() {
            closed.total = self.opened.elapsed();
            closed.bytes = (closed.entry.bytes.request(), closed.entry.bytes.response());
            self.recorder.0.log.write(closed);
        }
    }
}

/// A version 7 UUID of the given time (RFC 9562, section 5.7).
///
/// `Uuid::now_v7` would read the machine's clock and ask the kernel for random bits each time;
/// aws-lc keeps a generator per thread.
fn new_id(time: Timestamp) -> Uuid {
    let mut random = [0; 10];
    if aws_lc_rs::rand::fill(&mut random).is_err() {
        return Uuid::now_v7();
    }
    let millis = u64::try_from(time.as_millisecond()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}
