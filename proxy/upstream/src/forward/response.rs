//! The response's body, which returns its connection at its end.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use countersign_config::memory;
use countersign_core::wire::meter::most_held;
use http::{
    HeaderMap, HeaderName, Response,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{
    body::BodyMeter,
    endpoint::{PoolPermit, StreamPermit},
    error::ForwardError,
    http1::{Detached, Http1, settle},
    timer::Watch,
};

/// The body of an upstream's response.
///
/// Read to its end, it returns the connection to the pool. Dropped earlier, it closes an HTTP/1.1
/// connection or resets an HTTP/2 stream.
pub struct UpstreamBody {
    incoming: Incoming,
    link: Link,
    watch: Watch,
}

/// What the body is read from.
enum Link {
    /// A connection that this body drives.
    Driven(Box<Http1>, PoolPermit),
    /// A connection with a task of its own, which is closed afterwards.
    Detached(
        Detached,
        #[expect(dead_code, reason = "kept until the body is over")] PoolPermit,
    ),
    /// A stream of a shared connection.
    Stream(StreamPermit),
    /// Nothing: the body has ended.
    Ended,
}

impl UpstreamBody {
    /// The response whose head arrived on `connection`, which returns to the pool with `permit` when the
    /// body was read.
    pub(super) fn over_http1(
        connection: Box<Http1>,
        mut response: Response<Incoming>,
        watch: Watch,
        permit: PoolPermit,
    ) -> Response<Self> {
        settle(&mut response);
        let request_ended = watch.request().is_none_or(BodyMeter::ended);
        response.map(|incoming| {
            let ended = request_ended && incoming.is_end_stream();
            let link = if request_ended {
                Link::Driven(connection, permit)
            } else {
                Link::Detached(connection.detach(), permit)
            };
            let mut body = Self {
                incoming,
                link,
                watch,
            };
            if ended {
                body.give_back(None);
            }
            body
        })
    }

    /// The response whose head arrived on `stream`, which ends when the body was read.
    pub(super) fn over_http2(
        stream: StreamPermit,
        response: Response<Incoming>,
        watch: Watch,
    ) -> Response<Self> {
        response.map(|incoming| Self {
            incoming,
            link: Link::Stream(stream),
            watch,
        })
    }

    /// How many bytes of it may be buffered while the client does not read.
    pub fn most_held(&self) -> usize {
        let most = match self.link {
            Link::Stream(_) => memory::SEND_BUFFER + memory::UPSTREAM_WINDOW,
            Link::Driven(..) | Link::Detached(..) | Link::Ended => memory::ANSWER,
        };
        most_held(&self.size_hint(), most)
    }

    /// Releases the connection at the end of the body: it is reused if request and response are complete,
    /// and closed otherwise.
    fn give_back(&mut self, cx: Option<&mut Context<'_>>) {
        match std::mem::replace(&mut self.link, Link::Ended) {
            Link::Driven(mut connection, permit) => {
                if let Some(cx) = cx
                    && !connection.at_rest()
                {
                    connection.drive(cx);
                }
                if connection.at_rest() {
                    permit.park(connection);
                }
            }
            Link::Detached(..) | Link::Stream(_) | Link::Ended => {}
        }
    }

    fn poll_incoming(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        match &mut self.link {
            Link::Driven(connection, _) if polled.is_pending() => {
                connection.drive(cx);
                Pin::new(&mut self.incoming).poll_frame(cx)
            }
            Link::Driven(..) | Link::Detached(..) | Link::Stream(_) | Link::Ended => polled,
        }
    }

    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<ForwardError> {
        let timer = match &mut self.link {
            Link::Driven(connection, _) => &mut connection.timer,
            Link::Detached(connection, _) => &mut connection.timer,
            Link::Stream(stream) => &mut stream.timer,
            Link::Ended => return Poll::Pending,
        };
        self.watch.poll_body_overdue(cx, timer)
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = ForwardError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ForwardError>>> {
        let this = self.get_mut();
        if matches!(this.link, Link::Ended) {
            return Poll::Ready(None);
        }
        match this.poll_incoming(cx) {
            Poll::Ready(Some(Ok(mut frame))) => {
                this.watch.progressed();
                if let Some(trailers) = frame.trailers_mut() {
                    if let Link::Stream(stream) = &this.link
                        && let Err(error) = stream.connection().check_trailers(trailers)
                    {
                        this.link = Link::Ended;
                        return Poll::Ready(Some(Err(error)));
                    }
                    strip_trailers(trailers);
                }
                // A body is not polled after its last frame. Nothing follows trailers, though a chunked
                // body does not say so itself.
                if frame.is_trailers() || this.incoming.is_end_stream() {
                    this.give_back(Some(cx));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                this.give_back(Some(cx));
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                let request = this.watch.request();
                let error = match std::mem::replace(&mut this.link, Link::Ended) {
                    Link::Stream(stream) => stream.connection().broken(&error, request),
                    Link::Driven(..) | Link::Detached(..) | Link::Ended => {
                        ForwardError::from_hyper(&error, request)
                    }
                };
                Poll::Ready(Some(Err(error)))
            }
            Poll::Pending => this.poll_overdue(cx).map(|error| {
                this.link = Link::Ended;
                Some(Err(error))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.link, Link::Ended) || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.link {
            Link::Ended => SizeHint::with_exact(0),
            Link::Driven(..) | Link::Detached(..) | Link::Stream(_) => self.incoming.size_hint(),
        }
    }
}

/// Removes fields that trailers must not have: framing, routing, and hop-by-hop fields (RFC 9110, section
/// 6.5.1, and RFC 9113, section 8.2.2).
fn strip_trailers(trailers: &mut HeaderMap) {
    for name in [
        CONNECTION,
        CONTENT_LENGTH,
        HOST,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        trailers.remove(name);
    }
}

impl fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamBody").finish_non_exhaustive()
    }
}
