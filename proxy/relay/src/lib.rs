//! The relay in a pod: it tunnels the pod's connections to a gateway, and identifies the pod there. It
//! holds no secret and no policy, and does not inspect the connections.
//!
//! For a gateway it is an ordinary client of an HTTPS proxy: CONNECT over TLS, by HTTP/2 with many
//! tunnels on few connections, or by HTTP/1.1. Connections come in at a local HTTP proxy port, for apps
//! with proxy settings, and at a port to which `countersign redirect` redirects all others.

mod answer;
mod carry;
mod clear;
pub mod command;
mod dial;
mod fault;
mod gateway;
mod health;
mod local;
mod pool;
mod proof;
pub mod redirect;
mod redirected;
mod settings;
mod tls_stream;

pub use proof::Proof;
pub use settings::{CONNECTIONS, GatewayName, Settings};

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use countersign_core::{
    clock::Clock,
    files,
    slots::{Bounds, Slot, Slots},
    wire::listen::listen_with,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use dial::Dialer;
use pool::GatewayPool;

/// How long the relay continues after SIGTERM although nothing is open: an earlier connection of an app
/// may still wait to be accepted.
const LAST_CALL: Duration = Duration::from_millis(100);

/// The most concurrent readiness probes.
const PROBES: usize = 64;

/// Why a relay does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No gateway was given.
    #[error("no gateway is given")]
    NoGateway,
    /// Neighbours of the pod could use its identity.
    #[error("{0} is not a loopback address: whoever reaches it would act as this pod")]
    NotLoopback(SocketAddr),
    /// There are no roots for gateways.
    #[error("{0}")]
    GatewayCa(String),
    /// It cannot listen on an address.
    #[error("cannot listen on {address}: {}", files::reason(source))]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
}

/// What every connection shares.
#[derive(Debug)]
struct Shared {
    pool: GatewayPool,
    /// All open connections.
    tasks: TaskTracker,
    /// Cancelled on SIGTERM.
    draining: CancellationToken,
    /// Cancelled when the time to drain is over.
    cut: CancellationToken,
    /// Our own listeners, which must not be redirected.
    own: Vec<SocketAddr>,
}

/// A relay that listens and does not serve yet.
#[derive(Debug)]
pub struct Relay {
    http: Vec<TcpListener>,
    redirected: Vec<TcpListener>,
    health: Option<TcpListener>,
    shared: Arc<Shared>,
    slots: Slots,
    drain: Duration,
}

/// The purpose of a listener.
#[derive(Debug, Clone, Copy)]
enum ListenerKind {
    Http,
    Redirected,
    Health,
}

impl Relay {
    /// Binds all listeners; errors at start occur here.
    ///
    /// # Errors
    /// When it cannot or must not listen on an address, or the gateway CA cannot be read.
    pub async fn bind(settings: Settings, clock: Clock) -> Result<Self, StartError> {
        if settings.gateways.is_empty() {
            return Err(StartError::NoGateway);
        }
        let dialer = Dialer::new(settings.gateway_ca, settings.proof)
            .await
            .map_err(|error| StartError::GatewayCa(error.to_string()))?;
        let http = bind_loopback(&settings.http)?;
        let redirected = bind_loopback(&settings.redirected)?;
        let health = settings.health.map(bind).transpose()?;
        let listeners = http.iter().chain(&redirected).chain(&health);
        let own = listeners.map(local_address).collect::<Result<_, _>>()?;
        Ok(Self {
            http,
            redirected,
            health,
            shared: Arc::new(Shared {
                pool: GatewayPool::new(settings.gateways, dialer, clock),
                tasks: TaskTracker::new(),
                draining: CancellationToken::new(),
                cut: CancellationToken::new(),
                own,
            }),
            slots: Slots::new(places(settings.connections), None),
            drain: settings.drain,
        })
    }

