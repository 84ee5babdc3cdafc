//! Timeouts of an exchange with an upstream.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use countersign_core::wire::timer::LazyTimer;
use tokio::time::Instant;

use super::{body::BodyMeter, error::ForwardError};

/// The timeouts of one exchange.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits {
    /// For the response head, after the request was sent.
    pub(super) response: Duration,
    /// For the next piece of either body.
    pub(super) body_idle: Duration,
}

/// Watches the progress of an exchange: first the request, then the wait for the response head, then the
/// body. Time in which the gateway, or a client that reads slowly, keeps the upstream waiting is not
/// counted: nothing polls then.
#[derive(Debug)]
pub(super) struct Watch {
    waits: Waits,
    request: Option<Arc<BodyMeter>>,
    sent: u64,
    request_ended: bool,
    since: Instant,
    /// Whether the present wait began at `since`.
    waiting: bool,
}

impl Watch {
    /// Starts to watch a request that is about to be sent.
    pub(super) fn start(waits: Waits, request: Option<Arc<BodyMeter>>) -> Self {
        Self {
            waits,
            request_ended: request.is_none(),
            request,
            sent: 0,
            since: Instant::now(),
            waiting: true,
        }
    }

    /// The request body, unless there is none.
    pub(super) fn request(&self) -> Option<&BodyMeter> {
        self.request.as_deref()
    }

    /// Some of the response has arrived.
    pub(super) fn progressed(&mut self) {
        self.waiting = false;
    }

    /// Ready when the response head is late, or the request body has stalled.
    pub(super) fn poll_head_overdue(
        &mut self,
        cx: &mut Context<'_>,
        timer: &mut LazyTimer,
    ) -> Poll<ForwardError> {
        self.note_request();
        let limit = if self.request_ended {
            self.waits.response
        } else {
            self.waits.body_idle
        };
        ready!(timer.poll_until(cx, self.since + limit));
        Poll::Ready(if self.request_ended {
            ForwardError::ResponseTimeout { limit }
        } else {
            self.standstill()
        })
    }

    /// Ready when the response body, and the request body if it is still being sent, have stalled. Polled
    /// only while the response body is pending.
    pub(super) fn poll_body_overdue(
        &mut self,
        cx: &mut Context<'_>,
        timer: &mut LazyTimer,
    ) -> Poll<ForwardError> {
        self.note_request();
        ready!(timer.poll_until(cx, self.since + self.waits.body_idle));
        Poll::Ready(ForwardError::BodyIdle {
            limit: self.waits.body_idle,
        })
    }

    /// Starts a new wait if either body has made progress.
    fn note_request(&mut self) {
        if let Some(meter) = &self.request
            && !self.request_ended
        {
            let sent = meter.bytes();
            if sent != self.sent || meter.ended() {
                self.sent = sent;
                self.request_ended = meter.ended();
                self.waiting = false;
            }
        }
        if !self.waiting {
            self.since = Instant::now();
            self.waiting = true;
        }
    }

    fn standstill(&self) -> ForwardError {
        let limit = self.waits.body_idle;
        match &self.request {
            Some(meter) if meter.awaits_client() => ForwardError::ClientBodyIdle { limit },
            Some(_) | None => ForwardError::BodyIdle { limit },
        }
    }
}
