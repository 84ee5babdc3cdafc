//! The answer's body: streamed as it comes, counted, and the bearer of the record.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use countersign_config::memory;
use countersign_core::{
    reason::Reason,
    wire::{activity::Busy, meter::most_held, timer::LazyTimer},
};
use countersign_upstream::{
    forward::{BodyMeter, ForwardError},
    inject,
};
use http::Response;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{aftermath::Aftermath, echo::Echo, held::Resumed, upgrade::Switched};
use crate::{
    observe::{Outcome, Record},
    refusal::Refusal,
};

/// A response whose head has come, before it is handed to the client with its record.
#[expect(clippy::large_enum_variant, reason = "nearly all are the large one")]
pub(super) enum Opened {
    /// An ordinary response.
    Streamed(Streamed),
    /// A `101`: what follows runs on its own and takes the record with it.
    Switched(Switched),
}

impl Opened {
    /// The answer, which closes the record when its body has ended.
    pub(super) fn answer(self, record: Record, busy: Busy) -> Response<Answer> {
        match self {
            Self::Streamed(streamed) => streamed.answer(record, busy),
            Self::Switched(switched) => switched.answer(record, busy),
        }
    }
}

/// A response that streams.
pub(super) struct Streamed {
    response: Response<Resumed>,
    aftermath: Aftermath,
    echo: Option<Echo>,
    meter: Arc<BodyMeter>,
}

impl Streamed {
    pub(super) fn new(
        mut response: Response<Resumed>,
        aftermath: Aftermath,
        meter: Arc<BodyMeter>,
    ) -> Self {
        inject::strip_response(response.headers_mut());
        let echo = Echo::of(aftermath.issued(), response.headers_mut());
        Self {
            response,
            aftermath,
            echo,
            meter,
        }
    }

    fn answer(self, record: Record, mut busy: Busy) -> Response<Answer> {
        owe(&mut busy, self.response.body().is_end_stream());
        let state = State {
            record: Some(record),
            meter: self.meter,
            aftermath: Some(self.aftermath),
            echo: self.echo,
            busy: Some(busy),
            outcome: Outcome::Permitted,
        };
        self.response.map(|body| {
            Answer(Kind::Streamed {
                body: Upstream::Pooled(body),
                state,
            })
        })
    }
}

/// Whose body an answer streams.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are the large one")]
pub enum Upstream {
    /// That of a verified, pooled connection.
    Pooled(Resumed),
    /// That of an unmatched plain-text connection.
    Plain(Plain),
}

/// The body of a response that came in clear, and the time it may stand still.
#[derive(Debug)]
pub struct Plain {
    body: Incoming,
    idle: Duration,
    timer: LazyTimer,
    waiting_since: Option<Instant>,
}

