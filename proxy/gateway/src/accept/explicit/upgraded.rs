//! The client's connection after the response to CONNECT.

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

/// Waits until the client has the response to CONNECT, then intercepts the connection.
pub(super) async fn intercept(intercepted: Intercepted, upgrade: OnUpgrade) {
    // The client left before it had the response.
    let Ok(upgraded) = upgrade.await else { return };
    // The usual kinds of connection are unwrapped: a wrapped one costs a virtual call for each read and
    // hides data that the client sent too early.
    let upgraded = match unwrapped::<TcpStream>(upgraded) {
        Ok((stream, read)) => return Box::pin(intercepted.begin(stream, &read)).await,
        Err(upgraded) => upgraded,
    };
    match unwrapped::<Box<TlsStream<Metered<TcpStream>>>>(upgraded) {
        Ok((stream, read)) => Box::pin(intercepted.begin(stream, &read)).await,
        // On an HTTP/2 stream nothing can arrive before the response.
        Err(upgraded) => intercepted.run(TokioIo::<Upgraded>::new(upgraded)).await,
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
