//! A client that has said all that it will, and waits for its answer.
//!
//! TCP does not tell such a client from one that has left. So its answer is waited for; but one that
//! has waited for a while without a byte of it is sent an interim response, `100 Continue`, which
//! clients of HTTP/1.1 skip (RFC 9110, section 15.2.1). The system of one that has left answers its
//! first part with a reset, on which the writing of its second part fails.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{io::AsyncWrite, time::Instant};

use crate::wire::timer::LazyTimer;

/// After how long the client is asked first; each time after that it is twice as long.
const FIRST: Duration = Duration::from_secs(2);

/// The time for a reset to arrive.
const ROUND_TRIP: Duration = Duration::from_millis(250);

const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The length of the first part: all but the empty line.
const FIRST_PART: usize = INTERIM.len() - 2;

/// Finds out whether the client is still there.
pub(super) struct HalfClosed {
    due: Instant,
    wait: Duration,
    /// How much of the interim response was written.
    written: usize,
    timer: LazyTimer,
}

impl HalfClosed {
    /// The client has just said all that it will.
    pub(super) fn new() -> Self {
        Self {
            due: Instant::now() + FIRST,
            wait: FIRST,
            written: 0,
            timer: LazyTimer::default(),
        }
    }

    /// Ready when the client turns out to have left. It is asked only while it `may_be`: nothing of
    /// its answer was written.
    pub(super) fn poll_left(
        &mut self,
        mut stream: Pin<&mut impl AsyncWrite>,
        context: &mut Context<'_>,
        may_be: bool,
    ) -> Poll<io::Error> {
        while may_be || self.written > 0 {
            ready!(self.timer.poll_until(context, self.due));
            let part = if self.written < FIRST_PART {
                FIRST_PART
            } else {
                INTERIM.len()
            };
            if let Err(error) = ready!(self.poll_write(stream.as_mut(), context, part)) {
                return Poll::Ready(error);
            }
            if self.written < INTERIM.len() {
                self.due = Instant::now() + ROUND_TRIP;
            } else {
                self.written = 0;
                self.wait *= 2;
                self.due = Instant::now() + self.wait;
            }
        }
        Poll::Pending
    }

    /// Completes an interim response that was begun, so that the answer can follow.
    pub(super) fn poll_complete(
        &mut self,
        stream: Pin<&mut impl AsyncWrite>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.written > 0 {
            ready!(self.poll_write(stream, context, INTERIM.len()))?;
            self.written = 0;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(
        &mut self,
        mut stream: Pin<&mut impl AsyncWrite>,
        context: &mut Context<'_>,
        end: usize,
    ) -> Poll<io::Result<()>> {
        while self.written < end {
            let rest = &INTERIM[self.written..end];
            match ready!(stream.as_mut().poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        stream.poll_flush(context)
    }
}
