//! The admin endpoint: health, readiness, version, metrics, the status of credentials, the latest records and the
//! kept revisions, read-only.
//!
//! Anyone who reaches the port can read it, so nothing here is secret and nothing can be changed. The latest records, the
//! kept revisions and the last uses are for this machine alone: who may call which API, and who did, is not everybody's
//! business.
//! Connections are bounded in number and in time, and always accepted: a new one replaces one that sends
//! nothing, so that stalling clients cannot keep the kubelet from its probe.

mod lines;
mod records;
mod revisions;
mod scrape;

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use axum::{
    Json, Router,
    extract::{ConnectInfo, State},
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use countersign_core::{
    metrics::Metrics,
    redact::redact,
    slots::{Bounds, Slot, Slots},
};
use countersign_credential::{Credentials, CredentialsStatus, health::HealthRegistry};
use http::Request;
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use jiff::Timestamp;
use serde::Serialize;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use self::records::Client;
use super::{DecisionLog, log::SinkStatus};

/// Connections at a time, of which one source has no more than half.
const CONNECTIONS: usize = 128;

/// How long the head of a request may take, all in all.
const HEAD_TIME: Duration = Duration::from_secs(2);

/// The most bytes of a head.
const HEAD_BYTES: usize = 16 * 1024;

/// How long one connection may last. It serves one request.
const CONNECTION_TIME: Duration = Duration::from_secs(10);

/// The longest reload error that is shown, in bytes.
const ERROR_BYTES: usize = 4096;

/// The state that the endpoint shows. Cheap to clone; clones share.
#[derive(Debug, Clone)]
pub struct AdminState(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    metrics: Metrics,
    /// Held while metrics are written, so that only one scrape runs at a time.
    scraping: tokio::sync::Mutex<()>,
    status: ArcSwap<Status>,
    credentials: OnceLock<(Arc<Credentials>, Arc<HealthRegistry>)>,
    log: OnceLock<DecisionLog>,
    /// The directory of the kept revisions.
    history: OnceLock<PathBuf>,
    /// The file with the last uses.
    last_use: OnceLock<PathBuf>,
    /// Pages for people, which others make.
    pages: OnceLock<Router<()>>,
}

/// The answer of `/readyz`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Status {
    /// The listeners are bound, clients accept the certificate of one of them, a revision is in force, the
    /// cluster's objects were read if they are resources, and callers can be identified.
    ready: bool,
    /// No new connections are taken.
    draining: bool,
    /// The revision in force.
    revision: Option<Arc<str>>,
    /// Why the newest revision was not taken; the one in force is older.
    reload_error: Option<String>,
    /// The gateway started on the revision that it kept, since the newest could not be used.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    started_on_last_good: bool,
    /// What identifying callers has waited for since the start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waiting_for: Vec<String>,
    /// What of the cluster's objects cannot be read now, or was not read yet; what was read last is in force.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resources_waiting_for: Vec<String>,
    /// The keys of the Gateway file that have changed since the start; they need a restart.
    restart_needed: Vec<String>,
    /// Why the Gateway file can no longer be used; the gateway would not start again.
    config_error: Option<String>,
    listeners: Vec<ListenerStatus>,
    /// The certificates that the gateway shows, issues with and trusts.
    certificates: Vec<CertificateStatus>,
    /// Those that a signer has not signed yet, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    certificates_waiting: Vec<String>,
    /// Where decision records go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sinks: Vec<SinkStatus>,
    #[serde(skip)]
    hindered: Hindered,
}

/// What keeps a gateway whose listeners are bound from being ready.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Hindered {
    /// No client accepts the certificate of any listener.
    by_certificates: bool,
    /// No caller can be identified yet.
    by_identity: bool,
    /// The cluster's objects were not all read yet.
    by_resources: bool,
}

/// A certificate, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateStatus {
    /// What it is for, such as `listener/proxy`.
    pub name: Arc<str>,
    /// Where it lies.
    pub file: String,
    /// The first valid moment.
    pub not_before: Timestamp,
    /// The last valid moment.
    pub not_after: Timestamp,
    /// `not_yet_valid`, `valid`, `ends_soon` or `expired`.
    pub state: &'static str,
    /// Why the files' newest content is not in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reload_error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ListenerStatus {
    name: Arc<str>,
    address: SocketAddr,
}

