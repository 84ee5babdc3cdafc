//! Permits for the connections of an endpoint, and the queue for them.

use std::sync::Arc;

use tokio::{sync::Notify, time::Instant};

use super::{
    super::{fair_queue::CallerId, http1::Http1, http2::Http2, lock::lock, tls::Protocol},
    Endpoint, Idle, Shared, State, StreamPermit,
};

/// The permit for one connection; counts against the endpoint's bound until it is dropped.
pub(in crate::forward) struct PoolPermit {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) caller: CallerId,
    pub(super) probing: bool,
    /// Whether the connection may serve further requests.
    pub(super) keep: bool,
}

/// Waits for the caller's turn, and takes what `take` finds.
pub(super) async fn in_turn<T>(
    endpoint: &Arc<Endpoint>,
    caller: CallerId,
    mut take: impl FnMut(&mut State) -> Option<T>,
) -> T {
    let mut place = QueuePlace::new(endpoint, caller);
    loop {
        let taken = {
            let mut state = lock(&endpoint.state);
            let taken = if place.must_queue(&state) {
                None
            } else {
                take(&mut state)
            };
            if taken.is_none() {
                place.enqueue(&mut state);
            }
            taken
        };
        if let Some(taken) = taken {
            return taken;
        }
        place.wake.notified().await;
        place.queued = false;
    }
}

impl PoolPermit {
    /// The endpoint it counts against.
    pub(in crate::forward) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Notes that the new connection speaks HTTP/1.1: others need not wait to share it.
    pub(in crate::forward) fn found_http1(&mut self) {
        let mut state = lock(&self.endpoint.state);
        state.protocol = Some(Protocol::Http1);
        if self.probing {
            self.probing = false;
            state.probing = false;
            self.endpoint.wake_next(&mut state);
        }
    }

    /// Keeps an idle HTTP/1.1 connection for the next request.
    pub(in crate::forward) fn park(self, connection: Box<Http1>) {
        if !self.keep {
            return;
        }
        let idle = Idle {
            connection,
            since: Instant::now(),
        };
        lock(&self.endpoint.state).idle.push(idle);
        // Dropping the permit wakes the next in the queue.
    }

    /// Shares an HTTP/2 connection just opened; its first stream is the caller's.
    pub(in crate::forward) fn share(self, connection: Arc<Http2>) -> StreamPermit {
        let mut state = lock(&self.endpoint.state);
        state.protocol = Some(Protocol::Http2);
        let stream = StreamPermit::first(&connection, &self.endpoint, self.caller);
        state.queue.change(self.caller, |held| held.streams += 1);
        state.shared.push(Shared {
            connection,
            uses: 0,
            since: Instant::now(),
        });
        // Dropping the permit wakes the next in the queue.
        stream
    }
}

impl Drop for PoolPermit {
    fn drop(&mut self) {
        let mut state = lock(&self.endpoint.state);
        state.busy -= 1;
        state
            .queue
            .change(self.caller, |held| held.connections -= 1);
        if self.probing {
            state.probing = false;
        }
        self.endpoint.wake_next(&mut state);
    }
}

/// A caller's place in the queue; dropping it gives the place up.
struct QueuePlace<'e> {
    endpoint: &'e Arc<Endpoint>,
    caller: CallerId,
    wake: Arc<Notify>,
    number: Option<u64>,
    queued: bool,
}

impl<'e> QueuePlace<'e> {
    fn new(endpoint: &'e Arc<Endpoint>, caller: CallerId) -> Self {
        Self {
            endpoint,
            caller,
            wake: Arc::default(),
            number: None,
            queued: false,
        }
    }

    /// Whether this new caller must queue behind another.
    fn must_queue(&self, state: &State) -> bool {
        let free = || state.free(self.endpoint.most);
        self.number.is_none() && state.queue.has_waiting() && state.queue.is_somebodys(free())
    }

    fn enqueue(&mut self, state: &mut State) {
        let newcomer = self.must_queue(state);
        let number = state.queue.enqueue(self.caller, &self.wake, self.number);
        self.number = Some(number);
        self.queued = true;
        if newcomer
            || !state
                .queue
                .held(self.caller)
                .may_take(state.free(self.endpoint.most))
        {
            // It queues behind another, or was woken after it already had its part: wake the next.
            self.endpoint.wake_next(state);
        }
    }
}

/// Whoever has taken something, or leaves, wakes the next: there may be more to take, or the wake-up was
/// not used.
impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.endpoint.state);
        let left = self.queued
            && self
                .number
                .is_some_and(|number| state.queue.leave(self.caller, number));
        if !left {
            self.endpoint.wake_next(&mut state);
        }
    }
}
