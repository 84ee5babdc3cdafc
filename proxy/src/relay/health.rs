//! Readiness for the kubelet: ready means that an app's next connection can be carried.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::Shared;

/// A probe takes no longer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers one prober: `/healthz` whether the process lives, `/readyz` whether it is of use.
pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(|request: Request<Incoming>| {
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
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a prober broke off");
    }
}

async fn readiness(shared: &Shared) -> (StatusCode, String) {
    let draining = shared.draining.is_cancelled();
    let proof = shared.fleet.authorization().await;
    let known = shared.fleet.known();
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
    if known.is_empty() {
        line("no gateway has an address");
    }
    for gateway in known.iter() {
        let state = if gateway.is_well() {
            "answers"
        } else {
            "does not answer"
        };
        line(&format!(
            "{} ({}) {state}",
            gateway.name(),
            gateway.address()
        ));
    }
    if any_well && proof.is_ok() && !draining {
        (StatusCode::OK, text)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, text)
    }
}
