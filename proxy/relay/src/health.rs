//! Readiness for the kubelet: ready means that the app's next connection can be tunnelled.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use countersign_core::slots::Slot;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::Shared;

/// The timeout of a probe's request, and of its response.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// The most bytes of a probe's head.
const HEAD_BYTES: usize = 16 * 1024;

/// Answers one probe: `/healthz` says whether the process lives, `/readyz` whether it can serve.
pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>, slot: &Slot) {
    let service = service_fn(|request: Request<Incoming>| {
        slot.asks();
        let shared = Arc::clone(&shared);
        async move {
            let (status, text) = match request.uri().path() {
                "/healthz" => (StatusCode::OK, "alive\n".to_owned()),
                "/readyz" => readiness(&shared).await,
                _ => (
                    StatusCode::NOT_FOUND,
                    "there are /healthz and /readyz\n".to_owned(),
                ),
            };
            let mut response = Response::new(Full::new(Bytes::from(text)));
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(PROBE_TIMEOUT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a prober broke off"),
        Err(_) => tracing::debug!("a prober took too long"),
    }
}

async fn readiness(shared: &Shared) -> (StatusCode, String) {
    let draining = shared.draining.is_cancelled();
    let proof = shared.pool.proof().await;
    let known = shared.pool.known();
    let any_well = known.iter().any(|gateway| gateway.is_well());
    let mut text = String::new();
    let mut line = |what: &str| {
        text.push_str(what);
        text.push('\n');
    };
    if draining {
        line("draining");
    }
    if let Err(error) = &proof {
        line(&error.to_string());
    }
    if let Some((_, standing)) = shared.pool.ends_soon().await {
        line(&format!("the pod's certificate {standing}"));
    }
    for (name, fault) in shared.pool.unresolved() {
        line(&format!("{name}: {fault}"));
    }
    if known.is_empty() {
        line("no gateway has an address");
    }
    for gateway in known.iter() {
        let (name, address) = (gateway.name(), gateway.address());
        let state = match gateway.fault() {
            _ if gateway.is_well() => "answers".to_owned(),
            Some(fault) if fault.is_rejection() => fault.to_string(),
            Some(fault) => format!("does not answer: {fault}"),
            None => "has not answered yet".to_owned(),
        };
        line(&format!("{name} ({address}) {state}"));
    }
    if any_well && proof.is_ok() && !draining {
        (StatusCode::OK, text)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, text)
    }
}
