//! Who has proven nothing has places of his own, and few; the others share theirs fairly.

use std::time::Duration;

use countersign_config::model::Unidentified;
use countersign_tests::{client::read_head, fake::Protocol};
use rstest::rstest;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{connect, said, status, with_limits};
use crate::harness::{HOST, TestBed, closed, get, soon};

const SHED: &str = "countersign_connections_shed_total";

/// A few places for strangers, who may rest for a moment.
async fn few_places() -> anyhow::Result<TestBed> {
    with_limits(|limits| {
        limits.connections = 8;
        limits.unidentified = Unidentified {
            connections: 8,
            per_source: 8,
            rest: Duration::from_millis(300),
        };
    })
    .await
}

/// Many more than there are places for, on each of which these bytes were sent.
async fn flood(bed: &TestBed, bytes: &str) -> anyhow::Result<Vec<TcpStream>> {
    let mut flood = Vec::new();
    for _ in 0..100 {
        // Whoever came first may be closed before he has said it.
        if let Ok(stream) = said(bed, bytes).await {
            flood.push(stream);
        }
    }
    Ok(flood)
}

#[rstest]
#[case::silent("")]
#[case::half_a_head("CONNECT api.example.test:443 HTTP/1.1\r\n")]
#[case::no_proof("CONNECT api.example.test:443 HTTP/1.1\r\nHost: api.example.test:443\r\n\r\n")]
#[case::not_for_a_proxy("GET / HTTP/1.1\r\nHost: api.example.test\r\n\r\n")]
#[tokio::test]
async fn t63_strangers_keep_nobody_out(#[case] bytes: &str) -> anyhow::Result<()> {
    let bed = with_limits(|limits| {
        limits.connections = 8;
        limits.unidentified = Unidentified {
            connections: 8,
            per_source: 8,
            // They would keep their places for as long as they like.
            rest: Duration::from_mins(1),
        };
    })
    .await?;
    let mut before = bed.client().open(HOST).await?;
    assert_eq!(before.send(get("/before")).await?.text(), "GET /before");
    let _flood = flood(&bed, bytes).await?;
    assert_eq!(bed.client().send(get("/some")).await?.text(), "GET /some");
    // Whoever was proven was never closed for them.
    assert_eq!(before.send(get("/after")).await?.text(), "GET /after");
    let line = format!("{SHED}{{class=\"unidentified\",reason=\"source_full\"}}");
    assert!(bed.metric(&line).await? > Some(50));
    let line = format!("{SHED}{{class=\"identified\",reason=\"share_exceeded\"}}");
    assert_eq!(bed.metric(&line).await?, None);
    Ok(())
}

#[rstest]
#[case::connect(
    "CONNECT api.example.test:443 HTTP/1.1\r\nHost: api.example.test:443\r\n\r\n",
    "407"
)]
#[case::absolute(
    "GET https://api.example.test/ HTTP/1.1\r\nHost: api.example.test\r\n\r\n",
    "407"
)]
#[case::bad_token(
    "CONNECT api.example.test:443 HTTP/1.1\r\nHost: api.example.test:443\r\nProxy-Authorization: Bearer a.b.c\r\n\r\n",
    "407"
)]
#[case::malformed("GET / HTTP/1.1\r\nHost: api.example.test\r\n\r\n", "400")]
#[case::introduction("OPTIONS * HTTP/1.1\r\nHost: api.example.test\r\n\r\n", "407")]
#[tokio::test]
async fn t63_a_connection_is_closed_after_a_second_refusal(
    #[case] bytes: &str,
    #[case] expected: &str,
) -> anyhow::Result<()> {
    let bed = with_limits(|limits| limits.unidentified.rest = Duration::from_mins(1)).await?;
    let mut stream = said(&bed, bytes).await?;
    assert_eq!(status(&mut stream).await?, expected);
    stream.write_all(bytes.as_bytes()).await?;
    let answer = soon("an answer", read_head(&mut stream)).await??;
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {expected} ")),
        "{answer}"
    );
    assert!(
        answer.to_ascii_lowercase().contains("connection: close"),
        "{answer}"
    );
    closed(&mut stream).await
}

/// As curl and many SDKs do it: once without, and again with what was asked for.
#[tokio::test]
async fn t63_a_proof_that_is_sent_when_asked_for_is_taken() -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    let without = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n");
    let mut stream = said(&bed, &without).await?;
    assert_eq!(status(&mut stream).await?, "407");
    stream.write_all(connect(&bed.token).as_bytes()).await?;
    assert_eq!(status(&mut stream).await?, "200");
    Ok(())
}

