//! The state of a client connection: requests in progress or idle, and whether the client reads its
//! responses.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::Waker,
    time::Duration,
};

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use super::{meter::Overrun, unserved::Streams};
use crate::{budget::Charge, shed::Shed};

/// The state of one client connection, shared by its stream and its requests.
#[derive(Debug)]
pub struct ConnectionState {
    opened: Instant,
    /// Requests whose response has not ended, and open tunnels.
    active: AtomicU32,
    /// When the last of them ended, in milliseconds after `opened`.
    rested_at: AtomicU64,
    /// Responses blocked by the client's flow control.
    awaiting_capacity: AtomicU32,
    /// How often a blocked response could continue.
    capacity_grants: AtomicU64,
    stalled: AtomicBool,
    /// Whether the bytes read end with a complete request, or with one that is answered.
    read_whole: AtomicBool,
    /// Over HTTP/1.1: whether the bytes read end within a body.
    within_body: AtomicBool,
    /// Whether all written bytes have been flushed to the client.
    flushed: AtomicBool,
    /// Whether the connection is no longer HTTP: a tunnel, or another protocol.
    switched: AtomicBool,
    /// Whether the client has closed its sending side.
    half_closed: AtomicBool,
    /// Woken when the last request of a half-closed client ends.
    ended: AtomicWaker,
    violation: OnceLock<Violation>,
    shed: OnceLock<Shed>,
    overrun: OnceLock<Overrun>,
    /// Whether the library's own response to what is no request was held back.
    owed: AtomicBool,
    /// Whether the record of a request says why the connection ended.
    explained: AtomicBool,
    /// The requests that came over HTTP/2.
    pub streams: Streams,
}

/// What is wrong with a client's bytes that hyper would accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation(pub &'static str);

