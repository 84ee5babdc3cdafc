//! Bytes over sockets, where a client library would not go along.

use std::{io, net::SocketAddr};

use countersign_tests::client::converse;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    net::TcpListener,
};

use super::soon;

/// Sends bytes, and gives what comes back until the other side closes.
pub(crate) async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    bytes: &str,
) -> anyhow::Result<String> {
    Ok(soon("the end of the answer", converse(stream, bytes.as_bytes())).await??)
}

/// Completes when the other side has closed, in good order or not.
pub(crate) async fn closed(stream: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<()> {
    let mut rest = Vec::new();
    let end = soon("its closing", stream.read_to_end(&mut rest)).await?;
    drop(end);
    Ok(())
}

/// A server that speaks no protocol: it sends back what comes.
pub(crate) async fn echo_server() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (mut read, mut write) = stream.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut read, &mut write).await });
        }
    });
    Ok(address)
}