#[rstest]
#[case::after_a_refusal("CONNECT api.example.test:443 HTTP/1.1\r\nHost: a\r\n\r\n", b"")]
#[case::empty_lines("\r\n", b"\r\n")]
#[tokio::test]
async fn t63_a_stranger_does_not_rest_for_long(
    #[case] bytes: &str,
    #[case] piece: &[u8],
) -> anyhow::Result<()> {
    let bed = few_places().await?;
    let mut stream = said(&bed, bytes).await?;
    if piece.is_empty() {
        return closed(&mut stream).await;
    }
    super::drip(&mut stream, piece).await
}

/// A proof that was refused is refused on a connection that had a good one before, too.
#[tokio::test]
async fn t63_a_refused_proof_ends_the_rest_of_a_proven_connection() -> anyhow::Result<()> {
    let mut bed = few_places().await?;
    let good = format!(
        "OPTIONS * HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Bearer {}\r\n\r\n",
        bed.token
    );
    let mut stream = said(&bed, &good).await?;
    assert_eq!(status(&mut stream).await?, "204");
    stream
        .write_all(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
        .await?;
    assert_eq!(status(&mut stream).await?, "407");
    bed.recorded("identity_missing").await?;
    closed(&mut stream).await
}

/// A workload that holds all places gives way to another, and only to what is the other's.
#[tokio::test]
async fn t63_a_workload_does_not_take_all_places() -> anyhow::Result<()> {
    let mut bed = few_places().await?;
    let token = bed.token.clone();
    let (mut greedy, mut tunnels) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        let mut session = bed.client().open(HOST).await?;
        session.send(get("/some")).await?;
        bed.recorded("permitted").await?;
        greedy.push(session);
    }
    let other = bed.env.token("qa", "somebody");
    for _ in 0..4 {
        for who in [&other, &token] {
            let mut stream = said(&bed, &connect(who)).await?;
            assert_eq!(status(&mut stream).await?, "200");
            tunnels.push(stream);
        }
    }
    let line = format!("{SHED}{{class=\"identified\",reason=\"share_exceeded\"}}");
    assert_eq!(bed.metric(&line).await?, Some(8));
    // Each holds its half, and all of it is in use.
    for who in [&other, &token] {
        let mut stream = said(&bed, &connect(who)).await?;
        assert_eq!(status(&mut stream).await?, "503");
    }
    Ok(())
}

#[rstest]
#[case::silent(b"")]
#[case::dripping(b"GET /hea")]
#[case::slow_reader(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")]
#[tokio::test]
async fn t69_probes_are_answered_beside_a_thousand_that_stall(
    #[case] said: &[u8],
) -> anyhow::Result<()> {
    // Both ends of each connection are in this process.
    countersign_core::open_files::raise_limit();
    let bed = TestBed::start().await?;
    let admin = bed.admin();
    let mut stalled = Vec::new();
    for number in 0..1000 {
        let mut stream = TcpStream::connect(admin).await?;
        // It may have been closed by then.
        stream.write_all(said).await.ok();
        stalled.push(stream);
        if number % 200 == 199 {
            for path in ["/healthz", "/readyz"] {
                let answer = soon(
                    "a probe's answer",
                    countersign_tests::process::admin(admin, path),
                );
                assert!(!answer.await??.is_empty());
            }
        }
    }
    Ok(())
}

/// Each pod of a workload has its part of the connections to an API.
#[rstest]
#[case::h1(Protocol::Http1)]
#[case::h2(Protocol::Http2)]
#[tokio::test]
async fn t70_a_pod_that_stalls_its_bodies_leaves_connections_to_others(
    #[case] api: Protocol,
) -> anyhow::Result<()> {
    let mut bed = with_limits(|limits| {
        limits.upstream_connections = 2;
        limits.connect_timeout = Duration::from_secs(2);
    })
    .await?;
    bed.api.speak(api);
    let mut stalled = Vec::new();
    for _ in 0..40 {
        let mut stream = bed.client().over(Protocol::Http1).tls_stream(HOST).await?;
        let head = format!("POST /echo HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 9\r\n\r\nx");
        stream.write_all(head.as_bytes()).await?;
        stalled.push(stream);
    }
    // The API has begun to answer what it gets.
    soon("an answer", read_head(&mut stalled[0])).await??;
    let token = bed.env.token("qa", "nightly-dashboard");
    for _ in 0..3 {
        let other = bed.client_with(&token);
        assert_eq!(other.send(get("/some")).await?.text(), "GET /some");
    }
    let mut reasons = Vec::new();
    while reasons.len() < 20 && !reasons.contains(&"upstream_share_exceeded".to_owned()) {
        reasons.push(
            bed.record().await?["reason"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        );
    }
    assert!(
        reasons.contains(&"upstream_share_exceeded".to_owned()),
        "{reasons:?}"
    );
    Ok(())
}
