//! The response to a client: its body is streamed as it arrives, counted, and carries the record.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use countersign_core::{
    reason::Reason,
    wire::connection_state::{ConnectionState, InFlightGuard},
};
use countersign_upstream::{
    forward::{BodyMeter, ForwardError},
    inject,
};
use http::{HeaderValue, Response, header::CONNECTION};
use http_body::{Body, Frame, SizeHint};

use super::{
    api_answer::AnswerStatus, echo::Echo, peek::PeekedBody, response_observer::ResponseObserver,
    upstream_answer::UpstreamAnswer,
};
use crate::{
    observe::{Outcome, Record},
    refusal::{self, Refusal},
    session::close,
};

/// A response that streams.
pub(super) struct Streamed {
    response: Response<PeekedBody>,
    observer: ResponseObserver,
    echo: Option<Echo>,
    meter: Arc<BodyMeter>,
}

impl Streamed {
    pub(super) fn new(
        mut response: Response<PeekedBody>,
        observer: ResponseObserver,
        meter: Arc<BodyMeter>,
    ) -> Self {
        inject::strip_response(response.headers_mut());
        let echo = Echo::of(observer.issued(), response.headers_mut());
        Self {
            response,
            observer,
            echo,
            meter,
        }
    }

    pub(super) fn answer(
        self,
        record: Record,
        mut in_flight: InFlightGuard,
    ) -> Response<AnswerBody> {
        owe(&mut in_flight, self.response.body().is_end_stream());
        let state = State {
            record: Some(record),
            meter: self.meter,
            observer: Some(self.observer),
            echo: self.echo,
            in_flight: Some(in_flight),
            outcome: Outcome::Permitted,
        };
        self.response.map(|body| {
            AnswerBody(Kind::Streamed {
                body: UpstreamAnswer::Pooled(body),
                state,
            })
        })
    }
}

/// The connection is closed, or over HTTP/2 the stream is reset, without a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HangUp(h2::Reason);

impl HangUp {
    /// Over HTTP/2 the client learns whether the API may have acted on the request.
    fn after(reason: Reason) -> Self {
        Self(if reason == Reason::UpstreamNotTaken {
            h2::Reason::REFUSED_STREAM
        } else {
            h2::Reason::INTERNAL_ERROR
        })
    }
}

impl From<HangUp> for h2::Error {
    fn from(HangUp(reason): HangUp) -> Self {
        reason.into()
    }
}

/// The body of every response to a client.
pub struct AnswerBody(Kind);

#[expect(clippy::large_enum_variant, reason = "nearly all are the large one")]
enum Kind {
    Whole {
        body: Option<Bytes>,
        in_flight: Option<InFlightGuard>,
    },
    /// There is no response.
    HungUp(HangUp),
    Streamed {
        body: UpstreamAnswer,
        state: State,
    },
}

struct State {
    /// `None` once it is closed.
    record: Option<Record>,
    meter: Arc<BodyMeter>,
    observer: Option<ResponseObserver>,
    echo: Option<Echo>,
    in_flight: Option<InFlightGuard>,
    outcome: Outcome,
}

impl AnswerBody {
    /// A response whose whole body is in memory.
    pub fn whole(body: Bytes, mut in_flight: InFlightGuard) -> Self {
        owe(&mut in_flight, body.is_empty());
        Self::of(body, Some(in_flight))
    }

    /// Instead of a response, the connection is closed.
    pub fn hangs_up(&self) -> Option<HangUp> {
        match self.0 {
            Kind::HungUp(hang_up) => Some(hang_up),
            Kind::Whole { .. } | Kind::Streamed { .. } => None,
        }
    }

    /// Whether it was made here, and not sent by an upstream.
    pub fn is_whole(&self) -> bool {
        matches!(self.0, Kind::Whole { .. })
    }

    /// The response to an unmatched request.
    pub(crate) fn passed(
        mut response: Response<UpstreamAnswer>,
        mut record: Record,
        meter: Arc<BodyMeter>,
        mut in_flight: InFlightGuard,
    ) -> Response<Self> {
        let status = AnswerStatus::of(response.status(), response.headers());
        let outcome = match status.failure(None) {
            None => Outcome::Tunnelled,
            Some(reason) => {
                record.detail = Some(format!("the host answered {status}").into());
                Outcome::failed(reason)
            }
        };
        inject::strip_response(response.headers_mut());
        owe(&mut in_flight, response.body().is_end_stream());
        let state = State {
            record: Some(record),
            meter,
            observer: None,
            echo: None,
            in_flight: Some(in_flight),
            outcome,
        };
        response.map(|body| Self(Kind::Streamed { body, state }))
    }

