//! Serves one client connection, by HTTP/1.1 or HTTP/2, until it ends, is idle too long, its caller's proof
//! expires, or the gateway drains.

use std::{
    error::Error,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use countersign_config::{memory, model::Limits};
use countersign_core::{
    budget::{Purse, narrow},
    slots::Slot,
    wire::{
        connection_state::ConnectionState, meter::Meter, protocol::Protocol, stream::ClientStream,
        unserved::Unserved,
    },
};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header::CONNECTION};
use hyper::{
    body::Incoming,
    server::conn,
    service::{Service, service_fn},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::farewell;
use crate::{
    lifecycle::Leaving,
    pipeline::AnswerBody,
    session::{BrokenConnection, ConnectionMeta},
};

/// The smallest buffer that hyper takes, in bytes.
const LEAST_HEAD: usize = 8192;

/// How long an HTTP/1.1 connection is idle before its buffers are freed. A shorter time would free buffers
/// that are needed again at once; each connection has one timer of this period.
const PAUSE: Duration = Duration::from_secs(1);

/// How long an unidentified connection may stay open after the gateway starts to close it, so that the
/// client can read its last response.
const FAREWELL: Duration = Duration::from_secs(1);

/// The shared resources that a connection takes.
#[derive(Clone, Copy)]
pub(super) struct Room<'r> {
    /// Its slot.
    pub(super) slot: &'r Slot,
    /// Its memory.
    pub(super) purse: &'r Arc<Purse>,
}

impl<'r> Room<'r> {
    /// Those of a connection as it was accepted.
    pub(super) fn of(meta: &'r ConnectionMeta) -> Self {
        Self {
            slot: &meta.slot,
            purse: &meta.purse,
        }
    }
}

/// What becomes of requests.
#[derive(Debug, Clone)]
pub(super) struct Requests<H, B> {
    /// Handles a request.
    pub(super) handle: H,
    /// Is told of what no handler gets.
    pub(super) broken: B,
    /// Whether each answer is its connection's last.
    pub(super) leaving: Leaving,
}

/// Records what no handler gets.
pub(super) trait Broken {
    /// A request that hyper did not hand over.
    fn unserved(&self, why: Unserved);

    /// The client broke HTTP, which ends the connection. Returns the response, if it was recorded here.
    fn ended(
        &self,
        connection_state: &ConnectionState,
        error: &hyper::Error,
    ) -> Option<Response<Bytes>>;
}

impl Broken for BrokenConnection<'_> {
    fn unserved(&self, why: Unserved) {
        self.record_unserved(why);
    }

    fn ended(
        &self,
        connection_state: &ConnectionState,
        error: &hyper::Error,
    ) -> Option<Response<Bytes>> {
        self.record(connection_state, error)
    }
}

/// Serves `requests` on `stream` until the connection is over. `closing` ends it after the requests that
/// are in progress.
///
/// # Errors
/// When the client breaks HTTP or stalls. What needs a record has one.
pub(super) async fn serve<IO, F, B>(
    stream: IO,
    protocol: Protocol,
    limits: &Limits,
    room: Room<'_>,
    connection_state: Arc<ConnectionState>,
    closing: CancellationToken,
    requests: Requests<impl Fn(Request<Incoming>) -> F, B>,
) -> Result<(), hyper::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Response<AnswerBody>> + Send + 'static,
    B: Broken,
{
    let Requests {
        handle,
        broken,
        leaving,
    } = requests;
    let counted = Arc::clone(&connection_state);
    let service = service_fn(move |request| {
        // Counted from here: the client may half-close before the handler runs.
        let in_flight = counted.begin();
        counted.streams.began();
        let last = is_last(&request, &leaving);
        // Boxed, so that an idle connection does not hold the memory of a request.
        let answer = Box::pin(handle(request));
        async move {
            let mut answer = answer.await;
            // The gateway's own response: the rest of the request's body is read and discarded.
            let abandoned = answer.body().is_whole() && in_flight.is_within_body();
            drop(in_flight);
            if let Some(hang_up) = answer.body().hangs_up() {
                return Err(h2::Error::from(hang_up));
            }
            let last = last && answer.status() != StatusCode::SWITCHING_PROTOCOLS;
            if last || abandoned {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(CONNECTION, close);
            }
            Ok(answer)
        }
    });
    room.slot.follow(&connection_state);
    let bounds = Bounds {
        limits,
        slot: room.slot,
        connection_state: &connection_state,
        closing: &closing,
    };
    let stream = ClientStream::new(
        stream,
        Arc::clone(&connection_state),
        limits.body_idle_timeout,
    )
    .charged_by(Meter::new(room.purse, limits.head_bytes));
    // Each boxed: the caller's future would otherwise hold both and be moved with both.
    match protocol {
        Protocol::Http1 => {
            let stream = stream.with_heads(limits.head_timeout, line_bytes(limits));
            Box::pin(serve_http1(stream, service, bounds, &broken)).await
        }
        Protocol::Http2 => {
            let stream = stream.with_frames(limits.head_timeout);
            let builder = http2(limits, room.purse.is_identified());
            let served = Box::pin(serve_http2(stream, service, builder, bounds, &broken)).await;
            served.inspect_err(|error| {
                if is_worth_telling(error, &connection_state) {
                    // Frames, and not a response, tell the client.
                    drop(broken.ended(&connection_state, error));
                }
            })
        }
    }
}

