//! The webhook's HTTPS server, and the same readiness and metrics in clear text for kubelet and Prometheus.
//!
//! Bounds: 256 connections, of which 16 send a body at a time; a body has at most 8 MiB, since a review may hold an
//! object twice; handshake and head may take 10 s each, a request 8 s. The API server waits for 10 s.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use countersign_core::clock::Clock;
use http::{HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{body::Body, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::{encoding::text, registry::Registry};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    certificate::ServingCertificate,
    events::Events,
    metrics::Metrics,
    namespaces::Namespaces,
    review::{self, Decision, Webhook},
    settings::Settings,
};

const CONNECTIONS: usize = 256;
const BODIES: usize = 16;
const BODY_BYTES: usize = 8 * 1024 * 1024;
const HEAD_BYTES: usize = 64 * 1024;
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEAD: Duration = Duration::from_secs(10);
const REQUEST: Duration = Duration::from_secs(8);

/// Says whether a part of the controller can do its work; each answer is one line.
pub type Check = Box<dyn Fn() -> Result<String, String> + Send + Sync>;

/// What a service is made of.
#[allow(missing_debug_implementations, reason = "checks are functions")]
pub struct Parts {
    /// The settings of injection.
    pub settings: Settings,
    /// The webhook's certificate; `None` where the API server injects by itself.
    pub certificate: Option<Arc<ServingCertificate>>,
    /// What is known of namespaces.
    pub namespaces: Namespaces,
    /// Where Events are put.
    pub events: Events,
    /// What is counted.
    pub metrics: Metrics,
    /// What `/metrics` shows: all that parts of the controller registered.
    pub registry: Registry,
    /// What decides readiness, besides the certificate.
    pub checks: Vec<Check>,
}

/// All that requests need.
pub struct Service {
    parts: Parts,
    bodies: Semaphore,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

impl Service {
    /// The service, whose readiness follows its certificate by this clock.
    pub fn new(mut parts: Parts, clock: &Clock) -> Self {
        if let Some(certificate) = parts.certificate.clone() {
            let clock = clock.clone();
            parts
                .checks
                .push(Box::new(move || certificate.readiness(&clock)));
        }
        Self {
            parts,
            bodies: Semaphore::new(BODIES),
        }
    }

    /// Serves the webhook over TLS, until the future is dropped.
    pub async fn serve_webhook(self: Arc<Self>, listener: TcpListener) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Some((stream, slot)) = accepted(&listener, &slots).await else {
                continue;
            };
            let service = Arc::clone(&self);
            tokio::spawn(async move {
                // Without a certificate yet, the API server tries again.
                let certificate = service.parts.certificate.as_ref();
                if let Some(config) = certificate.and_then(|it| it.config()) {
                    let accepting = TlsAcceptor::from(config).accept(stream);
                    match timeout(HANDSHAKE, accepting).await {
                        Ok(Ok(stream)) => service.connection(stream, true).await,
                        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                        Err(_) => tracing::debug!("a TLS handshake took too long"),
                    }
                }
                drop(slot);
            });
        }
    }

    /// Serves readiness and metrics in clear text, until the future is dropped.
    pub async fn serve_admin(self: Arc<Self>, listener: TcpListener) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Some((stream, slot)) = accepted(&listener, &slots).await else {
                continue;
            };
            let service = Arc::clone(&self);
            tokio::spawn(async move {
                service.connection(stream, false).await;
                drop(slot);
            });
        }
    }

    async fn connection(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        admits: bool,
    ) {
        let service = service_fn(|request| {
            let service = Arc::clone(&self);
            async move { Ok::<_, Infallible>(service.respond(request, admits).await) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "a client broke off");
        }
    }

    /// Answers one request. `admits` is whether reviews are answered: in clear text they are not.
    pub async fn respond<B>(&self, request: Request<B>, admits: bool) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let webhook = match request.uri().path() {
            "/mutate" if admits => Webhook::Mutate,
            "/validate" if admits => Webhook::Validate,
            "/healthz" => return plain(StatusCode::OK, "alive\n"),
            "/readyz" => return self.readiness(),
            "/metrics" => return self.exposition(),
            _ => {
                return plain(
                    StatusCode::NOT_FOUND,
                    "there are /mutate and /validate over TLS, and /healthz, /readyz and /metrics\n",
                );
            }
        };
        if request.method() != Method::POST {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "reviews are sent by POST\n");
        }
        let reviewed = timeout(REQUEST, self.review(webhook, request.into_body())).await;
        let answered = reviewed.unwrap_or_else(|_| {
            let told = "the review was not answered in time\n".to_owned();
            Err((StatusCode::GATEWAY_TIMEOUT, told))
        });
        match answered {
            Ok(body) => {
                let mut response = Response::new(Full::new(body.into()));
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(CONTENT_TYPE, json);
                response
            }
            Err((status, told)) => {
                self.parts.metrics.failed();
                tracing::warn!(%status, "{}", told.trim_end());
                plain(status, told)
            }
        }
    }

    async fn review<B>(&self, webhook: Webhook, body: B) -> Result<Vec<u8>, (StatusCode, String)>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let request = {
            // Until it is parsed: the sum of all bodies is bounded.
            let _turn = self.bodies.acquire().await;
            let body = Limited::new(body, BODY_BYTES).collect().await;
            let body = body.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    let told = format!("a review has at most {BODY_BYTES} bytes\n");
                    (StatusCode::PAYLOAD_TOO_LARGE, told)
                } else {
                    (StatusCode::BAD_REQUEST, "the review broke off\n".to_owned())
                }
            })?;
            review::read(&body.to_bytes())
                .map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))?
        };
        let name = request.namespace.as_deref().unwrap_or_default();
        let facts = self.parts.namespaces.facts(name).await;
        let facts = facts.map_err(|error| {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("countersign cannot tell whether this pod is injected: {error}\n"),
            )
        })?;
        let (response, decision) = review::answer(webhook, &request, &facts, &self.parts.settings);
        self.parts.metrics.decided(webhook, &decision);
        if let (Webhook::Mutate, Decision::LeftAlone(why)) = (webhook, &decision) {
            self.parts.events.left_alone(&request, *why);
        }
        tracing::debug!(namespace = name, ?webhook, ?decision, "reviewed");
        Ok(review::write(response))
    }

    fn readiness(&self) -> Response<Full<Bytes>> {
        let mut status = StatusCode::OK;
        let mut text = String::new();
        for check in &self.parts.checks {
            let line = check().unwrap_or_else(|problem| {
                status = StatusCode::SERVICE_UNAVAILABLE;
                format!("not ready: {problem}")
            });
            text.push_str(&line);
            text.push('\n');
        }
        plain(status, text)
    }

    fn exposition(&self) -> Response<Full<Bytes>> {
        let mut body = String::new();
        if text::encode(&mut body, &self.parts.registry).is_err() {
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "no metrics\n");
        }
        let mut response = plain(StatusCode::OK, body);
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        let kind = HeaderValue::from_static(kind);
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }
}

async fn accepted(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            // Mostly too many files are open.
            sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}
