//! Driving one client connection, by HTTP/1.1 or HTTP/2, until it ends, rests too long, has
//! outlived its proof, or the gateway drains.

use std::{
    convert::Infallible,
    error::Error,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use countersign_config::{memory, model::Limits};
use countersign_core::{
    budget::{Purse, narrow},
    slots::Slot,
    wire::{activity::Activity, meter::Meter, protocol::Protocol, stream::ClientStream},
};
use http::{HeaderValue, Method, Request, Response, Version, header::CONNECTION};
use hyper::{
    body::Incoming,
    server::conn,
    service::{Service, service_fn},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::{Entrance, farewell};
use crate::pipeline::Answer;

/// The smallest buffer that hyper takes, in bytes.
const LEAST_HEAD: usize = 8192;

/// How long an HTTP/1.1 connection pauses between requests before its buffers are let go. Less would
/// be undone too often; each connection has one timer of this period.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a connection whose caller is not proven may take to leave once it is to close, in which
/// it can read its last answer.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a connection has of what all share.
#[derive(Clone, Copy)]
pub(super) struct Room<'r> {
    /// Its place.
    pub(super) slot: &'r Slot,
    /// Its memory.
    pub(super) purse: &'r Arc<Purse>,
}

impl<'r> Room<'r> {
    /// That of a connection as it came in.
    pub(super) fn of(entrance: &'r Entrance) -> Self {
        Self {
            slot: &entrance.slot,
            purse: &entrance.purse,
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
    room: Room<'_>,
    activity: Arc<Activity>,
    closing: CancellationToken,
    handle: impl Fn(Request<Incoming>) -> F,
) -> Result<(), hyper::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Response<Answer>> + Send + 'static,
{
    let counted = Arc::clone(&activity);
    let service = service_fn(move |request| {
        // Counted from here on: the client may half-close before its request is looked at.
        let busy = counted.begin();
        let last = is_last(&request);
        // Boxed, so that a connection at rest does not keep the room that a request takes.
        let answer = Box::pin(handle(request));
        async move {
            let mut answer = answer.await;
            drop(busy);
            if last {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(CONNECTION, close);
            }
            Ok::<_, Infallible>(answer)
        }
    });
    room.slot.follow(&activity);
    let bounds = Bounds {
        limits,
        slot: room.slot,
        activity: &activity,
        closing: &closing,
    };
    let stream = ClientStream::new(stream, Arc::clone(&activity), limits.body_idle_timeout)
        .charged_by(Meter::new(room.purse, limits.head_bytes));
    // Each boxed: whoever serves has room for either, and would be moved about with both.
    match protocol {
        Protocol::Http1 => {
            let stream = stream.with_heads(limits.head_timeout, line_bytes(limits));
            Box::pin(serve_http1(stream, service, bounds)).await
        }
        Protocol::Http2 => {
            let stream = stream.with_frames(limits.head_timeout);
            let builder = http2(limits, room.purse.is_identified());
            Box::pin(serve_http2(stream, service, builder, bounds)).await
        }
    }
}

/// What bounds one client connection.
#[derive(Clone, Copy)]
struct Bounds<'c> {
    limits: &'c Limits,
    slot: &'c Slot,
    activity: &'c Activity,
    closing: &'c CancellationToken,
}

/// A proxy keeps no connection open for a client of HTTP/1.0 (RFC 9112, appendix C.2.2); what follows
/// CONNECT is a tunnel.
fn is_last(request: &Request<Incoming>) -> bool {
    request.version() == Version::HTTP_10 && request.method() != Method::CONNECT
}

/// Serves HTTP/1.1. After a pause between two requests only the stream is kept: what hyper holds for
/// a connection, two buffers of 8 KiB above all, is let go, and is made anew when more comes.
async fn serve_http1<IO, S>(
    mut stream: ClientStream<IO>,
    service: S,
    bounds: Bounds<'_>,
) -> Result<(), hyper::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<Answer>, Error = Infallible>,
{
    loop {
        let connection = http1(bounds.limits)
            .serve_connection(TokioIo::new(stream), &service)
            .with_upgrades();
        let mut connection = Box::pin(connection);
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                if let Some(overrun) = bounds.activity.has_overrun()
                    && let Some(parts) = Pin::into_inner(connection).into_parts()
                {
                    farewell::tell(parts.io.into_inner().into_inner(), overrun).await;
                }
                return result;
            }
            () = bounds.over() => {
                connection.as_mut().graceful_shutdown();
                return bounds.finish(connection).await;
            }
            () = bounds.activity.paused(PAUSE) => {}
        }
        let Some(parts) = Pin::into_inner(connection).into_parts() else {
            return Ok(());
        };
        stream = parts.io.into_inner();
        // At most an empty line, which may precede a request and means nothing.
        debug_assert!(parts.read_buf.iter().all(|byte| b"\r\n".contains(byte)));
        tokio::select! {
            biased;
            more = stream.next_request() => if !more {
                // The client has left: whether it hears our farewell is all the same.
                drop(stream.shutdown().await);
                return Ok(());
            },
            // Told by the loop's next turn, in HTTP's way.
            () = bounds.over() => {}
        }
    }
}

