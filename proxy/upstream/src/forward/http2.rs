//! HTTP/2 connections, each shared by the requests of one pool key.

mod heads;

use std::{
    error::Error as _,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use countersign_config::memory;
use countersign_core::{budget::narrow, wire::timer::LazyTimer};
use http::{
    HeaderMap, Request, Response, StatusCode, Uri, Version,
    header::HOST,
    uri::{self, Scheme},
};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio_rustls::client::TlsStream;

use self::heads::Heads;
use super::{
    Room,
    body::{BodyMeter, RequestBody},
    error::ForwardError,
    http1::{Failed, settle},
    lock::lock,
    timer::{Waits, Watch},
    transport::Transport,
};

/// What an upstream may send of one response before it is read; also the throughput of one stream per round
/// trip.
const STREAM_WINDOW: u32 = 256 * 1024;

/// The most streams of one connection, whatever the upstream allows.
const MOST_STREAMS: u32 = 16;

/// What an upstream may send on a connection whose clients do not read. All streams together cannot use it
/// up, so a client that does not read cannot block the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MOST_STREAMS;

/// How much of one request body may be buffered.
const SEND_BUFFER: usize = narrow(memory::UPLOAD);

/// While streams are open, a silent peer is pinged.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_WAIT: Duration = Duration::from_secs(20);

/// One connection.
pub(super) struct Http2 {
    sender: http2::SendRequest<RequestBody>,
    address: SocketAddr,
    streams: AtomicUsize,
    most_streams: Arc<AtomicUsize>,
    uses: AtomicU64,
    /// Whether the upstream has refused a request on it: the next ones use another connection.
    retired: AtomicBool,
    heads: Heads,
    /// Timers of ended streams, to be reused.
    timers: Mutex<Vec<LazyTimer>>,
    _room: Room,
}

impl Http2 {
    /// Starts HTTP/2 on a connection, which a task then drives; the task calls `ended` at its end.
    /// `head_bytes` bounds a response head. Holds `room` while it is open.
    pub(super) async fn new(
        stream: TlsStream<Transport>,
        address: SocketAddr,
        head_bytes: usize,
        room: Room,
        ended: impl FnOnce() + Send + 'static,
    ) -> Result<Arc<Self>, ForwardError> {
        let heads = Heads::new(head_bytes);
        let (sender, mut driver) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(heads.wider())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_WAIT)
            .handshake(TokioIo::new(heads.follow(stream)))
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
            heads,
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
            ended();
        });
        Ok(connection)
    }

    /// Whether it accepts no more requests.
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

    /// The address it was dialled at.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Counts a stream that begins, and hands out a timer for it.
    pub(super) fn begin_stream(&self) -> LazyTimer {
        self.streams.fetch_add(1, Ordering::AcqRel);
        self.uses.fetch_add(1, Ordering::Relaxed);
        lock(&self.timers).pop().unwrap_or_default()
    }

    /// Counts a stream that has ended, and takes its timer back.
    pub(super) fn end_stream(&self, timer: LazyTimer) {
        lock(&self.timers).push(timer);
        self.streams.fetch_sub(1, Ordering::AcqRel);
    }

    /// Sends a request on a stream that has begun, and waits for the head of its response.
    pub(super) async fn send(
        &self,
        timer: &mut LazyTimer,
        request: Request<RequestBody>,
        waits: Waits,
    ) -> Result<(Response<Incoming>, Watch), Failed> {
        let mut watch = Watch::start(waits, request.body().meter());
        let mut sender = self.sender.clone();
        let mut response = pin!(sender.try_send_request(request));
        let mut response = poll_fn(|cx| match response.as_mut().poll(cx) {
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
            Poll::Ready(Err(mut failed)) => Poll::Ready(Err(Failed {
                unsent: failed.take_message().map(Box::new),
                refused: is_refusal(failed.error()),
                error: self.broken(failed.error(), watch.request()),
            })),
            Poll::Pending => watch
                .poll_head_overdue(cx, timer)
                .map(|error| Err(error.into())),
        })
        .await
        .inspect_err(|failed| {
            if failed.refused {
                self.retired.store(true, Ordering::Release);
            }
        })?;
        if !self.heads.fit(response.headers()) {
            return Err(too_large("its head").into());
        }
        check(response.status(), response.headers())?;
        settle(&mut response);
        Ok((response, watch))
    }
}

impl Http2 {
    /// What an error on one of its streams means.
    pub(super) fn broken(&self, error: &hyper::Error, request: Option<&BodyMeter>) -> ForwardError {
        match ForwardError::from_hyper(error, request) {
            ForwardError::MalformedResponse { .. } if self.heads.were_too_large() => {
                too_large("its head")
            }
            error => error,
        }
    }

    /// Checks the trailers of a response.
    pub(super) fn check_trailers(&self, trailers: &HeaderMap) -> Result<(), ForwardError> {
        if self.heads.fit(trailers) {
            return Ok(());
        }
        Err(too_large("what it has behind its body"))
    }
}

fn too_large(what: &str) -> ForwardError {
    ForwardError::OverBound {
        reason: format!(
            "{what} is larger than limits.headBytes, where HTTP/2 counts 32 bytes more for each field"
        ),
    }
}

/// Whether the upstream says that it did not act on the request, so that it may be sent again (RFC 9113,
/// section 8.7). A GOAWAY fails only the streams that it excludes.
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

/// Checks what the library accepts although it is malformed (RFC 9113, sections 8.2.1 and 8.6).
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

/// Puts a request into the form of HTTP/2. Its authority is `authority`, whatever the request said.
pub(super) fn prepare(
    mut request: Request<RequestBody>,
    authority: &uri::Authority,
) -> Result<Request<RequestBody>, ForwardError> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTPS);
    parts.authority = Some(authority.clone());
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
