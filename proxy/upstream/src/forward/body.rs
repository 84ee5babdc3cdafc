//! The request's body.

mod meter;

pub use meter::{BodyMeter, NotKept};

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use self::meter::{AWAITS_CLIENT, COMPLETE, ENDED, FAILED, MALFORMED, joined};
use super::lock::lock;
use crate::inject::{FormFault, MultipartGuard};

/// The body of a request to an upstream: none, one piece, or streamed from the client.
///
/// Nothing is buffered: the client is asked for a piece when the upstream can take it. Trailers are
/// discarded (RFC 9110, section 6.5.1): some servers merge them into the headers, where the caller's could
/// replace those that the gateway sets.
pub struct RequestBody {
    source: Source,
    meter: Option<Arc<BodyMeter>>,
}

enum Source {
    Empty,
    Full(Bytes),
    Streaming(Streaming),
    /// A body that a [`Spare`] may take back.
    Lent(Lent),
}

struct Streaming {
    prefix: Bytes,
    rest: Incoming,
    /// Checks what is read of `rest`; the prefix was checked.
    guard: Option<Box<MultipartGuard>>,
}

/// Why no more of a body comes.
enum Broken {
    /// The client broke it off.
    Client(hyper::Error),
    /// It must not be sent.
    Refused(FormFault),
}

/// `None` after it was taken back.
type Lent = Arc<Mutex<Option<Streaming>>>;

/// Takes back a body that was given to a connection, if the upstream says that it has not acted on the
/// request.
pub(super) struct Spare {
    source: Source,
    meter: Option<Arc<BodyMeter>>,
}

/// The client broke off its request body.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the client broke off its request body")]
pub struct ClientBodyError;

impl RequestBody {
    /// No body.
    pub fn empty() -> Self {
        Self {
            source: Source::Empty,
            meter: None,
        }
    }

    /// A body whose bytes are all in memory.
    pub fn full(bytes: Bytes, meter: Arc<BodyMeter>) -> Self {
        Self {
            source: Source::Full(bytes),
            meter: Some(meter),
        }
    }

    /// A body that the client is still sending.
    pub fn streaming(body: Incoming, meter: Arc<BodyMeter>) -> Self {
        Self::resumed(Bytes::new(), body, meter)
    }

    /// A body of which `prefix` was already read, which is inspected or kept too.
    pub fn resumed(prefix: Bytes, rest: Incoming, meter: Arc<BodyMeter>) -> Self {
        Self::guarded(prefix, rest, None, meter)
    }

    /// A form that is checked while it is sent. If it is refused, the request is broken off.
    pub fn checked(rest: Incoming, guard: Box<MultipartGuard>, meter: Arc<BodyMeter>) -> Self {
        Self::guarded(Bytes::new(), rest, Some(guard), meter)
    }

    fn guarded(
        prefix: Bytes,
        rest: Incoming,
        guard: Option<Box<MultipartGuard>>,
        meter: Arc<BodyMeter>,
    ) -> Self {
        meter.announced(rest.size_hint().lower().saturating_add(prefix.len() as u64));
        let streaming = Streaming {
            prefix,
            rest,
            guard,
        };
        Self {
            source: Source::Streaming(streaming),
            meter: Some(meter),
        }
    }

    /// A way to take it back after it was given away.
    pub(super) fn spare(&mut self) -> Spare {
        let source = match std::mem::replace(&mut self.source, Source::Empty) {
            Source::Streaming(streaming) if streaming.is_ended() => {
                self.source = Source::Streaming(streaming);
                Source::Empty
            }
            Source::Streaming(streaming) => {
                let lent = Arc::new(Mutex::new(Some(streaming)));
                self.source = Source::Lent(Arc::clone(&lent));
                Source::Lent(lent)
            }
            Source::Empty => Source::Empty,
            Source::Full(bytes) => {
                self.source = Source::Full(bytes.clone());
                Source::Full(bytes)
            }
            Source::Lent(lent) => {
                self.source = Source::Lent(Arc::clone(&lent));
                Source::Lent(lent)
            }
        };
        Spare {
            source,
            meter: self.meter.clone(),
        }
    }

