//! Where requests begin and end, what early and abrupt clients leave, and whom a refused CONNECT
//! names: raw bytes against a real gateway.

use std::time::Duration;

use countersign_tests::{client::read_head, fake::Protocol};
use rstest::rstest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::harness::{TestBed, echo_server, exchange, list_runs, soon};

const HOST: &str = "api.qase.io";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
}

/// Broken after the request has gone on its way: it is not the client's leaving.
#[rstest]
#[case::no_size("zz\r\nhello\r\n0\r\n\r\n")]
#[case::longer_than_its_size("3\r\nhello\r\n0\r\n\r\n")]
#[case::line_feed_alone("5\nhello\r\n0\r\n\r\n")]
#[tokio::test]
async fn t06_a_malformed_chunk_is_recorded_as_what_it_is(
    #[case] chunks: &str,
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let client = bed.client();
    let mut stream = client.tls_stream(HOST).await?;
    let head = format!(
        "POST /v1/run/DEMO HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{ \r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    drop(exchange(&mut stream, chunks).await?);
    let record = bed.record().await?;
    assert_eq!(record["reason"], "request_malformed", "{record}");
    assert_eq!(record["blame"], "caller", "{record}");
    Ok(())
}

#[rstest]
#[case::t05_cl_te(
    "POST /v1/run/DEMO HTTP/1.1\r\nHost: api.qase.io\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
)]
#[case::t05_te_cl(
    "POST /v1/run/DEMO HTTP/1.1\r\nHost: api.qase.io\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"
)]
#[case::t05_te_te(
    "POST /v1/run/DEMO HTTP/1.1\r\nHost: api.qase.io\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
)]
#[case::t05_te_list(
    "POST /v1/run/DEMO HTTP/1.1\r\nHost: api.qase.io\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n"
)]
#[case::t06_bare_lf("GET /v1/run/DEMO HTTP/1.1\nHost: api.qase.io\n\n")]
#[case::t06_one_bare_lf("GET /v1/run/DEMO HTTP/1.1\r\nHost: api.qase.io\nX: 1\r\n\r\n")]
#[tokio::test]
async fn ambiguous_framing_is_refused_and_the_connection_closed(
    #[case] request: &str,
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let client = bed.client();
    let mut stream = client.tls_stream(HOST).await?;

    let answer = exchange(&mut stream, &format!("{request}{}", get("/v1/run/DEMO"))).await?;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(answer.contains("proxy-status: countersign;"), "{answer}");
    let record = bed.record().await?;
    assert_eq!(record["reason"], "request_malformed");
    assert_eq!(
        record["caller"]["subject"],
        "system:serviceaccount:qa:nightly-dashboard"
    );
    assert_eq!(bed.gateway.stop().await?.len(), 1);
    assert_eq!(bed.env.qase.received().all().len(), 0);
    Ok(())
}

#[tokio::test]
async fn a_pipelined_request_is_judged_as_strictly_as_the_first() -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    let client = bed.client();
    let mut stream = client.tls_stream(HOST).await?;
    stream.write_all(get("/v1/run/DEMO").as_bytes()).await?;
    let mut first = [0; 13];
    soon("bytes", stream.read_exact(&mut first)).await??;
    assert_eq!(&first, b"HTTP/1.1 200 ");

    let honest = get("/v1/run/DEMO");
    let bad = honest.replace("\r\nHost", "\nHost");
    let rest = exchange(&mut stream, &format!("{honest}{bad}{honest}")).await?;
    assert!(rest.contains("HTTP/1.1 400 "), "{rest}");
    assert!(!rest.contains("HTTP/1.1 200 "), "{rest}");
    bed.gateway.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_connect_with_bare_line_feeds_is_refused() -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    let connect = format!(
        "CONNECT {HOST}:443 HTTP/1.1\nHost: {HOST}:443\nProxy-Authorization: Bearer TOKEN\n\n"
    );
    let answer = bed.to_proxy(&connect).await?;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    bed.gateway.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_record_of_a_refused_connect_names_the_caller() -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let client = bed.client();
    assert!(client.tls_stream("notslack.com").await.is_err());
    let record = bed.record().await?;
    assert_eq!(record["reason"], "host_unmatched");
    assert_eq!(record["target"]["authority"], "notslack.com:443");
    assert_eq!(
        record["caller"]["subject"],
        "system:serviceaccount:qa:nightly-dashboard"
    );
    bed.gateway.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_quiet_tunnel_outlives_the_deadline_for_heads() -> anyhow::Result<()> {
    const HEAD_TIMEOUT: Duration = Duration::from_millis(300);
    let bed = TestBed::builder()
        .tunnel_unmatched()
        .limits(|limits| limits.head_timeout = HEAD_TIMEOUT)
        .resolve("echo.test", 443, echo_server().await?)
        .start()
        .await?;
    let token = &bed.token;
    let mut stream = TcpStream::connect(bed.gateway.address()).await?;
    let connect =
        format!("CONNECT echo.test:443 HTTP/1.1\r\nProxy-Authorization: Bearer {token}\r\n\r\n");
    stream.write_all(connect.as_bytes()).await?;
    let answer = soon("a tunnel", read_head(&mut stream)).await??;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for _ in 0..2 {
        // Nothing comes, not even the end, while neither side says anything.
        assert!(timeout(2 * HEAD_TIMEOUT, stream.read_u8()).await.is_err());
        stream.write_all(b"hello").await?;
        let mut echoed = [0; 5];
        soon("bytes", stream.read_exact(&mut echoed)).await??;
        assert_eq!(&echoed, b"hello");
    }
    drop(stream);
    bed.gateway.stop().await?;
    Ok(())
}

#[rstest]
#[case::h1(Protocol::Http1)]
#[case::h2(Protocol::Http2)]
#[tokio::test]
async fn a_client_that_hangs_up_between_requests_leaves_no_record(
    #[case] protocol: Protocol,
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let client = bed.client().over(protocol);
    let mut session = client.open(HOST).await?;
    let answer = session.send(list_runs()).await?;
    assert_eq!(answer.status, 200);
    assert_eq!(bed.record().await?["outcome"], "permitted");
    drop(session);
    let mut stream = client.tls_stream(HOST).await?;
    if protocol == Protocol::Http2 {
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .await?;
        let mut settings = [0; 9];
        soon("bytes", stream.read_exact(&mut settings)).await??;
    }
    // Without so much as a close_notify.
    drop(stream);
    assert_eq!(bed.gateway.stop().await?.len(), 1);
    Ok(())
}
