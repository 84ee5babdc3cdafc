//! The last response to an HTTP/1.1 client whose request is not read any further. hyper would close the
//! connection without one.

use std::time::Duration;

use countersign_core::wire::meter::Overrun;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use crate::refusal::Refusal;

/// How long the gateway reads on, and how many bytes, so that the client can read the response: closing a
/// connection with unread bytes resets it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 * 1024;

/// Sends the response and closes the connection.
pub(super) async fn tell<IO>(mut stream: IO, overrun: Overrun)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let facts = Refusal::from(overrun).reason.facts();
    let (status, code) = (facts.status, facts.code);
    let (phrase, kind) = match status {
        431 => ("Request Header Fields Too Large", "http_request_error"),
        _ => ("Service Unavailable", "proxy_internal_error"),
    };
    let head = format!(
        "HTTP/1.1 {status} {phrase}\r\nproxy-status: countersign; error={kind}; details=\"{code}\"\r\n\
         cache-control: no-store\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    );
    let told = async {
        stream.write_all(head.as_bytes()).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // The connection ends in any case.
    drop(timeout(LINGER, told).await);
}
