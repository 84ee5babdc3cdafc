//! A TLS connection to a gateway that says why it ended.
//!
//! In TLS 1.3 a server refuses a client's certificate only after the client's handshake is over (RFC 8446,
//! section 4.4.2.4). If the client writes before it reads, it learns only that the connection is closed,
//! although the alert with the cause has arrived.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// How much is read in search of the alert, in bytes: what comes before it is of no use any more.
const SEARCHED: usize = 1024;

/// The connection.
#[derive(Debug)]
pub(super) struct GatewayStream {
    stream: TlsStream<TcpStream>,
    /// Why nothing more can be written, until it is known whether there is an alert.
    failed: Option<io::Error>,
}

impl GatewayStream {
    pub(super) fn new(stream: TlsStream<TcpStream>) -> Self {
        Self {
            stream,
            failed: None,
        }
    }

    /// Whether the gateway chose HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.stream.get_ref().1.alpn_protocol() == Some(b"h2")
    }

    /// Writes; an error becomes the gateway's alert, if there is one.
    fn write<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TlsStream<TcpStream>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.failed.is_none() {
            match ready!(write(Pin::new(&mut self.stream), context)) {
                Ok(written) => return Poll::Ready(Ok(written)),
                Err(error) => self.failed = Some(error),
            }
        }
        Poll::Ready(Err(ready!(self.poll_why(context))))
    }

    /// The alert, or the error of writing. A connection that the peer has closed becomes readable, so this
    /// does not wait for long.
    fn poll_why(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let mut space = [0; SEARCHED];
        let mut read = ReadBuf::new(&mut space);
        let closed = |error: &io::Error| {
            matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            )
        };
        loop {
            let before = read.filled().len();
            match Pin::new(&mut self.stream).poll_read(context, &mut read) {
                Poll::Ready(Err(alert)) if alert.get_ref().is_some() => return Poll::Ready(alert),
                Poll::Ready(Ok(())) if read.filled().len() > before => {}
                Poll::Pending if self.failed.as_ref().is_some_and(closed) => return Poll::Pending,
                Poll::Ready(Ok(()) | Err(_)) | Poll::Pending => {
                    let error = self.failed.take();
                    return Poll::Ready(error.unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()));
                }
            }
        }
    }
}

impl AsyncRead for GatewayStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for GatewayStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(context, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(context, |stream, context| {
            stream.poll_write_vectored(context, slices)
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
