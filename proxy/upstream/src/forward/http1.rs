//! HTTP/1.1 connections.
//!
//! A connection has no task of its own: the future that waits for the response head, and then the body,
//! drives it. That saves two switches between tasks for each request. Only if a response begins before its
//! request body has ended does the connection get a task, as the two must then proceed independently. An
//! idle connection is checked when it is used again and by the pool's sweep.
//!
//! Interim responses (1xx) are read and dropped. A request body is sent at once, without waiting for `100
//! Continue`. `framing` checks the framing of responses.

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
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;

use self::{
    framing::{Asked, Progress},
    wire::Wire,
};
use super::{
    Room,
    body::RequestBody,
    error::ForwardError,
    timer::{Waits, Watch},
    transport::Transport,
};

type Io = TokioIo<Wire<TlsStream<Transport>>>;

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
    /// Whether the upstream did not act on it: certainly (HTTP/2), or probably (HTTP/1.1).
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
    /// Starts HTTP/1.1 on a connection. `head_bytes` bounds a response head; hyper bounds its headers to
    /// 100. Holds `room` while it is open.
    pub(super) async fn new(
        stream: TlsStream<Transport>,
        address: SocketAddr,
        head_bytes: usize,
        room: Room,
    ) -> Result<Box<Self>, ForwardError> {
        let progress = Arc::new(Progress::default());
        let stream = Wire::new(stream, Arc::clone(&progress), head_bytes);
        let (sender, driver) = http1::Builder::new()
            .max_header_size(head_bytes)
            // Otherwise a piece of a response may have 400 KiB, and as much be read ahead.
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

    /// Whether an idle connection can take a request: not if the upstream has closed it, or sent something
    /// unasked.
    pub(super) fn poll_usable(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx);
        self.at_rest()
    }

    /// Whether request and response are complete and the next request may follow.
    pub(super) fn at_rest(&self) -> bool {
        self.driver.is_some() && self.sender.is_ready() && !self.progress.is_last()
    }

    /// Drives the connection.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && Pin::new(driver).poll(cx).is_ready()
        {
            // An error reaches the future that waits for the head or the body.
            self.driver = None;
        }
    }

    /// Sends a request and waits for the head of its response.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
        waits: Waits,
    ) -> Result<(Response<Incoming>, Watch), Failed> {
        let asked = Asked::by(request.method());
        self.head(request, asked, waits).await
    }

    /// Sends a request that asks for an upgrade.
    pub(super) async fn upgrade(
        mut self: Box<Self>,
        request: Request<RequestBody>,
        waits: Waits,
    ) -> Result<Switch, ForwardError> {
        let (response, watch) = self
            .head(request, Asked::Upgrade, waits)
            .await
            .map_err(|failed| failed.error)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Switch::Refused {
                connection: self,
                response,
                watch,
            });
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
                // Dropping the driver returns the request that it still holds.
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

    /// Gives the connection a task of its own: its response began before its request ended, and both must
    /// proceed independently. It is closed when both are over.
    pub(super) fn detach(mut self: Box<Self>) -> Detached {
        let task = self.driver.take().map(|driver| {
            AbortOnDropHandle::new(tokio::spawn(async move {
                if let Err(error) = driver.await {
                    tracing::debug!(%error, "an upstream connection broke");
                }
            }))
        });
        Detached {
            _task: task,
            _room: self.room,
            timer: LazyTimer::default(),
        }
    }
}

/// A connection that is driven by a task of its own, and closed when this is dropped.
pub(super) struct Detached {
    _task: Option<AbortOnDropHandle<()>>,
    _room: Room,
    pub(super) timer: LazyTimer,
}

impl Asked {
    fn by(method: &Method) -> Self {
        match *method {
            Method::HEAD => Self::Head,
            _ => Self::Content,
        }
    }
}

/// Checks the response to the one request, with `method`, that `stream` carries.
pub fn follow<IO>(stream: IO, method: &Method, head_bytes: usize) -> Wire<IO> {
    let progress = Arc::new(Progress::default());
    progress.ask(Asked::by(method));
    Wire::new(stream, progress, head_bytes)
}

/// How an upstream answered a request for an upgrade.
pub(super) enum Switch {
    /// By 101. `read` has what it has sent after the head.
    Switched {
        response: Response<()>,
        stream: Box<TlsStream<Transport>>,
        read: bytes::Bytes,
        room: Room,
    },
    /// By an ordinary response.
    Refused {
        connection: Box<Http1>,
        response: Response<Incoming>,
        watch: Watch,
    },
}

/// Puts a request into the form of HTTP/1.1. `Host` is `host`, whatever the request said.
pub(super) fn prepare(
    mut request: Request<RequestBody>,
    host: &HeaderValue,
) -> Request<RequestBody> {
    let uri = std::mem::take(request.uri_mut());
    *request.uri_mut() = match uri.into_parts().path_and_query {
        Some(path) => Uri::from(path),
        None => Uri::from_static("/"),
    };
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    headers.insert(HOST, host.clone());
    one_cookie(headers);
    // `TE` is for the next hop (RFC 9110, section 10.1.4).
    if headers.contains_key(TE) && !headers.contains_key(CONNECTION) {
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    request
}

/// HTTP/2 may split `Cookie`; HTTP/1.1 allows only one (RFC 9113, section 8.2.3).
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

/// Makes the length in the head agree with the framing: with chunks or a 204 there is none, and it occurs
/// once (RFC 9110, section 8.6, and RFC 9112, section 6.3). The version becomes the gateway's own.
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
