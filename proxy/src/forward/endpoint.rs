//! The connections of one pool key.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Waker},
    time::Duration,
};

use http::{HeaderValue, uri};
use tokio::{sync::Notify, time::Instant};

use super::{
    error::ForwardError,
    http1::Http1,
    http2::{Http2, Stream},
    pool::lock,
    tls::Protocol,
};
use crate::destination::Authority;

/// The port that is not written in `Host` and `:authority`.
const HTTPS: u16 = 443;

/// The connections of one pool key, and how their requests name the authority.
pub(super) struct Endpoint {
    authority: Authority,
    host: HeaderValue,
    uri_authority: uri::Authority,
    most: usize,
    state: Mutex<State>,
    /// Told whenever something that a waiting request could use has changed.
    changed: Notify,
}

#[derive(Default)]
struct State {
    protocol: Option<Protocol>,
    /// HTTP/1.1 connections in use, and connections being opened.
    busy: usize,
    /// HTTP/1.1 connections at rest, the last used at the end.
    idle: Vec<Idle>,
    shared: Vec<Shared>,
    /// Whether a connection is being opened that others can use too.
    probing: bool,
}

struct Idle {
    connection: Box<Http1>,
    since: Instant,
}

struct Shared {
    connection: Arc<Http2>,
    /// What the sweep saw last: since when nobody has used it.
    uses: u64,
    since: Instant,
}

/// What a request is to do.
pub(super) enum Step {
    /// Use a stream of a shared connection.
    Stream(Stream),
    /// Use this connection, unless it turns out to be closed.
    Reuse(Box<Http1>, Lease),
    /// Open a connection.
    Open(Lease),
    /// Wait until something has changed.
    Wait,
}

/// The right to one connection; counts against the endpoint's bound until it is dropped.
pub(super) struct Lease {
    endpoint: Arc<Endpoint>,
    probing: bool,
    /// Whether the connection may serve further requests.
    keep: bool,
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
            changed: Notify::new(),
        })
    }

    /// Where the connections lead.
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

    /// What can be done at once. With `fresh`, connections at rest are not used.
    pub(super) fn step(self: &Arc<Self>, fresh: bool) -> Step {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        state.shared.retain(|shared| !shared.connection.is_closed());
        if let Some(stream) = state
            .shared
            .iter()
            .find_map(|shared| Stream::reserve(&shared.connection, self))
        {
            return Step::Stream(stream);
        }
        if fresh {
            // One at rest may be as stale as the one before; it makes room.
            state.idle.pop();
        } else if let Some(idle) = state.idle.pop() {
            state.busy += 1;
            return Step::Reuse(idle.connection, self.lease(false));
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
        state.busy += 1;
        Step::Open(self.lease(probing))
    }

    /// What can be done, as soon as something can; never [`Step::Wait`].
    pub(super) async fn wait(self: &Arc<Self>, fresh: bool) -> Step {
        loop {
            let mut changed = pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            match self.step(fresh) {
                Step::Wait => changed.await,
                step @ (Step::Stream(_) | Step::Reuse(..) | Step::Open(_)) => return step,
            }
        }
    }

    /// Takes the place of a connection that will serve one request only; `None` at the bound.
    pub(super) fn take_place(self: &Arc<Self>) -> Option<Lease> {
        let mut state = lock(&self.state);
        if state.open() >= self.most && state.idle.pop().is_none() {
            return None;
        }
        state.busy += 1;
        let mut lease = self.lease(false);
        lease.keep = false;
        Some(lease)
    }

    /// Like [`Self::take_place`], as soon as there is one.
    pub(super) async fn wait_for_place(self: &Arc<Self>) -> Lease {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(lease) = self.take_place() {
                return lease;
            }
            changed.await;
        }
    }

    /// Whether all the connections that may be open are.
    pub(super) fn is_full(&self) -> bool {
        lock(&self.state).open() >= self.most
    }

    /// Whether there is no connection.
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.state).open() == 0
    }

    /// Wakes one request that waits.
    pub(super) fn notify(&self) {
        self.changed.notify_one();
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
            // They are closed here, where nobody waits for the lock.
            drop((idle, shared));
            self.changed.notify_waiters();
        }
    }

    fn lease(self: &Arc<Self>, probing: bool) -> Lease {
        Lease {
            endpoint: Arc::clone(self),
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

impl Lease {
    /// The endpoint it counts against.
    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Says that the connection just opened speaks HTTP/1.1: others need not wait to share it.
    pub(super) fn found_http1(&mut self) {
        let mut state = lock(&self.endpoint.state);
        state.protocol = Some(Protocol::Http1);
        if self.probing {
            self.probing = false;
            state.probing = false;
            self.endpoint.changed.notify_waiters();
        }
    }

    /// Lays an HTTP/1.1 connection to rest until the next request.
    pub(super) fn park(self, connection: Box<Http1>) {
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
    pub(super) fn share(self, connection: Arc<Http2>) -> Stream {
        let stream = {
            let mut state = lock(&self.endpoint.state);
            state.protocol = Some(Protocol::Http2);
            let stream = Stream::first(&connection, &self.endpoint);
            state.shared.push(Shared {
                connection,
                uses: 0,
                since: Instant::now(),
            });
            stream
        };
        self.endpoint.changed.notify_waiters();
        stream
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = lock(&self.endpoint.state);
        state.busy -= 1;
        if self.probing {
            state.probing = false;
            self.endpoint.changed.notify_waiters();
        } else {
            self.endpoint.changed.notify_one();
        }
    }
}
