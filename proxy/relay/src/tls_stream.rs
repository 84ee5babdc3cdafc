//! A TLS connection to a gateway that says why it ended.
//!
//! In TLS 1.3 a server refuses a client's certificate only after the client's handshake is over (RFC 8446,
//! section 4.4.2.4). If the client writes before it reads, it learns only that the connection is closed,
//! although the alert with the cause has arrived.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
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
pub(super) struct GatewayStream(TlsStream<TcpStream>);

impl GatewayStream {
    pub(super) fn new(stream: TlsStream<TcpStream>) -> Self {
        Self(stream)
    }

    /// Whether the gateway chose HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.0.get_ref().1.alpn_protocol() == Some(b"h2")
    }

    /// The gateway's alert if it has arrived, instead of an error of writing.
    fn told<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let Poll::Ready(Err(error)) = written else {
            return written;
        };
        let mut space = [0; SEARCHED];
        let mut read = ReadBuf::new(&mut space);
        loop {
            let before = read.filled().len();
            match Pin::new(&mut self.0).poll_read(context, &mut read) {
                Poll::Ready(Err(alert)) if alert.get_ref().is_some() => {
                    return Poll::Ready(Err(alert));
                }
                Poll::Ready(Ok(())) if read.filled().len() > before => {}
                Poll::Ready(Ok(()) | Err(_)) | Poll::Pending => return Poll::Ready(Err(error)),
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
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for GatewayStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.0).poll_write(context, bytes);
        self.told(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = Pin::new(&mut self.0).poll_flush(context);
        self.told(context, written)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.0).poll_write_vectored(context, slices);
        self.told(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
