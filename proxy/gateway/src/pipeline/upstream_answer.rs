//! The upstream's body that a response streams.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use countersign_config::memory;
use countersign_core::wire::{meter::most_held, timer::LazyTimer};
use countersign_upstream::forward::ForwardError;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::peek::PeekedBody;

/// The upstream's body that an answer streams.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are the large one")]
pub enum UpstreamAnswer {
    /// It comes by a verified, pooled connection.
    Pooled(PeekedBody),
    /// It comes in clear, from a host that no target has.
    Plain(Plain),
}

/// The body of a response in clear text, with its idle timeout.
#[derive(Debug)]
pub struct Plain {
    body: Incoming,
    idle: Duration,
    timer: LazyTimer,
    waiting_since: Option<Instant>,
}

impl Plain {
    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ForwardError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.waiting_since = None;
            return Poll::Ready(frame.map(|result| {
                result.map_err(|error| ForwardError::Reset {
                    reason: error.to_string(),
                })
            }));
        }
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        ready!(self.timer.poll_until(context, since + self.idle));
        Poll::Ready(Some(Err(ForwardError::BodyIdle { limit: self.idle })))
    }
}

impl UpstreamAnswer {
    /// The body of a response in clear text, which may be idle for `idle`.
    pub(crate) fn plain(body: Incoming, idle: Duration) -> Self {
        Self::Plain(Plain {
            body,
            idle,
            timer: LazyTimer::default(),
            waiting_since: None,
        })
    }

    /// How many bytes of it may be buffered while the client does not read.
    pub(crate) fn most_held(&self) -> usize {
        match self {
            Self::Pooled(body) => body.most_held(),
            Self::Plain(plain) => most_held(&plain.body.size_hint(), memory::ANSWER),
        }
    }

    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ForwardError>>> {
        match self {
            Self::Pooled(body) => Pin::new(body).poll_frame(context),
            Self::Plain(plain) => plain.poll_frame(context),
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        match self {
            Self::Pooled(body) => body.is_end_stream(),
            Self::Plain(plain) => plain.body.is_end_stream(),
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Pooled(body) => body.size_hint(),
            Self::Plain(plain) => plain.body.size_hint(),
        }
    }
}
