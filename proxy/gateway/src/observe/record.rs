//! The record of one request: opened at accept, closed exactly once.

use std::{
    cell::RefCell,
    net::IpAddr,
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use countersign_config::history::LastUse;
use countersign_core::{
    clock::Clock,
    metrics::{Class, Metrics},
    wire::{
        connection_state::{ConnectionState, Violation},
        meter::Overrun,
    },
};
use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    DecisionLog, Entry, Happened, RecordsFull,
    closed::{Closed, Outcome},
    log::Event,
    sampler::Sampler,
    trace_context::TraceId,
};

/// The operator's sentence for a request whose connection was closed in favour of others.
const GAVE_WAY: &str = "limits.connections are open, this workload held more than its share of them, and another wanted its own";

/// The same for a request that the gateway's end cut off.
const DRAINED: &str = "the gateway was told to stop, and its time for that (limits.drain) was over before the request had ended";

/// The same for one whose task panicked.
const PANICKED: &str = "a bug: the request's task panicked; the process log says where";

/// Opens records. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    log: DecisionLog,
    metrics: Metrics,
    clock: Clock,
    cutting_off: AtomicBool,
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
            cutting_off: AtomicBool::new(false),
        }))
    }

    /// From now on a dropped record was cut off by the gateway's end, not by its client.
    pub fn cut_off(&self) {
        self.0.cutting_off.store(true, Ordering::Release);
    }

    /// Opens the record of a request that was just accepted.
    pub fn open(&self) -> Record {
        let time = self.0.clock.now();
        let mut record = Record {
            open: Some(Box::new(Closed {
                time,
                entry: Entry::new(new_id(time)),
                outcome: Outcome::ABANDONED,
                total: Duration::ZERO,
                bytes: (0, 0),
            })),
            opened: Instant::now(),
            recorder: self.clone(),
            client: None,
        };
        if self.0.log.sampler().is_some() {
            record.trace_id = TraceId::begun_by(record.id);
        }
        record
    }

    /// Waits until a request may be forwarded although its record is still to be written; at once, unless the operator
    /// wants no record to be lost and there is no room.
    ///
    /// # Errors
    /// When there is no room in time.
    pub async fn room(&self) -> Result<(), RecordsFull> {
        if self.0.log.has_room() {
            return Ok(());
        }
        // Boxed, because it is rare.
        Box::pin(self.0.log.room()).await
    }

    /// Takes what was used since the last call.
    pub(crate) fn take_uses(&self) -> LastUse {
        self.0.log.take_uses()
    }

    /// Tells what happened to the gateway itself, while `revision` is in force.
    pub(crate) fn tell(&self, revision: &str, happened: Happened) {
        self.0.log.tell(Event {
            time: self.0.clock.now(),
            revision: revision.to_owned(),
            happened,
        });
    }

    /// Counts a connection that was closed in favour of others; the log reports totals.
    pub(crate) fn shed(&self, proven: bool, source: IpAddr, why: &'static str) {
        let class = if proven {
            Class::Identified
        } else {
            Class::Unidentified
        };
        self.0.log.shed(class, source, why);
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

/// The open record of one request. Derefs to its [`Entry`].
///
/// It is closed by [`Record::close`], or when it is dropped: then with the outcome of [`Record::conclude`],
/// or else as failed because the client left.
#[derive(Debug)]
#[must_use = "dropping a record closes it as `client_gone`"]
pub struct Record {
    /// Empty only while it is dropped.
    open: Option<Box<Closed>>,
    opened: Instant,
    recorder: Recorder,
    /// The client's connection, to know whether it broke HTTP or just left.
    client: Option<Arc<ConnectionState>>,
}

impl Record {
    /// Notes the connection of the request.
    pub(crate) fn came_on(&mut self, client: &Arc<ConnectionState>) {
        self.client = Some(Arc::clone(client));
    }

    /// Which requests have their spans sent, if any have.
    pub(crate) fn sampler(&self) -> Option<Sampler> {
        self.recorder.0.log.sampler()
    }

    /// How the client broke HTTP, if it did.
    pub(crate) fn violation(&self) -> Option<Violation> {
        self.client.as_ref()?.violation()
    }

    /// Why nothing more is read from the client, if so: then the client is not to blame for what breaks. The
    /// connection needs no record of its own.
    pub(crate) fn overrun(&self) -> Option<Overrun> {
        let client = self.client.as_ref()?;
        client.has_overrun().inspect(|_| client.explain())
    }

    /// Whether its connection was closed in favour of others.
    fn gave_way(&self) -> bool {
        let client = self.client.as_ref();
        client.is_some_and(|client| client.why_shed().is_some())
    }

    /// Closes the record.
    pub fn close(mut self, outcome: Outcome) {
        self.conclude(outcome);
    }

    /// Discards the record: others replace it.
    pub(crate) fn withdraw(mut self) {
        self.open = None;
    }

    /// Sets the outcome for when the record is dropped. The last call counts.
    pub fn conclude(&mut self, outcome: Outcome) {
        if let Some(open) = &mut self.open {
            open.outcome = outcome;
        }
    }

    /// The time since the record was opened.
    pub fn elapsed(&self) -> Duration {
        self.opened.elapsed()
    }

    fn finish(&mut self) -> Option<Box<Closed>> {
        let mut closed = self.open.take()?;
        let cut_off = || self.recorder.0.cutting_off.load(Ordering::Acquire);
        if closed.outcome == Outcome::ABANDONED {
            if std::thread::panicking() {
                closed.outcome = Outcome::PANICKED;
                closed.entry.detail = Some(PANICKED.into());
            } else if cut_off() {
                closed.outcome = Outcome::CUT_OFF;
                closed.entry.detail = Some(DRAINED.into());
            } else if self.gave_way() {
                closed.outcome = Outcome::SHED;
                closed.entry.detail = Some(GAVE_WAY.into());
            } else if let Some(overrun) = self.overrun() {
                closed.outcome = Outcome::failed(overrun.reason());
                closed.entry.detail = Some(overrun.to_string().into());
            } else if let Some(Violation(what)) = self.violation() {
                closed.outcome = Outcome::BROKEN_HTTP;
                closed.entry.detail = Some(what.into());
            }
        }
        closed.total = self.opened.elapsed();
        closed.bytes = (closed.entry.bytes.request(), closed.entry.bytes.response());
        Some(closed)
    }

    /// Closes the record without writing it to the log.
    #[cfg(test)]
    pub(super) fn take_closed(&mut self, outcome: Outcome) -> Box<Closed> {
        self.conclude(outcome);
        self.finish().expect("it was open")
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
        if let Some(closed) = self.finish() {
            self.recorder.0.log.write(closed);
        }
    }
}

/// A version 7 UUID of the given time (RFC 9562, section 5.7).
///
/// `Uuid::now_v7` would read the machine's clock, and ask the kernel for random bits each time.
fn new_id(time: Timestamp) -> Uuid {
    let Some(random) = RANDOM.with_borrow_mut(Random::next) else {
        return Uuid::now_v7();
    };
    let millis = u64::try_from(time.as_millisecond()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

thread_local! {
    static RANDOM: RefCell<Random> = const { RefCell::new(Random::new()) };
}

/// Random bits for ids, drawn in bulk: one draw from aws-lc's generator costs nearly as much as 64.
struct Random {
    bits: [[u8; 10]; 64],
    used: usize,
}

impl Random {
    const fn new() -> Self {
        let bits = [[0; 10]; 64];
        Self {
            used: bits.len(),
            bits,
        }
    }

    fn next(&mut self) -> Option<[u8; 10]> {
        if self.used == self.bits.len() {
            aws_lc_rs::rand::fill(self.bits.as_flattened_mut()).ok()?;
            self.used = 0;
        }
        self.used += 1;
        Some(self.bits[self.used - 1])
    }
}

#[cfg(test)]
mod tests {
    use countersign_core::{
        budget::Purse,
        wire::{meter::Meter, stream::ClientStream},
    };
    use rstest::rstest;
    use tokio::io::AsyncWriteExt as _;

    use super::{super::fixture, *};

    const REFUSED: Outcome = Outcome::Refused {
        reason: "path_denied",
        blame: "caller",
    };

    #[rstest]
    #[case(Outcome::Permitted, "permitted", "permitted", None)]
    #[case(Outcome::Tunnelled, "tunnelled", "tunnelled", None)]
    #[case(REFUSED, "refused", "path_denied", Some("caller"))]
    #[case(
        Outcome::Failed { reason: "upstream_reset", blame: "upstream" },
        "failed", "upstream_reset", Some("upstream")
    )]
    fn is_closed_once_with_its_outcome(
        #[case] outcome: Outcome,
        #[case] name: &str,
        #[case] reason: &str,
        #[case] blame: Option<&str>,
    ) {
        let (recorder, log) = fixture::recorder();
        recorder.open().close(outcome);
        let records = log.all();
        assert_eq!(records.len(), 1);
        assert_eq!(records[0]["outcome"], name);
        assert_eq!(records[0]["reason"], reason);
        assert_eq!(records[0]["blame"].as_str(), blame);
    }

    #[test]
    fn a_dropped_record_says_that_the_client_is_gone() {
        let (recorder, log) = fixture::recorder();
        drop(recorder.open());
        let records = log.all();
        assert_eq!(records.len(), 1);
        assert_eq!(records[0]["outcome"], "failed");
        assert_eq!(records[0]["reason"], "client_gone");
        assert_eq!(records[0]["blame"], "caller");
    }

    /// A request that was in progress when nothing more was read from its client.
    #[tokio::test]
    async fn a_connection_that_took_too_much_is_not_its_clients_departure() {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let state = ConnectionState::new();
        let limit = Duration::from_secs(1);
        let meter = Meter::new(&Purse::unshared(), 1 << 20);
        let mut stream = ClientStream::new(server, Arc::clone(&state), limit)
            .charged_by(meter)
            .with_frames(limit);
        client.write_all(&vec![0; 600_000]).await.unwrap();
        let ended = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        assert!(ended.is_err());
        let (recorder, log) = fixture::recorder();
        let mut record = recorder.open();
        record.came_on(&state);
        assert!(!state.is_explained());
        drop(record);
        assert!(state.is_explained());
        let record = &log.all()[0];
        assert_eq!(record["reason"], "head_too_large", "{record}");
        assert_eq!(record["outcome"], "failed");
    }

    #[test]
    fn a_record_that_a_panic_drops_blames_the_gateway() {
        let (recorder, log) = fixture::recorder();
        let panicked = std::thread::spawn(move || {
            let _record = recorder.open();
            panic!("as this test wants");
        });
        assert!(panicked.join().is_err());
        let records = log.all();
        assert_eq!(records.len(), 1);
        assert_eq!(records[0]["reason"], "internal");
        assert_eq!(records[0]["blame"], "gateway");
    }

    #[test]
    fn a_dropped_record_keeps_the_outcome_it_was_given_last() {
        let (recorder, log) = fixture::recorder();
        let mut record = recorder.open();
        record.conclude(Outcome::Permitted);
        record.conclude(REFUSED);
        drop(record);
        assert_eq!(log.all()[0]["outcome"], "refused");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_task_closes_its_record() {
        let (recorder, mut log) = fixture::recorder();
        let record = recorder.open();
        let task = tokio::spawn(async move {
            let _record = record;
            std::future::pending::<()>().await;
        });
        tokio::time::advance(Duration::from_millis(3)).await;
        assert!(log.all().is_empty());
        task.abort();
        let closed = log.next().await;
        assert_eq!(closed["reason"], "client_gone");
        assert_eq!(closed["timing_us"]["total"], 3000);
    }

    #[test]
    fn the_counters_are_read_at_closing() {
        let (recorder, log) = fixture::recorder();
        let record = recorder.open();
        let bytes = Arc::clone(&record.bytes);
        bytes.add_request(3);
        bytes.add_response(5);
        record.close(Outcome::Permitted);
        bytes.add_request(100);
        assert_eq!(log.all()[0]["bytes"]["request"], 3);
        assert_eq!(log.all()[0]["bytes"]["response"], 5);
    }

    #[test]
    fn ids_are_distinct_and_tell_the_time() {
        let (recorder, _log) = fixture::recorder();
        let (one, other) = (recorder.open(), recorder.open());
        assert_ne!(one.id, other.id);
        assert_eq!(one.id.get_version_num(), 7);
        let (secs, nanos) = one.id.get_timestamp().unwrap().to_unix();
        let at = i64::try_from(secs).unwrap() * 1000 + i64::from(nanos) / 1_000_000;
        assert_eq!(at, fixture::clock().now().as_millisecond());
    }
}
