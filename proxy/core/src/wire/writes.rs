//! The progress of writing to a client.

use std::{
    io::{self, IoSlice},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::Instant;

use super::{connection_state::ConnectionState, timer::LazyTimer, unserved::SentFrames};

/// Watches what is written, and how long it takes.
pub(super) struct Writes {
    limit: Duration,
    waiting_since: Option<Instant>,
    timer: LazyTimer,
    /// Of HTTP/2.
    frames: Option<SentFrames>,
}

impl Writes {
    /// Each chunk may take `limit`.
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            waiting_since: None,
            timer: LazyTimer::default(),
            frames: None,
        }
    }

    /// What is written is HTTP/2.
    pub(super) fn follow_frames(&mut self) {
        self.frames = Some(SentFrames::default());
    }

    /// Follows what was written of `slices`.
    pub(super) fn wrote(
        &mut self,
        slices: &[IoSlice<'_>],
        polled: &Poll<io::Result<usize>>,
        connection_state: &ConnectionState,
    ) {
        let (Some(frames), Poll::Ready(Ok(wrote))) = (&mut self.frames, polled) else {
            return;
        };
        let mut left = *wrote;
        for slice in slices {
            let here = left.min(slice.len());
            frames.follow(&slice[..here], &connection_state.streams);
            left -= here;
        }
    }

    /// Fails what a write or flush waits for if that takes too long.
    pub(super) fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        connection_state: &ConnectionState,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        connection_state.streams.blocked(polled.is_pending());
        if polled.is_ready() {
            self.waiting_since = None;
            return polled;
        }
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        ready!(self.timer.poll_until(context, since + self.limit));
        connection_state.stall();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}
