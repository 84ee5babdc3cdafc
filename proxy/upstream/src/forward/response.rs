//! The response's body on its way down, which gives its connection back at its end.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use countersign_config::memory;
use countersign_core::wire::{meter::most_held, timer::LazyTimer};
use http::{
    HeaderMap, HeaderName,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Room, endpoint::Lease, error::ForwardError, http1::Http1, http2::Stream, timer::Watch,
};

/// The body of an upstream's response.
///
/// Read to its end it gives the connection back to the pool. Dropped before that, it closes an
/// HTTP/1.1 connection and resets an HTTP/2 stream.
pub struct UpstreamBody {
    incoming: Incoming,
    link: Link,
    watch: Watch,
}

/// What the body is read from.
enum Link {
    /// A connection that is driven from here.
    Driven(Box<Http1>, Lease),
    /// A connection with a task of its own, which is closed afterwards.
    Detached {
        _task: Option<AbortOnDropHandle<()>>,
        _lease: Lease,
        _room: Room,
        timer: LazyTimer,
    },
    /// A stream of a shared connection.
    Stream(Stream),
    /// Nothing any more.
    Ended,
}

impl UpstreamBody {
    pub(super) fn http1(
        incoming: Incoming,
        connection: Box<Http1>,
        lease: Lease,
        watch: Watch,
    ) -> Self {
        let ended = incoming.is_end_stream();
        let mut body = Self {
            incoming,
            link: Link::Driven(connection, lease),
            watch,
        };
        if ended {
            body.give_back(None);
        }
        body
    }

    pub(super) fn detached(
        incoming: Incoming,
        task: Option<AbortOnDropHandle<()>>,
        lease: Lease,
        watch: Watch,
        room: Room,
    ) -> Self {
        Self {
            incoming,
            link: Link::Detached {
                _task: task,
                _lease: lease,
                _room: room,
                timer: LazyTimer::default(),
            },
            watch,
        }
    }

    pub(super) fn http2(incoming: Incoming, stream: Stream, watch: Watch) -> Self {
        Self {
            incoming,
            link: Link::Stream(stream),
            watch,
        }
    }

    /// How much of it may be held while its client does not take it, in bytes.
    pub fn most_held(&self) -> usize {
        let most = match self.link {
            Link::Stream(_) => memory::SEND_BUFFER + memory::UPSTREAM_WINDOW,
            Link::Driven(..) | Link::Detached { .. } | Link::Ended => memory::ANSWER,
        };
        most_held(&self.size_hint(), most)
    }

    /// Lets go of the connection at the end of the body: it serves the next request if both
    /// request and response are complete, and is closed otherwise.
    fn give_back(&mut self, cx: Option<&mut Context<'_>>) {
        match std::mem::replace(&mut self.link, Link::Ended) {
            Link::Driven(mut connection, lease) => {
                if let Some(cx) = cx
                    && !connection.at_rest()
                {
                    connection.drive(cx);
                }
                if connection.at_rest() {
                    lease.park(connection);
                }
            }
            Link::Detached { .. } | Link::Stream(_) | Link::Ended => {}
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
            Link::Driven(..) | Link::Detached { .. } | Link::Stream(_) | Link::Ended => polled,
        }
    }

    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<ForwardError> {
        let timer = match &mut self.link {
            Link::Driven(connection, _) => &mut connection.timer,
            Link::Detached { timer, .. } => timer,
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
                    strip_trailers(trailers);
                }
                // Whoever sends the body on does not ask again after its last frame. Nothing
                // follows trailers, though a chunked body does not say so itself.
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
                this.link = Link::Ended;
                let error = ForwardError::from_hyper(&error, this.watch.request());
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
            Link::Driven(..) | Link::Detached { .. } | Link::Stream(_) => self.incoming.size_hint(),
        }
    }
}

/// What is no trailer's business: framing, routing, and what is for one hop (RFC 9110, section 6.5.1,
/// and RFC 9113, section 8.2.2).
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
