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

use super::meter::Overrun;
use crate::{budget::Charge, slots::Shed};

/// The state of one client connection, shared by its stream and its requests.
#[derive(Debug)]
pub struct Activity {
    opened: Instant,
    /// Requests whose response has not ended, and open tunnels.
    active: AtomicU32,
    /// When the last of them ended, in milliseconds after `opened`.
    rested_at: AtomicU64,
    /// Responses blocked by the client's flow control.
    owed: AtomicU32,
    /// How often a blocked response could continue.
    taken: AtomicU64,
    stalled: AtomicBool,
    /// Whether the bytes read end with a complete request, or with one that is answered.
    read_whole: AtomicBool,
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
}

/// What is wrong with a client's bytes that hyper would accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation(pub &'static str);

impl Activity {
    /// A new connection.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            active: AtomicU32::new(0),
            rested_at: AtomicU64::new(0),
            owed: AtomicU32::new(0),
            taken: AtomicU64::new(0),
            stalled: AtomicBool::new(false),
            read_whole: AtomicBool::new(false),
            flushed: AtomicBool::new(false),
            switched: AtomicBool::new(false),
            half_closed: AtomicBool::new(false),
            ended: AtomicWaker::new(),
            violation: OnceLock::new(),
            shed: OnceLock::new(),
            overrun: OnceLock::new(),
        })
    }

    /// Begins a request; it ends when the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.active.fetch_add(1, Ordering::Relaxed);
        Busy {
            activity: Arc::clone(self),
            owed: false,
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

    /// Records whether the bytes read so far end with a complete request.
    pub(super) fn read(&self, whole: bool) {
        self.read_whole.store(whole, Ordering::Relaxed);
    }

    /// Records whether all written bytes have been flushed.
    pub(super) fn wrote(&self, all: bool) {
        self.flushed.store(all, Ordering::Relaxed);
    }

    /// Completes when the client's flow control has blocked its responses for `limit` (at least, and at
    /// most twice that). An HTTP/2 client can keep its connection alive without ever reading a response.
    pub async fn untaken(&self, limit: Duration) {
        self.untaken_for(|| limit).await;
    }

    /// The same with a limit that is evaluated again each time.
    pub async fn untaken_for(&self, limit: impl Fn() -> Duration) {
        loop {
            let (owed, taken) = self.answers();
            let before = limit();
            tokio::time::sleep(before).await;
            if owed > 0 && self.answers() == (owed, taken) && limit() == before {
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
    pub(super) fn is_idle(&self) -> bool {
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

    fn answers(&self) -> (u32, u64) {
        (
            self.owed.load(Ordering::Relaxed),
            self.taken.load(Ordering::Relaxed),
        )
    }
}

/// A request in progress.
#[derive(Debug)]
pub struct Busy {
    activity: Arc<Activity>,
    owed: bool,
    room: Option<Charge>,
}

impl Busy {
    /// Holds this charge until the request ends.
    pub fn holds(&mut self, room: Option<Charge>) {
        self.room = room;
    }

    /// A chunk of the response was handed to the client's stream; the next is polled when there is room
    /// for it.
    pub fn gave(&mut self) {
        if !self.owed {
            self.owed = true;
            self.activity.owed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// There is room for the next chunk of the response.
    pub fn took(&mut self) {
        if self.owed {
            self.owed = false;
            self.activity.owed.fetch_sub(1, Ordering::Relaxed);
            self.activity.taken.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the connection is closed because the client does not read what it is sent.
    pub fn has_stalled(&self) -> bool {
        self.activity.has_stalled()
    }

    /// The connection is no longer HTTP.
    pub fn switch(&self) {
        self.activity.switch();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.took();
        let now = self.activity.opened.elapsed().as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        self.activity.rested_at.store(now, Ordering::Relaxed);
        self.activity.active.fetch_sub(1, Ordering::SeqCst);
        if self.activity.half_closed.load(Ordering::SeqCst) {
            self.activity.ended.wake();
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
        let activity = Activity::new();
        let busy = activity.begin();
        assert!(!completes(activity.rested(LIMIT)).await);
        drop(busy);
        assert!(completes(activity.rested(LIMIT)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_pauses_between_requests_only() {
        let activity = Activity::new();
        for (whole, flushed) in [(false, false), (true, false), (false, true)] {
            activity.read(whole);
            activity.wrote(flushed);
            assert!(!completes(activity.paused(LIMIT)).await);
        }
        activity.read(true);
        let busy = activity.begin();
        assert!(!completes(activity.paused(LIMIT)).await);
        drop(busy);
        assert!(completes(activity.paused(LIMIT)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_waited_for_is_not_owed() {
        let activity = Activity::new();
        let mut busy = activity.begin();
        assert!(!completes(activity.untaken(LIMIT)).await);
        busy.gave();
        busy.took();
        assert!(!completes(activity.untaken(LIMIT)).await);
        busy.gave();
        drop(busy);
        assert!(!completes(activity.untaken(LIMIT)).await);
        assert!(!activity.has_stalled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_of_an_answer_stalls() {
        let activity = Activity::new();
        let mut busy = activity.begin();
        busy.gave();
        assert!(completes(activity.untaken(LIMIT)).await);
        assert!(busy.has_stalled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_given_more_time_meanwhile_has_it() {
        let activity = Activity::new();
        let mut busy = activity.begin();
        busy.gave();
        let start = Instant::now();
        let limit = || {
            if start.elapsed() < LIMIT / 2 {
                LIMIT / 2
            } else {
                2 * LIMIT
            }
        };
        activity.untaken_for(limit).await;
        assert_eq!(start.elapsed().as_secs(), (LIMIT / 2 + 2 * LIMIT).as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_any_answer_does_not_stall() {
        let activity = Activity::new();
        let (mut slow, mut quick) = (activity.begin(), activity.begin());
        slow.gave();
        let moves = async {
            loop {
                quick.gave();
                tokio::time::sleep(LIMIT / 2).await;
                quick.took();
            }
        };
        tokio::select! {
            stalled = completes(activity.untaken(LIMIT)) => assert!(!stalled),
            () = moves => {}
        }
    }
}
