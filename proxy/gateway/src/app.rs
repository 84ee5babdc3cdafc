//! Builds the gateway, binds, serves, reloads, drains.

mod callers;
mod config_file;
mod history;
mod in_force;
mod known_root;
mod kubernetes;
mod last_good;
mod last_use;
mod low_priority;
mod objects;
mod preconditions;
mod reload;
mod signing;
mod start;
mod state;
mod view;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use countersign_authorize::{AccessControl, Snapshot, Snapshots};
use countersign_config::{
    host::HostPattern,
    load,
    model::{CaSource, Cluster, Gateway, Limits, ServiceName},
    problem::Problems,
    setting::Setting,
};
use countersign_core::{
    budget::{self, Budget},
    clock::Clock,
    files,
    metrics::Metrics,
    slots::{Bounds, Shed, Slots},
};
use countersign_credential::{Credentials, ProviderContext};
use countersign_identity::Identifier;
use countersign_upstream::forward::{self, Forwarder};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    accept::{Acceptor, Bound, ListenError},
    ca::{Ca, CaError},
    certificates::Certificates,
    lifecycle::Lifecycle,
    observe::{
        DecisionLog, Happened, LogError, Recorder,
        admin::{self, AdminState},
    },
    pipeline::CredentialServices,
    probe::Prober,
};
use history::History;
use last_use::LastUses;
use objects::ClusterObjects;
pub use reload::{ReloadError, Reloader};
pub use signing::{DueCertificate, SignedCertificate, Signing};
use start::read_resources;
use state::GatewayState;
pub use view::View;

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The resources cannot be used; every reason is in the problems.
    #[error("the resources cannot be used")]
    Resources(Problems),
    /// Callers are to be proven by the cluster in which the gateway runs, and it runs in none.
    #[error(
        "this gateway proves callers with the cluster in which it runs, and there is no {}: {}",
        .0.display(),
        load::NOT_IN_KUBERNETES
    )]
    NotInKubernetes(PathBuf),
    /// A listener cannot be bound or used.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No thread to accept connections can be had.
    #[error("cannot start the thread that accepts connections: {}", files::reason(.0))]
    Acceptor(std::io::Error),
    /// The admin endpoint cannot be bound.
    #[error(
        "the admin endpoint cannot listen on {address}: {}",
        files::reason(source)
    )]
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

/// How long clients have to learn that the gateway goes, before what is idle is closed.
const LEAVE: Duration = Duration::from_secs(1);

/// How often it is looked whether they have.
const LOOK: Duration = Duration::from_millis(10);

/// How long the last decision records may take to be written.
const LOG_DRAIN: Duration = Duration::from_secs(5);

/// Time for revocations at the end.
const REVOCATION: Duration = Duration::from_secs(5);

/// Time for refreshes in progress at the end: cutting one off may lose a single-use token.
const REFRESH_DRAIN: Duration = Duration::from_secs(15);

/// A gateway that is bound and ready to serve.
#[derive(Debug)]
pub struct App {
    gateway: Arc<GatewayState>,
    listeners: Vec<Bound>,
    acceptor: Acceptor,
    admin: Option<TcpListener>,
    state: AdminState,
    reloader: Reloader,
    uses: LastUses,
    /// By whose endpoints the gateways are counted.
    service: Option<ServiceName>,
    /// Whose API server is asked.
    cluster: Cluster,
    /// The objects of the cluster, if they are resources.
    objects: Option<Arc<ClusterObjects>>,
    /// The certificates that signers sign.
    signing: Option<signing::Unwired>,
}

/// Builds a gateway: everything that can fail at start fails here.
///
/// # Errors
/// When anything it needs cannot be had. Files and directories are made only once all else is there.
pub async fn build(gateway: Gateway, clock: Clock) -> Result<App, StartError> {
    let setting = Setting::at(clock.now()).of(&gateway);
    let (observe, name) = (gateway.observe.clone(), gateway.name.clone());
    let open_log = move || DecisionLog::start(&observe, &name);
    build_from(gateway, setting, clock, open_log).await
}

