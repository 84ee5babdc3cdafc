//! Attacks on places, and on the time that is spent on who has one: whoever has proven nothing, or
//! stalls, must not keep others out.

mod strangers;
mod timeouts;

use std::time::Duration;

use countersign_config::model;
use countersign_tests::client::read_head;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{HOST, TestBed, soon};

/// A test bed whose gateway's limits are changed.
async fn with_limits(change: impl FnOnce(&mut model::Limits)) -> anyhow::Result<TestBed> {
    TestBed::builder().limits(change).start().await
}

/// A connection to the proxy on which these bytes were sent.
async fn said(bed: &TestBed, bytes: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(bed.gateway.address()).await?;
    stream.write_all(bytes.as_bytes()).await?;
    Ok(stream)
}

/// The status of the next answer on a connection, whose body is read too.
async fn status(stream: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<String> {
    let head = soon("an answer", read_head(stream)).await??;
    let length = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length: ")?
                .parse()
                .ok()
        })
        .unwrap_or(0);
    soon("its body", stream.read_exact(&mut vec![0; length])).await??;
    Ok(head.split(' ').nth(1).unwrap_or_default().to_owned())
}

/// Sends one piece after another, each well before a deadline from byte to byte would end, until the
/// other side has closed.
async fn drip(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    piece: &[u8],
) -> anyhow::Result<()> {
    let dripping = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        let mut answer = [0; 256];
        loop {
            tokio::select! {
                read = stream.read(&mut answer) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                },
                _ = ticks.tick() => {
                    if stream.write_all(piece).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    soon("the end of it", dripping).await
}

/// A request for a tunnel by whoever has this token.
fn connect(token: &str) -> String {
    format!(
        "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\nProxy-Authorization: Bearer {token}\r\n\r\n"
    )
}