    /// No body, for an exchange that is over.
    pub fn empty() -> Self {
        Self::of(Bytes::new(), None)
    }

    fn of(body: Bytes, in_flight: Option<InFlightGuard>) -> Self {
        let body = (!body.is_empty()).then_some(body);
        Self(Kind::Whole { body, in_flight })
    }
}

/// Makes a response the last of its connection if the client broke HTTP: hyper may have read the next
/// request already.
pub fn last_if_violated<B>(response: &mut Response<B>, connection_state: &ConnectionState) {
    if connection_state.violation().is_some() {
        last(response);
    }
}

/// Makes a response the last of its connection. HTTP/2 ignores the header.
pub fn last<B>(response: &mut Response<B>) {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
}

/// The response to a refused or failed request, whose record it closes.
pub fn refused(record: Record, refusal: Refusal, in_flight: InFlightGuard) -> Response<AnswerBody> {
    if refusal.hangs_up() {
        let hang_up = HangUp::after(refusal.reason);
        close(record, refusal);
        return Response::new(AnswerBody(Kind::HungUp(hang_up)));
    }
    let response = refusal::answer(&refusal, &record);
    close(record, refusal);
    response.map(|body| AnswerBody::whole(body, in_flight))
}

/// A response with a body is blocked until the client makes room for it.
fn owe(in_flight: &mut InFlightGuard, is_empty: bool) {
    if !is_empty {
        in_flight.piece_sent();
    }
}

impl State {
    /// hyper polls for the next piece once the client has room for it.
    fn asked(&mut self) {
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.capacity_granted();
        }
    }

    fn pass(&mut self, frame: &Frame<Bytes>) {
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.piece_sent();
        }
        let Some(data) = frame.data_ref() else { return };
        if let Some(record) = &self.record {
            record.bytes.add_response(data.len() as u64);
        }
        if let Some(observer) = &mut self.observer {
            observer.take(data);
        }
        if let Some(echo) = &mut self.echo {
            echo.look(data);
        }
    }

    /// Closes the record; `Ok` after the last byte.
    fn end(&mut self, result: Result<(), Refusal>) {
        let Some(mut record) = self.take_record() else {
            return;
        };
        let said = self
            .observer
            .take()
            .map(|observer| observer.conclude(&mut record));
        match result {
            Ok(()) => record.close(said.unwrap_or(self.outcome)),
            Err(refusal) => close(record, refusal),
        }
    }

    fn take_record(&mut self) -> Option<Record> {
        self.in_flight = None;
        let mut record = self.record.take()?;
        if let (Some(upstream), Some(echo)) = (&mut record.upstream, &self.echo) {
            upstream.echoed = echo.found();
        }
        record.bytes.add_request(self.meter.bytes());
        Some(record)
    }
}

/// A record that is still open here was cut off by the client, and says so when it is dropped; what the
/// client had sent is still counted.
impl Drop for State {
    fn drop(&mut self) {
        drop(self.take_record());
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = ForwardError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ForwardError>>> {
        match &mut self.0 {
            Kind::Whole { body, in_flight } => {
                let frame = body.take().map(|bytes| Ok(Frame::data(bytes)));
                if let Some(in_flight) = in_flight {
                    in_flight.capacity_granted();
                    if frame.is_some() {
                        in_flight.piece_sent();
                    }
                }
                if frame.is_none() {
                    *in_flight = None;
                }
                Poll::Ready(frame)
            }
            Kind::HungUp(_) => Poll::Ready(None),
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
            Kind::HungUp(_) => true,
            Kind::Streamed { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole { body, .. } => {
                SizeHint::with_exact(body.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::HungUp(_) => SizeHint::with_exact(0),
            Kind::Streamed { body, .. } => body.size_hint(),
        }
    }
}

/// hyper drops a body without polling for its end if its length is known. A body that is dropped earlier
/// was not read by the client, or the client left; a dropped record says so.
impl Drop for AnswerBody {
    fn drop(&mut self) {
        let Kind::Streamed { body, state } = &mut self.0 else {
            return;
        };
        if body.is_end_stream() {
            state.end(Ok(()));
        } else if state
            .in_flight
            .as_ref()
            .is_some_and(InFlightGuard::has_stalled)
        {
            state.end(Err(Refusal::new(
                Reason::BodyStalled,
                "the client took nothing more of the answer",
            )));
        }
    }
}
