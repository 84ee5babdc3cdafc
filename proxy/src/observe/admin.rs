//! The admin endpoint: health, readiness, version, metrics and how credentials stand, read-only.
//!
//! Anyone who reaches the port may read it, so nothing here is secret and nothing can be changed.
//! Connections are bounded in number and in time, so that a client that stalls cannot keep the
//! kubelet from its probe for long.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

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
use crate::{
    credential::{Credentials, CredentialsStatus},
    health::Healths,
};

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
    /// Held while they are written: one scrape at a time is enough work.
    scraping: tokio::sync::Mutex<()>,
    status: ArcSwap<Status>,
    credentials: OnceLock<(Arc<Credentials>, Arc<Healths>)>,
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
            scraping: tokio::sync::Mutex::default(),
            status: ArcSwap::default(),
            credentials: OnceLock::new(),
        }))
    }

    /// The credentials to tell of: how they stand and fare, never what they are. The first ones
    /// stay.
    pub fn set_credentials(&self, credentials: &Arc<Credentials>, healths: &Arc<Healths>) {
        self.0
            .credentials
            .get_or_init(|| (Arc::clone(credentials), Arc::clone(healths)));
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
        .route("/credentials", get(credentials))
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

/// Names, times and errors only: [`CredentialsStatus`] has no room for a value.
async fn credentials(State(state): State<AdminState>) -> Json<CredentialsStatus> {
    let credentials = state.0.credentials.get();
    let status = credentials.map(|(all, healths)| all.status().with(healths));
    Json(status.unwrap_or_default())
}

async fn metrics(State(state): State<AdminState>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let _one_at_a_time = state.0.scraping.lock().await;
    match state.0.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};
    use tokio::sync::oneshot;

    use super::*;

    struct Admin {
        base: String,
        state: AdminState,
        client: reqwest::Client,
        stop: oneshot::Sender<()>,
        done: tokio::task::JoinHandle<()>,
    }

    async fn admin() -> Admin {
        // The process has one provider; a second test in it finds it installed already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let state = AdminState::new(Metrics::new());
        let (stop, stopped) = oneshot::channel();
        let serving = state.clone();
        let done = tokio::spawn(serve(listener, serving, async move {
            stopped.await.unwrap();
        }));
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(10))
            .build()
            .unwrap();
        Admin {
            base,
            state,
            client,
            stop,
            done,
        }
    }

    impl Admin {
        async fn get(&self, path: &str) -> reqwest::Response {
            let url = format!("{}{path}", self.base);
            self.client.get(url).send().await.unwrap()
        }

        async fn readiness(&self) -> (u16, Value) {
            let answer = self.get("/readyz").await;
            (answer.status().as_u16(), answer.json().await.unwrap())
        }
    }

    #[tokio::test]
    async fn readiness_follows_the_gateway() {
        let admin = admin().await;
        let starting = json!({
            "ready": false, "draining": false, "revision": null, "reload_error": null,
            "listeners": []
        });
        assert_eq!(admin.readiness().await, (503, starting));

        admin.state.set_revision(&"9f2c1a".into());
        admin
            .state
            .set_listeners([("proxy".into(), ([127, 0, 0, 1], 3128).into())]);
        admin.state.set_ready(true);
        let ready = json!({
            "ready": true, "draining": false, "revision": "9f2c1a", "reload_error": null,
            "listeners": [{"name": "proxy", "address": "127.0.0.1:3128"}]
        });
        assert_eq!(admin.readiness().await, (200, ready));

        admin.state.set_draining(true);
        assert_eq!(admin.readiness().await.0, 503);
    }

    #[tokio::test]
    async fn a_rejected_revision_is_told_and_does_not_take_the_gateway_out() {
        let admin = admin().await;
        admin.state.set_ready(true);
        admin
            .state
            .set_reload_error(Some("a.yaml:3: xoxb-canary-canary-canary"));
        let (status, body) = admin.readiness().await;
        assert_eq!(status, 200);
        assert_eq!(body["reload_error"], "a.yaml:3: [redacted]");

        admin.state.set_reload_error(Some(&"é".repeat(ERROR_BYTES)));
        let (_, body) = admin.readiness().await;
        assert_eq!(body["reload_error"].as_str().unwrap().len(), ERROR_BYTES);

        admin.state.set_reload_error(None);
        assert_eq!(admin.readiness().await.1["reload_error"], Value::Null);
    }

    #[tokio::test]
    async fn health_version_and_metrics_answer() {
        let admin = admin().await;
        assert_eq!(admin.get("/healthz").await.text().await.unwrap(), "ok\n");
        let version: Value = admin.get("/version").await.json().await.unwrap();
        assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
        let metrics = admin.get("/metrics").await;
        let kind = metrics.headers()["content-type"].to_str().unwrap();
        assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
        let text = metrics.text().await.unwrap();
        assert!(text.contains("countersign_build_info"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[rstest]
    #[case("POST", "/healthz", 405)]
    #[case("PUT", "/readyz", 405)]
    #[case("DELETE", "/metrics", 405)]
    #[case("POST", "/credentials", 405)]
    #[case("DELETE", "/credentials", 405)]
    #[case("GET", "/credentials/qa/example", 404)]
    #[case("GET", "/", 404)]
    #[case("GET", "/debug/pprof", 404)]
    #[case("GET", "/readyz/", 404)]
    #[tokio::test]
    async fn t57_nothing_can_be_changed_and_nothing_else_is_there(
        #[case] method: &str,
        #[case] path: &str,
        #[case] status: u16,
    ) {
        let admin = admin().await;
        let url = format!("{}{path}", admin.base);
        let method = method.parse().unwrap();
        let answer = admin.client.request(method, url).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
    }

    #[tokio::test]
    async fn it_ends_when_told() {
        let admin = admin().await;
        admin.stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(10), admin.done)
            .await
            .expect("it ends")
            .unwrap();
    }

    #[tokio::test]
    async fn clients_that_stall_are_dropped_to_make_room() {
        let admin = admin().await;
        let address = admin.base.strip_prefix("http://").unwrap();
        let mut stalled = Vec::new();
        for _ in 0..CONNECTIONS {
            stalled.push(tokio::net::TcpStream::connect(address).await.unwrap());
        }
        tokio::time::pause();
        tokio::time::advance(CONNECTION_TIME).await;
        tokio::time::resume();
        let answer = admin.get("/healthz").await;
        assert_eq!(answer.status().as_u16(), 200);
    }
}
