//! HTTP/2 connections, each shared by the requests of one pool key.

use std::{
    error::Error as _,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use countersign_config::memory;
use countersign_core::{budget::narrow, wire::timer::LazyTimer};
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version, header::HOST, uri::Scheme};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{
    Room,
    body::RequestBody,
    endpoint::Endpoint,
    error::ForwardError,
    http1::{Failed, settle},
    pool::lock,
    response::UpstreamBody,
    timer::{Waits, Watch},
    turns::CallerId,
};

/// What an upstream may send of one response before it is read; one stream's pace is as much a round
/// trip.
const STREAM_WINDOW: u32 = 256 * 1024;

/// The most streams of one connection, whatever the upstream allows.
const MOST_STREAMS: u32 = 16;

/// What an upstream may send on a connection whose clients do not read. All streams together cannot
/// use it up, so that those whose client reads are never held up by the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MOST_STREAMS;

/// What of one request body may wait in memory to be written.
const SEND_BUFFER: usize = narrow(memory::UPLOAD);

/// While streams are open, a silent peer is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_WAIT: Duration = Duration::from_secs(20);

/// One connection.
pub(super) struct Http2 {
    sender: http2::SendRequest<RequestBody>,
    address: SocketAddr,
    streams: AtomicUsize,
    most_streams: Arc<AtomicUsize>,
    uses: AtomicU64,
    /// Whether the upstream has refused a request on it: the next one goes elsewhere.
    retired: AtomicBool,
    /// Timers of streams that have ended, for those to come.
    timers: Mutex<Vec<LazyTimer>>,
    _room: Room,
}

/// The right to one stream.
pub(super) struct Stream {
    connection: Arc<Http2>,
    endpoint: Arc<Endpoint>,
    caller: CallerId,
    pub(super) timer: LazyTimer,
}

impl Http2 {
    /// Makes HTTP/2 of a connection, which from now on is driven by a task. `head_bytes` bounds a
    /// response head. It keeps `room` for as long as it is open.
    pub(super) async fn new(
        stream: TlsStream<TcpStream>,
        address: SocketAddr,
        head_bytes: usize,
        room: Room,
        endpoint: Weak<Endpoint>,
    ) -> Result<Arc<Self>, ForwardError> {
        let (sender, mut driver) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(u32::try_from(head_bytes).unwrap_or(u32::MAX))
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_WAIT)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ForwardError::from_hyper(&error, None))?;
        let most_streams = Arc::new(AtomicUsize::new(driver.current_max_send_streams()));
        let connection = Arc::new(Self {
            sender,
            address,
            streams: AtomicUsize::new(0),
            most_streams: Arc::clone(&most_streams),
            uses: AtomicU64::new(0),
            retired: AtomicBool::new(false),
            timers: Mutex::default(),
            _room: room,
        });
        tokio::spawn(async move {
            let result = poll_fn(|cx| {
                let polled = Pin::new(&mut driver).poll(cx);
                most_streams.store(driver.current_max_send_streams(), Ordering::Relaxed);
                polled
            })
            .await;
            if let Err(error) = result {
                tracing::debug!(%error, "an upstream connection broke");
            }
            // Its place may be taken now.
            if let Some(endpoint) = endpoint.upgrade() {
                endpoint.notify();
            }
        });
        Ok(connection)
    }

    /// Whether it takes no more requests.
    pub(super) fn is_closed(&self) -> bool {
        self.retired.load(Ordering::Acquire) || self.sender.is_closed()
    }

    /// The streams in use.
    pub(super) fn streams(&self) -> usize {
        self.streams.load(Ordering::Acquire)
    }

    /// The streams it may have at once.
    pub(super) fn most_streams(&self) -> usize {
        let allowed = self.most_streams.load(Ordering::Relaxed);
        allowed.clamp(1, MOST_STREAMS as usize)
    }

    /// The streams it has left.
    pub(super) fn room(&self) -> usize {
        self.most_streams().saturating_sub(self.streams())
    }

    /// How many streams it has ever had.
    pub(super) fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }
}

