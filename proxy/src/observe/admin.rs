//! The admin endpoint: health, readiness, version and metrics, read-only.
//!
//! Anyone who reaches the port may read it, so nothing here is secret and nothing can be changed.
//! Connections are bounded in number and in time, so that a client that stalls cannot keep the
//! kubelet from its probe for long.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde::Serialize;
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

use super::{Metrics, redact::redact};

/// Connections at a time.
const CONNECTIONS: usize = 64;

/// How long one connection may last, all its requests included.
const CONNECTION_TIME: Duration = Duration::from_secs(10);

/// The longest reload error that is shown, in bytes.
const ERROR_BYTES: usize = 4096;

/// What the endpoint tells. Cheap to clone; clones share.
#[derive(Debug, Clone)]
pub struct AdminState(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    metrics: Metrics,
    status: ArcSwap<Status>,
}

/// The answer of `/readyz`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Status {
    /// The listeners are bound and a revision is in force.
    ready: bool,
    /// No new connections are taken.
    draining: bool,
    /// The revision in force.
    revision: Option<Arc<str>>,
    /// Why the newest revision was not taken; the one in force is older.
    reload_error: Option<String>,
    listeners: Vec<ListenerStatus>,
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
            status: ArcSwap::default(),
        }))
    }

    /// Whether requests can be served.
    pub fn set_ready(&self, ready: bool) {
        self.change(|status| status.ready = ready);
    }

    /// Whether the gateway is on its way out; it is not ready then.
    pub fn set_draining(&self, draining: bool) {
        self.change(|status| status.draining = draining);
    }

    /// The revision in force.
    pub fn set_revision(&self, revision: &Arc<str>) {
        self.change(|status| status.revision = Some(Arc::clone(revision)));
    }

    /// Why the newest revision was not taken; `None` once one was.
    pub fn set_reload_error(&self, error: Option<&str>) {
        let error = error.map(|error| {
            let mut error = redact(error).into_owned();
            error.truncate(error.floor_char_boundary(ERROR_BYTES));
            error
        });
        self.change(|status| status.reload_error.clone_from(&error));
    }

    /// The listeners and the addresses they really have.
    pub fn set_listeners(&self, listeners: impl IntoIterator<Item = (Arc<str>, SocketAddr)>) {
        let listeners: Vec<_> = listeners
            .into_iter()
            .map(|(name, address)| ListenerStatus { name, address })
            .collect();
        self.change(|status| status.listeners.clone_from(&listeners));
    }

    fn change(&self, change: impl Fn(&mut Status)) {
        self.0.status.rcu(|status| {
            let mut status = Status::clone(status);
            change(&mut status);
            status
        });
    }
}

/// Serves until `shutdown` is ready; then open connections are dropped.
pub async fn serve(
    listener: TcpListener,
    state: AdminState,
    shutdown: impl Future<Output = ()> + Send,
) {
    let service = TowerToHyperService::new(router(state));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(CONNECTION_TIME);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let (stream, slot) = tokio::select! {
            () = &mut shutdown => return,
            accepted = accept(&listener, &slots) => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let connection = http.serve_connection(TokioIo::new(stream), service.clone());
        connections.spawn(async move {
            match tokio::time::timeout(CONNECTION_TIME, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "an admin connection failed"),
                Err(_) => tracing::debug!("an admin connection took too long"),
            }
            drop(slot);
        });
    }
}

/// The next connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit) {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, slot),
            Err(error) => {
                // Out of file descriptors, most likely: waiting is the remedy.
                tracing::warn!(%error, "an admin connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn router(state: AdminState) -> Router<()> {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/version", get(version))
        .route("/metrics", get(metrics))
        .with_state(state)
}

async fn readyz(State(state): State<AdminState>) -> Result<Response, Infallible> {
    let status = state.0.status.load_full();
    let code = if status.ready && !status.draining {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Ok((code, Json(&*status)).into_response())
}

async fn version() -> Json<serde_json::Value> {
    Json(serde_json::json!({"version": env!("CARGO_PKG_VERSION")}))
}

async fn metrics(State(state): State<AdminState>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match state.0.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
