//! One address of a gateway: its connections, and its health.

pub(super) mod connection;

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use countersign_core::clock::Clock;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::sync::Notify;

use self::connection::{Http2, Lease};
use super::{
    dial::{DialError, Dialer},
    proof::Fingerprint,
    settings::GatewayName,
};

/// A dial that all who need a connection wait for.
type Dialling = Shared<BoxFuture<'static, Result<(), DialError>>>;

/// One address of a gateway.
pub(super) struct Gateway {
    name: GatewayName,
    address: SocketAddr,
    dialer: Arc<Dialer>,
    clock: Clock,
    connections: Mutex<Vec<Arc<Http2>>>,
    dialling: Mutex<Option<Dialling>>,
    speaks_http1: AtomicBool,
    well: AtomicBool,
    /// Wakes the watch when a connection has ended.
    ended: Arc<Notify>,
}

impl Gateway {
    /// A gateway that was not tried yet, so it does not count as healthy.
    pub(super) fn new(
        name: GatewayName,
        address: SocketAddr,
        dialer: Arc<Dialer>,
        clock: Clock,
        ended: Arc<Notify>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            address,
            dialer,
            clock,
            connections: Mutex::default(),
            dialling: Mutex::default(),
            speaks_http1: AtomicBool::new(false),
            well: AtomicBool::new(false),
            ended,
        })
    }

    /// The name that resolved to it.
    pub(super) fn name(&self) -> &GatewayName {
        &self.name
    }

    /// Its address.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it responded when it was last tried.
    pub(super) fn is_well(&self) -> bool {
        self.well.load(Ordering::Relaxed)
    }

    /// A permit for one exchange: on an open connection with room, or on a new one.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, DialError> {
        loop {
            if let Some(lease) = self.room() {
                return Ok(lease);
            }
            if self.speaks_http1.load(Ordering::Relaxed) {
                return self.dial_http1().await;
            }
            self.dial().await?;
        }
    }

    /// Makes sure that there is a connection, which shows whether the gateway is healthy.
    pub(super) async fn probe(self: &Arc<Self>, current: Option<Fingerprint>) {
        {
            let mut connections = lock(&self.connections);
            for connection in connections.iter() {
                connection.retire_unless(current);
            }
            connections.retain(|connection| !connection.is_over());
            if !connections.is_empty() {
                // It answers pings; otherwise the connection would be over.
                self.tell(Ok(()));
                return;
            }
        }
        if self.speaks_http1.load(Ordering::Relaxed) {
            // Not kept: such a connection carries one tunnel and would be idle until then.
            self.dial_http1().await.map(drop).unwrap_or_default();
        } else {
            // The result is reported where it occurs.
            self.dial().await.unwrap_or_default();
        }
    }

    /// Records what an exchange showed about the gateway.
    pub(super) fn tell(&self, result: Result<(), &dyn fmt::Display>) {
        let was_well = self.well.swap(result.is_ok(), Ordering::Relaxed);
        match result {
            Ok(()) if !was_well => {
                tracing::info!(gateway = %self.name, address = %self.address, "the gateway answers");
            }
            Err(reason) if was_well => {
                tracing::warn!(gateway = %self.name, address = %self.address, %reason, "the gateway fails");
            }
            Err(reason) => {
                tracing::debug!(gateway = %self.name, address = %self.address, %reason, "still failing");
            }
            Ok(()) => {}
        }
    }

    /// A connection has ended: broken, or closed cleanly.
    pub(super) fn connection_ended(&self, error: Option<&hyper::Error>) {
        if let Some(error) = error {
            self.tell(Err(error));
        }
        self.ended.notify_one();
    }

    fn room(&self) -> Option<Lease> {
        let mut connections = lock(&self.connections);
        connections.retain(|connection| !connection.is_over());
        connections.iter().find_map(Http2::lease)
    }

    /// One connection is opened for all who wait; it is completed even if they leave.
    async fn dial(self: &Arc<Self>) -> Result<(), DialError> {
        let dialling = lock(&self.dialling)
            .get_or_insert_with(|| {
                let gateway = Arc::clone(self);
                let task = tokio::spawn(async move {
                    let result = gateway.dial_now().await;
                    *lock(&gateway.dialling) = None;
                    result
                });
                let ended = DialError::Http("the relay is stopping".to_owned());
                task.map(|joined| joined.unwrap_or(Err(ended)))
                    .boxed()
                    .shared()
            })
            .clone();
        dialling.await
    }

    async fn dial_now(self: &Arc<Self>) -> Result<(), DialError> {
        let result = async {
            let dialled = self
                .dialer
                .dial(self.name.certified(), self.address)
                .await?;
            self.speaks_http1
                .store(!dialled.is_http2(), Ordering::Relaxed);
            if dialled.is_http2() {
                let connection = Http2::begin(dialled, self).await?;
                // Without a proof there is nothing to send; each tunnel reads its own.
                if let Ok(Some(proof)) = self.dialer.proof().authorization(self.clock.now()).await {
                    connection.introduce(proof, &self.name.to_string());
                }
                lock(&self.connections).push(connection);
            }
            Ok(())
        }
        .await;
        self.tell(
            result
                .as_ref()
                .map_or_else(|error| Err(error as _), |()| Ok(())),
        );
        result
    }

    async fn dial_http1(&self) -> Result<Lease, DialError> {
        let result = async {
            let dialled = self
                .dialer
                .dial(self.name.certified(), self.address)
                .await?;
            if dialled.is_http2() {
                // It was upgraded: the next connection is shared again.
                self.speaks_http1.store(false, Ordering::Relaxed);
                return Err(DialError::Http("it speaks HTTP/2 now".to_owned()));
            }
            Lease::http1(dialled).await
        }
        .await;
        self.tell(
            result
                .as_ref()
                .map_or_else(|error| Err(error as _), |_| Ok(())),
        );
        result
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.address)
    }
}

/// The state behind these locks is consistent even after a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
