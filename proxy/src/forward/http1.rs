//! HTTP/1.1 connections.
//!
//! A connection has no task of its own: whoever waits for the response head, and then for the
//! body, drives it. That saves two hand-overs between tasks for each request. Only when a
//! response begins before its request body has ended is it given a task, as the two must then move
//! independently. A connection at rest is looked at when it is taken again and by the pool's
//! sweep.
//!
//! Interim responses (1xx) are read and dropped. A request body is sent at once, without waiting
//! for a `100 Continue`.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, StatusCode, Uri, Version, header::HOST};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;

use super::{
    body::{BodyMeter, RequestBody},
    endpoint::{Endpoint, Lease},
    error::ForwardError,
    response::UpstreamBody,
    timer::{LazyTimer, Waits, Watch},
};

type Io = TokioIo<TlsStream<TcpStream>>;

/// One connection.
pub(super) struct Http1 {
    sender: http1::SendRequest<RequestBody>,
    driver: Option<http1::Connection<Io, RequestBody>>,
    pub(super) timer: LazyTimer,
    address: SocketAddr,
}

/// A request that failed, and the request itself if none of it was sent.
pub(super) struct Failed {
    pub(super) error: ForwardError,
    pub(super) unsent: Option<Box<Request<RequestBody>>>,
}

impl From<ForwardError> for Failed {
    fn from(error: ForwardError) -> Self {
        Self {
            error,
            unsent: None,
        }
    }
}

impl Http1 {
    /// Makes HTTP/1.1 of a connection. `head_bytes` bounds a response head; hyper bounds the
    /// number of its headers to 100.
    pub(super) async fn new(
        stream: TlsStream<TcpStream>,
        address: SocketAddr,
        head_bytes: usize,
    ) -> Result<Box<Self>, ForwardError> {
        let (sender, driver) = http1::Builder::new()
            .max_header_size(head_bytes)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ForwardError::from_hyper(&error, None))?;
        Ok(Box::new(Self {
            sender,
            driver: Some(driver),
            timer: LazyTimer::default(),
            address,
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
        self.driver.is_some() && self.sender.is_ready()
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
        let (response, watch) = self.head(request, waits).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(unasked_switch().into());
        }
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
            .head(request, waits)
            .await
            .map_err(|failed| failed.error)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Switch::Refused(self.with_body(response, watch, lease)));
        }
        let Some(driver) = self.driver.take() else {
            return Err(unasked_switch());
        };
        let parts = driver.into_parts();
        Ok(Switch::Switched {
            response: response.map(drop),
            stream: Box::new(parts.io.into_inner()),
            read: parts.read_buf,
            lease,
        })
    }

    async fn head(
        &mut self,
        request: Request<RequestBody>,
        waits: Waits,
    ) -> Result<(Response<Incoming>, Watch), Failed> {
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
                Poll::Ready(Err(mut error)) => Poll::Ready(Err(Failed {
                    unsent: error.take_message().map(Box::new),
                    error: ForwardError::from_hyper(error.error(), watch.request()),
                })),
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
        response: Response<Incoming>,
        watch: Watch,
        lease: Lease,
    ) -> Response<UpstreamBody> {
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
        response.map(|body| UpstreamBody::detached(body, task, lease, watch))
    }
}

/// How an upstream answered a request for an upgrade.
pub(super) enum Switch {
    /// By 101. What it has sent behind the head is in `read`.
    Switched {
        response: Response<()>,
        stream: Box<TlsStream<TcpStream>>,
        read: bytes::Bytes,
        lease: Lease,
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
    request.headers_mut().insert(HOST, endpoint.host().clone());
    request
}

fn unasked_switch() -> ForwardError {
    ForwardError::MalformedResponse {
        reason: "101 without a request to switch protocols".into(),
    }
}