impl ConnectionState {
    /// A new connection.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            active: AtomicU32::new(0),
            rested_at: AtomicU64::new(0),
            awaiting_capacity: AtomicU32::new(0),
            capacity_grants: AtomicU64::new(0),
            stalled: AtomicBool::new(false),
            read_whole: AtomicBool::new(false),
            within_body: AtomicBool::new(false),
            flushed: AtomicBool::new(false),
            switched: AtomicBool::new(false),
            half_closed: AtomicBool::new(false),
            ended: AtomicWaker::new(),
            violation: OnceLock::new(),
            shed: OnceLock::new(),
            overrun: OnceLock::new(),
            owed: AtomicBool::new(false),
            explained: AtomicBool::new(false),
            streams: Streams::default(),
        })
    }

    /// Begins a request; it ends when the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlightGuard {
        self.active.fetch_add(1, Ordering::Relaxed);
        InFlightGuard {
            connection: Arc::clone(self),
            awaiting_capacity: false,
            room: None,
        }
    }

    /// Completes when the connection has been idle for `limit`, which is evaluated again while it is
    /// idle.
    pub async fn rested_for(&self, limit: impl Fn() -> Duration) {
        loop {
            let limit = limit();
            let due = self.rested_since() + limit;
            match (self.is_idle(), due <= Instant::now()) {
                (true, true) => return,
                (true, false) => tokio::time::sleep_until(due).await,
                // Checked again after a whole period, which is cheaper than a timer per request.
                (false, _) => tokio::time::sleep(limit).await,
            }
        }
    }

    /// Completes when the connection has been idle for `limit`.
    pub async fn rested(&self, limit: Duration) {
        self.rested_for(|| limit).await;
    }

    /// Completes when the connection has been idle between two requests for `limit`: no byte of the next
    /// request has come, and the last response was sent completely.
    pub async fn paused(&self, limit: Duration) {
        loop {
            self.rested(limit).await;
            let between = [&self.read_whole, &self.flushed];
            if between.iter().all(|flag| flag.load(Ordering::Relaxed)) {
                return;
            }
            tokio::time::sleep(limit).await;
        }
    }

    /// Records whether the bytes read so far end with a complete request, or within a body.
    pub(super) fn read(&self, whole: bool, within_body: bool) {
        self.read_whole.store(whole, Ordering::Relaxed);
        self.within_body.store(within_body, Ordering::Relaxed);
    }

    /// Records whether all written bytes have been flushed.
    pub(super) fn wrote(&self, all: bool) {
        self.flushed.store(all, Ordering::Relaxed);
    }

    /// Completes when the client's flow control has blocked its responses for `limit` (at least, and at
    /// most twice that). An HTTP/2 client can keep its connection alive without ever reading a response.
    pub async fn flow_stalled(&self, limit: Duration) {
        self.flow_stalled_for(|| limit).await;
    }

    /// The same with a limit that is evaluated again each time.
    pub async fn flow_stalled_for(&self, limit: impl Fn() -> Duration) {
        loop {
            let (blocked, grants) = self.flow_control();
            let before = limit();
            tokio::time::sleep(before).await;
            if blocked > 0 && self.flow_control() == (blocked, grants) && limit() == before {
                self.stall();
                return;
            }
        }
    }

    /// Records that the client does not read what it is sent.
    pub(super) fn stall(&self) {
        self.stalled.store(true, Ordering::Relaxed);
    }

    /// Whether the connection is closed because the client does not read what it is sent.
    pub fn has_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Records what is wrong with the client's bytes; the first violation counts.
    pub(super) fn violate(&self, violation: Violation) {
        self.violation.get_or_init(|| violation);
    }

    /// What is wrong with the client's bytes: no request on the connection can be trusted.
    pub fn violation(&self) -> Option<Violation> {
        self.violation.get().copied()
    }

    /// Records that the connection is closed in favour of others.
    pub(crate) fn shed(&self, why: Shed) {
        self.shed.get_or_init(|| why);
    }

    /// Why the connection is closed in favour of others, if it is.
    pub fn why_shed(&self) -> Option<Shed> {
        self.shed.get().copied()
    }

    /// Records why nothing more is read from the client.
    pub(super) fn overrun(&self, overrun: Overrun) {
        self.overrun.get_or_init(|| overrun);
    }

    /// Why nothing more is read from the client, if so.
    pub fn has_overrun(&self) -> Option<Overrun> {
        self.overrun.get().copied()
    }

    /// Records that the client is owed a response to what it sent, which is no request.
    pub(super) fn owe(&self) {
        self.owed.store(true, Ordering::Relaxed);
    }

    /// Whether the client is owed a response to what it sent, which is no request.
    pub fn is_owed(&self) -> bool {
        self.owed.load(Ordering::Relaxed)
    }

    /// The record of a request says why the connection ended.
    pub fn explain(&self) {
        self.explained.store(true, Ordering::SeqCst);
    }

    /// Whether the record of a request says why the connection ended.
    pub fn is_explained(&self) -> bool {
        self.explained.load(Ordering::SeqCst)
    }

    /// Records that the connection is no longer HTTP.
    pub(super) fn switch(&self) {
        self.switched.store(true, Ordering::Relaxed);
    }

    /// Whether the connection is HTTP.
    pub(super) fn is_http(&self) -> bool {
        !self.switched.load(Ordering::Relaxed)
    }

    /// Records that the client has closed its sending side; `waker` is woken when the last of its
    /// requests ends.
    pub(super) fn half_close(&self, waker: &Waker) {
        self.ended.register(waker);
        self.half_closed.store(true, Ordering::SeqCst);
    }

    /// Whether no request is in progress.
    pub fn is_idle(&self) -> bool {
        self.active() == 0
    }

    /// How many requests are in progress and tunnels open.
    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::SeqCst) as usize
    }

    /// When the last request ended, in milliseconds after the connection began.
    pub(super) fn rested_at(&self) -> u64 {
        self.rested_at.load(Ordering::Relaxed)
    }

    /// When the last request ended, or the connection was opened.
    pub(crate) fn rested_since(&self) -> Instant {
        self.opened + Duration::from_millis(self.rested_at())
    }

    /// How many responses are blocked, and how often one could continue.
    fn flow_control(&self) -> (u32, u64) {
        (
            self.awaiting_capacity.load(Ordering::Relaxed),
            self.capacity_grants.load(Ordering::Relaxed),
        )
    }
}

/// A request in progress.
#[derive(Debug)]
pub struct InFlightGuard {
    connection: Arc<ConnectionState>,
    awaiting_capacity: bool,
    room: Option<Charge>,
}

