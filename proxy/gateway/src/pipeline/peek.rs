//! The beginning of a response, held back until it is certain whether it reports a failed credential.
//!
//! A response is held only if its head allows a recoverable failure, and only until the bytes read decide:
//! `{"ok":true` is enough for Slack. It is held for at most [`LONGEST_HOLD`] and `limits.inspectBytes`, and
//! is then passed on. It is never changed. The first two pieces are not copied; further ones are, since a
//! reference to a few bytes would keep their whole buffer alive.

use std::{
    borrow::Cow,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use countersign_config::model::Target;
use countersign_core::budget::Charge;
use countersign_upstream::{
    detect::{ResponseMeta, Verdict},
    forward::{ForwardError, UpstreamBody},
};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use smallvec::SmallVec;
use tokio::time::{Instant, timeout_at};

/// The longest time that a response is held after its head has arrived.
pub(super) const LONGEST_HOLD: Duration = Duration::from_secs(1);

/// Up to this many bytes each piece is examined as it arrives; after that, whenever the amount has doubled,
/// so that tiny pieces do not cost one examination each.
const EAGER: usize = 4 * 1024;

/// The number of pieces that are not copied.
const MOST_PIECES: usize = 2;

/// A response's body, of which the beginning may have been read.
#[derive(Debug)]
pub struct PeekedBody {
    pieces: SmallVec<[Bytes; MOST_PIECES]>,
    /// What follows these pieces.
    gathered: Vec<u8>,
    /// The charge for what is held; given back when it is passed on.
    charge: Option<Charge>,
    /// The charge for what may be buffered while the client does not read.
    room: Option<Charge>,
    /// How many of the pieces were passed on.
    passed: usize,
    /// Bytes read.
    read: usize,
    end: End,
    rest: UpstreamBody,
}

/// What follows the pieces.
#[derive(Debug)]
enum End {
    Rest,
    Trailers(HeaderMap),
    Broken(ForwardError),
    Nothing,
}

impl From<UpstreamBody> for PeekedBody {
    fn from(rest: UpstreamBody) -> Self {
        Self {
            pieces: SmallVec::new(),
            gathered: Vec::new(),
            charge: None,
            room: None,
            passed: 0,
            read: 0,
            end: if rest.is_end_stream() {
                End::Nothing
            } else {
                End::Rest
            },
            rest,
        }
    }
}

impl PeekedBody {
    /// How many bytes of it may be buffered while the client does not read.
    pub(super) fn most_held(&self) -> usize {
        self.rest.most_held()
    }

    /// Charges `charge` for what is held; if that fails, no more is held. `room` is for what the client
    /// does not read.
    pub(super) fn charged(mut self, charge: Charge, room: Charge) -> Self {
        self.charge = Some(charge);
        self.room = Some(room);
        self
    }

    /// Reads until it is certain whether this is a recoverable failure, or until it was held long enough.
    pub(super) async fn evaluate<'t>(
        &mut self,
        meta: ResponseMeta,
        target: &'t Target,
        limit: usize,
    ) -> Verdict<'t> {
        let mut verdict = meta.evaluate(target, &[], self.has_ended());
        let deadline = Instant::now() + LONGEST_HOLD;
        let mut look_at = 0;
        let mut looked_at = 0;
        while let Verdict::Open { recoverable: true } = verdict {
            let goes_on = self.read <= limit && self.read_more(deadline).await;
            let due = self.has_ended() || self.read <= EAGER || self.read >= look_at;
            if (due || !goes_on) && (self.read != looked_at || self.has_ended()) {
                verdict = meta.evaluate(target, &self.content(), self.has_ended());
                looked_at = self.read;
                look_at = self.read.saturating_mul(2);
            }
            if !goes_on {
                break;
            }
        }
        verdict
    }

    /// Reads the rest of a short response, to free its connection and learn all that it says. Returns
    /// whether it was complete.
    pub(super) async fn finish(&mut self, limit: usize) -> bool {
        let deadline = Instant::now() + LONGEST_HOLD;
        while self.read <= limit && self.read_more(deadline).await {}
        self.has_ended()
    }

    /// The bytes read.
    pub(super) fn content(&self) -> Cow<'_, [u8]> {
        match (self.pieces.as_slice(), self.gathered.as_slice()) {
            ([], rest) => Cow::Borrowed(rest),
            ([one], []) => Cow::Borrowed(one),
            (many, rest) => {
                let mut all = many.concat();
                all.extend_from_slice(rest);
                Cow::Owned(all)
            }
        }
    }

    fn has_ended(&self) -> bool {
        match self.end {
            End::Trailers(_) | End::Nothing => true,
            End::Rest | End::Broken(_) => false,
        }
    }

    /// Reads one more piece; false if there is none, or it is late.
    async fn read_more(&mut self, deadline: Instant) -> bool {
        match self.end {
            End::Rest => {}
            End::Trailers(_) | End::Broken(_) | End::Nothing => return false,
        }
        let next = poll_fn(|context| Pin::new(&mut self.rest).poll_frame(context));
        let Ok(frame) = timeout_at(deadline, next).await else {
            return false;
        };
        match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(data))) => {
                self.read += data.len();
                // HTTP/2 may end with an empty piece.
                if !data.is_empty() {
                    self.keep(data);
                }
                if self.rest.is_end_stream() {
                    self.end = End::Nothing;
                }
            }
            Some(Ok(Err(frame))) => {
                self.end = match frame.into_trailers() {
                    Ok(trailers) => End::Trailers(trailers),
                    Err(_) => End::Nothing,
                };
            }
            Some(Err(error)) => self.end = End::Broken(error),
            None => self.end = End::Nothing,
        }
        self.is_charged()
    }

    fn keep(&mut self, data: Bytes) {
        if self.pieces.len() < MOST_PIECES {
            self.pieces.push(data);
        } else {
            self.gathered.extend_from_slice(&data);
        }
    }

    /// Whether there was memory for what is held. The buffer of copies grows by doubling.
    fn is_charged(&mut self) -> bool {
        match &mut self.charge {
            Some(charge) => charge.set(self.read + self.gathered.capacity()).is_ok(),
            None => true,
        }
    }
}

impl Body for PeekedBody {
    type Data = Bytes;
    type Error = ForwardError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ForwardError>>> {
        let this = &mut *self;
        if let Some(piece) = this.pieces.get_mut(this.passed) {
            this.passed += 1;
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(piece)))));
        }
        if !this.gathered.is_empty() {
            let rest = std::mem::take(&mut this.gathered);
            return Poll::Ready(Some(Ok(Frame::data(rest.into()))));
        }
        this.charge = None;
        if let End::Rest = this.end {
            let frame = ready!(Pin::new(&mut this.rest).poll_frame(context));
            return Poll::Ready(frame);
        }
        Poll::Ready(match std::mem::replace(&mut this.end, End::Nothing) {
            End::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            End::Broken(error) => Some(Err(error)),
            End::Nothing | End::Rest => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.passed >= self.pieces.len()
            && self.gathered.is_empty()
            && match self.end {
                End::Rest => self.rest.is_end_stream(),
                End::Nothing => true,
                End::Trailers(_) | End::Broken(_) => false,
            }
    }

    fn size_hint(&self) -> SizeHint {
        let pieces: usize = self.pieces[self.passed..].iter().map(Bytes::len).sum();
        let held = (pieces + self.gathered.len()) as u64;
        let rest = match self.end {
            End::Rest => self.rest.size_hint(),
            End::Nothing | End::Trailers(_) | End::Broken(_) => SizeHint::with_exact(0),
        };
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(held));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint
    }
}
