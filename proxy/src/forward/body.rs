//! The request's body on its way up.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use smallvec::SmallVec;

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
    /// Written by whoever sends the body, read once when its answer is there: never contended.
    kept: Mutex<Kept>,
}

/// What is kept of a body, by reference, in case that it must be sent once more.
#[derive(Default)]
enum Kept {
    /// Nothing is wanted.
    #[default]
    Not,
    /// All of it so far; so many more bytes may follow.
    Pieces {
        pieces: SmallVec<[Bytes; 2]>,
        room: usize,
    },
    /// It was more than the bound.
    TooLarge,
}

/// Shows no content.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Not => "Not",
            Self::Pieces { .. } => "Pieces",
            Self::TooLarge => "TooLarge",
        })
    }
}

/// Why a body cannot be sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// It is larger than what is kept.
    #[error("the request's body is larger than limits.replayBytes")]
    TooLarge,
    /// The answer came before the client had sent it all.
    #[error("the answer came before the whole request was sent")]
    Unfinished,
}

const ENDED: u8 = 1;
const FAILED: u8 = 2;
const AWAITS_CLIENT: u8 = 4;
const COMPLETE: u8 = 8;

impl BodyMeter {
    /// One that keeps up to `bytes` of the body, in case that it must be sent once more.
    pub fn keeping(bytes: usize) -> Self {
        let kept = Kept::Pieces {
            pieces: SmallVec::new(),
            room: bytes,
        };
        Self {
            kept: Mutex::new(kept),
            ..Self::default()
        }
    }

    /// The whole body, to be sent once more. What was kept is let go.
    ///
    /// # Errors
    /// When it was not kept as a whole.
    pub fn take_kept(&self) -> Result<Bytes, NotKept> {
        let kept = std::mem::take(&mut *self.kept());
        match kept {
            Kept::Not | Kept::TooLarge => Err(NotKept::TooLarge),
            Kept::Pieces { .. } if self.has(FAILED) || !self.has(COMPLETE) => {
                Err(NotKept::Unfinished)
            }
            Kept::Pieces { pieces, .. } => Ok(match pieces.as_slice() {
                [] => Bytes::new(),
                [one] => one.clone(),
                many => many.concat().into(),
            }),
        }
    }

    /// Lets go of what was kept.
    pub fn forget_kept(&self) {
        *self.kept() = Kept::Not;
    }

    fn keep(&self, data: &Bytes) {
        let mut kept = self.kept();
        let Kept::Pieces { pieces, room } = &mut *kept else {
            return;
        };
        match room.checked_sub(data.len()) {
            Some(rest) => {
                *room = rest;
                pieces.push(data.clone());
            }
            None => *kept = Kept::TooLarge,
        }
    }

    /// A body that says that it will be too large need not be kept at all.
    fn announced(&self, bytes: u64) {
        let mut kept = self.kept();
        if let Kept::Pieces { room, .. } = &*kept
            && bytes > *room as u64
        {
            *kept = Kept::TooLarge;
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

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
        meter.announced(rest.size_hint().lower().saturating_add(prefix.len() as u64));
        Self {
            source: Source::Streaming { prefix, rest },
            meter: Some(meter),
        }
    }

    /// What watches over it; an empty body needs no watching.
    pub(super) fn meter(&self) -> Option<Arc<BodyMeter>> {
        self.meter.clone()
    }

    fn count(&self, data: &Bytes) {
        if let Some(meter) = &self.meter {
            meter.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            meter.keep(data);
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
            this.count(data);
        }
        if let (None, Some(meter)) = (&ready, &this.meter) {
            meter.set(COMPLETE);
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
            // A body of known length is not asked for its end.
            meter.set(if self.is_end_stream() {
                ENDED | COMPLETE
            } else {
                ENDED
            });
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