impl Plain {
    fn poll_frame(
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

impl Upstream {
    /// The body of a response in clear, which may stand still for `idle`.
    pub(crate) fn plain(body: Incoming, idle: Duration) -> Self {
        Self::Plain(Plain {
            body,
            idle,
            timer: LazyTimer::default(),
            waiting_since: None,
        })
    }

    /// How much of it may be held while its client does not take it, in bytes.
    pub(crate) fn most_held(&self) -> usize {
        match self {
            Self::Pooled(body) => body.most_held(),
            Self::Plain(plain) => most_held(&plain.body.size_hint(), memory::ANSWER),
        }
    }

    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ForwardError>>> {
        match self {
            Self::Pooled(body) => Pin::new(body).poll_frame(context),
            Self::Plain(plain) => plain.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Pooled(body) => body.is_end_stream(),
            Self::Plain(plain) => plain.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Pooled(body) => body.size_hint(),
            Self::Plain(plain) => plain.body.size_hint(),
        }
    }
}

/// The body of every answer we give.
pub struct Answer(Kind);

#[expect(clippy::large_enum_variant, reason = "nearly all are the large one")]
enum Kind {
    Whole {
        body: Option<Bytes>,
        busy: Option<Busy>,
    },
    Streamed {
        body: Upstream,
        state: State,
    },
}

struct State {
    /// `None` once it is closed.
    record: Option<Record>,
    meter: Arc<BodyMeter>,
    aftermath: Option<Aftermath>,
    echo: Option<Echo>,
    busy: Option<Busy>,
    outcome: Outcome,
}

impl Answer {
    /// An answer that is here as a whole.
    pub fn whole(body: Bytes, mut busy: Busy) -> Self {
        owe(&mut busy, body.is_empty());
        Self::of(body, Some(busy))
    }

    /// A response to an unmatched request that is passed on.
    pub(crate) fn passed(
        mut response: Response<Upstream>,
        record: Record,
        meter: Arc<BodyMeter>,
        mut busy: Busy,
    ) -> Response<Self> {
        inject::strip_response(response.headers_mut());
        owe(&mut busy, response.body().is_end_stream());
        let state = State {
            record: Some(record),
            meter,
            aftermath: None,
            echo: None,
            busy: Some(busy),
            outcome: Outcome::Tunnelled,
        };
        response.map(|body| Self(Kind::Streamed { body, state }))
    }

    /// No body, and nothing to be kept busy for.
    pub fn empty() -> Self {
        Self::of(Bytes::new(), None)
    }

    fn of(body: Bytes, busy: Option<Busy>) -> Self {
        let body = (!body.is_empty()).then_some(body);
        Self(Kind::Whole { body, busy })
    }
}

/// The client is owed a body as soon as there is one, whether or not it has room for a piece of it.
fn owe(busy: &mut Busy, is_empty: bool) {
    if !is_empty {
        busy.gave();
    }
}

impl State {
    /// hyper asks for the next piece once the client has room for it.
    fn asked(&mut self) {
        if let Some(busy) = &mut self.busy {
            busy.took();
        }
    }

    fn pass(&mut self, frame: &Frame<Bytes>) {
        if let Some(busy) = &mut self.busy {
            busy.gave();
        }
        let Some(data) = frame.data_ref() else { return };
        if let Some(record) = &self.record {
            record.bytes.add_response(data.len() as u64);
        }
        if let Some(aftermath) = &mut self.aftermath {
            aftermath.take(data);
        }
        if let Some(echo) = &mut self.echo {
            echo.look(data);
        }
    }

    /// Closes the record; `Ok` when the last byte has come.
    fn end(&mut self, result: Result<(), Refusal>) {
        let Some(mut record) = self.take_record() else {
            return;
        };
        let said = self
            .aftermath
            .take()
            .map(|aftermath| aftermath.conclude(&mut record));
        match result {
            Ok(()) => record.close(said.unwrap_or(self.outcome)),
            Err(refusal) => super::close(record, refusal),
        }
    }

    fn take_record(&mut self) -> Option<Record> {
        self.busy = None;
        let mut record = self.record.take()?;
        if let (Some(upstream), Some(echo)) = (&mut record.upstream, &self.echo) {
            upstream.echoed = echo.found();
        }
        record.bytes.add_request(self.meter.bytes());
        Some(record)
    }
}

/// A record that is still open was cut off by the client's leaving, which is what it says when it
/// is dropped; what the client had sent until then still counts.
impl Drop for State {
    fn drop(&mut self) {
        drop(self.take_record());
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = ForwardError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ForwardError>>> {
        match &mut self.0 {
            Kind::Whole { body, busy } => {
                let frame = body.take().map(|bytes| Ok(Frame::data(bytes)));
                if let Some(busy) = busy {
                    busy.took();
                    if frame.is_some() {
                        busy.gave();
                    }
                }
                if frame.is_none() {
                    *busy = None;
                }
                Poll::Ready(frame)
            }
            Kind::Streamed { body, state } => {
                state.asked();
                let polled = body.poll_frame(context);
                match &polled {
                    Poll::Ready(Some(Ok(frame))) => state.pass(frame),
                    Poll::Ready(Some(Err(error))) => state.end(Err(error.clone().into())),
                    Poll::Ready(None) => state.end(Ok(())),
                    Poll::Pending => {}
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole { body, .. } => body.is_none(),
            Kind::Streamed { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole { body, .. } => {
                SizeHint::with_exact(body.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Streamed { body, .. } => body.size_hint(),
        }
    }
}

/// hyper lets a body go without asking for its end when its length says that nothing follows. One
/// that is let go earlier was not taken by the client, or was the client's leaving, which is what
/// a dropped record says.
impl Drop for Answer {
    fn drop(&mut self) {
        let Kind::Streamed { body, state } = &mut self.0 else {
            return;
        };
        if body.is_end_stream() {
            state.end(Ok(()));
        } else if state.busy.as_ref().is_some_and(Busy::has_stalled) {
            state.end(Err(Refusal::new(
                Reason::BodyStalled,
                "the client took nothing more of the answer",
            )));
        }
    }
}
