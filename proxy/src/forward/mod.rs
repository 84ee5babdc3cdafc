//! The one upstream client: everything that leaves this proxy leaves through a [`Forwarder`].
//!
//! It resolves, checks and dials (`connect`), keeps connections apart by [`PoolKey`] (`pool`,
//! `endpoint`), speaks HTTP/1.1 or HTTP/2 as the upstream prefers (`http1`, `http2`), and streams
//! bodies both ways. Where a request goes is said by its key alone; `Host` and the request's own
//! authority are overwritten, never read.
//!
//! A request is sent at most once. The one exception is a connection at rest that turns out to be
//! closed before anything was written to it: then nothing was sent, and a new one is opened.

mod address;
mod body;
mod connect;
mod corporate;
mod dial;
mod dialled;
mod endpoint;
mod error;
mod http1;
mod http2;
mod pool;
mod resolve;
mod response;
#[cfg(test)]
mod tests;
mod timer;
mod tls;
mod upgrade;

pub use address::{Forbidden, classify};
pub use body::{BodyMeter, ClientBodyError, NotKept, RequestBody};
pub use error::{ForwardError, SetupError};
pub use pool::PoolKey;
pub use response::UpstreamBody;
pub(crate) use timer::LazyTimer;
pub use tls::Protocol;
pub use upgrade::{UpgradeAnswer, Upgraded};

use std::{fmt, future::poll_fn, net::SocketAddr, sync::Arc, task::Poll, time::Duration};

use countersign_config::model::{Limits, Upstream};
use http::{Request, Response};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use self::{
    connect::Connector,
    endpoint::{Endpoint, Lease, Step},
    http1::{Failed, Http1, Switch},
    http2::{Http2, Stream},
    pool::Pool,
    timer::Waits,
};
use crate::destination::Authority;

/// Sends requests to upstreams over verified TLS, and opens tunnels.
pub struct Forwarder {
    connector: Connector,
    pool: Arc<Pool>,
    waits: Waits,
    connect_timeout: Duration,
    connections: usize,
    head_bytes: usize,
}

/// A response and the connection it came by.
#[derive(Debug)]
pub struct Sent {
    /// The response, its head complete.
    pub response: Response<UpstreamBody>,
    /// The connection.
    pub connection: ConnectionInfo,
}

/// What records say of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The address dialled; a corporate proxy's own where there is one.
    pub address: SocketAddr,
    /// Whether it had served another request before.
    pub reused: bool,
    /// The HTTP it speaks.
    pub protocol: Protocol,
    /// How long this request waited for it; zero if one was at rest.
    pub connect: Duration,
}

