//! A stream during a TLS handshake. Its messages may be reassembled to large ones in memory, so the bytes
//! read are charged for.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use countersign_config::memory::{FIRST_BYTES, HANDSHAKE};
use countersign_core::{
    budget::{Charge, Purse, narrow},
    wire::meter::Overrun,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a handshake usually takes, in bytes; the fixed charge of a connection covers it.
const USUAL: usize = 4 * 1024;

/// A stream whose handshake is charged for until it is over.
#[derive(Debug)]
pub(super) struct Metered<IO> {
    stream: IO,
    handshake: Option<Handshake>,
}

#[derive(Debug)]
struct Handshake {
    charge: Charge,
    read: usize,
    /// Bytes held for each byte read.
    factor: usize,
}

impl<IO> Metered<IO> {
    /// Charges `purse` for the handshake that begins.
    pub(super) fn new(stream: IO, purse: &Arc<Purse>) -> Self {
        // The buffer grows by doubling.
        Self::with_factor(stream, purse, 2)
    }

    /// Charges `purse` for what is read until the protocol is detected.
    pub(super) fn first_bytes(stream: IO, purse: &Arc<Purse>) -> Self {
        Self::with_factor(stream, purse, narrow(FIRST_BYTES / HANDSHAKE))
    }

    fn with_factor(stream: IO, purse: &Arc<Purse>, factor: usize) -> Self {
        Self {
            stream,
            handshake: Some(Handshake {
                charge: purse.charge(),
                read: 0,
                factor,
            }),
        }
    }

    /// The handshake is over: gives the charge back.
    pub(super) fn greeted(&mut self) {
        self.handshake = None;
    }
}

impl Handshake {
    fn read(&mut self, bytes: usize) -> Result<(), Overrun> {
        self.read += bytes;
        if self.read <= USUAL {
            return Ok(());
        }
        let held = self.factor * self.read;
        self.charge.set(held).map_err(Overrun::Short)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Metered<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some(handshake) = &mut self.handshake else {
            return polled;
        };
        ready!(polled)?;
        handshake.read(buffer.filled().len() - before)?;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Metered<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
