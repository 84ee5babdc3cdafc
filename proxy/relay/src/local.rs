//! The local HTTP proxy port: CONNECT and requests in absolute form, for apps with proxy settings. A
//! gateway's response is passed on unchanged.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use countersign_core::{
    destination::Authority,
    slots::{Share, Slot},
    wire::hop_by_hop,
};
use http::{
    Method, Request, Response,
    header::{HOST, PROXY_AUTHORIZATION},
};
use http_body_util::{Either, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::{
    Shared,
    answer::RelayError,
    carry::carry,
    gateway::connection::{LeasedBody, Outgoing, Unanswered},
    pool::{Refused, TunnelError},
};

/// How long a client may take for a request's head, or be idle between two.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_mins(1);

/// The most bytes of a request's head.
pub(super) const HEAD_BYTES: usize = 64 * 1024;

/// A gateway's response, or our own.
pub(super) type Answer = Response<Either<Full<Bytes>, LeasedBody>>;

/// Serves one client until it leaves or the relay drains.
pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>, slot: Arc<Slot>) {
    let draining = shared.draining.clone();
    let service = service_fn(move |request| {
        let (shared, slot) = (Arc::clone(&shared), Arc::clone(&slot));
        async move { Ok::<_, Infallible>(handle(request, &shared, slot).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // A client that has closed its sending side still gets its response.
        .half_close(true)
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client of the HTTP proxy port broke off");
    }
}

async fn handle(mut request: Request<Incoming>, shared: &Arc<Shared>, slot: Arc<Slot>) -> Answer {
    slot.asks();
    let upgrade = hyper::upgrade::on(&mut request);
    let answered = if request.method() == Method::CONNECT {
        connect(&request, upgrade, shared, slot).await
    } else {
        forward(request, shared, &slot).await
    };
    answered.unwrap_or_else(|error| not_carried(&error))
}

/// Logs the error, and answers the client.
pub(super) fn not_carried(error: &RelayError) -> Answer {
    tracing::warn!(reason = error.code(), %error, "a request was not carried");
    error.answer().map(|body| Either::Left(Full::new(body)))
}

async fn connect(
    request: &Request<Incoming>,
    upgrade: OnUpgrade,
    shared: &Arc<Shared>,
    slot: Arc<Slot>,
) -> Result<Answer, RelayError> {
    let authority = request
        .uri()
        .authority()
        .and_then(|written| Authority::with_port(written.as_str()).ok())
        .ok_or(RelayError::Malformed("CONNECT names no host and port"))?;
    let tunnel = match shared.pool.tunnel(&authority).await {
        Ok(tunnel) => tunnel,
        Err(TunnelError::Refused(refused)) => return Ok(pass_on(*refused, &authority)),
        Err(TunnelError::Failed(error)) => return Err(error),
    };
    slot.prove(|| Share::Own)?;
    let cut = shared.cut.clone();
    let carried = async move {
        match upgrade.await {
            Ok(client) => carry(TokioIo::new(client), tunnel, cut).await,
            Err(error) => tracing::debug!(%error, "the client left before its tunnel stood"),
        }
    };
    shared
        .tasks
        .spawn(async move { slot.within(carried).await });
    Ok(Response::new(Either::Left(Full::default())))
}

/// A gateway's complete refusal: status, reason, body.
fn pass_on(refused: Refused, authority: &Authority) -> Answer {
    let Refused {
        response,
        lease,
        gateway,
    } = refused;
    tracing::info!(
        gateway = %gateway.name(),
        status = response.status().as_u16(),
        target = %authority,
        "the gateway refused a tunnel"
    );
    let mut response = response.map(|body| Either::Right(LeasedBody::new(body, lease)));
    hop_by_hop::strip_response(response.headers_mut());
    response
}

/// A request in absolute form: the gateway is also a proxy, so it is passed on unchanged.
pub(super) async fn forward(
    request: Request<Incoming>,
    shared: &Arc<Shared>,
    slot: &Slot,
) -> Result<Answer, RelayError> {
    let (mut parts, body) = request.into_parts();
    let authority = match (parts.uri.scheme(), parts.uri.authority()) {
        (Some(_), Some(authority)) => authority.clone(),
        _ => {
            return Err(RelayError::Malformed(
                "the request is not one to a proxy: use CONNECT or an absolute URI",
            ));
        }
    };
    hop_by_hop::strip_request(&mut parts.headers);
    if let Some(authorization) = shared.pool.authorization().await? {
        parts.headers.insert(PROXY_AUTHORIZATION, authorization);
    }
    let named = parts.headers.remove(HOST);
    if named.is_some_and(|host| host.as_bytes() != authority.as_str().as_bytes()) {
        return Err(RelayError::Malformed("Host differs from the URI"));
    }
    parts.version = http::Version::HTTP_11;
    let mut request: Request<Outgoing> = Request::from_parts(parts, Either::Right(body));
    // If a connection was closed cleanly at that moment, it is tried once more on a new one.
    for last in [false, true] {
        let mut lease = shared.pool.lease().await?;
        if lease.is_http1() {
            let host = authority.as_str().parse().map_err(|_| {
                RelayError::Malformed("the URI's authority cannot stand in a header")
            })?;
            request.headers_mut().insert(HOST, host);
        }
        match lease.send(request).await {
            Ok(response) => {
                slot.prove(|| Share::Own)?;
                let mut response = response.map(|body| Either::Right(LeasedBody::new(body, lease)));
                hop_by_hop::strip_response(response.headers_mut());
                return Ok(response);
            }
            Err(Unanswered {
                unsent: Some(unsent),
                ..
            }) if !last => request = unsent,
            Err(Unanswered { error, .. }) => return Err(RelayError::broken(&error)),
        }
    }
    Err(RelayError::Broken(
        "its connections close at once".to_owned(),
    ))
}