impl Forwarder {
    /// Loads the roots, and reads the system's resolver configuration. `own_addresses` are this
    /// proxy's listeners and its admin endpoint, which are never dialled.
    ///
    /// Must be called within a Tokio runtime, in which connections are then kept.
    pub fn new(
        upstream: &Upstream,
        limits: &Limits,
        own_addresses: Vec<SocketAddr>,
    ) -> Result<Self, SetupError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(SetupError::NoRuntime);
        }
        Ok(Self {
            connector: Connector::new(upstream, own_addresses)?,
            pool: Pool::new(limits),
            waits: Waits {
                response: limits.response_timeout,
                body_idle: limits.body_idle_timeout,
            },
            connect_timeout: limits.connect_timeout,
            connections: limits.upstream_connections,
            head_bytes: limits.head_bytes,
        })
    }

    /// Sets this proxy's own addresses, once they are bound.
    pub fn set_own_addresses(&self, own_addresses: Vec<SocketAddr>) {
        self.connector.set_own(own_addresses);
    }

    /// This proxy's own addresses.
    pub(crate) fn own_addresses(&self) -> Vec<SocketAddr> {
        self.connector.own()
    }

    /// Whether `address` is one of this proxy's own listeners or its admin endpoint.
    pub fn is_own_listener(&self, address: SocketAddr) -> bool {
        self.connector.is_own(address)
    }

    /// Whether a connection from `from` to `to` is one that this proxy opened a moment ago. Whoever
    /// has read bytes from it can rely on the answer.
    pub fn has_dialled(&self, from: SocketAddr, to: SocketAddr) -> bool {
        self.connector.dialled().contains(from, to)
    }

    /// Sends a request to the authority of `key` and waits for the head of the response.
    ///
    /// Of the request's URI only path and query count. Hop-by-hop headers must be gone already.
    pub async fn send(
        &self,
        key: &PoolKey,
        mut request: Request<RequestBody>,
    ) -> Result<Sent, ForwardError> {
        let endpoint = self.pool.endpoint(key)?;
        let mut fresh = false;
        loop {
            let (line, connection) = self.checkout(&endpoint, fresh).await?;
            let result = match line {
                Line::Http1(line, lease) => {
                    let request = http1::prepare(request, &endpoint);
                    line.exchange(lease, request, self.waits).await
                }
                Line::Http2(stream) => {
                    let request = http2::prepare(request, &endpoint)?;
                    stream.exchange(request, self.waits).await
                }
            };
            match result {
                Ok(response) => {
                    return Ok(Sent {
                        response,
                        connection,
                    });
                }
                Err(Failed {
                    unsent: Some(unsent),
                    ..
                }) if connection.reused && !fresh => {
                    request = *unsent;
                    fresh = true;
                }
                Err(Failed { error, .. }) => return Err(error),
            }
        }
    }

    /// Sends a request that asks for an upgrade, by HTTP/1.1 on a connection of its own.
    ///
    /// `Connection` and `Upgrade` are sent as they are in the request.
    pub async fn upgrade(
        &self,
        key: &PoolKey,
        request: Request<RequestBody>,
    ) -> Result<UpgradeAnswer, ForwardError> {
        let endpoint = self.pool.endpoint(key)?;
        let start = Instant::now();
        let deadline = start + self.connect_timeout;
        let lease = timeout_at(deadline, endpoint.wait_for_place())
            .await
            .map_err(|_| self.overloaded())?;
        let connecting = Box::pin(self.connector.connect_http1(endpoint.authority()));
        let connected = timeout_at(deadline, connecting)
            .await
            .map_err(|_| self.connect_timed_out())??;
        let connection = ConnectionInfo {
            address: connected.address,
            reused: false,
            protocol: Protocol::Http1,
            connect: start.elapsed(),
        };
        let line = Http1::new(connected.stream, connected.address, self.head_bytes).await?;
        let request = http1::prepare(request, &endpoint);
        Ok(match line.upgrade(lease, request, self.waits).await? {
            Switch::Switched {
                response,
                stream,
                read,
                lease,
            } => UpgradeAnswer::Switched {
                response,
                stream: Upgraded::new(read, stream, lease),
                connection,
            },
            Switch::Refused(response) => UpgradeAnswer::Refused(Sent {
                response,
                connection,
            }),
        })
    }

    /// Opens a connection for a tunnel, whose bytes are neither read nor changed: resolved,
    /// checked and dialled like any other. The address is the corporate proxy's where there is
    /// one.
    pub async fn tunnel(
        &self,
        authority: &Authority,
    ) -> Result<(TcpStream, SocketAddr), ForwardError> {
        let deadline = Instant::now() + self.connect_timeout;
        timeout_at(deadline, Box::pin(self.connector.tcp(authority)))
            .await
            .map_err(|_| self.connect_timed_out())?
    }

    /// A connection for one request: one at rest, a stream of a shared one, or a new one.
    async fn checkout(
        &self,
        endpoint: &Arc<Endpoint>,
        fresh: bool,
    ) -> Result<(Line, ConnectionInfo), ForwardError> {
        loop {
            match endpoint.step(fresh) {
                Step::Stream(stream) => return Ok(ready_stream(stream, Duration::ZERO)),
                Step::Reuse(line, lease) => {
                    if let Some(ready) = ready_line(line, lease, Duration::ZERO).await {
                        return Ok(ready);
                    }
                }
                step @ (Step::Open(_) | Step::Wait) => {
                    // Boxed, so that a request that finds a connection does not carry the
                    // room for opening one.
                    return Box::pin(self.checkout_slowly(endpoint, fresh, step)).await;
                }
            }
        }
    }

    /// The same where there is nothing to use at once.
    async fn checkout_slowly(
        &self,
        endpoint: &Arc<Endpoint>,
        fresh: bool,
        mut step: Step,
    ) -> Result<(Line, ConnectionInfo), ForwardError> {
        let start = Instant::now();
        let deadline = start + self.connect_timeout;
        loop {
            match step {
                Step::Stream(stream) => return Ok(ready_stream(stream, start.elapsed())),
                Step::Reuse(line, lease) => {
                    if let Some(ready) = ready_line(line, lease, start.elapsed()).await {
                        return Ok(ready);
                    }
                }
                Step::Open(lease) => {
                    let (line, mut connection) = timeout_at(deadline, self.open(lease))
                        .await
                        .map_err(|_| self.connect_timed_out())??;
                    connection.connect = start.elapsed();
                    return Ok((line, connection));
                }
                Step::Wait => {}
            }
            step = match timeout_at(deadline, endpoint.wait(fresh)).await {
                Ok(step) => step,
                Err(_) if endpoint.is_full() => return Err(self.overloaded()),
                Err(_) => return Err(self.connect_timed_out()),
            };
        }
    }

    async fn open(&self, mut lease: Lease) -> Result<(Line, ConnectionInfo), ForwardError> {
        let endpoint = Arc::clone(lease.endpoint());
        let connected = self.connector.connect(endpoint.authority()).await?;
        let (stream, address) = (connected.stream, connected.address);
        self.pool.learn(endpoint.authority(), connected.protocol);
        let line = match connected.protocol {
            Protocol::Http1 => {
                lease.found_http1();
                Line::Http1(Http1::new(stream, address, self.head_bytes).await?, lease)
            }
            Protocol::Http2 => {
                let endpoint = Arc::downgrade(&endpoint);
                let shared = Http2::new(stream, address, self.head_bytes, endpoint).await?;
                Line::Http2(lease.share(shared))
            }
        };
        let connection = ConnectionInfo {
            address,
            reused: false,
            protocol: connected.protocol,
            connect: Duration::ZERO,
        };
        Ok((line, connection))
    }

    fn overloaded(&self) -> ForwardError {
        ForwardError::Overloaded {
            connections: self.connections,
            limit: self.connect_timeout,
        }
    }

    fn connect_timed_out(&self) -> ForwardError {
        ForwardError::ConnectTimeout {
            limit: self.connect_timeout,
        }
    }
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder").finish_non_exhaustive()
    }
}

/// What one request is sent on.
enum Line {
    Http1(Box<Http1>, Lease),
    Http2(Stream),
}

fn ready_stream(stream: Stream, connect: Duration) -> (Line, ConnectionInfo) {
    let connection = ConnectionInfo {
        address: stream.address(),
        reused: true,
        protocol: Protocol::Http2,
        connect,
    };
    (Line::Http2(stream), connection)
}

/// The connection, unless it was closed while it was at rest.
async fn ready_line(
    mut line: Box<Http1>,
    lease: Lease,
    connect: Duration,
) -> Option<(Line, ConnectionInfo)> {
    if !poll_fn(|cx| Poll::Ready(line.poll_usable(cx))).await {
        return None;
    }
    let connection = ConnectionInfo {
        address: line.address(),
        reused: true,
        protocol: Protocol::Http1,
        connect,
    };
    Some((Line::Http1(line, lease), connection))
}
