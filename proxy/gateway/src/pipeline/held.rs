//! The beginning of an answer, held back until it is certain whether it says that a credential failed.
//!
//! An answer is held only if its head leaves open that it is a failure which can be recovered from,
//! and only until the bytes that are there decide: `{"ok":true` is enough for Slack. It is held for
//! [`LONGEST_HOLD`] and `limits.inspectBytes` at most, and goes on as it is when these are reached. What
//! was read goes on unchanged. The first two pieces are not copied; what comes in more of them is, as a
//! reference to a few bytes would keep the whole buffer that they were read into.

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
    detect::{Seen, Verdict},
    forward::{ForwardError, UpstreamBody},
};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use smallvec::SmallVec;
use tokio::time::{Instant, timeout_at};

/// The longest that the head of an answer waits for a decision after it has come.
pub(super) const LONGEST_HOLD: Duration = Duration::from_secs(1);

/// Up to this many bytes every piece is looked at as it comes; after that, whenever what is there
/// has doubled, so that a body in tiny pieces does not cost a look each.
const EAGER: usize = 4 * 1024;

/// The pieces that are kept as they came.
const MOST_PIECES: usize = 2;

/// An answer's body, of which the beginning may have been read.
#[derive(Debug)]
pub struct Resumed {
    pieces: SmallVec<[Bytes; MOST_PIECES]>,
    /// What came in more pieces than that.
    gathered: Vec<u8>,
    /// What is held while it is judged; given back when it goes on.
    charge: Option<Charge>,
    /// What may be held while its client does not take it.
    room: Option<Charge>,
    /// How many of the pieces went on.
    passed: usize,
    /// All that was read, in bytes.
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

impl From<UpstreamBody> for Resumed {
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

impl Resumed {
    /// How much of it may be held while its client does not take it, in bytes.
    pub(super) fn most_held(&self) -> usize {
        self.rest.most_held()
    }

    /// What is held back of it is charged for; where that cannot be, no more is held back. `room` is for
    /// what its client does not take.
    pub(super) fn charged(mut self, charge: Charge, room: Charge) -> Self {
        self.charge = Some(charge);
        self.room = Some(room);
        self
    }

    /// Reads until it is certain whether this is a failure that can be recovered from, or until it has
    /// been held for long enough.
    pub(super) async fn judge<'t>(
        &mut self,
        seen: Seen,
        target: &'t Target,
        limit: usize,
    ) -> Verdict<'t> {
        let mut verdict = seen.judge(target, &[], self.has_ended());
        let deadline = Instant::now() + LONGEST_HOLD;
        let mut look_at = 0;
        let mut looked_at = 0;
        while let Verdict::Open { recoverable: true } = verdict {
            let goes_on = self.read <= limit && self.read_more(deadline).await;
            let due = self.has_ended() || self.read <= EAGER || self.read >= look_at;
            if (due || !goes_on) && (self.read != looked_at || self.has_ended()) {
                verdict = seen.judge(target, &self.content(), self.has_ended());
                looked_at = self.read;
                look_at = self.read.saturating_mul(2);
            }
            if !goes_on {
                break;
            }
        }
        verdict
    }

    /// Reads the rest of a short answer, so that its connection is free and all of what it says is
    /// known. Whether it came to its end.
    pub(super) async fn finish(&mut self, limit: usize) -> bool {
        let deadline = Instant::now() + LONGEST_HOLD;
        while self.read <= limit && self.read_more(deadline).await {}
        self.has_ended()
    }

    /// What was read, as it came.
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

    /// Reads one more piece; false if there is none, or not in time.
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
                // HTTP/2 may end with an empty piece, which nobody would ask for.
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

    /// Whether there was memory for what is held; a copy is in a buffer that doubles.
    fn is_charged(&mut self) -> bool {
        match &mut self.charge {
            Some(charge) => charge.set(self.read + self.gathered.capacity()).is_ok(),
            None => true,
        }
    }
}

impl Body for Resumed {
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
