//! Driving one client connection, by HTTP/1.1 or HTTP/2, until it ends, rests too long, has
//! outlived its proof, or the gateway drains.

use std::{convert::Infallible, error::Error, future::Future, pin::pin, sync::Arc, time::Duration};

use countersign_config::model::Limits;
use http::{Request, Response};
use hyper::{body::Incoming, server::conn, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::{activity::Activity, stream::ClientStream};
use crate::pipeline::Answer;

/// The smallest buffer that hyper takes, in bytes.
const LEAST_HEAD: usize = 8192;

/// The protocol that was negotiated with the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 (and 1.0).
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// By the outcome of ALPN; no outcome is HTTP/1.1.
    pub fn from_alpn(alpn: Option<&[u8]>) -> Self {
        match alpn {
            Some(b"h2") => Self::Http2,
            Some(_) | None => Self::Http1,
        }
    }

    /// By a request's version.
    pub fn from_version(version: http::Version) -> Self {
        if version == http::Version::HTTP_2 {
            Self::Http2
        } else {
            Self::Http1
        }
    }

    /// The name in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
        }
    }
}

/// Serves requests on `stream` with `handle` until the connection is over. `closing` ends it
/// after the requests that are in progress.
///
/// # Errors
/// When the client breaks HTTP or stalls; what is in progress has recorded itself.
pub(super) async fn serve<IO, F>(
    stream: IO,
    protocol: Protocol,
    limits: &Limits,
    activity: Arc<Activity>,
    closing: CancellationToken,
    handle: impl Fn(Request<Incoming>) -> F,
) -> Result<(), hyper::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Response<Answer>> + Send + 'static,
{
    let service = service_fn(|request| {
        let answer = handle(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let stream = ClientStream::new(stream, Arc::clone(&activity), limits.body_idle_timeout);
    match protocol {
        Protocol::Http1 => {
            let stream = stream.with_heads(limits.head_timeout, line_bytes(limits));
            let connection = http1(limits)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            let mut connection = pin!(connection);
            tokio::select! {
                biased;
                result = connection.as_mut() => return result,
                () = over(&activity, limits, &closing) => {}
            }
            connection.as_mut().graceful_shutdown();
            finish(connection, &activity, limits).await
        }
        Protocol::Http2 => {
            let connection = http2(limits).serve_connection(TokioIo::new(stream), service);
            let mut connection = pin!(connection);
            tokio::select! {
                biased;
                result = connection.as_mut() => return result,
                () = over(&activity, limits, &closing) => {}
                // Dropping it resets every stream: none of them moves.
                () = activity.untaken(limits.body_idle_timeout) => return Ok(()),
            }
            connection.as_mut().graceful_shutdown();
            finish(connection, &activity, limits).await
        }
    }
}

/// Completes when the connection should end: it is to close, or has rested too long.
async fn over(activity: &Activity, limits: &Limits, closing: &CancellationToken) {
    tokio::select! {
        () = closing.cancelled() => {}
        () = activity.rested(limits.client_idle_timeout) => {}
    }
}

/// Lets the requests in progress end. A client that then neither takes the rest of its answers nor
/// leaves is not waited for.
async fn finish(
    connection: impl Future<Output = Result<(), hyper::Error>>,
    activity: &Activity,
    limits: &Limits,
) -> Result<(), hyper::Error> {
    let limit = limits.body_idle_timeout;
    let lingers = async {
        tokio::time::sleep(limit).await;
        activity.rested(limit).await;
    };
    tokio::select! {
        biased;
        result = connection => result,
        () = lingers => Ok(()),
        () = activity.untaken(limit) => Ok(()),
    }
}

/// Whether an error tells of something that is not told otherwise: the client broke HTTP, or its
/// head was overdue. What it does not take, its answers tell.
pub(super) fn is_worth_telling(error: &hyper::Error, activity: &Activity) -> bool {
    !activity.has_stalled() && !is_departure(error)
}

/// Whether an error is only the client's leaving, which is nobody's fault between requests.
fn is_departure(error: &hyper::Error) -> bool {
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return true;
    }
    let Some(source) = error.source() else {
        return false;
    };
    if let Some(error) = source.downcast_ref::<h2::Error>() {
        let said_so = error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
        return said_so || error.get_io().is_some_and(is_not_overdue);
    }
    source
        .downcast_ref::<std::io::Error>()
        .is_some_and(is_not_overdue)
}

fn is_not_overdue(error: &std::io::Error) -> bool {
    error.kind() != std::io::ErrorKind::TimedOut
}

/// No line can be longer than the whole head.
fn line_bytes(limits: &Limits) -> usize {
    limits.head_bytes.max(LEAST_HEAD)
}

fn http1(limits: &Limits) -> conn::http1::Builder {
    let mut builder = conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // Phases have deadlines of their own, see `stream`.
        .header_read_timeout(None)
        .max_buf_size(line_bytes(limits))
        .max_headers(128);
    builder
}

fn http2(limits: &Limits) -> conn::http2::Builder<TokioExecutor> {
    let mut builder = conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(128)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_local_error_reset_streams(64)
        .max_pending_accept_reset_streams(16)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}
