//! The admin endpoint: health, readiness, version, metrics, the status of credentials, the latest records and the
//! kept revisions, read-only.
//!
//! Anyone who reaches the port can read it, so nothing here is secret and nothing can be changed. The latest records are
//! for this machine alone: who called which API is not everybody's business.
//! Connections are bounded in number and in time, and always accepted: a new one replaces one that sends
//! nothing, so that stalling clients cannot keep the kubelet from its probe.

mod lines;
mod revisions;
mod scrape;

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{Query, State},
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
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
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use uuid::Uuid;

use self::lines::Lines;
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
    let router = router(state);
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
                connections.spawn(answer(stream, client.ip(), router.clone(), slot));
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
async fn answer(stream: TcpStream, client: IpAddr, router: Router<()>, slot: Slot) {
    let service = TowerToHyperService::new(router);
    let asked = service_fn(|mut request: Request<Incoming>| {
        slot.asks();
        request.extensions_mut().insert(Client(client));
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
        .route("/records", get(records))
        .route("/last-use", get(revisions::last_use))
        .route("/revisions", get(revisions::list))
        .route("/revisions/{digest}", get(revisions::one))
        .with_state(state)
}

async fn readyz(State(state): State<AdminState>) -> Result<Response, Infallible> {
    let mut status = Status::clone(&state.0.status.load());
    status.ready &= status.hindered == Hindered::default();
    status.sinks = state
        .0
        .log
        .get()
        .map(DecisionLog::sinks)
        .unwrap_or_default();
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

/// Names, times and errors only: [`CredentialsStatus`] has no room for a value.
async fn credentials(State(state): State<AdminState>) -> Json<CredentialsStatus> {
    let credentials = state.0.credentials.get();
    let status = credentials.map(|(all, healths)| all.status().with(healths));
    Json(status.unwrap_or_default())
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
struct Client(IpAddr);

/// What everybody else is told.
const NOT_HERE: &str = "the latest records are shown to this machine alone; from elsewhere: kubectl port-forward POD 9901, and then http://127.0.0.1:9901/records\n";

/// What is asked of `/records`.
#[derive(Debug, Deserialize)]
struct RecordsQuery {
    /// One record.
    id: Option<String>,
    /// Only what came after an earlier answer: the number in its `countersign-next`.
    after: Option<u64>,
}

/// The latest lines of the decision log, as they were written.
async fn records(
    State(state): State<AdminState>,
    Extension(Client(client)): Extension<Client>,
    Query(query): Query<RecordsQuery>,
) -> Response {
    const LINES: &str = "application/x-ndjson";
    if !client.to_canonical().is_loopback() {
        return (StatusCode::FORBIDDEN, NOT_HERE).into_response();
    }
    let Some(recent) = state.0.log.get().map(DecisionLog::recent) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Some(id) = query.id else {
        let (lines, next) = recent.after(query.after.unwrap_or_default());
        let headers = [
            (header::CONTENT_TYPE, LINES.to_owned()),
            (
                HeaderName::from_static("countersign-next"),
                next.to_string(),
            ),
        ];
        return (headers, Body::new(Lines(lines))).into_response();
    };
    let Ok(id) = Uuid::parse_str(&id) else {
        let sentence = "an id is the UUID of a refusal, as in its Proxy-Status\n";
        return (StatusCode::BAD_REQUEST, sentence).into_response();
    };
    if let Some(line) = recent.find(&id.hyphenated().to_string()) {
        return ([(header::CONTENT_TYPE, LINES)], line).into_response();
    }
    let sentence = "not among this gateway's latest records; look in the decision log\n";
    (StatusCode::NOT_FOUND, sentence).into_response()
}

#[cfg(test)]
mod tests;