    /// Its meter; an empty body has none.
    pub(super) fn meter(&self) -> Option<Arc<BodyMeter>> {
        self.meter.clone()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = ClientBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        let this = &mut *self;
        let meter = this.meter.as_deref();
        match &mut this.source {
            Source::Empty => Poll::Ready(None),
            Source::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                let frame = (!bytes.is_empty()).then(|| Ok(Frame::data(bytes)));
                noted(meter, Poll::Ready(frame))
            }
            Source::Streaming(streaming) => noted(meter, streaming.poll(cx)),
            // Counted before it can be taken back.
            Source::Lent(lent) => match &mut *lock(lent) {
                Some(streaming) => noted(meter, streaming.poll(cx)),
                None => Poll::Ready(Some(Err(ClientBodyError))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Full(bytes) => bytes.is_empty(),
            Source::Streaming(streaming) => streaming.is_ended(),
            Source::Lent(lent) => lock(lent).as_ref().is_none_or(Streaming::is_ended),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Streaming(streaming) => streaming.size_hint(),
            Source::Lent(lent) => lock(lent)
                .as_ref()
                .map_or_else(SizeHint::default, Streaming::size_hint),
        }
    }
}

/// Whether the client broke HTTP in its request body. Over HTTP/1.1 its connection knows.
fn is_malformed_request(error: &hyper::Error) -> bool {
    let source =
        std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    source.is_some_and(|error| {
        error.is_library() && error.reason() == Some(h2::Reason::PROTOCOL_ERROR)
    })
}

/// Counts a polled frame; the body ends with its data.
fn noted(
    meter: Option<&BodyMeter>,
    polled: Poll<Option<Result<Frame<Bytes>, Broken>>>,
) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
    let note = |flag| meter.inspect(|meter| meter.set(flag));
    let frame = match polled {
        Poll::Pending => {
            note(AWAITS_CLIENT);
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(broken))) => {
            let flags = match broken {
                Broken::Client(error) if is_malformed_request(&error) => FAILED | MALFORMED,
                Broken::Client(_) => FAILED,
                Broken::Refused(fault) => {
                    if let Some(meter) = meter {
                        meter.refuse(fault);
                    }
                    FAILED
                }
            };
            note(flags);
            return Poll::Ready(Some(Err(ClientBodyError)));
        }
        Poll::Ready(Some(Ok(frame))) => Some(frame).filter(Frame::is_data),
        Poll::Ready(None) => None,
    };
    if let Some(meter) = meter {
        meter.clear(AWAITS_CLIENT);
        match frame.as_ref().and_then(Frame::data_ref) {
            Some(data) => meter.count(data),
            None => meter.set(COMPLETE),
        }
    }
    Poll::Ready(frame.map(Ok))
}

impl Streaming {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if !self.prefix.is_empty() {
            let prefix = std::mem::take(&mut self.prefix);
            return Poll::Ready(Some(Ok(Frame::data(prefix))));
        }
        let Some(guard) = &mut self.guard else {
            let polled = Pin::new(&mut self.rest).poll_frame(cx);
            return polled.map_err(Broken::Client);
        };
        loop {
            let read = ready!(Pin::new(&mut self.rest).poll_frame(cx));
            let read = read.transpose().map_err(Broken::Client)?;
            // Trailers are not part of a form, and end it.
            let checked = match read.and_then(|frame| frame.into_data().ok()) {
                Some(data) => guard.feed(data).map(Some),
                None => guard
                    .finish()
                    .map(|rest| Some(rest).filter(|rest| !rest.is_empty())),
            };
            match checked.map_err(Broken::Refused)? {
                // All of it is held back.
                Some(checked) if checked.is_empty() => {}
                checked => return Poll::Ready(checked.map(|data| Ok(Frame::data(data)))),
            }
        }
    }

    fn is_ended(&self) -> bool {
        let settled = self.guard.as_ref().is_none_or(|guard| guard.is_settled());
        self.prefix.is_empty() && self.rest.is_end_stream() && settled
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        let held = self.guard.as_ref().map_or(0, |guard| guard.held());
        let read = (self.prefix.len() + held) as u64;
        hint.set_lower(rest.lower().saturating_add(read));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(read));
        }
        hint
    }
}

impl Spare {
    /// The body as it was before it was given away; the connection loses it.
    ///
    /// # Errors
    /// When some of it is gone.
    pub(super) fn reclaim(self) -> Result<RequestBody, NotKept> {
        let source = match self.source {
            Source::Lent(lent) => {
                let taken = lock(&lent).take();
                let Streaming {
                    prefix,
                    rest,
                    guard,
                } = taken.ok_or(NotKept::Unfinished)?;
                let handed = match &self.meter {
                    Some(meter) => meter.rewind()?,
                    None => Bytes::new(),
                };
                let prefix = joined(&[handed, prefix]);
                Source::Streaming(Streaming {
                    prefix,
                    rest,
                    guard,
                })
            }
            Source::Full(bytes) => {
                if let Some(meter) = &self.meter
                    && meter.rewind().is_err()
                {
                    meter.restart();
                }
                Source::Full(bytes)
            }
            source @ (Source::Empty | Source::Streaming(_)) => source,
        };
        Ok(RequestBody {
            source,
            meter: self.meter,
        })
    }
}

/// hyper drops a body as soon as it has read the last of it.
impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(meter) = &self.meter else { return };
        // A body of known length is not polled for its end.
        let end = |ended| meter.set(if ended { ENDED | COMPLETE } else { ENDED });
        match &self.source {
            Source::Lent(lent) => {
                // The meter went with the body that was taken back.
                if let Some(streaming) = &*lock(lent) {
                    end(streaming.is_ended());
                }
            }
            Source::Empty | Source::Full(_) | Source::Streaming(_) => end(self.is_end_stream()),
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.source {
            Source::Empty => "RequestBody::Empty",
            Source::Full(_) => "RequestBody::Full",
            Source::Streaming(_) | Source::Lent(_) => "RequestBody::Streaming",
        })
    }
}
