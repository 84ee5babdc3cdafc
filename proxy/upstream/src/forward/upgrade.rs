//! Upgraded connections (WebSocket): HTTP/1.1, each on a connection of its own.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http::Response;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use super::{ConnectionInfo, Room, Sent, endpoint::PoolPermit, transport::Transport};

/// How an upstream answered a request for an upgrade.
#[derive(Debug)]
pub enum UpgradeAnswer {
    /// By 101: what follows is the other protocol.
    Switched {
        /// The head of the 101 response.
        response: Response<()>,
        /// The connection.
        stream: Upgraded,
        /// What records say of it.
        connection: ConnectionInfo,
    },
    /// By any other response.
    Refused(Sent),
}

/// An upgraded connection. It counts against its pool key's bound until it is dropped.
pub struct Upgraded {
    read: Bytes,
    stream: Box<TlsStream<Transport>>,
    _permit: PoolPermit,
    _room: Room,
}

impl Upgraded {
    pub(super) fn new(
        read: Bytes,
        stream: Box<TlsStream<Transport>>,
        permit: PoolPermit,
        room: Room,
    ) -> Self {
        Self {
            read,
            stream,
            _permit: permit,
            _room: room,
        }
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let length = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read[..length]);
        self.read.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
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
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded").finish_non_exhaustive()
    }
}