impl InFlightGuard {
    /// Holds this charge until the request ends.
    pub fn holds(&mut self, room: Option<Charge>) {
        self.room = room;
    }

    /// A chunk of the response was handed to the client's stream; the next is polled when there is room
    /// for it.
    pub fn piece_sent(&mut self) {
        if !self.awaiting_capacity {
            self.awaiting_capacity = true;
            self.connection
                .awaiting_capacity
                .fetch_add(1, Ordering::Relaxed);
        }
    }

    /// There is room for the next chunk of the response.
    pub fn capacity_granted(&mut self) {
        if self.awaiting_capacity {
            self.awaiting_capacity = false;
            self.connection
                .awaiting_capacity
                .fetch_sub(1, Ordering::Relaxed);
            self.connection
                .capacity_grants
                .fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the connection is closed because the client does not read what it is sent.
    pub fn has_stalled(&self) -> bool {
        self.connection.has_stalled()
    }

    /// Whether more of a body is to come, over HTTP/1.1.
    pub fn is_within_body(&self) -> bool {
        self.connection.within_body.load(Ordering::Relaxed)
    }

    /// The connection is no longer HTTP.
    pub fn switch(&self) {
        self.connection.switch();
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.capacity_granted();
        let now = self.connection.opened.elapsed().as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        self.connection.rested_at.store(now, Ordering::Relaxed);
        self.connection.active.fetch_sub(1, Ordering::SeqCst);
        if self.connection.half_closed.load(Ordering::SeqCst) {
            self.connection.ended.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    async fn completes(future: impl Future<Output = ()>) -> bool {
        tokio::time::timeout(3 * LIMIT, future).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_a_request_does_not_rest() {
        let connection = ConnectionState::new();
        let in_flight = connection.begin();
        assert!(!completes(connection.rested(LIMIT)).await);
        drop(in_flight);
        assert!(completes(connection.rested(LIMIT)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_pauses_between_requests_only() {
        let connection = ConnectionState::new();
        for (whole, flushed) in [(false, false), (true, false), (false, true)] {
            connection.read(whole, false);
            connection.wrote(flushed);
            assert!(!completes(connection.paused(LIMIT)).await);
        }
        connection.read(true, false);
        let in_flight = connection.begin();
        assert!(!completes(connection.paused(LIMIT)).await);
        drop(in_flight);
        assert!(completes(connection.paused(LIMIT)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_waited_for_is_not_owed() {
        let connection = ConnectionState::new();
        let mut in_flight = connection.begin();
        assert!(!completes(connection.flow_stalled(LIMIT)).await);
        in_flight.piece_sent();
        in_flight.capacity_granted();
        assert!(!completes(connection.flow_stalled(LIMIT)).await);
        in_flight.piece_sent();
        drop(in_flight);
        assert!(!completes(connection.flow_stalled(LIMIT)).await);
        assert!(!connection.has_stalled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_of_an_answer_stalls() {
        let connection = ConnectionState::new();
        let mut in_flight = connection.begin();
        in_flight.piece_sent();
        assert!(completes(connection.flow_stalled(LIMIT)).await);
        assert!(in_flight.has_stalled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_given_more_time_meanwhile_has_it() {
        let connection = ConnectionState::new();
        let mut in_flight = connection.begin();
        in_flight.piece_sent();
        let start = Instant::now();
        let limit = || {
            if start.elapsed() < LIMIT / 2 {
                LIMIT / 2
            } else {
                2 * LIMIT
            }
        };
        connection.flow_stalled_for(limit).await;
        assert_eq!(start.elapsed().as_secs(), (LIMIT / 2 + 2 * LIMIT).as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_any_answer_does_not_stall() {
        let connection = ConnectionState::new();
        let (mut slow, mut quick) = (connection.begin(), connection.begin());
        slow.piece_sent();
        let moves = async {
            loop {
                quick.piece_sent();
                tokio::time::sleep(LIMIT / 2).await;
                quick.capacity_granted();
            }
        };
        tokio::select! {
            stalled = completes(connection.flow_stalled(LIMIT)) => assert!(!stalled),
            () = moves => {}
        }
    }
}
