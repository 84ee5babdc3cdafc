//! The TCP side of a stand-in's connection: counted, and able to end with a reset.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
};

/// Cuts one connection off, from anywhere.
#[derive(Default)]
pub(crate) struct Cut {
    done: AtomicBool,
    notify: Notify,
}

impl Cut {
    /// From now on the connection is ended with a TCP reset.
    pub(crate) fn cut(&self) {
        self.done.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    /// Returns once [`Self::cut`] was called; only one task may wait.
    pub(crate) async fn wait(&self) {
        if !self.done.load(Ordering::Acquire) {
            self.notify.notified().await;
        }
    }
}

/// A TCP stream that counts itself as open while it lives.
pub(crate) struct Wire {
    tcp: TcpStream,
    cut: Arc<Cut>,
    open: Arc<AtomicUsize>,
}

impl Wire {
    pub(crate) fn new(tcp: TcpStream, cut: Arc<Cut>, open: Arc<AtomicUsize>) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        open.fetch_add(1, Ordering::AcqRel);
        Ok(Self { tcp, cut, open })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
        if self.cut.done.load(Ordering::Acquire)
            && let Err(error) = self.tcp.set_zero_linger()
        {
            // The peer was faster and the socket is gone: nothing is left to reset.
            debug_assert_ne!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
