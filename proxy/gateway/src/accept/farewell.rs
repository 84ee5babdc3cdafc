//! The last word to a client of HTTP/1.1 from which no more is read. hyper would close without one.

use std::time::Duration;

use countersign_core::wire::meter::Overrun;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use crate::refusal::Refusal;

/// How long, and for how many bytes, a client may take to read it: closing upon unread bytes would
/// reset the connection before.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 * 1024;

/// Says why, and closes.
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
    // Whether it was read is the same now.
    drop(timeout(LINGER, told).await);
}
