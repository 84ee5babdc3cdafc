//! The client's connection once its CONNECT was answered.

use bytes::Bytes;
use countersign_core::wire::stream::ClientStream;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::super::{intercept::Intercepted, metered::Metered};

/// Waits until the client has our answer to CONNECT, then intercepts what follows.
pub(super) async fn intercept(intercepted: Intercepted, upgrade: OnUpgrade) {
    // The client left before it had our answer: there is nothing to intercept or to tell.
    let Ok(upgraded) = upgrade.await else { return };
    // A connection of a usual kind is taken out of its wrapping, which would cost a virtual call a
    // read and tell nothing of what the client sent too early.
    let upgraded = match unwrapped::<TcpStream>(upgraded) {
        Ok((stream, read)) => return Box::pin(intercepted.begin(stream, &read)).await,
        Err(upgraded) => upgraded,
    };
    match unwrapped::<Box<TlsStream<Metered<TcpStream>>>>(upgraded) {
        Ok((stream, read)) => Box::pin(intercepted.begin(stream, &read)).await,
        // A stream of HTTP/2 has nothing that came before its answer.
        Err(upgraded) => intercepted.run(TokioIo::<Upgraded>::new(upgraded)).await,
    }
}

/// The client's stream, and what was read of it already.
fn unwrapped<IO>(upgraded: Upgraded) -> Result<(IO, Bytes), Upgraded>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let parts = upgraded.downcast::<TokioIo<ClientStream<IO>>>()?;
    Ok((parts.io.into_inner().into_inner(), parts.read_buf))
}
