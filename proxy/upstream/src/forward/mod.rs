//! The one upstream client: everything that leaves this proxy leaves through a [`Forwarder`].
//!
//! It resolves, checks and dials (`connect`), keeps connections apart by [`Outbound`] (`pool`, `endpoint`),
//! speaks HTTP/1.1 or HTTP/2 as the upstream prefers (`http1`, `http2`), and streams bodies both ways. Only
//! the [`Outbound`] says where a request goes; `Host` and the request's own authority are overwritten,
//! never read.
//!
//! A request that an upstream may have acted on is not sent again. It is sent once more, on another
//! connection, if none of it was written; if an upstream says by HTTP/2 that it did not act on it; or if it
//! is idempotent and an idle connection was closed before a byte of its response arrived (`again`).

mod address;
mod again;
mod body;
mod certificate;
mod connect;
mod connection;
mod corporate;
mod dial;
mod dialled;
mod endpoint;
mod error;
mod fair_queue;
mod handshake;
mod http1;
mod http2;
mod lock;
mod names;
mod outbound;
mod pool;
mod reason;
mod resolve;
mod response;
mod served;
#[cfg(test)]
mod tests;
mod timer;
mod tls;
mod transport;
mod upgrade;

pub use address::{Forbidden, classify};
pub use body::{BodyMeter, ClientBodyError, NotKept, RequestBody};
pub use corporate::{ProxyError, ProxyFault};
pub use error::{ForwardError, SetupError};
pub use fair_queue::CallerId;
pub use handshake::asks as asks_for_websocket;
pub use http1::{follow, settle};
pub use outbound::Outbound;
pub use response::UpstreamBody;
pub use tls::Protocol;
pub use transport::Transport;
pub use upgrade::{UpgradeAnswer, Upgraded};

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use countersign_config::{
    host::Host,
    memory,
    model::{Limits, Upstream},
};
use countersign_core::budget::Purse;
use http::{Request, Response, request::Parts};
use tokio::time::{Instant, timeout_at};

use self::{
    again::Again,
    connect::{Connector, Stage},
    connection::{UpstreamConnection, ready_http1, ready_stream},
    endpoint::{Endpoint, PoolPermit, Reuse, Step},
    handshake::Handshake,
    http1::{Http1, Switch},
    http2::Http2,
    pool::Pool,
    timer::Waits,
};

/// Sends requests to upstreams over verified TLS, and opens tunnels.
pub struct Forwarder {
    connector: Connector,
    pool: Arc<Pool>,
    waits: Waits,
    connect_timeout: Duration,
    connections: usize,
    head_bytes: usize,
    /// The memory of one connection.
    connection_bytes: u64,
}

/// The caller that a connection is for.
#[derive(Debug, Clone, Copy)]
pub struct Requester<'r> {
    caller: CallerId,
    room: Option<&'r Arc<Purse>>,
}

impl<'r> Requester<'r> {
    /// A caller, who is charged for the memory of connections opened for it.
    pub fn new(caller: CallerId, room: &'r Arc<Purse>) -> Self {
        Self {
            caller,
            room: Some(room),
        }
    }

    /// Memory for one more connection.
    fn room(self, bytes: u64) -> Result<Room, ForwardError> {
        let room = self.room.map(|purse| purse.with_same_account(bytes));
        Ok(room.transpose()?)
    }
}

/// The gateway itself, whose connections are few and not charged.
impl From<CallerId> for Requester<'_> {
    fn from(caller: CallerId) -> Self {
        Self { caller, room: None }
    }
}

/// The memory that a connection takes while it is open.
type Room = Option<Arc<Purse>>;

/// A response and the connection it came by.
#[derive(Debug)]
pub struct Sent {
    /// The response, its head complete.
    pub response: Response<UpstreamBody>,
    /// The connection.
    pub connection: ConnectionInfo,
}

/// The record's description of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The address dialled; a corporate proxy's own where there is one.
    pub address: SocketAddr,
    /// Whether it had served another request before.
    pub reused: bool,
    /// The HTTP it speaks.
    pub protocol: Protocol,
    /// How long this request waited for it; zero if one was idle.
    pub connect: Duration,
}

