//! The client's connection after the response to CONNECT.

use std::future::Future;

use bytes::Bytes;
use countersign_core::{reason::Reason, wire::stream::ClientStream};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::super::{intercept::Intercepted, metered::Metered, refused_tunnel::RefusedTunnel};
use crate::refusal::Refusal;

/// What is done in a tunnel that is decrypted.
pub(super) trait Inside: Sized + Send {
    /// Performs the TLS handshake and serves the requests inside until the tunnel ends.
    fn run<IO>(self, stream: IO) -> impl Future<Output = ()> + Send
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Records that there is no tunnel.
    fn record(self, refusal: Refusal);

    /// Like [`Self::run`], but refuses the tunnel if the client sent data (`early`) before the response to
    /// CONNECT.
    fn begin<IO>(self, stream: IO, early: &[u8]) -> impl Future<Output = ()> + Send
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let is_early = !early.is_empty();
        async move {
            if is_early {
                let detail = "the client sent data before its CONNECT was answered";
                return self.record(Refusal::new(Reason::EarlyData, detail));
            }
            self.run(stream).await;
        }
    }
}

impl Inside for Intercepted {
    async fn run<IO>(self, stream: IO)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Intercepted::run(self, stream).await;
    }

    fn record(self, refusal: Refusal) {
        Intercepted::record(self, refusal);
    }
}

impl Inside for RefusedTunnel {
    async fn run<IO>(self, stream: IO)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        RefusedTunnel::run(self, stream).await;
    }

    /// That its token is refused is what it records.
    fn record(self, _: Refusal) {}
}

/// Waits until the client has the response to CONNECT, then decrypts the connection.
pub(super) async fn decrypt(inside: impl Inside, upgrade: OnUpgrade) {
    // The client left before it had the response.
    let Ok(upgraded) = upgrade.await else { return };
    // The usual kinds of connection are unwrapped: a wrapped one costs a virtual call for each read and
    // hides data that the client sent too early.
    let upgraded = match unwrapped::<TcpStream>(upgraded) {
        Ok((stream, read)) => return Box::pin(inside.begin(stream, &read)).await,
        Err(upgraded) => upgraded,
    };
    match unwrapped::<Box<TlsStream<Metered<TcpStream>>>>(upgraded) {
        Ok((stream, read)) => Box::pin(inside.begin(stream, &read)).await,
        // On an HTTP/2 stream nothing can arrive before the response.
        Err(upgraded) => inside.run(TokioIo::<Upgraded>::new(upgraded)).await,
    }
}

/// The client's stream, and the bytes already read from it.
fn unwrapped<IO>(upgraded: Upgraded) -> Result<(IO, Bytes), Upgraded>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let parts = upgraded.downcast::<TokioIo<ClientStream<IO>>>()?;
    Ok((parts.io.into_inner().into_inner(), parts.read_buf))
}
