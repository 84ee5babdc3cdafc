//! HTTP/1.1 connections.
//!
//! A connection has no task of its own: whoever waits for the response head, and then for the
//! body, drives it. That saves two hand-overs between tasks for each request. Only when a
//! response begins before its request body has ended is it given a task, as the two must then move
//! independently. A connection at rest is looked at when it is taken again and by the pool's
//! sweep.
//!
//! Interim responses (1xx) are read and dropped. A request body is sent at once, without waiting
//! for a `100 Continue`. What a response's framing must be is `framing`'s to say.

mod framing;
mod wire;

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use countersign_config::memory;
use countersign_core::{budget::narrow, wire::timer::LazyTimer};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TE, TRANSFER_ENCODING},
};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;

use self::{
    framing::{Asked, Progress},
    wire::Wire,
};
use super::{
    Room,
    body::{BodyMeter, RequestBody},
    endpoint::{Endpoint, Lease},
    error::ForwardError,
    response::UpstreamBody,
    timer::{Waits, Watch},
};

type Io = TokioIo<Wire<TlsStream<TcpStream>>>;

/// One connection.
pub(super) struct Http1 {
    sender: http1::SendRequest<RequestBody>,
    driver: Option<http1::Connection<Io, RequestBody>>,
    pub(super) timer: LazyTimer,
    progress: Arc<Progress>,
    address: SocketAddr,
    room: Room,
}

/// A request that failed, and the request itself if none of it was sent.
pub(super) struct Failed {
    pub(super) error: ForwardError,
    pub(super) unsent: Option<Box<Request<RequestBody>>>,
    /// Whether the upstream has certainly (HTTP/2), or as it seems (HTTP/1.1), not acted on it.
    pub(super) refused: bool,
}

impl From<ForwardError> for Failed {
    fn from(error: ForwardError) -> Self {
        Self {
            error,
            unsent: None,
            refused: false,
        }
    }
}

impl Http1 {
    /// Makes HTTP/1.1 of a connection. `head_bytes` bounds a response head; hyper bounds the
    /// number of its headers to 100. It keeps `room` for as long as it is open.
    pub(super) async fn new(
        stream: TlsStream<TcpStream>,
        address: SocketAddr,
        head_bytes: usize,
        room: Room,
    ) -> Result<Box<Self>, ForwardError> {
        let progress = Arc::new(Progress::default());
        let stream = Wire::new(stream, Arc::clone(&progress), head_bytes);
        let (sender, driver) = http1::Builder::new()
            .max_header_size(head_bytes)
            // Else a piece of an answer may be 400 KiB, and as much be read ahead.
            .max_buf_size(narrow(memory::PIECE).max(head_bytes))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ForwardError::from_hyper(&error, None))?;
        Ok(Box::new(Self {
            sender,
            driver: Some(driver),
            timer: LazyTimer::default(),
            progress,
            address,
            room,
        }))
    }

    /// The address it was dialled at.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether a connection at rest can take a request: not if the upstream has closed it, or
    /// has sent something that nobody asked for.
    pub(super) fn poll_usable(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx);
        self.at_rest()
    }

    /// Whether request and response are complete and the next request may follow.
    pub(super) fn at_rest(&self) -> bool {
        self.driver.is_some() && self.sender.is_ready() && !self.progress.is_last()
    }

    /// Moves the connection on.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && Pin::new(driver).poll(cx).is_ready()
        {
            // Its error, if any, reaches whoever waits for the head or the body.
            self.driver = None;
        }
    }

    /// Sends a request and waits for the head of its response. When the body has been read the
    /// connection goes back with `lease`.
    pub(super) async fn exchange(
        mut self: Box<Self>,
        lease: Lease,
        request: Request<RequestBody>,
        waits: Waits,
    ) -> Result<Response<UpstreamBody>, Failed> {
        let asked = Asked::by(request.method());
        let (response, watch) = self.head(request, asked, waits).await?;
        Ok(self.with_body(response, watch, lease))
    }

    /// Sends a request that asks for an upgrade.
    pub(super) async fn upgrade(
        mut self: Box<Self>,
        lease: Lease,
        request: Request<RequestBody>,
        waits: Waits,
    ) -> Result<Switch, ForwardError> {
        let (response, watch) = self
            .head(request, Asked::Upgrade, waits)
            .await
            .map_err(|failed| failed.error)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Switch::Refused(self.with_body(response, watch, lease)));
        }
        let Some(driver) = self.driver.take() else {
            return Err(ForwardError::Reset {
                reason: "the connection ended with its 101".into(),
            });
        };
        let parts = driver.into_parts();
        Ok(Switch::Switched {
            response: response.map(drop),
            stream: Box::new(parts.io.into_inner().into_inner()),
            read: parts.read_buf,
            lease,
            room: self.room,
        })
    }

    async fn head(
        &mut self,
        request: Request<RequestBody>,
        asked: Asked,
        waits: Waits,
    ) -> Result<(Response<Incoming>, Watch), Failed> {
        self.progress.ask(asked);
        let mut watch = Watch::start(waits, request.body().meter());
        let mut response = pin!(self.sender.try_send_request(request));
        let mut finished = false;
        let response = poll_fn(|cx| {
            if let Some(driver) = &mut self.driver
                && !finished
            {
                finished = Pin::new(driver).poll(cx).is_ready();
            }
            let mut polled = response.as_mut().poll(cx);
            if polled.is_pending() && finished {
                // What the driver still holds of the request comes back as it is dropped.
                self.driver = None;
                polled = response.as_mut().poll(cx);
            }
            match polled {
                Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
                Poll::Ready(Err(mut failed)) => {
                    let error = ForwardError::from_hyper(failed.error(), watch.request());
                    let broke_off = matches!(error, ForwardError::Reset { .. });
                    Poll::Ready(Err(Failed {
                        unsent: failed.take_message().map(Box::new),
                        refused: broke_off && !self.progress.has_begun(),
                        error,
                    }))
                }
                Poll::Pending => watch
                    .poll_head_overdue(cx, &mut self.timer)
                    .map(|error| Err(error.into())),
            }
        })
        .await?;
        if finished && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            self.driver = None;
        }
        Ok((response, watch))
    }

    fn with_body(
        mut self: Box<Self>,
        mut response: Response<Incoming>,
        watch: Watch,
        lease: Lease,
    ) -> Response<UpstreamBody> {
        settle(&mut response);
        let request_ended = watch.request().is_none_or(BodyMeter::ended);
        if request_ended {
            return response.map(|body| UpstreamBody::http1(body, self, lease, watch));
        }
        let task = self.driver.take().map(|driver| {
            AbortOnDropHandle::new(tokio::spawn(async move {
                if let Err(error) = driver.await {
                    tracing::debug!(%error, "an upstream connection broke");
                }
            }))
        });
        response.map(|body| UpstreamBody::detached(body, task, lease, watch, self.room))
    }
}

