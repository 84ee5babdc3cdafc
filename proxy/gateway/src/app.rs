//! Wires the rooms, binds, serves, reloads, drains.

mod reload;
mod tasks;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use countersign_config::{
    load,
    model::{CaSource, Gateway, Limits, ResourceSource, Unmatched},
    problem::Problems,
};
use countersign_core::{
    budget::{self, Budget, Purse, Short},
    clock::Clock,
    metrics::Metrics,
    slots::{Bounds, Shed, Slots},
};
use countersign_credential::{Credentials, ProviderContext, health::HealthRegistry};
use countersign_identity::{Caller, Identifier};
use countersign_upstream::forward::{self, Forwarder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    accept::{Bound, Entrance, ListenError},
    authorize::{Snapshot, Snapshots},
    ca::{Ca, CaError},
    observe::{
        DecisionLog, LogError, Recorder,
        admin::{self, AdminState},
    },
    probe::Prober,
};
pub use reload::{ReloadError, Reloader};
pub use tasks::Tasks;

/// What every request passes through. Shared by all connections.
#[derive(Debug)]
pub struct Rooms {
    /// Proves callers.
    pub identifier: Identifier,
    /// The revision in force.
    pub snapshots: Snapshots,
    /// Obtains credentials.
    pub credentials: Arc<Credentials>,
    /// How the credentials fare at their APIs.
    pub healths: Arc<HealthRegistry>,
    /// Finds out whether they work.
    pub prober: Arc<Prober>,
    /// Sends requests on.
    pub forwarder: Arc<Forwarder>,
    /// Mints leaves.
    pub ca: Arc<Ca>,
    /// Opens records.
    pub recorder: Recorder,
    /// The places of client connections.
    pub slots: Slots,
    /// The memory that peers may take.
    pub budget: Budget,
    /// The bounds of everything.
    pub limits: Limits,
    /// What happens to hosts that no target matches.
    pub unmatched: Unmatched,
    /// The wall clock.
    pub clock: Clock,
    /// Everything that must end before the process does.
    pub tasks: Tasks,
    /// Cancelled when the gateway drains.
    pub drain: CancellationToken,
}

impl Rooms {
    /// Room for something of a caller's that lives on its own: a tunnel.
    ///
    /// # Errors
    /// When there is none.
    pub fn open_for(&self, caller: &Caller, bytes: u64) -> Result<Arc<Purse>, Short> {
        self.budget.open_for(caller.account(&self.budget), bytes)
    }

