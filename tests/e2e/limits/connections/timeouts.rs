//! Heads and handshakes have their time in all, not from byte to byte.

use std::time::Duration;

use countersign_config::model::Limits;
use countersign_tests::{client::Ask, fake::Protocol};
use rstest::rstest;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{connect, drip, said, status, with_limits};
use crate::harness::{HOST, TestBed, closed};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
/// HEADERS without `END_HEADERS`: `:method: GET`.
const ENDLESS: &[u8] = b"\0\0\x01\x01\0\0\0\0\x01\x82";
/// The header of a CONTINUATION of 16 KiB, without `END_HEADERS`.
const MORE: &[u8] = b"\0\x40\0\x09\0\0\0\0\x01";

fn short(limits: &mut Limits) {
    limits.head_timeout = Duration::from_secs(1);
    limits.handshake_timeout = Duration::from_secs(1);
}

/// A test bed whose listener has TLS, and the roots of its certificate.
async fn over_tls() -> anyhow::Result<(TestBed, String)> {
    let bed = TestBed::builder()
        .tls_listener()
        .limits(short)
        .start()
        .await?;
    let roots = bed.env.authority.pem();
    Ok((bed, roots))
}

/// Sends what is begun, and then one piece after another or nothing, until the other side has closed.
async fn dawdle(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    begun: &[u8],
    piece: &[u8],
) -> anyhow::Result<()> {
    stream.write_all(begun).await?;
    stream.flush().await?;
    if piece.is_empty() {
        return closed(stream).await;
    }
    drip(stream, piece).await
}

#[rstest]
#[case::line("GET https://api.exam", "a")]
#[case::headers("CONNECT api.example.test:443 HTTP/1.1\r\n", "X-A: b\r\n")]
#[tokio::test]
async fn t50_a_head_that_drips(#[case] begun: &str, #[case] piece: &str) -> anyhow::Result<()> {
    let mut bed = with_limits(short).await?;
    let mut stream = said(&bed, begun).await?;
    drip(&mut stream, piece.as_bytes()).await?;
    bed.recorded("head_timeout").await?;
    Ok(())
}

#[tokio::test]
async fn t50_a_head_that_drips_within_a_tunnel() -> anyhow::Result<()> {
    let mut bed = with_limits(short).await?;
    let mut stream = bed.client().tls_stream(HOST).await?;
    stream.write_all(b"GET / HTTP/1.1\r\n").await?;
    drip(&mut stream, b"X-A: b\r\n").await?;
    bed.recorded("head_timeout").await?;
    Ok(())
}

/// A second head drips after a first one that was answered.
#[tokio::test]
async fn t50_the_next_head_on_a_connection_that_drips() -> anyhow::Result<()> {
    let mut bed = with_limits(short).await?;
    let mut stream = bed.client().tls_stream(HOST).await?;
    let first = format!("GET /some HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    stream.write_all(first.as_bytes()).await?;
    assert_eq!(status(&mut stream).await?, "200");
    bed.recorded("permitted").await?;
    stream.write_all(b"GET /other HTTP/1.1\r\n").await?;
    drip(&mut stream, b"X-A: b\r\n").await?;
    bed.recorded("head_timeout").await?;
    Ok(())
}

#[rstest]
#[case::silence(b"")]
#[case::dripping_hello(b"\x16\x03\x01\x40\0\x01\0\x3f\xfc")]
#[tokio::test]
async fn t50_a_handshake_that_does_not_end_within_a_tunnel(
    #[case] begun: &[u8],
) -> anyhow::Result<()> {
    let mut bed = with_limits(short).await?;
    let mut stream = said(&bed, &connect(&bed.token)).await?;
    assert_eq!(status(&mut stream).await?, "200");
    dawdle(
        &mut stream,
        begun,
        if begun.is_empty() { b"" } else { b"\0" },
    )
    .await?;
    bed.recorded("client_tls").await?;
    Ok(())
}

#[rstest]
#[case::silence(b"")]
#[case::dripping_hello(b"\x16\x03\x01\x40\0\x01\0\x3f\xfc")]
#[tokio::test]
async fn t50_a_handshake_that_does_not_end_with_the_proxy(
    #[case] begun: &[u8],
) -> anyhow::Result<()> {
    let (mut bed, _) = over_tls().await?;
    let mut stream = TcpStream::connect(bed.gateway.address()).await?;
    dawdle(
        &mut stream,
        begun,
        if begun.is_empty() { b"" } else { b"\0" },
    )
    .await?;
    bed.recorded("client_tls").await?;
    Ok(())
}

#[rstest]
#[case::no_preface(&[&PREFACE[..10]], b"")]
#[case::no_settings(&[PREFACE], b"")]
#[case::endless_block(&[PREFACE, SETTINGS, ENDLESS, MORE], b"\x84")]
#[case::half_a_frame(&[PREFACE, SETTINGS, b"\0\x40\0\x01\x05\0\0\0\x01\x82"], b"\x84")]
#[tokio::test]
async fn t61_a_header_block_of_http2_that_never_ends(
    #[case] begun: &[&[u8]],
    #[case] piece: &[u8],
    #[values(false, true)] within: bool,
) -> anyhow::Result<()> {
    let (mut bed, roots) = over_tls().await?;
    let client = bed.client().over(Protocol::Http2);
    let mut stream: countersign_tests::client::Stream = if within {
        let authority = format!("{HOST}:443");
        let tunnel = client.tunnel(Ask::Http11, &authority, Some(&roots)).await?;
        Box::new(client.greet(tunnel, HOST).await?)
    } else {
        client.to_proxy(Some(&roots), "h2").await?
    };
    dawdle(&mut stream, &begun.concat(), piece).await?;
    let record = bed.recorded("head_timeout").await?;
    assert_eq!(record["caller"]["subject"].is_null(), !within, "{record}");
    Ok(())
}
