//! How large the heads are that an upstream sends over HTTP/2.
//!
//! The library resets a stream whose head is too large in the same way as one whose head is malformed. So it is given
//! a wider bound than the gateway's, heads within it are measured here, and beyond it the length on the wire tells.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use countersign_core::wire::frames::Frames;
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much more than the gateway's bound the library takes.
const WIDER: usize = 4;

/// What a field takes besides its name and value (RFC 9113, section 6.5.2).
const FIELD: usize = 32;

/// The bound for heads and trailers, and the longest of the connection.
#[derive(Debug)]
pub(super) struct Heads {
    most: usize,
    /// In bytes as they were sent, since it was last asked for.
    longest: Arc<AtomicUsize>,
}

impl Heads {
    /// Bounds each to `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            longest: Arc::default(),
        }
    }

    /// The bound for the library.
    pub(super) fn wider(&self) -> u32 {
        u32::try_from(self.most.saturating_mul(WIDER)).unwrap_or(u32::MAX)
    }

    /// Follows what is read of `stream`.
    pub(super) fn follow<IO>(&self, stream: IO) -> Followed<IO> {
        Followed {
            stream,
            frames: Frames::of_server(),
            longest: Arc::clone(&self.longest),
        }
    }

    /// Whether a head or trailers with these fields are within the bound.
    pub(super) fn fit(&self, fields: &HeaderMap) -> bool {
        let size: usize = fields
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + FIELD)
            .sum();
        size <= self.most || {
            self.longest.store(0, Ordering::Relaxed);
            false
        }
    }

    /// Whether the last head that the library did not take was too large, and not malformed.
    pub(super) fn were_too_large(&self) -> bool {
        self.longest.swap(0, Ordering::Relaxed) > self.most
    }
}

/// An upstream's stream, of which the length of each header block is noted.
pub(super) struct Followed<IO> {
    stream: IO,
    frames: Frames,
    longest: Arc<AtomicUsize>,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Followed<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        this.frames
            .follow(buffer.filled().get(before..).unwrap_or_default());
        this.longest
            .fetch_max(this.frames.take_longest(), Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Followed<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
