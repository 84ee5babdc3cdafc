//! An API that is broken, or a client that vanishes: each with a reason of its own, blamed on
//! whoever did it; the next request succeeds, and nothing is left behind.

use std::time::Duration;

use bytes::Bytes;
use countersign_config::model::Limits;
use countersign_tests::{
    client::{Session, read_head},
    fake::{Misbehaviour, Protocol},
};
use http::{Method, Request, StatusCode};
use http_body_util::StreamBody;
use hyper::body::Frame;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{HOST, PATIENCE, TestBed, get, soon, until};

/// A test bed whose gateway waits no longer than a test should.
async fn impatient() -> anyhow::Result<TestBed> {
    let waits = |limits: &mut Limits| {
        limits.connect_timeout = Duration::from_millis(500);
        limits.response_timeout = Duration::from_millis(500);
        limits.body_idle_timeout = Duration::from_millis(500);
    };
    TestBed::builder().limits(waits).start().await
}

#[rstest]
#[case(Misbehaviour::ResetOnAccept, 502, "upstream_connect")]
#[case(Misbehaviour::StallBeforeTls, 504, "upstream_timeout")]
#[case(Misbehaviour::NoTls, 502, "upstream_connect")]
#[case(Misbehaviour::WrongName, 502, "upstream_certificate")]
#[case(Misbehaviour::UntrustedAuthority, 502, "upstream_certificate")]
#[case(Misbehaviour::ExpiredCertificate, 502, "upstream_certificate")]
#[case(Misbehaviour::Garbage, 502, "upstream_broken")]
#[case(Misbehaviour::ResetAfterRequest, 502, "upstream_broken")]
#[case(Misbehaviour::Stall, 504, "upstream_timeout")]
#[case(Misbehaviour::ResetInBody, 200, "upstream_broken")]
#[case(Misbehaviour::StallInBody, 200, "upstream_broken")]
#[tokio::test]
async fn a_broken_upstream_has_its_own_reason_and_the_next_request_succeeds(
    #[case] how: Misbehaviour,
    #[case] status: u16,
    #[case] reason: &str,
    #[values(Protocol::Http1, Protocol::Http2)] upstream: Protocol,
    #[values(Protocol::Http1, Protocol::Http2)] client: Protocol,
) -> anyhow::Result<()> {
    let mut bed = impatient().await?;
    bed.api.speak(upstream);
    bed.api.misbehave(Some(how));
    let mut session = bed.client().over(client).open(HOST).await?;
    match soon("an answer", session.send(get("/some"))).await? {
        Ok(answer) => {
            let told = answer.header("proxy-status").unwrap_or_default();
            assert_eq!(answer.status.as_u16(), status);
            assert!(told.contains(reason), "{told}");
        }
        // A body that was broken off must not look like a whole one.
        Err(error) => assert_eq!(status, 200, "{error}"),
    }
    let record = bed.record().await?;
    assert_eq!(record["reason"], reason, "{record}");
    assert_eq!(record["outcome"], "failed", "{record}");
    assert_eq!(record["blame"], "upstream", "{record}");
    assert!(
        record["detail"]
            .as_str()
            .is_some_and(|text| !text.is_empty()),
        "{record}"
    );

    bed.api.misbehave(None);
    // The same client connection lives on, if the answer did not break off amid its body.
    if client == Protocol::Http1 && status == 200 {
        soon("the end of the connection", session.closed()).await?;
        session = bed.client().over(client).open(HOST).await?;
    }
    let answer = soon("an answer", session.send(get("/well"))).await??;
    assert_eq!(answer.text(), "GET /well");
    assert_eq!(bed.record().await?["outcome"], "permitted");
    drop(session);
    // Nothing more was recorded or counted of the connection that broke.
    assert_eq!(bed.gateway.decisions().all().len(), 2);
    // The stand-in that stalls before TLS does not see that it was left.
    let stalled = usize::from(how == Misbehaviour::StallBeforeTls);
    nothing_is_left(&bed, stalled).await
}