impl Forwarder {
    /// Loads the roots, and reads the system's resolver configuration. `own_addresses` are this
    /// proxy's listeners and its admin endpoint, which are never dialled.
    ///
    /// Must be called within a Tokio runtime, where the connections are then kept.
    pub fn new(
        upstream: &Upstream,
        limits: &Limits,
        own_addresses: Vec<SocketAddr>,
    ) -> Result<Self, SetupError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(SetupError::NoRuntime);
        }
        Ok(Self {
            connector: Connector::new(upstream, own_addresses, limits.connect_timeout)?,
            pool: Pool::new(limits),
            waits: Waits {
                response: limits.response_timeout,
                body_idle: limits.body_idle_timeout,
            },
            connect_timeout: limits.connect_timeout,
            connections: limits.upstream_connections,
            head_bytes: limits.head_bytes,
            connection_bytes: match &upstream.proxy {
                // One TLS session in another.
                Some(proxy) if proxy.tls.is_some() => 2 * memory::UPSTREAM,
                Some(_) | None => memory::UPSTREAM,
            },
        })
    }

    /// Sets this proxy's own addresses, once they are bound.
    pub fn set_own_addresses(&self, own_addresses: Vec<SocketAddr>) {
        self.connector.set_own(own_addresses);
    }

    /// This proxy's own addresses.
    pub fn own_addresses(&self) -> Vec<SocketAddr> {
        self.connector.own()
    }

    /// Whether `address` is one of this proxy's own listeners or its admin endpoint.
    pub fn is_own_listener(&self, address: SocketAddr) -> bool {
        self.connector.is_own(address)
    }

    /// Whether this gateway recently opened a connection from `from` to `to`. The result is reliable after
    /// bytes were read from it.
    pub fn has_dialled(&self, from: SocketAddr, to: SocketAddr) -> bool {
        self.connector.dialled().contains(from, to)
    }

    /// The hosts to which requests were recently sent at this address.
    pub fn hosts_at(&self, address: SocketAddr) -> Arc<[Host]> {
        self.connector.served().hosts_at(address)
    }

    /// Sends a request to the authority of `outbound` and waits for the head of the response.
    ///
    /// Only path and query of the request's URI are used. Hop-by-hop headers must already be removed.
    pub async fn send(
        &self,
        outbound: &Outbound,
        request: Request<RequestBody>,
    ) -> Result<Sent, ForwardError> {
        self.send_for(CallerId::GATEWAY.into(), outbound, request)
            .await
    }

    /// The same for a caller, who has a fair part of the connections.
    pub async fn send_for(
        &self,
        requester: Requester<'_>,
        outbound: &Outbound,
        request: Request<RequestBody>,
    ) -> Result<Sent, ForwardError> {
        self.send_copied(requester, outbound, request, None).await
    }

    /// Like [`Self::send_for`]; `head` is a copy of the request's head, if one exists.
    pub async fn send_copied(
        &self,
        requester: Requester<'_>,
        outbound: &Outbound,
        mut request: Request<RequestBody>,
        head: Option<&Parts>,
    ) -> Result<Sent, ForwardError> {
        let endpoint = self.pool.endpoint(outbound)?;
        let reuse = if request.method().is_idempotent() {
            Reuse::Any
        } else {
            Reuse::Recent
        };
        let (over, connection) = self.checkout(&endpoint, requester, reuse).await?;
        let again = Again::of(&mut request, head, &connection);
        let failed = match over.exchange(&endpoint, request, self.waits).await {
            Ok(response) => {
                return Ok(Sent {
                    response,
                    connection,
                });
            }
            Err(failed) => failed,
        };
        // Boxed, because it is rare.
        Box::pin(async {
            let request = again.after(failed, &connection)?;
            let (over, connection) = self.checkout(&endpoint, requester, Reuse::Never).await?;
            match over.exchange(&endpoint, request, self.waits).await {
                Ok(response) => Ok(Sent {
                    response,
                    connection,
                }),
                Err(failed) => Err(again::given_up(failed, &connection)),
            }
        })
        .await
    }

    /// Sends a request for a WebSocket, by HTTP/1.1 on a connection of its own. A 101 that does not match
    /// it is an error.
    ///
    /// `Connection` and `Upgrade` are sent as they are in the request.
    pub async fn upgrade(
        &self,
        requester: Requester<'_>,
        outbound: &Outbound,
        request: Request<RequestBody>,
    ) -> Result<UpgradeAnswer, ForwardError> {
        let unsendable = || ForwardError::Unsendable {
            reason: "it is no WebSocket handshake".into(),
        };
        let handshake = Handshake::of(request.headers()).ok_or_else(unsendable)?;
        let endpoint = self.pool.endpoint(outbound)?;
        let start = Instant::now();
        let deadline = start + self.connect_timeout;
        let permit = timeout_at(deadline, endpoint.wait_for_place(requester.caller))
            .await
            .map_err(|_| self.no_connection(&endpoint, requester.caller))?;
        let room = requester.room(self.connection_bytes)?;
        let stage = Stage::default();
        let connecting = self.connector.connect_http1(endpoint.authority(), &stage);
        let connected = timeout_at(deadline, Box::pin(connecting))
            .await
            .map_err(|_| self.connector.timed_out(&stage, self.connect_timeout))??;
        let connection = ConnectionInfo {
            address: connected.address,
            reused: false,
            protocol: Protocol::Http1,
            connect: start.elapsed(),
        };
        let over = Http1::new(connected.stream, connected.address, self.head_bytes, room).await?;
        let request = http1::prepare(request, endpoint.host());
        Ok(match over.upgrade(request, self.waits).await? {
            Switch::Switched {
                response,
                stream,
                read,
                room,
            } => {
                let malformed = |fault| ForwardError::MalformedResponse {
                    reason: format!("a 101 that does not answer the handshake: {fault}"),
                };
                handshake.check(response.headers()).map_err(malformed)?;
                UpgradeAnswer::Switched {
                    response,
                    stream: Upgraded::new(read, stream, permit, room),
                    connection,
                }
            }
            Switch::Refused {
                connection: over,
                response,
                watch,
            } => UpgradeAnswer::Refused(Sent {
                response: UpstreamBody::over_http1(over, response, watch, permit),
                connection,
            }),
        })
    }

    /// Opens a connection for a tunnel, whose bytes are neither read nor changed: resolved, checked and
    /// dialled like any other. The address is the corporate proxy's if there is one.
    pub async fn tunnel(
        &self,
        outbound: &Outbound,
    ) -> Result<(Transport, SocketAddr), ForwardError> {
        let deadline = Instant::now() + self.connect_timeout;
        let stage = Stage::default();
        let connecting = self.connector.transport(outbound.authority(), &stage);
        timeout_at(deadline, Box::pin(connecting))
            .await
            .map_err(|_| self.connector.timed_out(&stage, self.connect_timeout))?
    }

    /// A connection for one request: an idle one, a stream of a shared one, or a new one.
    async fn checkout(
        &self,
        endpoint: &Arc<Endpoint>,
        requester: Requester<'_>,
        reuse: Reuse,
    ) -> Result<(UpstreamConnection, ConnectionInfo), ForwardError> {
        loop {
            match endpoint.step(requester.caller, reuse) {
                Step::Stream(stream) => return Ok(ready_stream(stream, Duration::ZERO)),
                Step::Reuse(connection, permit) => {
                    if let Some(ready) = ready_http1(connection, permit, Duration::ZERO).await {
                        return Ok(ready);
                    }
                }
                step @ (Step::Open(_) | Step::Wait) => {
                    // Boxed, so that the future of a request that finds a connection does not hold that of
                    // opening one.
                    let slowly = self.checkout_slowly(endpoint, requester, reuse, step);
                    return Box::pin(slowly).await;
                }
            }
        }
    }

    /// The same if nothing can be used at once.
    async fn checkout_slowly(
        &self,
        endpoint: &Arc<Endpoint>,
        requester: Requester<'_>,
        reuse: Reuse,
        mut step: Step,
    ) -> Result<(UpstreamConnection, ConnectionInfo), ForwardError> {
        let start = Instant::now();
        let deadline = start + self.connect_timeout;
        loop {
            match step {
                Step::Stream(stream) => return Ok(ready_stream(stream, start.elapsed())),
                Step::Reuse(connection, permit) => {
                    if let Some(ready) = ready_http1(connection, permit, start.elapsed()).await {
                        return Ok(ready);
                    }
                }
                Step::Open(permit) => {
                    let stage = Stage::default();
                    let opening = self.open(permit, requester, &stage);
                    let (over, mut connection) = timeout_at(deadline, opening)
                        .await
                        .map_err(|_| self.connector.timed_out(&stage, self.connect_timeout))??;
                    connection.connect = start.elapsed();
                    return Ok((over, connection));
                }
                Step::Wait => {}
            }
            step = timeout_at(deadline, endpoint.wait(requester.caller, reuse))
                .await
                .map_err(|_| self.no_connection(endpoint, requester.caller))?;
        }
    }

    async fn open(
        &self,
        mut permit: PoolPermit,
        requester: Requester<'_>,
        stage: &Stage,
    ) -> Result<(UpstreamConnection, ConnectionInfo), ForwardError> {
        let room = requester.room(self.connection_bytes)?;
        let endpoint = Arc::clone(permit.endpoint());
        let connected = self.connector.connect(endpoint.authority(), stage).await?;
        let (stream, address) = (connected.stream, connected.address);
        self.pool.learn(endpoint.authority(), connected.protocol);
        let over = match connected.protocol {
            Protocol::Http1 => {
                permit.found_http1();
                let over = Http1::new(stream, address, self.head_bytes, room).await?;
                UpstreamConnection::Http1(over, permit)
            }
            Protocol::Http2 => {
                let endpoint = Arc::downgrade(&endpoint);
                let ended = move || {
                    // Another connection may take its place.
                    if let Some(endpoint) = endpoint.upgrade() {
                        endpoint.notify();
                    }
                };
                let shared = Http2::new(stream, address, self.head_bytes, room, ended).await?;
                UpstreamConnection::Http2(permit.share(shared))
            }
        };
        let connection = ConnectionInfo {
            address,
            reused: false,
            protocol: connected.protocol,
            connect: Duration::ZERO,
        };
        Ok((over, connection))
    }

    /// Why there was no connection in time.
    fn no_connection(&self, endpoint: &Endpoint, caller: CallerId) -> ForwardError {
        let (connections, limit) = (self.connections, self.connect_timeout);
        if endpoint.has_its_part(caller) && endpoint.has_free() {
            ForwardError::PartTaken { connections, limit }
        } else if endpoint.is_full() {
            ForwardError::Overloaded { connections, limit }
        } else {
            ForwardError::ConnectTimeout { limit }
        }
    }
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder").finish_non_exhaustive()
    }
}
