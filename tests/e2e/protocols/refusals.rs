//! Refusals arrive whole, in the API's own language.

use bytes::Bytes;
use countersign_tests::{client::read_head, fake::Protocol};
use http::Request;
use http_body_util::Full;
use rstest::rstest;
use tokio::io::AsyncWriteExt as _;

use crate::harness::{TestBed, soon};

/// Each refusal is answered before the upstream was asked, so while the body is still on its way.
/// It must not be lost in the reset of a stream or connection whose body nobody read.
#[rstest]
#[case::http1(Protocol::Http1)]
#[case::http2(Protocol::Http2)]
#[tokio::test]
async fn a_refused_body_does_not_cost_the_answer(#[case] protocol: Protocol) -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    let client = bed.client().over(protocol);
    for size in [1, 1_000, 60_000, 200_000] {
        let mut session = client.open("slack.com").await?;
        for _ in 0..10 {
            let request = Request::post("https://slack.com/api/chat.delete")
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from(vec![b' '; size])))?;
            let answer = session.send(request).await?;
            assert_eq!(answer.status, 200, "{size} bytes");
            assert_eq!(
                answer.json()["error"],
                "request_not_allowed",
                "{size} bytes"
            );
        }
    }
    assert_eq!(bed.env.slack.received().count(), 0);
    bed.gateway.stop().await?;
    Ok(())
}

/// A body that is larger than what is read before the response.
#[rstest]
#[tokio::test]
async fn a_large_refused_body_does_not_cost_the_answer(
    #[values(Protocol::Http1, Protocol::Http2)] protocol: Protocol,
    #[values(300_000, 1 << 20, 32 << 20)] size: usize,
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let client = bed.client().over(protocol);
    let request = Request::post("https://slack.com/api/chat.delete")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(vec![b' '; size])))?;
    let answer = client.open("slack.com").await?.send(request).await?;
    assert_eq!(answer.json()["error"], "request_not_allowed");
    let closes = (protocol == Protocol::Http1).then_some("close");
    assert_eq!(answer.header("connection"), closes);
    bed.recorded("request_not_allowed").await?;
    assert_eq!(bed.env.slack.received().count(), 0);
    Ok(())
}

/// It is told at once, and the client need not send its body.
#[tokio::test]
async fn a_client_that_awaits_100_continue_is_refused_instead() -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    let mut stream = bed.client().tls_stream("slack.com").await?;
    let head = "POST /api/chat.delete HTTP/1.1\r\nHost: slack.com\r\nContent-Length: 33554432\r\n\
                Expect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let told = soon("the response", read_head(&mut stream)).await??;
    assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
    assert!(told.contains("connection: close"), "{told}");
    Ok(())
}
