//! Reads the rest of a request's body, which nobody wants, before its connection is closed.
//!
//! Closing a connection on which unread bytes wait resets it, and a reset can destroy a response that the
//! client has not read yet (RFC 9112, section 9.6). Most clients read the response only after they have sent
//! everything. So the response is sent, the rest of the body is read and discarded, and then the connection is
//! closed. Until then the gateway does not close its side either: some clients take that for an error while
//! they still send.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    time::Instant,
};

use super::framing::Framing;
use crate::wire::timer::LazyTimer;

/// How much is read of one body, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// In bytes.
    pub bytes: u64,
    /// In total.
    pub total: Duration,
    /// Without a byte.
    pub idle: Duration,
}

impl Bounds {
    /// For an identified caller: more than any API of the catalog takes in one request.
    pub const IDENTIFIED: Self = Self {
        bytes: 128 * 1024 * 1024,
        total: Duration::from_mins(1),
        idle: Duration::from_secs(5),
    };

    /// For everybody else.
    pub const UNIDENTIFIED: Self = Self {
        bytes: 1024 * 1024,
        total: Duration::from_secs(1),
        idle: Duration::from_secs(1),
    };
}

/// How much is read at once. The buffer exists only while it is read into.
const BUFFER: usize = 8 * 1024;

/// How much is read before other tasks have their turn.
const PIECE: usize = 128 * 1024;

/// The rest of one body.
pub(super) struct Linger {
    left: u64,
    idle: Duration,
    end: Instant,
    last: Instant,
    timer: LazyTimer,
}

impl Linger {
    pub(super) fn new(bounds: Bounds) -> Self {
        let now = Instant::now();
        Self {
            left: bounds.bytes,
            idle: bounds.idle,
            end: now + bounds.total,
            last: now,
            timer: LazyTimer::default(),
        }
    }

    /// Ready when the body has ended, the client has left, or a bound is reached.
    pub(super) fn poll(
        &mut self,
        mut stream: Pin<&mut impl AsyncRead>,
        context: &mut Context<'_>,
        framing: &mut Framing,
    ) -> Poll<()> {
        let mut piece = 0;
        while framing.within_body() && self.left > 0 {
            let mut space = [MaybeUninit::uninit(); BUFFER];
            let mut buffer = ReadBuf::uninit(&mut space);
            let read = match stream.as_mut().poll_read(context, &mut buffer) {
                Poll::Ready(result) => self.read(result, buffer.filled(), framing),
                Poll::Pending => {
                    ready!(
                        self.timer
                            .poll_until(context, self.end.min(self.last + self.idle))
                    );
                    return Poll::Ready(());
                }
            };
            let Some(read) = read.filter(|_| Instant::now() < self.end) else {
                return Poll::Ready(());
            };
            piece += read;
            if piece >= PIECE {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    /// How much was read; `None` if there is nothing more to read.
    fn read(
        &mut self,
        result: io::Result<()>,
        bytes: &[u8],
        framing: &mut Framing,
    ) -> Option<usize> {
        result.ok().filter(|()| !bytes.is_empty())?;
        framing.follow(bytes).ok()?;
        self.left = self.left.saturating_sub(bytes.len() as u64);
        self.last = Instant::now();
        Some(bytes.len())
    }
}
