//! A client that has closed its sending side and waits for its response.
//!
//! TCP does not distinguish such a client from one that has left. So the gateway waits for the response.
//! If a client has waited for a while without a byte of it, the gateway sends an interim response, `100
//! Continue`, which HTTP/1.1 clients skip (RFC 9110, section 15.2.1). The system of a client that has
//! left answers the first part with a reset, and then writing the second part fails.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{io::AsyncWrite, time::Instant};

use crate::wire::timer::LazyTimer;

/// The delay before the first test; it doubles each time.
const FIRST: Duration = Duration::from_secs(2);

/// The time in which a reset arrives.
const ROUND_TRIP: Duration = Duration::from_millis(250);

const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The length of the first part: all but the empty line.
const FIRST_PART: usize = INTERIM.len() - 2;

/// Tests whether the client is still there.
pub(super) struct HalfClosed {
    due: Instant,
    wait: Duration,
    /// How much of the interim response was written.
    written: usize,
    timer: LazyTimer,
}

impl HalfClosed {
    /// The client has just closed its sending side.
    pub(super) fn new() -> Self {
        Self {
            due: Instant::now() + FIRST,
            wait: FIRST,
            written: 0,
            timer: LazyTimer::default(),
        }
    }

    /// Ready when the client has left. It is tested only if it `may_be`: no byte of its response was
    /// written.
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

    /// Completes an interim response, so that the response can follow.
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
