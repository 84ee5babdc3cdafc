//! The connections of one pool key.

mod permit;
mod stream;

pub(super) use permit::PoolPermit;
pub(super) use stream::StreamPermit;

use std::{
    sync::{Arc, Mutex},
    task::{Context, Waker},
    time::Duration,
};

use countersign_core::destination::Authority;
use http::{HeaderValue, uri};
use tokio::time::Instant;

use super::{
    error::ForwardError,
    fair_queue::{CallerId, FairQueue, Free},
    http1::Http1,
    http2::Http2,
    lock::lock,
    tls::Protocol,
};

/// The port that is not written in `Host` and `:authority`.
const HTTPS: u16 = 443;

/// The connections of one pool key, and how their requests name the authority.
pub(super) struct Endpoint {
    authority: Authority,
    host: HeaderValue,
    uri_authority: uri::Authority,
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    protocol: Option<Protocol>,
    /// HTTP/1.1 connections in use, and connections being opened.
    busy: usize,
    /// Idle HTTP/1.1 connections, the last used at the end.
    idle: Vec<Idle>,
    shared: Vec<Shared>,
    /// Whether a connection is being opened that others may share.
    probing: bool,
    queue: FairQueue,
}

struct Idle {
    connection: Box<Http1>,
    since: Instant,
}

/// Which idle connections a request may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reuse {
    /// Any: if it turns out to be closed, the request is sent again.
    Any,
    /// One that was used a moment ago. One that has rested may be closed by the upstream just as it is used,
    /// and then nobody knows what became of a request that cannot be sent again.
    Recent,
    /// None.
    Never,
}

/// How long an HTTP/1.1 connection may have rested for [`Reuse::Recent`]. Upstreams close idle connections
/// after some seconds at the earliest, and another connection costs a few round trips.
const RECENT: Duration = Duration::from_secs(1);

impl Reuse {
    fn allows(self, idle: &Idle) -> bool {
        match self {
            Self::Any => true,
            Self::Recent => idle.since.elapsed() < RECENT,
            Self::Never => false,
        }
    }
}

struct Shared {
    connection: Arc<Http2>,
    /// The uses at the last sweep, and since when they have not changed.
    uses: u64,
    since: Instant,
}

/// How a request gets a connection.
pub(super) enum Step {
    /// Use a stream of a shared connection.
    Stream(StreamPermit),
    /// Use this connection, unless it was closed.
    Reuse(Box<Http1>, PoolPermit),
    /// Open a connection.
    Open(PoolPermit),
    /// Wait for a change.
    Wait,
}

impl Endpoint {
    /// An endpoint without connections.
    pub(super) fn new(
        authority: &Authority,
        protocol: Option<Protocol>,
        most: usize,
    ) -> Result<Self, ForwardError> {
        let text = if authority.port() == HTTPS {
            authority.host().to_string()
        } else {
            authority.to_string()
        };
        let unsendable = |reason: String| ForwardError::Unsendable { reason };
        Ok(Self {
            authority: authority.clone(),
            host: HeaderValue::from_str(&text).map_err(|error| unsendable(error.to_string()))?,
            uri_authority: text
                .parse()
                .map_err(|error: uri::InvalidUri| unsendable(error.to_string()))?,
            most,
            state: Mutex::new(State {
                protocol,
                ..State::default()
            }),
        })
    }

    /// The authority of the connections.
    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The value of `Host`.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// The value of `:authority`.
    pub(super) fn uri_authority(&self) -> &uri::Authority {
        &self.uri_authority
    }

    /// What can be done at once, unless others come first.
    pub(super) fn step(self: &Arc<Self>, caller: CallerId, reuse: Reuse) -> Step {
        let mut state = lock(&self.state);
        if state.queue.has_waiting() && state.queue.is_somebodys(state.free(self.most)) {
            return Step::Wait;
        }
        self.take(&mut state, caller, reuse)
    }

    fn take(self: &Arc<Self>, state: &mut State, caller: CallerId, reuse: Reuse) -> Step {
        state.shared.retain(|shared| !shared.connection.is_closed());
        let (held, free) = (state.queue.held(caller), state.free(self.most));
        if held.may_stream(free) {
            let mut shared = state.shared.iter();
            let stream =
                shared.find_map(|one| StreamPermit::reserve(&one.connection, self, caller));
            if let Some(stream) = stream {
                state.queue.change(caller, |held| held.streams += 1);
                return Step::Stream(stream);
            }
        } else if free.streams > 0 {
            return Step::Wait;
        }
        if !held.may_connect(free) {
            return Step::Wait;
        }
        // The last used comes first. One that may be stale is closed, which makes room for another.
        if let Some(idle) = state.idle.pop()
            && reuse.allows(&idle)
        {
            return Step::Reuse(idle.connection, self.permit(state, caller, false));
        }
        if state.open() >= self.most {
            return Step::Wait;
        }
        let probing = match state.protocol {
            Some(Protocol::Http1) => false,
            Some(Protocol::Http2) | None if state.probing => return Step::Wait,
            Some(Protocol::Http2) | None => true,
        };
        state.probing |= probing;
        Step::Open(self.permit(state, caller, probing))
    }

