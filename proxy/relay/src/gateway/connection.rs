//! One connection to a gateway, and permits for exchanges on it.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use countersign_core::http_error;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use http::{
    HeaderValue, Method, Request, Response, Uri,
    header::{HOST, PROXY_AUTHORIZATION},
    uri::Scheme,
};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Empty};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::timeout;

use super::{
    super::{
        dial::Dialled,
        fault::{ANSWER_TIMEOUT, Fault, Rejection},
        proof::Fingerprint,
    },
    Gateway,
};

/// The most tunnels on one connection: below the gateways' limit (128), so that few connections suffice
/// and no tunnel waits.
const MOST_STREAMS: usize = 100;

/// The receive window of one tunnel, in bytes. The connection's window is the sum of all, so an app that
/// does not read stalls no other.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * 100;

/// How much data of one app may wait to be written, in bytes.
const SEND_BUFFER: usize = 64 * 1024;

/// A silent gateway is pinged even if nothing is open: a dead one must be detected before it is needed.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_WAIT: Duration = Duration::from_secs(5);

/// How long a connection whose request failed may take to end.
const ENDING: Duration = Duration::from_secs(1);

/// The body of a request to a gateway.
pub(crate) type Outgoing = Either<Empty<Bytes>, Incoming>;

/// A multiplexed connection.
#[derive(Debug)]
pub(crate) struct Http2 {
    sender: http2::SendRequest<Outgoing>,
    streams: AtomicUsize,
    most_streams: Arc<AtomicUsize>,
    shown: Option<Fingerprint>,
    /// Why it has ended; `None` if it was closed cleanly.
    ended: Shared<BoxFuture<'static, Option<Fault>>>,
    /// Set when its client certificate was replaced: open tunnels may continue.
    retired: AtomicBool,
}

impl Http2 {
    /// Begins HTTP/2; a task drives the connection and notifies the gateway when it has ended.
    pub(crate) async fn begin(
        dialled: Dialled,
        gateway: &Arc<Gateway>,
    ) -> Result<Arc<Self>, Fault> {
        let shown = dialled.shown;
        let (sender, mut driver) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_WAIT)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(dialled.stream))
            .await
            .map_err(|error| Fault::Http(http_error::sentence(&error)))?;
        let most_streams = Arc::new(AtomicUsize::new(driver.current_max_send_streams()));
        let (streams_now, gateway) = (Arc::clone(&most_streams), Arc::downgrade(gateway));
        let driving = tokio::spawn(async move {
            let result = poll_fn(|context| {
                let polled = Pin::new(&mut driver).poll(context);
                streams_now.store(driver.current_max_send_streams(), Ordering::Relaxed);
                polled
            })
            .await;
            let fault = result.err().map(|error| Fault::of_hyper(&error));
            if let Some(gateway) = gateway.upgrade() {
                gateway.connection_ended(fault.clone());
            }
            fault
        });
        Ok(Arc::new(Self {
            sender,
            streams: AtomicUsize::new(0),
            most_streams,
            shown,
            ended: driving.map(|ended| ended.ok().flatten()).boxed().shared(),
            retired: AtomicBool::new(false),
        }))
    }

    /// Identifies the pod, so that the gateway keeps the connection although nothing is tunnelled yet, and
    /// says whether it accepts the pod.
    pub(crate) async fn introduce(
        &self,
        authorization: Option<HeaderValue>,
        authority: &str,
    ) -> Result<(), Fault> {
        let target = Uri::builder()
            .scheme(Scheme::HTTPS)
            .authority(authority)
            .path_and_query("*")
            .build()
            .map_err(|_| Fault::Http("the gateway's name cannot stand in a request".to_owned()))?;
        let request = introduction(target, authorization);
        match accepted(self.sender.clone().send_request(request)).await {
            // The connection knows better why, a moment later.
            Err(Fault::Broken(text)) => match timeout(ENDING, self.ended.clone()).await {
                Ok(ended) => Err(ended.unwrap_or(Fault::Closed)),
                Err(_) => Err(Fault::Broken(text)),
            },
            result => result,
        }
    }

    /// Whether it accepts no new tunnels.
    pub(crate) fn is_over(&self) -> bool {
        self.sender.is_closed() || self.retired.load(Ordering::Relaxed)
    }

    /// Stops new tunnels if its client certificate is not `current`.
    pub(crate) fn retire_unless(&self, current: Option<Fingerprint>) {
        if self.shown != current {
            self.retired.store(true, Ordering::Relaxed);
        }
    }

    /// A permit for one more exchange. Called while the gateway's connections are locked, so that no two
    /// callers get the last one.
    pub(crate) fn lease(self: &Arc<Self>) -> Option<Lease> {
        let most = self
            .most_streams
            .load(Ordering::Relaxed)
            .clamp(1, MOST_STREAMS);
        if self.is_over() || self.streams.load(Ordering::Relaxed) >= most {
            return None;
        }
        self.streams.fetch_add(1, Ordering::Relaxed);
        Some(Lease::Http2(Stream(Arc::clone(self))))
    }
}

