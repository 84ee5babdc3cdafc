//! An upstream's stream, whose bytes are checked as they are read.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    super::error::OverBound,
    framing::{BOUNDS, Framing, Progress},
};

/// A stream that fails with `InvalidData` as soon as a response violates HTTP.
pub struct Wire<IO> {
    stream: IO,
    framing: Framing,
    progress: Arc<Progress>,
}

impl<IO> Wire<IO> {
    /// Checks the bytes of `stream`; no line may be longer than `longest_line` bytes.
    pub(super) fn new(stream: IO, progress: Arc<Progress>, longest_line: usize) -> Self {
        Self {
            stream,
            framing: Framing::new(longest_line),
            progress,
        }
    }

    /// The stream itself, after its responses.
    pub(super) fn into_inner(self) -> IO {
        self.stream
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Wire<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        let fresh = buffer.filled().get(before..).unwrap_or_default();
        let followed = this.framing.follow(fresh, &this.progress);
        Poll::Ready(followed.map_err(|fault| match fault {
            bound if BOUNDS.contains(&bound) => {
                io::Error::new(io::ErrorKind::InvalidData, OverBound(bound))
            }
            fault => io::Error::new(io::ErrorKind::InvalidData, fault),
        }))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Wire<IO> {
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