/// The same with a decision log of the caller's choice.
///
/// # Errors
/// As for [`build`].
pub async fn build_with_log(
    gateway: Gateway,
    clock: Clock,
    log: DecisionLog,
) -> Result<App, StartError> {
    // The log's owner has replaced issuers: who else is proven does not matter.
    let setting = Setting::at(clock.now());
    build_from(gateway, setting, clock, move || Ok(log)).await
}

async fn build_from(
    mut gateway: Gateway,
    setting: Setting,
    clock: Clock,
    open_log: impl FnOnce() -> Result<DecisionLog, LogError>,
) -> Result<App, StartError> {
    let memory = budget::size(&mut gateway.limits);
    let directories = preconditions::directories(&gateway);
    preconditions::has_its_cluster(&gateway)?;
    let (sources, mut in_force, policies) = read_resources(&gateway, directories, setting)?;
    let metrics = Metrics::new();
    let hosts: Vec<_> = policies.intercepted_hosts().cloned().collect();
    let snapshot = Snapshot::new(policies, None);
    metrics.started(clock.now());
    metrics.reloaded(snapshot.revision(), clock.now());
    let state = AdminState::new(metrics.clone());
    state.set_revision(snapshot.revision());
    let forwarder = Arc::new(Forwarder::new(
        &gateway.upstream,
        &gateway.limits,
        Vec::new(),
    )?);
    let (budget, slots) = shares(memory, &gateway.limits, &metrics);
    let access = Arc::new(access_control(&gateway, snapshot, &clock)?);
    let listeners = bind(&gateway, &access.identifier)?;
    let admin = bind_admin(gateway.observe.admin).await?;
    let acceptor = Acceptor::new().map_err(StartError::Acceptor)?;
    // From here on files are made.
    let ca = open_ca(&gateway, &clock, &hosts)?;
    let log = open_log()?;
    let history = History::of(&gateway);
    state.set_history(history.directory());
    let revision = access.snapshots.load_full();
    in_force.keep_at_start(
        sources.objects.is_some(),
        history,
        revision.revision(),
        clock.now(),
    );
    let running = Arc::new(GatewayState {
        access,
        credential: credential_services(&gateway, &forwarder, &metrics, &clock),
        forwarder,
        ca: Arc::new(ca),
        slots,
        budget,
        recorder: Recorder::new(log, metrics, clock),
        limits: Arc::new(gateway.limits.clone()),
        lifecycle: Lifecycle::default(),
    });
    let certificates = certificates(&gateway, &listeners, &running);
    let uses = LastUses::of(&gateway);
    state.set_last_use(uses.file());
    let app = App {
        uses,
        signing: signing::of(&gateway, &listeners, &running.ca),
        service: gateway.service,
        cluster: gateway.kubernetes,
        objects: sources.objects.clone(),
        reloader: Reloader::new(
            Arc::clone(&running),
            state.clone(),
            sources,
            certificates,
            in_force,
        ),
        gateway: running,
        listeners,
        acceptor,
        admin,
        state,
    };
    app.connect();
    Ok(app)
}

fn certificates(gateway: &Gateway, listeners: &[Bound], running: &GatewayState) -> Certificates {
    let with_tls = listeners.iter().filter_map(|bound| {
        let certificate = bound.certificate()?;
        Some((bound.name().into(), Arc::clone(certificate)))
    });
    let (ca, access) = (Arc::clone(&running.ca), Arc::clone(&running.access));
    Certificates::new(gateway, with_tls.collect(), ca, access)
}

fn bind(gateway: &Gateway, identifier: &Identifier) -> Result<Vec<Bound>, ListenError> {
    let mut listeners = Vec::with_capacity(gateway.listeners.len());
    for listener in &gateway.listeners {
        listeners.push(Bound::bind(listener, identifier.trust_domains())?);
    }
    Ok(listeners)
}

