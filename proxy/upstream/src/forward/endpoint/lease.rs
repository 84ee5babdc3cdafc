//! The right to one connection of an endpoint, and the turn of whoever waits for one.

use std::sync::Arc;

use tokio::{sync::Notify, time::Instant};

use super::{
    super::{
        http1::Http1,
        http2::{Http2, Stream},
        pool::lock,
        tls::Protocol,
        turns::CallerId,
    },
    Endpoint, Idle, Shared, State,
};

/// The right to one connection; counts against the endpoint's bound until it is dropped.
pub(in crate::forward) struct Lease {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) caller: CallerId,
    pub(super) probing: bool,
    /// Whether the connection may serve further requests.
    pub(super) keep: bool,
}

/// Takes something when it is the caller's turn and there is something to take.
pub(super) async fn in_turn<T>(
    endpoint: &Arc<Endpoint>,
    caller: CallerId,
    mut take: impl FnMut(&mut State) -> Option<T>,
) -> T {
    let mut turn = Turn::new(endpoint, caller);
    loop {
        let taken = {
            let mut state = lock(&endpoint.state);
            let taken = if turn.must_queue(&state) {
                None
            } else {
                take(&mut state)
            };
            if taken.is_none() {
                turn.enqueue(&mut state);
            }
            taken
        };
        if let Some(taken) = taken {
            return taken;
        }
        turn.told.notified().await;
        turn.queued = false;
    }
}

impl Lease {
    /// The endpoint it counts against.
    pub(in crate::forward) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Says that the connection just opened speaks HTTP/1.1: others need not wait to share it.
    pub(in crate::forward) fn found_http1(&mut self) {
        let mut state = lock(&self.endpoint.state);
        state.protocol = Some(Protocol::Http1);
        if self.probing {
            self.probing = false;
            state.probing = false;
            self.endpoint.tell_next(&mut state);
        }
    }

    /// Lays an HTTP/1.1 connection to rest until the next request.
    pub(in crate::forward) fn park(self, connection: Box<Http1>) {
        if !self.keep {
            return;
        }
        let idle = Idle {
            connection,
            since: Instant::now(),
        };
        lock(&self.endpoint.state).idle.push(idle);
        // Dropping the lease frees the place and tells who waits.
    }

    /// Shares an HTTP/2 connection just opened; its first stream is the caller's.
    pub(in crate::forward) fn share(self, connection: Arc<Http2>) -> Stream {
        let mut state = lock(&self.endpoint.state);
        state.protocol = Some(Protocol::Http2);
        let stream = Stream::first(&connection, &self.endpoint, self.caller);
        state.turns.change(self.caller, |held| held.streams += 1);
        state.shared.push(Shared {
            connection,
            uses: 0,
            since: Instant::now(),
        });
        // Dropping the lease tells who waits.
        stream
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = lock(&self.endpoint.state);
        state.busy -= 1;
        state
            .turns
            .change(self.caller, |held| held.connections -= 1);
        if self.probing {
            state.probing = false;
        }
        self.endpoint.tell_next(&mut state);
    }
}

/// Somebody's place in the queue, which is given up with it.
struct Turn<'e> {
    endpoint: &'e Arc<Endpoint>,
    caller: CallerId,
    told: Arc<Notify>,
    number: Option<u64>,
    queued: bool,
}

impl<'e> Turn<'e> {
    fn new(endpoint: &'e Arc<Endpoint>, caller: CallerId) -> Self {
        Self {
            endpoint,
            caller,
            told: Arc::default(),
            number: None,
            queued: false,
        }
    }

    /// Whether a newcomer comes after somebody who waits.
    fn must_queue(&self, state: &State) -> bool {
        let free = || state.free(self.endpoint.most);
        self.number.is_none() && state.turns.has_waiting() && state.turns.is_somebodys(free())
    }

    fn enqueue(&mut self, state: &mut State) {
        let newcomer = self.must_queue(state);
        let number = state.turns.enqueue(self.caller, &self.told, self.number);
        self.number = Some(number);
        self.queued = true;
        if newcomer
            || !state
                .turns
                .held(self.caller)
                .may_take(state.free(self.endpoint.most))
        {
            // It comes after another, or was told before it took too much: the turn is another's.
            self.endpoint.tell_next(state);
        }
    }
}

/// Whoever has taken something, or leaves, passes the word on: there may be more, or he was told in
/// vain.
impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.endpoint.state);
        let left = self.queued
            && self
                .number
                .is_some_and(|number| state.turns.leave(self.caller, number));
        if !left {
            self.endpoint.tell_next(&mut state);
        }
    }
}