/// What bounds one client connection.
#[derive(Clone, Copy)]
struct Bounds<'c> {
    limits: &'c Limits,
    slot: &'c Slot,
    connection_state: &'c ConnectionState,
    closing: &'c CancellationToken,
}

/// A proxy does not keep connections of HTTP/1.0 clients open (RFC 9112, appendix C.2.2). After CONNECT
/// there is a tunnel.
fn is_last(request: &Request<Incoming>, leaving: &Leaving) -> bool {
    let version = request.version();
    let ends = version == Version::HTTP_10 || (version == Version::HTTP_11 && leaving.has_begun());
    ends && request.method() != Method::CONNECT
}

/// Serves HTTP/1.1. When a connection is idle, only its stream is kept: what hyper holds for it, mainly two
/// buffers of 8 KiB, is freed, and allocated again when more data arrives.
async fn serve_http1<IO, S>(
    mut stream: ClientStream<IO>,
    service: S,
    bounds: Bounds<'_>,
    broken: &impl Broken,
) -> Result<(), hyper::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<AnswerBody>, Error = h2::Error>,
{
    loop {
        let connection = http1(bounds.limits)
            .serve_connection(TokioIo::new(stream), &service)
            .with_upgrades();
        let mut connection = Box::pin(connection);
        let result = tokio::select! {
            biased;
            result = connection.as_mut() => Some(result),
            () = bounds.over() => {
                connection.as_mut().graceful_shutdown();
                Some(bounds.finish(connection.as_mut()).await)
            }
            () = bounds.connection_state.paused(PAUSE) => None,
        };
        let parts = || Pin::into_inner(connection).into_parts();
        if let Some(result) = result {
            if let Err(error) = &result {
                let stream = || parts().map(|parts| parts.io.into_inner());
                take_leave(error, stream, bounds.connection_state, broken).await;
            }
            return result;
        }
        let Some(parts) = parts() else {
            return Ok(());
        };
        stream = parts.io.into_inner();
        // At most an empty line, which is allowed before a request.
        debug_assert!(parts.read_buf.iter().all(|byte| b"\r\n".contains(byte)));
        tokio::select! {
            biased;
            more = stream.next_request() => if !more {
                // The client has left, so a failed shutdown does not matter.
                drop(stream.shutdown().await);
                return Ok(());
            },
            // The loop's next turn ends the connection in HTTP's way.
            () = bounds.over() => {}
        }
    }
}

/// Records an error that ended a connection, if nothing else does, and tells the client if it can still be told.
async fn take_leave<IO>(
    error: &hyper::Error,
    stream: impl FnOnce() -> Option<ClientStream<IO>>,
    connection_state: &ConnectionState,
    broken: &impl Broken,
) where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let told = is_worth_telling(error, connection_state)
        .then(|| broken.ended(connection_state, error))
        .flatten();
    if is_hang_up(error) {
        if let Some(mut stream) = stream() {
            // The client may have left.
            drop(stream.shutdown().await);
        }
        return;
    }
    let overrun = connection_state.has_overrun();
    if (overrun.is_some() || connection_state.is_owed())
        && let Some(stream) = stream()
    {
        let told = told.unwrap_or_else(|| farewell::unrecorded(overrun));
        farewell::tell(stream.into_inner(), told).await;
    }
}

