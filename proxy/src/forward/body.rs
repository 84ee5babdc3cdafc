//! The request's body on its way up.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// The body of a request to an upstream: none, one piece, or what the client is still sending.
///
/// Nothing is buffered: a piece is asked of the client when the upstream can take it. Trailers are
/// discarded (RFC 9110, section 6.5.1): some servers merge them into the headers, where the
/// caller's could replace what we set.
pub struct RequestBody {
    source: Source,
    meter: Option<Arc<BodyMeter>>,
}

enum Source {
    Empty,
    Full(Bytes),
    Streaming { prefix: Bytes, rest: Incoming },
}

/// The client broke off its body.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the client broke off its request body")]
pub struct ClientBodyError;

/// What is known of a request body while it is being sent, shared by who records it and who
/// watches over its progress.
#[derive(Debug, Default)]
pub struct BodyMeter {
    bytes: AtomicU64,
    flags: AtomicU8,
}

const ENDED: u8 = 1;
const FAILED: u8 = 2;
const AWAITS_CLIENT: u8 = 4;

impl BodyMeter {
    /// The bytes handed to the upstream connection so far, trailers not counted.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether no more of it will be sent: all was handed over, or it was given up.
    pub fn ended(&self) -> bool {
        self.has(ENDED)
    }

    /// Whether the client broke it off.
    pub fn failed(&self) -> bool {
        self.has(FAILED)
    }

    /// Whether the next move is the client's.
    pub(super) fn awaits_client(&self) -> bool {
        self.has(AWAITS_CLIENT)
    }

    fn has(&self, flag: u8) -> bool {
        self.flags.load(Ordering::Acquire) & flag != 0
    }

    fn set(&self, flag: u8) {
        self.flags.fetch_or(flag, Ordering::Release);
    }

    fn clear(&self, flag: u8) {
        if self.has(flag) {
            self.flags.fetch_and(!flag, Ordering::Release);
        }
    }
}

impl RequestBody {
    /// No body.
    pub fn empty() -> Self {
        Self {
            source: Source::Empty,
            meter: None,
        }
    }

    /// A body that is here as a whole.
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

    /// A body of which `prefix` was read already, to be kept or looked at.
    pub fn resumed(prefix: Bytes, rest: Incoming, meter: Arc<BodyMeter>) -> Self {
        Self {
            source: Source::Streaming { prefix, rest },
            meter: Some(meter),
        }
    }

    /// What watches over it; an empty body needs no watching.
    pub(super) fn meter(&self) -> Option<Arc<BodyMeter>> {
        self.meter.clone()
    }

    fn count(&self, bytes: usize) {
        if let Some(meter) = &self.meter {
            meter.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
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
        let ready = match &mut this.source {
            Source::Empty => None,
            Source::Full(bytes) if bytes.is_empty() => None,
            Source::Full(bytes) => Some(Frame::data(std::mem::take(bytes))),
            Source::Streaming { prefix, .. } if !prefix.is_empty() => {
                Some(Frame::data(std::mem::take(prefix)))
            }
            Source::Streaming { rest, .. } => match Pin::new(rest).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => Some(frame).filter(Frame::is_data),
                Poll::Ready(None) => None,
                Poll::Ready(Some(Err(_))) => {
                    if let Some(meter) = &this.meter {
                        meter.set(FAILED);
                    }
                    return Poll::Ready(Some(Err(ClientBodyError)));
                }
                Poll::Pending => {
                    if let Some(meter) = &this.meter {
                        meter.set(AWAITS_CLIENT);
                    }
                    return Poll::Pending;
                }
            },
        };
        if let Some(meter) = &this.meter {
            meter.clear(AWAITS_CLIENT);
        }
        if let Some(data) = ready.as_ref().and_then(Frame::data_ref) {
            this.count(data.len());
        }
        Poll::Ready(ready.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Full(bytes) => bytes.is_empty(),
            Source::Streaming { prefix, rest } => prefix.is_empty() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Streaming { prefix, rest } => {
                let rest = rest.size_hint();
                let mut hint = SizeHint::new();
                let read = prefix.len() as u64;
                hint.set_lower(rest.lower().saturating_add(read));
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper.saturating_add(read));
                }
                hint
            }
        }
    }
}

/// hyper drops a body as soon as it has taken the last of it.
impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(meter) = &self.meter {
            meter.set(ENDED);
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.source {
            Source::Empty => "RequestBody::Empty",
            Source::Full(_) => "RequestBody::Full",
            Source::Streaming { .. } => "RequestBody::Streaming",
        })
    }
}
