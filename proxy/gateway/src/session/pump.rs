//! Copies bytes in both directions, for tunnels and WebSockets.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use countersign_config::memory;
use countersign_core::{
    budget::{Purse, narrow},
    reason::Reason,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{AccessGuard, close};
use crate::{
    observe::{self, Outcome, Record},
    refusal::Refusal,
};

/// The size of the buffer in each direction, in bytes.
const BUFFER: usize = narrow(memory::PUMP_BUFFER);

/// How long both sides may take to receive the end of a stream.
const FAREWELL: Duration = Duration::from_secs(1);

/// The limits of a carried stream.
#[derive(Debug)]
pub struct Bounds {
    /// The caller's proof and policy's permission.
    pub guard: AccessGuard,
    /// What the buffers take.
    pub room: Arc<Purse>,
    /// How long both directions may stand still.
    pub idle: Duration,
    /// The gateway drains, or the connection that carries the stream ends.
    pub closing: CancellationToken,
}

/// Carries bytes until one side closes or a bound is met, then closes the record with `outcome`,
/// or with what ended it.
pub async fn pump<A, B>(
    mut client: A,
    mut upstream: B,
    record: Record,
    bounds: Bounds,
    outcome: Outcome,
) where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let ended = carry(&mut client, &mut upstream, &record.bytes, &bounds).await;
    conclude(record, ended, outcome);
    farewell(&mut client, &mut upstream).await;
}

/// Carries bytes, and counts them, until one side closes or a bound is met; says which.
pub async fn carry<A, B>(
    client: &mut A,
    upstream: &mut B,
    bytes: &observe::ByteCounts,
    bounds: &Bounds,
) -> Option<Refusal>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut client = Counted {
        stream: client,
        count: |count| bytes.add_request(count),
    };
    let mut upstream = Counted {
        stream: upstream,
        count: |count| bytes.add_response(count),
    };
    let copy = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER);
    tokio::select! {
        biased;
        // Any end is normal here: the bytes are counted, and either side may hang up.
        _ = copy => None,
        refusal = bounds.guard.ended() => Some(refusal),
        () = bounds.closing.cancelled() => bounds.guard.why_closed().await,
        () = stalled(bytes, bounds.idle) => Some(Refusal::new(
            Reason::BodyStalled,
            format!("nothing was sent either way for {:?}", bounds.idle),
        )),
    }
}

/// Closes the record of what was carried.
pub fn conclude(record: Record, ended: Option<Refusal>, outcome: Outcome) {
    match ended {
        Some(refusal) => close(record, refusal),
        None => record.close(outcome),
    }
}

/// Closes both sides properly (TLS: `close_notify`) if they still listen.
pub async fn farewell<A, B>(client: &mut A, upstream: &mut B)
where
    A: AsyncWrite + Unpin,
    B: AsyncWrite + Unpin,
{
    let farewell = async { tokio::join!(client.shutdown(), upstream.shutdown()) };
    drop(tokio::time::timeout(FAREWELL, farewell).await);
}

/// The same for the client alone: closing with unread bytes would discard what was written last.
pub async fn last_words<A: AsyncRead + AsyncWrite + Unpin>(client: &mut A) {
    drop(tokio::time::timeout(FAREWELL, client.shutdown()).await);
}

/// Completes when the counters have not changed for `limit` (at least, and at most twice that).
async fn stalled(bytes: &observe::ByteCounts, limit: Duration) {
    let total = || bytes.request().wrapping_add(bytes.response());
    let mut seen = total();
    let mut due = Instant::now() + limit;
    loop {
        tokio::time::sleep_until(due).await;
        let now = total();
        if now == seen {
            return;
        }
        seen = now;
        due = Instant::now() + limit;
    }
}

/// A stream that counts what is read from it.
struct Counted<S, F> {
    stream: S,
    count: F,
}

impl<S: AsyncRead + Unpin, F: Fn(u64) + Unpin> AsyncRead for Counted<S, F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = buffer.filled().len() - before;
        (self.count)(read as u64);
        polled
    }
}

impl<S: AsyncWrite + Unpin, F: Unpin> AsyncWrite for Counted<S, F> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
