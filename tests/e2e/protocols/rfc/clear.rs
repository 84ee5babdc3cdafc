//! Answers in clear, to requests for hosts that no target matches: followed as strictly as others.

use countersign_tests::client::read_head;
use rstest::rstest;
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use crate::harness::{TestBed, soon};

const HOST: &str = "clear.example.test";

/// What a client of the proxy gets when an API in clear answers so and closes.
async fn answered(answer: &'static str) -> anyhow::Result<(String, serde_json::Value)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let api = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        read_head(&mut stream).await?;
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    });
    let mut bed = TestBed::builder()
        .tunnel_unmatched()
        .resolve(HOST, 80, address)
        .start()
        .await?;
    let seen = bed.absolute(&bed.token, &format!("http://{HOST}/")).await?;
    soon("the API's end", api).await???;
    Ok((seen, bed.record().await?))
}

#[rstest]
#[case::t76_shorter(
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
)]
#[case::t76_longer(
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 90\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
)]
#[case::of_http10("HTTP/1.0 200 OK\r\n\r\nhello")]
#[tokio::test]
async fn an_answer_in_clear_comes_through_whole(
    #[case] answer: &'static str,
) -> anyhow::Result<()> {
    let (seen, record) = answered(answer).await?;
    let seen = seen.to_ascii_lowercase();
    assert!(seen.starts_with("http/1.1 200 "), "{seen}");
    assert!(!seen.contains("content-length"), "{seen}");
    assert!(seen.ends_with("\r\n5\r\nhello\r\n0\r\n\r\n"), "{seen}");
    assert_eq!(record["outcome"], "tunnelled", "{record}");
    Ok(())
}

#[rstest]
#[case::bare_lf("HTTP/1.1 200 OK\nContent-Length: 2\n\nok")]
#[case::another_coding("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok")]
#[case::different_lengths("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!")]
#[case::t74_an_unasked_switch(
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
)]
#[tokio::test]
async fn an_ambiguous_answer_in_clear_is_refused(
    #[case] answer: &'static str,
) -> anyhow::Result<()> {
    let (seen, record) = answered(answer).await?;
    assert!(seen.starts_with("HTTP/1.1 502 "), "{seen}");
    assert!(seen.contains("upstream_broken"), "{seen}");
    assert_eq!(record["reason"], "upstream_broken", "{record}");
    Ok(())
}