impl AdminState {
    /// A gateway that is not ready yet.
    pub fn new(metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            metrics,
            scraping: tokio::sync::Mutex::default(),
            status: ArcSwap::default(),
            credentials: OnceLock::new(),
            log: OnceLock::new(),
            history: OnceLock::new(),
            last_use: OnceLock::new(),
            pages: OnceLock::new(),
        }))
    }

    /// Sets the credentials whose status is shown, never their values. Only the first call counts.
    pub fn set_credentials(&self, credentials: &Arc<Credentials>, healths: &Arc<HealthRegistry>) {
        self.0
            .credentials
            .get_or_init(|| (Arc::clone(credentials), Arc::clone(healths)));
    }

    /// Sets the log whose latest records and sinks are shown. Only the first call counts.
    pub fn set_log(&self, log: &DecisionLog) {
        self.0.log.get_or_init(|| log.clone());
    }

    /// Sets the directory of the kept revisions, if there is one. Only the first counts.
    pub fn set_history(&self, directory: Option<&Path>) {
        if let Some(directory) = directory {
            self.0.history.get_or_init(|| directory.to_owned());
        }
    }

    /// Sets the file with the last uses, if there is one. Only the first counts.
    pub fn set_last_use(&self, file: Option<PathBuf>) {
        if let Some(file) = file {
            self.0.last_use.get_or_init(|| file);
        }
    }

    /// Adds pages, which must have other paths than the endpoint itself. Each of their requests has the client's
    /// address as `ConnectInfo<SocketAddr>`. Only the first call counts, and only before the endpoint serves.
    pub fn set_pages(&self, pages: Router<()>) {
        self.0.pages.get_or_init(|| pages);
    }

    /// The latest lines of the decision log, two megabytes at most; shared and not copied.
    pub fn records(&self) -> impl Iterator<Item = Bytes> + use<> {
        let recent = self.0.log.get().map(|log| log.recent().after(0).0);
        recent.unwrap_or_default().into_iter()
    }

    /// The directory of the kept revisions, if there is one.
    pub fn history(&self) -> Option<PathBuf> {
        self.0.history.get().cloned()
    }

    /// The file with the last uses, if there is one.
    pub fn last_use(&self) -> Option<PathBuf> {
        self.0.last_use.get().cloned()
    }

    /// Names, times and errors only: [`CredentialsStatus`] has no room for a value.
    pub fn credentials(&self) -> CredentialsStatus {
        let credentials = self.0.credentials.get();
        let status = credentials.map(|(all, healths)| all.status().with(healths));
        status.unwrap_or_default()
    }

    /// The answer of `/readyz`.
    pub fn readiness(&self) -> serde_json::Value {
        // Texts, numbers and lists of them can always be written.
        serde_json::to_value(self.status()).unwrap_or_default()
    }

    fn status(&self) -> Status {
        let mut status = Status::clone(&self.0.status.load());
        status.ready &= status.hindered == Hindered::default();
        let log = self.0.log.get();
        status.sinks = log.map(DecisionLog::sinks).unwrap_or_default();
        status
    }

    /// Whether requests can be served.
    pub fn set_ready(&self, ready: bool) {
        self.change(|status| status.ready = ready);
    }

    /// Whether the gateway is draining; it is not ready then.
    pub fn set_draining(&self, draining: bool) {
        self.change(|status| status.draining = draining);
    }

    /// The revision in force.
    pub fn set_revision(&self, revision: &Arc<str>) {
        self.change(|status| status.revision = Some(Arc::clone(revision)));
    }

    /// Why the newest revision was not taken; `None` once one was.
    pub fn set_reload_error(&self, error: Option<&str>) {
        let error = error.map(shown);
        self.change(|status| status.reload_error.clone_from(&error));
    }

    /// Whether the revision in force is the one that was kept by an earlier process.
    pub fn set_started_on_last_good(&self, kept: bool) {
        self.change(|status| status.started_on_last_good = kept);
    }

    /// Whether callers of any source can be identified, and what the others wait for.
    pub fn set_identity(&self, usable: bool, waiting_for: &[String]) {
        self.0.metrics.proof_sources_missing(waiting_for.len());
        let waiting_for: Vec<_> = waiting_for.iter().map(|why| shown(why)).collect();
        self.change(|status| {
            status.hindered.by_identity = !usable;
            status.waiting_for.clone_from(&waiting_for);
        });
    }

    /// Whether the cluster's objects are in force, and what of them cannot be read.
    pub fn set_resources(&self, usable: bool, waiting_for: &[String]) {
        let waiting_for: Vec<_> = waiting_for.iter().map(|why| shown(why)).collect();
        self.change(|status| {
            status.hindered.by_resources = !usable;
            status.resources_waiting_for.clone_from(&waiting_for);
        });
    }

    /// How the Gateway file differs from the one that the gateway started with.
    pub fn set_config_change(&self, keys: &[String], error: Option<&str>) {
        let error = error.map(shown);
        self.change(|status| {
            status.restart_needed = keys.to_vec();
            status.config_error.clone_from(&error);
        });
    }

    /// The listeners and the addresses they really have.
    pub fn set_listeners(&self, listeners: impl IntoIterator<Item = (Arc<str>, SocketAddr)>) {
        let listeners: Vec<_> = listeners
            .into_iter()
            .map(|(name, address)| ListenerStatus { name, address })
            .collect();
        self.change(|status| status.listeners.clone_from(&listeners));
    }

    /// The certificates, whether clients accept that of any listener, and what a signer has not signed.
    pub fn set_certificates(
        &self,
        certificates: &[CertificateStatus],
        serves: bool,
        waiting: &[String],
    ) {
        let waiting: Vec<_> = waiting.iter().map(|why| shown(why)).collect();
        self.change(|status| {
            status.certificates_waiting.clone_from(&waiting);
            certificates.clone_into(&mut status.certificates);
            status.hindered.by_certificates = !serves;
        });
    }

    fn change(&self, change: impl Fn(&mut Status)) {
        self.0.status.rcu(|status| {
            let mut status = Status::clone(status);
            change(&mut status);
            status
        });
    }
}