    /// The addresses that it listens on, with their real ports: those of the HTTP proxy, those for
    /// redirected connections, then that of readiness.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.shared.own
    }

    /// Serves until `shutdown` completes, then until nothing is open, at most for the time to drain.
    /// While it drains it still accepts connections: an app that is finishing may need one more, and a
    /// native sidecar is stopped only after the apps.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self {
            http,
            redirected,
            health,
            shared,
            slots,
            drain,
        } = self;
        let stop = CancellationToken::new();
        let watch = Arc::clone(&shared);
        let watch = tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            watch.pool.watch().await;
        }));
        let entrances = http
            .into_iter()
            .map(|socket| (socket, ListenerKind::Http))
            .chain(
                redirected
                    .into_iter()
                    .map(|socket| (socket, ListenerKind::Redirected)),
            )
            .chain(health.map(|socket| (socket, ListenerKind::Health)));
        for (socket, kind) in entrances {
            // Readiness has connection slots of its own; otherwise a busy relay would count as dead.
            let slots = match kind {
                ListenerKind::Health => Slots::new(places(PROBES), None),
                ListenerKind::Http | ListenerKind::Redirected => slots.clone(),
            };
            let accepting = accept(socket, kind, Arc::clone(&shared), slots);
            tokio::spawn(stop.clone().run_until_cancelled_owned(accepting));
        }

        shutdown.await;
        tracing::info!(open = shared.tasks.len(), limit = ?drain, "draining");
        shared.draining.cancel();
        shared.tasks.close();
        let quiet = async {
            tokio::time::sleep(LAST_CALL).await;
            shared.tasks.wait().await;
        };
        if timeout(drain, quiet).await.is_err() {
            tracing::warn!(
                open = shared.tasks.len(),
                "the time to drain is over; what is open is cut"
            );
        }
        stop.cancel();
        shared.cut.cancel();
        // The watch ends at its next await; its cancellation is expected.
        drop(watch.await);
    }
}

/// Slots for this many tunnelled connections, and for as many that are not tunnelled yet: one of these
/// is closed for a new connection, so accepting never stops.
fn places(connections: usize) -> Bounds {
    Bounds {
        identified: connections,
        strangers: connections,
        per_source: connections,
    }
}

async fn accept(socket: TcpListener, kind: ListenerKind, shared: Arc<Shared>, slots: Slots) {
    let name = Arc::from("relay");
    loop {
        let (stream, client) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Most likely out of file descriptors: an immediate retry would only spin.
                tracing::error!(%error, "cannot accept a connection");
                slots.evict();
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "the client left at once");
        }
        let slot = Arc::new(slots.enter(&name, client.ip()));
        let connection = serve(stream, kind, Arc::clone(&shared), slot);
        match kind {
            // Open probes do not delay draining.
            ListenerKind::Health => drop(tokio::spawn(connection)),
            ListenerKind::Http | ListenerKind::Redirected => drop(shared.tasks.spawn(connection)),
        }
    }
}

async fn serve(stream: TcpStream, kind: ListenerKind, shared: Arc<Shared>, slot: Arc<Slot>) {
    let place = Arc::clone(&slot);
    let served = async {
        match kind {
            // Boxed: a task is as large as its largest branch for its whole lifetime.
            ListenerKind::Http => Box::pin(local::serve(stream, shared, slot)).await,
            ListenerKind::Redirected => redirected::serve(stream, &shared, &slot).await,
            ListenerKind::Health => Box::pin(health::serve(stream, shared, &slot)).await,
        }
    };
    place.within(served).await;
}

/// Binds loopback addresses. If the pod has no IPv6, its loopback is skipped, if another address
/// remains.
fn bind_loopback(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, StartError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        if !address.ip().is_loopback() {
            return Err(StartError::NotLoopback(*address));
        }
        match bind(*address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if addresses.len() > 1 && address.is_ipv6() && is_without_ipv6(&error) => {
                tracing::info!(%address, "there is no IPv6 here");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(listeners)
}

fn is_without_ipv6(error: &StartError) -> bool {
    let StartError::Bind { source, .. } = error else {
        return false;
    };
    source.kind() == io::ErrorKind::AddrNotAvailable
        || source.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

/// Binds one address. An IPv6 socket accepts only IPv6, so that both families can use the same port.
fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = listen_with(address, |options| match address {
        SocketAddr::V4(_) => Ok(()),
        SocketAddr::V6(_) => options.set_only_v6(true),
    });
    bound.map_err(|source| StartError::Bind { address, source })
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Bind {
        address: SocketAddr::from(([0, 0, 0, 0], 0)),
        source,
    })
}