/// Serves HTTP/2.
async fn serve_http2<IO, S>(
    stream: ClientStream<IO>,
    service: S,
    builder: conn::http2::Builder<TokioExecutor>,
    bounds: Bounds<'_>,
    broken: &impl Broken,
) -> Result<(), hyper::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<AnswerBody>, Error = h2::Error>,
    S::Future: Send + 'static,
{
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let streams = &bounds.connection_state.streams;
    let told = |ends: bool| {
        streams
            .take_unserved(ends)
            .for_each(|why| broken.unserved(why));
    };
    let serving = poll_fn(|context| {
        let polled = connection.as_mut().poll(context);
        told(polled.is_ready());
        if matches!(polled, Poll::Ready(Ok(())))
            && let Some(why) = streams.why_ended()
        {
            broken.unserved(why);
        }
        polled
    });
    tokio::select! {
        biased;
        result = serving => return result,
        () = bounds.over() => {}
        // Dropping the connection resets every stream; none of them makes progress.
        () = bounds.flow_stalled() => return Ok(()),
    }
    connection.as_mut().graceful_shutdown();
    let ending = poll_fn(|context| {
        let polled = connection.as_mut().poll(context);
        told(true);
        polled
    });
    bounds.finish(ending).await
}

impl Bounds<'_> {
    /// Completes when the connection should end: it was told to close, or has been idle too long.
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
            () = self.connection_state.rested_for(may_rest) => {}
        }
    }

    /// Completes when the client's flow control has blocked its responses for too long. Unidentified
    /// clients have less time.
    async fn flow_stalled(&self) {
        let limit = || {
            if self.slot.is_proven() {
                self.limits.body_idle_timeout
            } else {
                self.limits.unidentified.rest
            }
        };
        self.connection_state.flow_stalled_for(limit).await;
    }

    /// Waits for the requests in flight. A client that then neither reads its responses nor leaves is not
    /// waited for; an unidentified one gets little time.
    async fn finish(
        &self,
        connection: impl Future<Output = Result<(), hyper::Error>>,
    ) -> Result<(), hyper::Error> {
        let limit = self.limits.body_idle_timeout;
        let lingers = async {
            if !self.slot.is_proven() {
                return self.connection_state.rested_for(|| FAREWELL).await;
            }
            tokio::time::sleep(limit).await;
            self.connection_state.rested(limit).await;
        };
        tokio::select! {
            biased;
            result = connection => result,
            () = lingers => Ok(()),
            () = self.flow_stalled() => Ok(()),
        }
    }
}

/// Whether an error is not recorded elsewhere: the client broke HTTP, or its request head was late.
/// Responses that it did not read, or that could not be sent, have their own records.
fn is_worth_telling(error: &hyper::Error, connection_state: &ConnectionState) -> bool {
    connection_state.has_overrun().is_some()
        || !connection_state.has_stalled() && !is_ours(error) && !is_departure(error)
}

/// Whether a response could not be sent to its end: its body failed, because of the upstream as a rule. Its
/// request has a record that says so, as has one whose client is told by closing the connection.
fn is_ours(error: &hyper::Error) -> bool {
    error.is_user()
}

/// Whether a client of HTTP/1.1 is told by closing the connection, before any byte of a response. What was cut
/// off later must not end in an orderly way.
fn is_hang_up(error: &hyper::Error) -> bool {
    is_ours(error) && error.source().is_some_and(<dyn Error>::is::<h2::Error>)
}

/// Whether an error only means that the client left between requests, which is normal, or did not answer a
/// ping any more.
fn is_departure(error: &hyper::Error) -> bool {
    let left = error.is_incomplete_message() || error.is_closed() || error.is_canceled();
    // Of a ping; a head that is overdue is an `io::Error`.
    if left || error.is_timeout() {
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

/// A line cannot be longer than the whole head.
fn line_bytes(limits: &Limits) -> usize {
    limits.head_bytes.max(LEAST_HEAD)
}

fn http1(limits: &Limits) -> conn::http1::Builder {
    let mut builder = conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // `ClientStream` enforces the deadlines of each phase.
        .header_read_timeout(None)
        // The number of headers stays at hyper's 100: any other number costs an allocation of 8 KiB per
        // request.
        .max_buf_size(line_bytes(limits));
    builder
}

/// An unidentified connection gets small limits. HTTP/2 announces its limits once, at the beginning of the
/// connection.
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
