//! A client that says that it has said all, by closing its side, still gets its answer; one that has
//! left is noticed.

use countersign_tests::{
    client::{Ask, Stream},
    fake::{Misbehaviour, Protocol},
};
use rstest::rstest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::harness::{HOST, PATIENCE, TestBed, UNMATCHED, soon};

/// Within an intercepted tunnel, or to the proxy itself in clear.
async fn connect(bed: &TestBed, in_clear: bool) -> anyhow::Result<Stream> {
    if in_clear {
        return Ok(Box::new(TcpStream::connect(bed.gateway.address()).await?));
    }
    Ok(Box::new(bed.client().tls_stream(HOST).await?))
}

fn request(bed: &TestBed, in_clear: bool, method: &str, rest: &str) -> String {
    let (target, proof) = if in_clear {
        let proof = format!("Proxy-Authorization: Bearer {}\r\n", bed.token);
        (format!("https://{HOST}/asked"), proof)
    } else {
        ("/asked".to_owned(), String::new())
    };
    format!("{method} {target} HTTP/1.1\r\nHost: {HOST}\r\n{proof}{rest}")
}

#[rstest]
#[tokio::test]
async fn a_client_that_half_closes_gets_its_answer(
    #[values(false, true)] in_clear: bool,
    #[values(Protocol::Http1, Protocol::Http2)] upstream: Protocol,
    #[values(("GET", "\r\n"), ("POST", "Content-Length: 5\r\n\r\nhello"))] asked: (&str, &str),
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    bed.api.speak(upstream);
    // The answer comes after the end, for certain.
    bed.api.server().hold(true);
    let mut stream = connect(&bed, in_clear).await?;
    let request = request(&bed, in_clear, asked.0, asked.1);
    stream.write_all(request.as_bytes()).await?;
    stream.shutdown().await?;
    assert!(bed.api.received().wait_for(1, PATIENCE).await);
    bed.api.server().hold(false);
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer)).await??;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains(&format!("{} /asked", asked.0)), "{answer}");
    let record = bed.record().await?;
    assert_eq!(record["outcome"], "permitted", "{record}");
    Ok(())
}

#[rstest]
#[tokio::test]
async fn pipelined_requests_before_a_half_close_are_all_answered(
    #[values(false, true)] in_clear: bool,
) -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    let mut stream = connect(&bed, in_clear).await?;
    let request = request(&bed, in_clear, "GET", "\r\n");
    stream.write_all(request.repeat(3).as_bytes()).await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    soon("the answers", stream.read_to_string(&mut answer)).await??;
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 3, "{answer}");
    Ok(())
}

/// In clear the system tells of a departure only when something is written: an interim response.
#[rstest]
#[tokio::test]
async fn a_client_that_has_left_is_noticed_before_its_answer(
    #[values(false, true)] in_clear: bool,
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    bed.api.misbehave(Some(Misbehaviour::Stall));
    let mut stream = connect(&bed, in_clear).await?;
    let request = request(&bed, in_clear, "GET", "\r\n");
    stream.write_all(request.as_bytes()).await?;
    assert!(bed.api.received().wait_for(1, PATIENCE).await);
    stream.shutdown().await?;
    drop(stream);
    let record = bed.record().await?;
    assert_eq!(record["reason"], "client_gone", "{record}");
    assert_eq!(record["blame"], "caller", "{record}");
    Ok(())
}

/// A tunnel carries the end of each direction for itself.
#[rstest]
#[tokio::test]
async fn a_tunnel_carries_a_half_close_both_ways(
    #[values(false, true)] client_first: bool,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let bed = TestBed::builder()
        .tunnel_unmatched()
        .resolve(UNMATCHED, 443, address)
        .start()
        .await?;
    let (client, authority) = (bed.client(), format!("{UNMATCHED}:443"));
    let tunnel = client.tunnel(Ask::Http11, &authority, None);
    let mut client = soon("a tunnel", tunnel).await??;
    let (mut upstream, _) = soon("a connection", listener.accept()).await??;
    if client_first {
        half_closed(&mut client, &mut upstream).await
    } else {
        half_closed(&mut upstream, &mut client).await
    }
}

/// One side says all it will, and hears the other out.
async fn half_closed(
    first: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    second: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
) -> anyhow::Result<()> {
    first.write_all(b"all that I have").await?;
    first.shutdown().await?;
    let mut heard = String::new();
    soon("the end", second.read_to_string(&mut heard)).await??;
    assert_eq!(heard, "all that I have");
    second.write_all(b"an answer to it").await?;
    second.shutdown().await?;
    heard.clear();
    soon("the other end", first.read_to_string(&mut heard)).await??;
    assert_eq!(heard, "an answer to it");
    Ok(())
}