fn access_control(
    gateway: &Gateway,
    snapshot: Snapshot,
    clock: &Clock,
) -> Result<AccessControl, StartError> {
    let identifier = Identifier::new(&gateway.issuers, clock.clone())?;
    identifier.want_pods(|cluster| snapshot.policies().namespaces_asked_about(cluster));
    Ok(AccessControl {
        identifier: identifier.with_trust_domains(&gateway.trust_domains)?,
        snapshots: Snapshots::new(snapshot),
        unmatched: gateway.unmatched,
        clock: clock.clone(),
    })
}

fn credential_services(
    gateway: &Gateway,
    forwarder: &Arc<Forwarder>,
    metrics: &Metrics,
    clock: &Clock,
) -> CredentialServices {
    let tools = ProviderContext::new(gateway, Arc::clone(forwarder), clock.clone());
    let credentials = Credentials::new(tools, clock.clone()).counted_by(metrics.clone());
    let credentials = Arc::new(credentials);
    let prober = Prober::new(
        Arc::clone(forwarder),
        Arc::clone(&credentials),
        metrics.clone(),
        clock.clone(),
        gateway.limits.inspect_bytes,
    );
    CredentialServices {
        credentials,
        health: Arc::default(),
        prober: Arc::new(prober),
    }
}

fn open_ca(gateway: &Gateway, clock: &Clock, hosts: &[HostPattern]) -> Result<Ca, CaError> {
    let leaves = gateway.limits.leaves;
    let ca = match &gateway.ca {
        CaSource::Directory(directory) => Ca::open_or_create(directory, clock.clone(), leaves)?,
        CaSource::Signer { signer, .. } => Ca::of_signer(signer, clock.clone(), leaves)?,
    };
    if let Some(root) = ca.root() {
        let replaced = known_root::replaced_another_at(gateway, &root, clock.now());
        ca.set_replaced_another_at(replaced);
    }
    ca.constrain(hosts.iter())?;
    Ok(ca)
}

/// The memory budget and the connection slots. When memory is short, unidentified connections are closed
/// first.
fn shares(memory: u64, limits: &Limits, metrics: &Metrics) -> (Budget, Slots) {
    let budget = Budget::new(memory, metrics);
    let slots = Slots::new(Bounds::from(limits), Some(metrics.clone()));
    let strangers = slots.clone();
    budget.evict_by(move || strangers.evict());
    (budget, slots)
}

/// Records connections that are closed in favour of others.
fn record_shed(gateway: &GatewayState) {
    let recorder = gateway.recorder.clone();
    let tell = move |proven, source, why: Shed| recorder.shed(proven, source, why.as_str());
    gateway.slots.tell(tell);
}

impl App {
    /// Tells the parts of each other.
    fn connect(&self) {
        let GatewayState {
            access, credential, ..
        } = &*self.gateway;
        record_shed(&self.gateway);
        self.state.set_log(self.gateway.recorder.log());
        self.state
            .set_credentials(&credential.credentials, &credential.health);
        let in_force = access.snapshots.load_full();
        credential.credentials.retain(in_force.credentials());
        let own_addresses = self.own_addresses();
        self.gateway.forwarder.set_own_addresses(own_addresses);
    }

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

    /// The metrics that the admin endpoint shows.
    pub fn metrics(&self) -> &Metrics {
        self.gateway.recorder.metrics()
    }

    /// Loads the resources again, also while it runs.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Tells when its Gateway file, which is read at start only, is another than this text.
    pub fn watch_config(&self, file: PathBuf, text: String) {
        self.reloader.watch_config(file, text);
    }