impl Stream {
    /// Takes one more stream if the upstream allows as many. Called only while the endpoint is
    /// locked, so that no two take the last one.
    pub(super) fn reserve(
        connection: &Arc<Http2>,
        endpoint: &Arc<Endpoint>,
        caller: CallerId,
    ) -> Option<Self> {
        (connection.room() > 0).then(|| Self::first(connection, endpoint, caller))
    }

    /// Takes a stream of a connection that was just opened, which has one whatever the upstream
    /// says (a server that allows none is asked all the same, once).
    pub(super) fn first(
        connection: &Arc<Http2>,
        endpoint: &Arc<Endpoint>,
        caller: CallerId,
    ) -> Self {
        connection.streams.fetch_add(1, Ordering::AcqRel);
        connection.uses.fetch_add(1, Ordering::Relaxed);
        Self {
            timer: lock(&connection.timers).pop().unwrap_or_default(),
            connection: Arc::clone(connection),
            endpoint: Arc::clone(endpoint),
            caller,
        }
    }

    /// The address the connection was dialled at.
    pub(super) fn address(&self) -> SocketAddr {
        self.connection.address
    }

    /// Sends a request and waits for the head of its response. The stream is given back when the
    /// body has been read.
    pub(super) async fn exchange(
        mut self,
        request: Request<RequestBody>,
        waits: Waits,
    ) -> Result<Response<UpstreamBody>, Failed> {
        let mut watch = Watch::start(waits, request.body().meter());
        let mut sender = self.connection.sender.clone();
        let mut response = pin!(sender.try_send_request(request));
        let mut response = poll_fn(|cx| match response.as_mut().poll(cx) {
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
            Poll::Ready(Err(mut failed)) => Poll::Ready(Err(Failed {
                unsent: failed.take_message().map(Box::new),
                refused: is_refusal(failed.error()),
                error: ForwardError::from_hyper(failed.error(), watch.request()),
            })),
            Poll::Pending => watch
                .poll_head_overdue(cx, &mut self.timer)
                .map(|error| Err(error.into())),
        })
        .await
        .inspect_err(|failed| {
            if failed.refused {
                self.connection.retired.store(true, Ordering::Release);
            }
        })?;
        check(response.status(), response.headers())?;
        settle(&mut response);
        Ok(response.map(|body| UpstreamBody::http2(body, self, watch)))
    }
}

/// Whether the upstream says that it has not acted on the request, so that it may be sent again
/// (RFC 9113, section 8.7). A GOAWAY reaches only the streams that it leaves out.
fn is_refusal(error: &hyper::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            return error.is_remote() && (error.is_go_away() || refused);
        }
        source = error.source();
    }
    false
}

/// What the library lets pass though it is malformed (RFC 9113, sections 8.2.1 and 8.6).
fn check(status: StatusCode, headers: &HeaderMap) -> Result<(), ForwardError> {
    let fault = if status == StatusCode::SWITCHING_PROTOCOLS {
        "101 over HTTP/2"
    } else if headers.values().any(|value| is_padded(value.as_bytes())) {
        "a header's value begins or ends with a space"
    } else {
        return Ok(());
    };
    Err(ForwardError::MalformedResponse {
        reason: fault.into(),
    })
}

fn is_padded(value: &[u8]) -> bool {
    let ends = [value.first(), value.last()];
    ends.iter().any(|end| matches!(end, Some(b' ' | b'\t')))
}

impl Drop for Stream {
    fn drop(&mut self) {
        lock(&self.connection.timers).push(std::mem::take(&mut self.timer));
        self.connection.streams.fetch_sub(1, Ordering::AcqRel);
        self.endpoint.stream_ended(self.caller);
    }
}

/// Puts a request into the form that HTTP/2 needs. The authority is the endpoint's, whatever the
/// request said.
pub(super) fn prepare(
    mut request: Request<RequestBody>,
    endpoint: &Arc<Endpoint>,
) -> Result<Request<RequestBody>, ForwardError> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTPS);
    parts.authority = Some(endpoint.uri_authority().clone());
    if parts.path_and_query.is_none() {
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    }
    *request.uri_mut() = Uri::from_parts(parts).map_err(|error| ForwardError::Unsendable {
        reason: error.to_string(),
    })?;
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().remove(HOST);
    Ok(request)
}