/// As the API itself would: without a response. The record says what it says otherwise.
#[rstest]
#[case::refuses(Misbehaviour::ResetOnAccept, None, "upstream_connect")]
#[case::closes(Misbehaviour::ResetAfterRequest, None, "upstream_broken")]
#[case::stalls(Misbehaviour::Stall, Some(504), "upstream_timeout")]
#[case::speaks_no_tls(Misbehaviour::NoTls, None, "upstream_connect")]
#[case::shows_another_name(Misbehaviour::WrongName, Some(502), "upstream_certificate")]
#[tokio::test]
async fn a_target_may_tell_transport_faults_by_closing(
    #[case] how: Misbehaviour,
    #[case] status: Option<u16>,
    #[case] reason: &str,
    #[values(Protocol::Http1, Protocol::Http2)] client: Protocol,
) -> anyhow::Result<()> {
    let mut bed = TestBed::builder()
        .limits(|limits| {
            limits.response_timeout = Duration::from_millis(500);
            limits.body_idle_timeout = Duration::from_millis(500);
        })
        .policy(|policy| policy.target("example")["transportFaults"] = json!("close"))
        .start()
        .await?;
    bed.api.misbehave(Some(how));
    let mut session = bed.client().over(client).open(HOST).await?;
    let answer = soon("an end", session.send(get("/some"))).await?;
    assert_eq!(answer.ok().map(|answer| answer.status.as_u16()), status);
    let record = bed.record().await?;
    assert_eq!(record["reason"], reason, "{record}");
    assert_eq!(record["outcome"], "failed", "{record}");
    assert_eq!(record["blame"], "upstream", "{record}");
    bed.api.misbehave(None);
    if client == Protocol::Http2 {
        let answer = soon("an answer", session.send(get("/well"))).await??;
        assert_eq!(answer.text(), "GET /well", "the same connection lives on");
        bed.recorded("permitted").await?;
    } else if status.is_none() {
        // TLS ends as it should, so that a client takes it for the API's own end.
        let mut stream = bed.client().tls_stream(HOST).await?;
        bed.api.misbehave(Some(how));
        let request = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1\r\n\r\nx");
        stream.write_all(request.as_bytes()).await?;
        let mut told = Vec::new();
        soon("the end", stream.read_to_end(&mut told)).await??;
        assert_eq!(String::from_utf8_lossy(&told), "");
        bed.recorded(reason).await?;
    }
    drop(session);
    let failed = |record: &&Value| record["outcome"] == "failed";
    let records = bed.gateway.stop().await?;
    let expected = 1 + usize::from(client == Protocol::Http1 && status.is_none());
    assert_eq!(
        records.iter().filter(failed).count(),
        expected,
        "{records:?}"
    );
    assert!(
        records.iter().all(|record| record["blame"] != "caller"),
        "{records:?}"
    );
    Ok(())
}