/// Serves HTTP/2.
async fn serve_http2<IO, S>(
    stream: ClientStream<IO>,
    service: S,
    builder: conn::http2::Builder<TokioExecutor>,
    bounds: Bounds<'_>,
) -> Result<(), hyper::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<Answer>, Error = Infallible>,
    S::Future: Send + 'static,
{
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        result = connection.as_mut() => return result,
        () = bounds.over() => {}
        // Dropping it resets every stream: none of them moves.
        () = bounds.untaken() => return Ok(()),
    }
    connection.as_mut().graceful_shutdown();
    bounds.finish(connection).await
}

impl Bounds<'_> {
    /// Completes when the connection should end: it is to close, or has rested too long.
    async fn over(&self) {
        let may_rest = || {
            if self.slot.is_proven() {
                self.limits.client_idle_timeout
            } else {
                self.limits.unidentified.rest
            }
        };
        tokio::select! {
            () = self.closing.cancelled() => {}
            () = self.activity.rested_for(may_rest) => {}
        }
    }

    /// Completes when the client takes nothing of its answers for too long. A stranger's are short.
    async fn untaken(&self) {
        let limit = || {
            if self.slot.is_proven() {
                self.limits.body_idle_timeout
            } else {
                self.limits.unidentified.rest
            }
        };
        self.activity.untaken_for(limit).await;
    }

    /// Lets the requests in progress end. A client that then neither takes the rest of its answers
    /// nor leaves is not waited for; one that proved nothing is owed little.
    async fn finish(
        &self,
        connection: impl Future<Output = Result<(), hyper::Error>>,
    ) -> Result<(), hyper::Error> {
        let limit = self.limits.body_idle_timeout;
        let lingers = async {
            if !self.slot.is_proven() {
                return self.activity.rested_for(|| FAREWELL).await;
            }
            tokio::time::sleep(limit).await;
            self.activity.rested(limit).await;
        };
        tokio::select! {
            biased;
            result = connection => result,
            () = lingers => Ok(()),
            () = self.untaken() => Ok(()),
        }
    }
}

/// Whether an error tells of something that is not told otherwise: the client broke HTTP, or its
/// head was overdue. What it does not take, its answers tell.
pub(super) fn is_worth_telling(error: &hyper::Error, activity: &Activity) -> bool {
    activity.has_overrun().is_some() || !activity.has_stalled() && !is_departure(error)
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
        // How many headers is left at hyper's 100: any other number costs an allocation of 8 KiB
        // a request.
        .max_buf_size(line_bytes(limits));
    builder
}

/// A connection that came without proof may have little before it is proven; what it may have of
/// HTTP/2 is said at its beginning.
fn http2(limits: &Limits, identified: bool) -> conn::http2::Builder<TokioExecutor> {
    let (head, window) = if identified {
        (limits.head_bytes, memory::STREAM_WINDOW)
    } else {
        let head = limits.head_bytes.min(narrow(memory::UNIDENTIFIED_HEAD));
        (head, memory::STREAM_WINDOW / 4)
    };
    let send_buffer = narrow(memory::SEND_BUFFER);
    let narrow = |bytes| u32::try_from(bytes).unwrap_or(u32::MAX);
    let mut builder = conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(narrow(memory::STREAMS))
        .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
        .max_local_error_reset_streams(64)
        .max_pending_accept_reset_streams(16)
        .initial_stream_window_size(narrow(window))
        .initial_connection_window_size(narrow(memory::CONNECTION_WINDOW))
        .max_send_buf_size(send_buffer)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

#[cfg(test)]
mod tests;