/// One stream of a connection.
#[derive(Debug)]
pub(crate) struct Stream(Arc<Http2>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A permit for one exchange with a gateway, held as long as it lasts.
#[derive(Debug)]
pub(crate) enum Lease {
    /// A stream of a shared connection.
    Http2(Stream),
    /// A connection of its own.
    Http1(http1::SendRequest<Outgoing>),
}

/// A failed request; has the request itself if it was never sent.
pub(crate) struct Unanswered {
    pub(crate) error: hyper::Error,
    pub(crate) unsent: Option<Request<Outgoing>>,
}

impl Lease {
    /// A connection of its own, for a gateway without HTTP/2.
    pub(crate) async fn http1(dialled: Dialled) -> Result<Self, Fault> {
        let (sender, driver) = http1::handshake(TokioIo::new(dialled.stream))
            .await
            .map_err(|error| Fault::Http(http_error::sentence(&error)))?;
        tokio::spawn(async move {
            // The exchange on it reports what went wrong.
            drop(driver.with_upgrades().await);
        });
        Ok(Self::Http1(sender))
    }

    /// The same as for a shared connection, on one of its own, which is then of no more use.
    pub(crate) async fn introduce(
        self,
        authorization: Option<HeaderValue>,
        authority: &str,
    ) -> Result<(), Fault> {
        let Self::Http1(mut sender) = self else {
            return Ok(());
        };
        let mut request = introduction(Uri::from_static("*"), authorization);
        if let Ok(host) = HeaderValue::from_str(authority) {
            request.headers_mut().insert(HOST, host);
        }
        accepted(sender.send_request(request)).await
    }

    /// Whether requests need a `Host`.
    pub(crate) fn is_http1(&self) -> bool {
        match self {
            Self::Http1(_) => true,
            Self::Http2(_) => false,
        }
    }

    /// Sends one request and waits for the head of the response.
    pub(crate) async fn send(
        &mut self,
        request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let sent = match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(stream) => stream.0.sender.clone().try_send_request(request).await,
        };
        sent.map_err(|mut failed| Unanswered {
            unsent: failed.take_message(),
            error: failed.into_error(),
        })
    }
}

/// A request to the gateway itself (RFC 9110, section 9.3.7).
fn introduction(target: Uri, authorization: Option<HeaderValue>) -> Request<Outgoing> {
    let mut request = Request::new(Either::Left(Empty::new()));
    *request.method_mut() = Method::OPTIONS;
    *request.uri_mut() = target;
    if let Some(authorization) = authorization {
        request
            .headers_mut()
            .insert(PROXY_AUTHORIZATION, authorization);
    }
    request
}

async fn accepted(
    answering: impl Future<Output = hyper::Result<Response<Incoming>>>,
) -> Result<(), Fault> {
    match timeout(ANSWER_TIMEOUT, answering).await {
        Ok(Ok(answer)) => match Rejection::of(&answer) {
            Some(rejection) => Err(Fault::Rejected(rejection)),
            None => Ok(()),
        },
        Ok(Err(error)) => Err(Fault::of_hyper(&error)),
        Err(_) => Err(Fault::Silent),
    }
}

/// A body from a gateway, with its permit.
#[derive(Debug)]
pub(crate) struct LeasedBody {
    body: Incoming,
    _lease: Lease,
}

impl LeasedBody {
    /// Holds the permit until the body was read.
    pub(crate) fn new(body: Incoming, lease: Lease) -> Self {
        Self {
            body,
            _lease: lease,
        }
    }
}

impl Body for LeasedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
