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

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::sync::Notify;

use self::connection::{Http2, Lease};
use super::{dial::Dialer, fault::Fault, proof::Fingerprint, settings::GatewayName};

/// A dial that all who need a connection wait for.
type Dialling = Shared<BoxFuture<'static, Result<(), Fault>>>;

/// One address of a gateway.
pub(super) struct Gateway {
    name: GatewayName,
    address: SocketAddr,
    dialer: Arc<Dialer>,
    connections: Mutex<Vec<Arc<Http2>>>,
    dialling: Mutex<Option<Dialling>>,
    speaks_http1: AtomicBool,
    well: AtomicBool,
    /// Why it does not serve this pod; `None` also before it was tried.
    fault: Mutex<Option<Fault>>,
    /// Whether its answer to an introduction is awaited.
    introducing: AtomicBool,
    /// Wakes the watch when a connection has ended.
    ended: Arc<Notify>,
}

impl Gateway {
    /// A gateway that was not tried yet, so it does not count as healthy.
    pub(super) fn new(
        name: GatewayName,
        address: SocketAddr,
        dialer: Arc<Dialer>,
        ended: Arc<Notify>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            address,
            dialer,
            connections: Mutex::default(),
            dialling: Mutex::default(),
            speaks_http1: AtomicBool::new(false),
            well: AtomicBool::new(false),
            fault: Mutex::default(),
            introducing: AtomicBool::new(false),
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

    /// Whether it accepted this pod when it was last tried.
    pub(super) fn is_well(&self) -> bool {
        self.well.load(Ordering::Relaxed)
    }

    /// Why it does not serve this pod; `None` if it does, or was not tried yet.
    pub(super) fn fault(&self) -> Option<Fault> {
        lock(&self.fault).clone()
    }

    /// A permit for one exchange: on an open connection with room, or on a new one.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, Fault> {
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

    /// Makes sure that there is a connection, which shows whether the gateway serves this pod.
    pub(super) async fn probe(self: &Arc<Self>, current: Option<Fingerprint>) {
        let open = {
            let mut connections = lock(&self.connections);
            for connection in connections.iter() {
                connection.retire_unless(current);
            }
            connections.retain(|connection| !connection.is_over());
            connections.first().cloned()
        };
        match open {
            Some(_) if self.introducing.load(Ordering::Relaxed) => {}
            // The proof, or the gateway's configuration, may be another now.
            Some(connection) if !self.is_well() => self.introduce(&connection).await,
            // It answers pings; otherwise the connection would be over.
            Some(_) => {}
            None if self.speaks_http1.load(Ordering::Relaxed) => self.probe_http1().await,
            // The result is reported where it occurs.
            None => self.dial().await.unwrap_or_default(),
        }
    }

    /// Records what an exchange showed about the gateway. A new cause is logged at once, a repeated one not.
    ///
    /// A gateway closes the connections of a pod that it refuses. So the end of one does not replace the refusal, which
    /// says why.
    pub(super) fn tell(&self, result: Result<(), Fault>) {
        let fault = result.err();
        if fault.as_ref().is_some_and(Fault::is_end) && self.refuses() {
            return;
        }
        let was_well = self.well.swap(fault.is_none(), Ordering::Relaxed);
        let before = std::mem::replace(&mut *lock(&self.fault), fault.clone());
        let (name, address) = (&self.name, self.address);
        let Some(fault) = fault else {
            if !was_well {
                tracing::info!(gateway = %name, %address, "the gateway answers");
            }
            return;
        };
        let (cause, error) = (fault.cause(), &fault);
        if before.is_some_and(|before| before.cause() == cause) {
            tracing::debug!(gateway = %name, %address, cause, %error, "still failing");
        } else {
            tracing::warn!(gateway = %name, %address, cause, %error, "the gateway fails");
        }
    }

    fn refuses(&self) -> bool {
        lock(&self.fault).as_ref().is_some_and(Fault::is_rejection)
    }

    /// A connection has ended: broken, or closed cleanly.
    pub(super) fn connection_ended(&self, fault: Option<Fault>) {
        let was_well = self.is_well();
        if let Some(fault) = fault {
            self.tell(Err(fault));
        }
        // One that was not accepted is tried again in its turn, and not at once.
        if was_well {
            self.ended.notify_one();
        }
    }

    /// Says who the pod is, so that the gateway keeps the connection, and learns whether it is accepted.
    async fn introduce(&self, connection: &Arc<Http2>) {
        // Without a proof there is nothing to send; each tunnel reads its own and reports it.
        let Ok(proof) = self.dialer.proof().authorization().await else {
            return;
        };
        self.introducing.store(true, Ordering::Relaxed);
        let result = connection.introduce(proof, &self.name.to_string()).await;
        self.introducing.store(false, Ordering::Relaxed);
        self.tell(result);
    }

    fn room(&self) -> Option<Lease> {
        let mut connections = lock(&self.connections);
        connections.retain(|connection| !connection.is_over());
        connections.iter().find_map(Http2::lease)
    }

    /// One connection is opened for all who wait; it is completed even if they leave.
    async fn dial(self: &Arc<Self>) -> Result<(), Fault> {
        let dialling = lock(&self.dialling)
            .get_or_insert_with(|| {
                let gateway = Arc::clone(self);
                let task = tokio::spawn(async move {
                    let result = gateway.dial_now().await;
                    *lock(&gateway.dialling) = None;
                    result
                });
                let ended = Fault::Http("the relay is stopping".to_owned());
                task.map(|joined| joined.unwrap_or(Err(ended)))
                    .boxed()
                    .shared()
            })
            .clone();
        dialling.await
    }

    async fn dial_now(self: &Arc<Self>) -> Result<(), Fault> {
        let result = async {
            let dialled = self
                .dialer
                .dial(self.name.certified(), self.address)
                .await?;
            self.speaks_http1
                .store(!dialled.is_http2(), Ordering::Relaxed);
            if !dialled.is_http2() {
                return Ok(());
            }
            let connection = Http2::begin(dialled, self).await?;
            lock(&self.connections).push(Arc::clone(&connection));
            // A tunnel that waits for the connection does not wait for this.
            let gateway = Arc::clone(self);
            tokio::spawn(async move { gateway.introduce(&connection).await });
            Ok(())
        }
        .await;
        if let Err(fault) = &result {
            self.tell(Err(Fault::clone(fault)));
        }
        result
    }

    async fn dial_http1(&self) -> Result<Lease, Fault> {
        let result = async {
            let dialled = self
                .dialer
                .dial(self.name.certified(), self.address)
                .await?;
            if dialled.is_http2() {
                // It was upgraded: the next connection is shared again.
                self.speaks_http1.store(false, Ordering::Relaxed);
                return Err(Fault::Http("it speaks HTTP/2 now".to_owned()));
            }
            Lease::http1(dialled).await
        }
        .await;
        if let Err(fault) = &result {
            self.tell(Err(Fault::clone(fault)));
        }
        result
    }

    /// Not kept: such a connection carries one tunnel and would be idle until then.
    async fn probe_http1(&self) {
        // The result is reported where it occurs.
        let Ok(lease) = self.dial_http1().await else {
            return;
        };
        if let Ok(proof) = self.dialer.proof().authorization().await {
            self.tell(lease.introduce(proof, &self.name.to_string()).await);
        }
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

#[cfg(test)]
mod tests {
    use http::Response;
    use rstest::rstest;

    use super::{
        super::{
            fault::{PROXY_STATUS, Rejection},
            proof::Proof,
        },
        *,
    };

    async fn gateway() -> Arc<Gateway> {
        let proof = Proof::Token("/nowhere".into());
        let dialer = Dialer::new(None, proof).await.unwrap();
        let name = "gateway.example:3128".parse().unwrap();
        let address = ([127, 0, 0, 1], 3128).into();
        Gateway::new(name, address, Arc::new(dialer), Arc::default())
    }

    fn refusal() -> Fault {
        let told = "countersign; error=http_request_denied; details=\"identity_audience; 0198\"";
        let response = Response::builder().status(407).header(PROXY_STATUS, told);
        Fault::Rejected(Rejection::of(&response.body(()).unwrap()).unwrap())
    }

    /// Which of the two the watch sees first is chance.
    #[rstest]
    #[case::closed(Fault::Closed)]
    #[case::broken(Fault::Broken("reset".to_owned()))]
    #[tokio::test]
    async fn the_end_of_a_refused_pods_connection_does_not_hide_the_refusal(#[case] end: Fault) {
        for by_the_connection in [false, true] {
            let gateway = gateway().await;
            let ends = |fault| {
                if by_the_connection {
                    gateway.connection_ended(Some(fault));
                } else {
                    gateway.tell(Err(fault));
                }
            };
            ends(end.clone());
            assert_eq!(gateway.fault().unwrap().cause(), end.cause());
            gateway.tell(Err(refusal()));
            ends(end.clone());
            assert_eq!(gateway.fault().unwrap().cause(), "identity_audience");
            // What else is wrong is told, and what is over is over.
            ends(Fault::Refused);
            assert_eq!(gateway.fault().unwrap().cause(), "connection-refused");
            gateway.tell(Err(refusal()));
            gateway.tell(Ok(()));
            ends(end.clone());
            assert_eq!(gateway.fault().unwrap().cause(), end.cause());
        }
    }
}