    /// Waits until something can be done; never returns [`Step::Wait`].
    pub(super) async fn wait(self: &Arc<Self>, caller: CallerId, reuse: Reuse) -> Step {
        let take = |state: &mut State| match self.take(state, caller, reuse) {
            Step::Wait => None,
            step @ (Step::Stream(_) | Step::Reuse(..) | Step::Open(_)) => Some(step),
        };
        permit::in_turn(self, caller, take).await
    }

    /// Waits for a permit for a connection that serves one request only.
    pub(super) async fn wait_for_place(self: &Arc<Self>, caller: CallerId) -> PoolPermit {
        permit::in_turn(self, caller, |state| self.take_place(state, caller)).await
    }

    fn take_place(self: &Arc<Self>, state: &mut State, caller: CallerId) -> Option<PoolPermit> {
        let may = state.queue.held(caller).may_connect(state.free(self.most));
        if !may || (state.open() >= self.most && state.idle.pop().is_none()) {
            return None;
        }
        let mut permit = self.permit(state, caller, false);
        permit.keep = false;
        Some(permit)
    }

    /// Whether all permitted connections are open.
    pub(super) fn is_full(&self) -> bool {
        lock(&self.state).open() >= self.most
    }

    /// Whether this caller has its full part.
    pub(super) fn has_its_part(&self, caller: CallerId) -> bool {
        let state = lock(&self.state);
        let (held, free) = (state.queue.held(caller), state.free(self.most));
        !held.may_connect(free) || !held.may_stream(free)
    }

    /// Whether something is free for callers that have less.
    pub(super) fn has_free(&self) -> bool {
        let free = lock(&self.state).free(self.most);
        free.connections > 0 || free.streams > 0
    }

    /// Whether there is no connection.
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.state).open() == 0
    }

    /// Wakes the next waiting request.
    pub(super) fn notify(&self) {
        self.wake_next(&mut lock(&self.state));
    }

    fn wake_next(&self, state: &mut State) {
        if state.queue.has_waiting() {
            let free = state.free(self.most);
            state.queue.wake_next(free);
        }
    }

    /// A stream of a shared connection has ended.
    pub(super) fn stream_ended(&self, caller: CallerId) {
        let mut state = lock(&self.state);
        state.queue.change(caller, |held| held.streams -= 1);
        self.wake_next(&mut state);
    }

    /// Closes connections that have rested for `idle_timeout`, or that the upstream has closed.
    pub(super) fn sweep(&self, now: Instant, idle_timeout: Duration) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let ended = |idle: &mut Idle| {
            idle.since + idle_timeout <= now || !idle.connection.poll_usable(&mut cx)
        };
        let idle: Vec<_> = state.idle.extract_if(.., ended).collect();
        let expired = |shared: &mut Shared| shared.expired(now, idle_timeout);
        let shared: Vec<_> = state.shared.extract_if(.., expired).collect();
        drop(guard);
        if !idle.is_empty() || !shared.is_empty() {
            // They are closed here, outside the lock.
            drop((idle, shared));
            self.notify();
        }
    }

    fn permit(self: &Arc<Self>, state: &mut State, caller: CallerId, probing: bool) -> PoolPermit {
        state.busy += 1;
        state.queue.change(caller, |held| held.connections += 1);
        PoolPermit {
            endpoint: Arc::clone(self),
            caller,
            probing,
            keep: true,
        }
    }

    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        let state = lock(&self.state);
        (state.busy, state.idle.len(), state.shared.len())
    }
}

impl State {
    fn open(&self) -> usize {
        self.busy + self.idle.len() + self.shared.len()
    }

    /// What is free, of `most` connections. Idle ones count as free.
    fn free(&self, most: usize) -> Free {
        let connections = most.saturating_sub(self.busy + self.shared.len());
        let streams = match self.shared.first() {
            None => 0,
            Some(first) => {
                let here = self.shared.iter().map(|shared| shared.connection.room());
                here.sum::<usize>() + connections * first.connection.most_streams()
            }
        };
        Free {
            connections,
            streams,
        }
    }
}

impl Shared {
    fn expired(&mut self, now: Instant, idle_timeout: Duration) -> bool {
        if self.connection.is_closed() {
            return true;
        }
        let uses = self.connection.uses();
        if uses != self.uses || self.connection.streams() > 0 {
            self.uses = uses;
            self.since = now;
        }
        self.since + idle_timeout <= now
    }
}