/// The part of an error that is shown.
fn shown(error: &str) -> String {
    let mut error = redact(error).into_owned();
    error.truncate(error.floor_char_boundary(ERROR_BYTES));
    error
}

/// Serves until `shutdown` is ready; then open connections are dropped.
pub async fn serve(
    listener: TcpListener,
    state: AdminState,
    shutdown: impl Future<Output = ()> + Send,
) {
    let pages = state.0.pages.get().cloned().unwrap_or_default();
    let router = router(state).merge(pages);
    let slots = Slots::new(
        Bounds {
            identified: 0,
            strangers: CONNECTIONS,
            per_source: CONNECTIONS / 2,
        },
        None,
    );
    let name = Arc::from("admin");
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => return,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, client)) => {
                let slot = slots.enter(&name, client.ip());
                connections.spawn(answer(stream, client, router.clone(), slot));
            }
            Err(error) => {
                // Most likely file descriptors are short; wait.
                tracing::warn!(%error, "an admin connection cannot be accepted");
                slots.evict();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Answers one request, unless the connection has to make room first.
async fn answer(stream: TcpStream, client: SocketAddr, router: Router<()>, slot: Slot) {
    let service = TowerToHyperService::new(router);
    let asked = service_fn(|mut request: Request<Incoming>| {
        slot.asks();
        request.extensions_mut().insert(Client(client.ip()));
        request.extensions_mut().insert(ConnectInfo(client));
        service.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), asked);
    slot.within(async {
        match tokio::time::timeout(CONNECTION_TIME, connection).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "an admin connection failed"),
            Err(_) => tracing::debug!("an admin connection took too long"),
        }
    })
    .await;
}

fn router(state: AdminState) -> Router<()> {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/version", get(version))
        .route("/metrics", get(scrape::metrics))
        .route("/credentials", get(credentials))
        .merge(for_this_machine())
        .with_state(state)
}

/// What is shown to this machine alone.
fn for_this_machine() -> Router<AdminState> {
    Router::new()
        .route("/records", get(records::records))
        .route("/last-use", get(revisions::last_use))
        .route("/revisions", get(revisions::list))
        .route("/revisions/{digest}", get(revisions::one))
        .route_layer(middleware::from_fn(records::local_only))
}

async fn readyz(State(state): State<AdminState>) -> Result<Response, Infallible> {
    let status = state.status();
    let code = if status.ready && !status.draining {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Ok((code, Json(&status)).into_response())
}

async fn version() -> Json<serde_json::Value> {
    Json(serde_json::json!({"version": env!("CARGO_PKG_VERSION")}))
}

async fn credentials(State(state): State<AdminState>) -> Json<CredentialsStatus> {
    Json(state.credentials())
}

#[cfg(test)]
mod tests;