impl Asked {
    fn by(method: &Method) -> Self {
        match *method {
            Method::HEAD => Self::Head,
            _ => Self::Content,
        }
    }
}

/// Follows the response to the one request, by `method`, that `stream` carries.
pub fn follow<IO>(stream: IO, method: &Method, head_bytes: usize) -> Wire<IO> {
    let progress = Arc::new(Progress::default());
    progress.ask(Asked::by(method));
    Wire::new(stream, progress, head_bytes)
}

/// How an upstream answered a request for an upgrade.
pub(super) enum Switch {
    /// By 101. What it has sent behind the head is in `read`.
    Switched {
        response: Response<()>,
        stream: Box<TlsStream<TcpStream>>,
        read: bytes::Bytes,
        lease: Lease,
        room: Room,
    },
    /// By an ordinary response.
    Refused(Response<UpstreamBody>),
}

/// Puts a request into the form that HTTP/1.1 needs. The authority is the endpoint's, whatever
/// the request said.
pub(super) fn prepare(
    mut request: Request<RequestBody>,
    endpoint: &Arc<Endpoint>,
) -> Request<RequestBody> {
    let uri = std::mem::take(request.uri_mut());
    *request.uri_mut() = match uri.into_parts().path_and_query {
        Some(path) => Uri::from(path),
        None => Uri::from_static("/"),
    };
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    headers.insert(HOST, endpoint.host().clone());
    one_cookie(headers);
    // `TE` is for the next hop (RFC 9110, section 10.1.4).
    if headers.contains_key(TE) && !headers.contains_key(CONNECTION) {
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    request
}

/// HTTP/2 may cut `Cookie` in pieces, HTTP/1.1 knows one only (RFC 9113, section 8.2.3).
fn one_cookie(headers: &mut HeaderMap) {
    let mut pieces = headers.get_all(COOKIE).iter();
    if pieces.next().is_none() || pieces.next().is_none() {
        return;
    }
    let pieces: Vec<_> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(mut cookie) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
        cookie.set_sensitive(true);
        headers.insert(COOKIE, cookie);
    }
}

/// Makes the head say of the length what the framing says: beside chunks there is none, nor has a 204
/// one, and it is said once (RFC 9110, section 8.6, and RFC 9112, section 6.3). The version is what
/// we speak, and not what the upstream does.
pub fn settle<B>(response: &mut Response<B>) {
    *response.version_mut() = Version::HTTP_11;
    let status = response.status();
    let headers = response.headers_mut();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return };
    let again = lengths.next().is_some() || first.as_bytes().contains(&b',');
    if status == StatusCode::NO_CONTENT || headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    } else if again {
        let first = first.as_bytes().split(|byte| *byte == b',').next();
        if let Ok(value) = HeaderValue::from_bytes(first.unwrap_or_default().trim_ascii()) {
            headers.insert(CONTENT_LENGTH, value);
        }
    }
}