#[rstest]
#[tokio::test]
async fn a_client_that_vanishes_within_its_body_is_recorded_and_leaves_nothing(
    #[values(Protocol::Http1, Protocol::Http2)] upstream: Protocol,
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    bed.api.speak(upstream);
    let mut stream = bed.client().tls_stream(HOST).await?;
    let head = format!("POST /echo HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100000\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&[b'x'; 1000]).await?;
    stream.flush().await?;
    // The beginning has come back, so that the request is under way on both sides.
    let head = soon("the head", read_head(&mut stream)).await??;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    drop(stream);
    let record = bed.record().await?;
    assert_eq!(record["reason"], "client_gone", "{record}");
    assert_eq!(record["blame"], "caller");
    assert_eq!(record["bytes"]["request"], 1000, "{record}");
    let answer = bed.client().send(get("/well")).await?;
    assert_eq!(answer.status, StatusCode::OK);
    bed.record().await?;
    nothing_is_left(&bed, 0).await
}

#[rstest]
#[tokio::test]
async fn a_client_that_vanishes_before_its_answer_is_recorded_and_leaves_nothing(
    #[values(Protocol::Http1, Protocol::Http2)] client: Protocol,
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    bed.api.misbehave(Some(Misbehaviour::Stall));
    let mut session = bed.client().over(client).open(HOST).await?;
    let waiting = tokio::spawn(async move { session.start(get("/slow")).await.map(drop) });
    assert!(bed.api.received().wait_for(1, PATIENCE).await);
    waiting.abort();
    let record = bed.record().await?;
    assert_eq!(record["reason"], "client_gone", "{record}");
    bed.api.misbehave(None);
    let answer = bed.client().send(get("/well")).await?;
    assert_eq!(answer.text(), "GET /well");
    bed.record().await?;
    nothing_is_left(&bed, 0).await
}

/// An upload whose client stops sending is ended, and blamed on the client.
#[tokio::test]
async fn a_client_whose_body_stands_still_is_told_so() -> anyhow::Result<()> {
    let mut bed = impatient().await?;
    let client = bed.client().over(Protocol::Http2);
    let mut session = Session::over(client.tls_stream(HOST).await?).await?;
    let first = Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"first")));
    let never = futures_util::stream::pending();
    let frames = futures_util::StreamExt::chain(futures_util::stream::iter([first]), never);
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("https://{HOST}/some"))
        .body(StreamBody::new(frames))?;
    let answer = soon("an answer", session.send(request)).await??;
    assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT);
    let record = bed.record().await?;
    assert_eq!(record["reason"], "body_stalled", "{record}");
    assert_eq!(record["blame"], "caller");
    drop(session);
    nothing_is_left(&bed, 0).await
}

/// An API that neither reads an upload nor answers is at fault, and not the client, which sends as much as it may.
#[rstest]
#[tokio::test]
async fn an_api_that_does_not_read_an_upload_is_told_so(
    #[values(Protocol::Http1, Protocol::Http2)] upstream: Protocol,
    #[values(Protocol::Http1, Protocol::Http2)] client: Protocol,
    #[values(100_000, 8 << 20)] size: usize,
) -> anyhow::Result<()> {
    let mut bed = impatient().await?;
    bed.api.speak(upstream);
    bed.api.misbehave(Some(Misbehaviour::StallBeforeBody));
    let mut session = bed.client().over(client).open(HOST).await?;
    let mut request = Request::new(http_body_util::Full::new(Bytes::from(vec![b'x'; size])));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = format!("https://{HOST}/some").parse()?;
    let answer = soon("an answer", session.send(request)).await??;
    let record = bed.record().await?;
    assert_eq!(record["outcome"], "failed", "{record}");
    assert_eq!(record["blame"], "upstream", "{record}");
    let detail = record["detail"].as_str().unwrap_or_default();
    match record["reason"].as_str() {
        // It has all of it, as far as anybody can see.
        Some("upstream_timeout") => {
            assert!(detail.contains("limits.responseTimeout"), "{record}");
            assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
        }
        Some("upstream_broken") => {
            assert!(detail.contains("limits.bodyIdleTimeout"), "{record}");
            assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        }
        _ => panic!("{record}"),
    }
    if size > 1 << 20 {
        assert_eq!(record["reason"], "upstream_broken", "{record}");
    }
    drop(session);
    assert_eq!(bed.gateway.stop().await?.len(), 1);
    Ok(())
}

/// No client connection is open any more, and upstream no more than rests in the pool.
async fn nothing_is_left(bed: &TestBed, stalled: usize) -> anyhow::Result<()> {
    let series = "countersign_client_connections{listener=\"proxy\"} ";
    until("the closing of what is open", async || {
        let open = bed.metric(series).await;
        matches!(open, Ok(Some(0))) && bed.api.server().open_connections() <= 1 + stalled
    })
    .await
}