    /// Serves until `shutdown` completes, then lets requests in progress finish, for
    /// `limits.drain` at most.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self {
            gateway,
            listeners,
            acceptor,
            admin,
            state,
            reloader,
            uses,
            ..
        } = self;
        // Before the gateway is ready: from then on SIGHUP may arrive.
        let hangup = reload::hangup();
        let addresses = listeners.iter().map(|it| (it.name().into(), it.address()));
        state.set_listeners(addresses);
        let admin_end = CancellationToken::new();
        if let Some(socket) = admin {
            tokio::spawn(admin::serve(
                socket,
                state.clone(),
                admin_end.clone().cancelled_owned(),
            ));
        }
        callers::follow_agents(&gateway).await;
        let accepting = Arc::new(gateway.accepting());
        let Lifecycle {
            tasks,
            drain,
            leaving,
        } = &gateway.lifecycle;
        tasks.spawn(reloader.clone().watch_certificates());
        tasks.spawn(reloader.clone().watch(hangup));
        tasks.spawn(uses.clone().keep(Arc::clone(&gateway)));
        tasks.spawn(resume(Arc::clone(&gateway)));
        gateway.tell(Happened::Started);
        reloader.tell_start();
        callers::prepare(&gateway, &state);
        state.set_ready(true);
        let accepted = acceptor.run(listeners, accepting);
        let unready = state.clone();
        tasks.spawn(async move {
            if !accepted.await {
                tracing::error!(
                    "no more connections are accepted; the gateway is not ready any more"
                );
                unready.set_ready(false);
            }
        });

        shutdown.await;
        state.set_ready(false);
        state.set_draining(true);
        let open = gateway.open_connections();
        tracing::info!(open, "draining");
        gateway.tell(Happened::Draining { open });
        leaving.begin();
        while_clients_leave(&gateway).await;
        drain.cancel();
        let cut_off = end(&gateway).await;
        admin_end.cancel();
        gateway.tell(Happened::Stopped { cut_off });
        if let Err(error) = gateway.recorder.log().shutdown(LOG_DRAIN).await {
            tracing::error!(%error, "the last decision records may be lost");
        }
        uses.write(&gateway).await;
    }

    /// Addresses that must never be dialled: a request to the gateway itself would loop.
    fn own_addresses(&self) -> Vec<SocketAddr> {
        let listeners = self.listeners.iter().map(Bound::address);
        listeners.chain(self.admin_address()).collect()
    }
}

/// Goes on for a second at most, in which clients learn by the answers to their requests to go elsewhere.
async fn while_clients_leave(gateway: &GatewayState) {
    let end = Instant::now() + LEAVE;
    while gateway.open_connections() > 0 && Instant::now() < end {
        sleep(LOOK).await;
    }
}

/// Lets requests, refreshes and revocations finish, each for its time; returns how many connections were cut off.
async fn end(gateway: &GatewayState) -> usize {
    let tasks = &gateway.lifecycle.tasks;
    let mut cut_off = 0;
    if !tasks.finish(gateway.limits.drain).await {
        cut_off = gateway.open_connections();
        tracing::warn!(
            open = cut_off,
            "some connections did not end in time, and are cut off"
        );
        gateway.recorder.cut_off();
        tasks.cut_off().await;
    }
    let credentials = &gateway.credential.credentials;
    if !credentials.finish(REFRESH_DRAIN).await {
        tracing::warn!("a refresh did not end in time; the next process goes on with it");
    }
    if !credentials.end(REVOCATION).await {
        tracing::warn!("not all credentials that are no longer needed were revoked in time");
    }
    cut_off
}

async fn resume(gateway: Arc<GatewayState>) {
    let snapshot = gateway.access.snapshots.load_full();
    let credentials = &gateway.credential.credentials;
    credentials.resume(snapshot.credentials()).await;
}

async fn bind_admin(address: Option<SocketAddr>) -> Result<Option<TcpListener>, StartError> {
    let Some(address) = address else {
        return Ok(None);
    };
    let bound = TcpListener::bind(address).await;
    bound
        .map(Some)
        .map_err(|source| StartError::Admin { address, source })
}