    /// What a connection makes the gateway hold is its caller's from now on.
    ///
    /// # Errors
    /// When that holds too much already.
    pub fn claim(&self, entrance: &Entrance, caller: &Caller) -> Result<(), Short> {
        entrance.purse.belongs_to(caller.account(&self.budget))
    }
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The resources cannot be used; every reason is in the problems.
    #[error("the resources cannot be used")]
    Resources(Problems),
    /// It asks for something this version does not have.
    #[error("{0} is not available in this version")]
    NotBuilt(&'static str),
    /// A listener cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The admin endpoint cannot be had.
    #[error("the admin endpoint cannot listen on {address}: {source}")]
    Admin {
        /// Its address.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The CA cannot be used.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The upstream side cannot be set up.
    #[error(transparent)]
    Forward(#[from] forward::SetupError),
    /// The issuers cannot be set up.
    #[error(transparent)]
    Identify(#[from] countersign_identity::SetupError),
    /// The decision log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// How long the last decision records may take to be written.
const LOG_DRAIN: Duration = Duration::from_secs(5);

/// How long the agents of trust domains may take before the gateway serves without their bundles.
const FIRST_BUNDLES: Duration = Duration::from_secs(2);

/// How long issuers may take to be told, at the end, which credentials are no longer needed.
const REVOCATION: Duration = Duration::from_secs(5);

/// How long a refresh that is under way may take at the end: cut off, it may cost a token that works
/// once.
const REFRESH_DRAIN: Duration = Duration::from_secs(15);

/// A gateway that is bound and ready to serve.
#[derive(Debug)]
pub struct App {
    rooms: Arc<Rooms>,
    listeners: Vec<Bound>,
    admin: Option<TcpListener>,
    state: AdminState,
    reloader: Reloader,
}

/// Builds a gateway: everything that can fail at start fails here.
///
/// # Errors
/// When anything it needs cannot be had; nothing is left half done.
pub async fn build(gateway: Gateway, clock: Clock) -> Result<App, StartError> {
    let log = DecisionLog::start(&gateway.observe.decisions)?;
    build_with_log(gateway, clock, log).await
}

/// The same with a decision log of the caller's choice.
///
/// # Errors
/// As for [`build`].
pub async fn build_with_log(
    mut gateway: Gateway,
    clock: Clock,
    log: DecisionLog,
) -> Result<App, StartError> {
    let memory = budget::size(&mut gateway.limits);
    let directories = directories(&gateway)?;
    let loaded = load::resources_at(&directories, clock.now()).map_err(StartError::Resources)?;
    reload::warn(&loaded.warnings);
    let metrics = Metrics::new();
    let ca = open_ca(&gateway, &clock)?;
    ca.constrain(loaded.policies.intercepted_hosts())?;
    let snapshot = Snapshot::new(loaded.policies, None);
    metrics.reloaded(snapshot.revision(), clock.now());
    let state = AdminState::new(metrics.clone());
    state.set_revision(snapshot.revision());
    let forwarder = Arc::new(Forwarder::new(
        &gateway.upstream,
        &gateway.limits,
        Vec::new(),
    )?);
    let tools = ProviderContext::new(&gateway, Arc::clone(&forwarder), clock.clone());
    let credentials = Credentials::new(tools, clock.clone()).counted_by(metrics.clone());
    let credentials = Arc::new(credentials);
    let prober = Prober::new(
        Arc::clone(&forwarder),
        Arc::clone(&credentials),
        metrics.clone(),
        clock.clone(),
        gateway.limits.inspect_bytes,
    );
    let (budget, slots) = shares(memory, &gateway.limits, &metrics);
    let rooms = Arc::new(Rooms {
        identifier: Identifier::new(&gateway.issuers, clock.clone())?
            .with_trust_domains(&gateway.trust_domains)?,
        snapshots: Snapshots::new(snapshot),
        credentials,
        healths: Arc::default(),
        prober: Arc::new(prober),
        forwarder,
        ca: Arc::new(ca),
        slots,
        budget,
        recorder: Recorder::new(log, metrics, clock.clone()),
        limits: gateway.limits.clone(),
        unmatched: gateway.unmatched,
        clock,
        tasks: Tasks::default(),
        drain: CancellationToken::new(),
    });
    let listeners = bind(&gateway, &rooms)?;
    let admin = match gateway.observe.admin {
        Some(address) => Some(bind_admin(address).await?),
        None => None,
    };
    let certificates = listeners.iter().filter_map(Bound::certificate);
    let certificates = certificates.cloned().collect();
    let app = App {
        reloader: Reloader::new(Arc::clone(&rooms), state.clone(), directories, certificates),
        rooms,
        listeners,
        admin,
        state,
    };
    tell_who_gives_way(&app.rooms);
    app.state
        .set_credentials(&app.rooms.credentials, &app.rooms.healths);
    app.rooms
        .credentials
        .retain(app.rooms.snapshots.load_full().credentials());
    app.rooms.forwarder.set_own_addresses(app.own_addresses());
    Ok(app)
}

fn bind(gateway: &Gateway, rooms: &Rooms) -> Result<Vec<Bound>, ListenError> {
    let mut listeners = Vec::with_capacity(gateway.listeners.len());
    for listener in &gateway.listeners {
        listeners.push(Bound::bind(listener, rooms.identifier.trust_domains())?);
    }
    Ok(listeners)
}

fn open_ca(gateway: &Gateway, clock: &Clock) -> Result<Ca, CaError> {
    let CaSource::Directory(directory) = &gateway.ca;
    Ca::open_or_create(directory, clock.clone(), gateway.limits.leaves)
}

/// Memory and places; who has no proof gives up his place where memory is short.
fn shares(memory: u64, limits: &Limits, metrics: &Metrics) -> (Budget, Slots) {
    let budget = Budget::new(memory, metrics);
    let slots = Slots::new(Bounds::from(limits), Some(metrics.clone()));
    let strangers = slots.clone();
    budget.evict_by(move || strangers.evict());
    (budget, slots)
}

fn tell_who_gives_way(rooms: &Rooms) {
    let recorder = rooms.recorder.clone();
    let tell = move |proven, source, why: Shed| recorder.shed(proven, source, why.as_str());
    rooms.slots.tell(tell);
}

impl App {
    /// The listeners' names and the addresses they are bound to, with the real ports.
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        let pair = |listener: &Bound| (listener.name().to_owned(), listener.address());
        self.listeners.iter().map(pair).collect()
    }

    /// The admin endpoint's address, with the real port.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
            .as_ref()
            .and_then(|socket| socket.local_addr().ok())
    }

    /// Loads the resources again, also while it runs.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Serves until `shutdown` completes, then lets requests in progress finish, for
    /// `limits.drain` at most.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self {
            rooms,
            listeners,
            admin,
            state,
            reloader,
        } = self;
        // Before anything answers: who sees the gateway ready may send it at once.
        let hangup = reload::hangup();
        let names = listeners
            .iter()
            .map(|bound| (bound.name().into(), bound.address()));
        state.set_listeners(names);
        let admin_end = CancellationToken::new();
        if let Some(socket) = admin {
            tokio::spawn(admin::serve(
                socket,
                state.clone(),
                admin_end.clone().cancelled_owned(),
            ));
        }
        follow_agents(&rooms).await;
        for listener in listeners {
            rooms.tasks.spawn(listener.run(Arc::clone(&rooms)));
        }
        rooms.tasks.spawn(reloader.watch(hangup));
        rooms.tasks.spawn(resume(Arc::clone(&rooms)));
        state.set_ready(true);

        shutdown.await;
        state.set_ready(false);
        state.set_draining(true);
        tracing::info!(open = rooms.tasks.count(), "draining");
        rooms.drain.cancel();
        if !rooms.tasks.finish(rooms.limits.drain).await {
            let open = rooms.tasks.count();
            tracing::warn!(
                open,
                "some connections did not end in time, and are cut off"
            );
            rooms.recorder.cut_off();
            rooms.tasks.cut_off().await;
        }
        if !rooms.credentials.finish(REFRESH_DRAIN).await {
            tracing::warn!("a refresh did not end in time; the next process goes on with it");
        }
        if !rooms.credentials.end(REVOCATION).await {
            tracing::warn!("not all credentials that are no longer needed were revoked in time");
        }
        admin_end.cancel();
        if let Err(error) = rooms.recorder.log().shutdown(LOG_DRAIN).await {
            tracing::error!(%error, "the last decision records may be lost");
        }
    }

    /// What must never be dialled: a request to ourselves would go round for ever.
    fn own_addresses(&self) -> Vec<SocketAddr> {
        let listeners = self.listeners.iter().map(Bound::address);
        listeners.chain(self.admin_address()).collect()
    }
}

/// Follows the agents that trust bundles come from, and gives them a moment to speak first: until
/// then no certificate of theirs is believed.
async fn follow_agents(rooms: &Arc<Rooms>) {
    let follower = Arc::clone(rooms);
    rooms.tasks.spawn(async move {
        let follow = follower
            .identifier
            .trust_domains()
            .follow(follower.recorder.metrics());
        tokio::select! {
            () = follower.drain.cancelled() => {}
            // It ends where there is nothing to follow.
            () = follow => {}
        }
    });
    let complete = rooms.identifier.trust_domains().complete();
    if tokio::time::timeout(FIRST_BUNDLES, complete).await.is_err() {
        tracing::error!(
            "a trust domain has no bundle yet; its certificates are refused until its agent gives one"
        );
    }
}

async fn resume(rooms: Arc<Rooms>) {
    let snapshot = rooms.snapshots.load_full();
    rooms.credentials.resume(snapshot.credentials()).await;
}

fn directories(gateway: &Gateway) -> Result<Vec<PathBuf>, StartError> {
    if gateway.observe.otlp.is_some() {
        return Err(StartError::NotBuilt("`observe.otlp`"));
    }
    gateway
        .resources
        .iter()
        .map(|source| match source {
            ResourceSource::Directory(directory) => Ok(directory.clone()),
            ResourceSource::Kubernetes => Err(StartError::NotBuilt("`resources: kubernetes`")),
        })
        .collect()
}

async fn bind_admin(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Admin { address, source })
}
