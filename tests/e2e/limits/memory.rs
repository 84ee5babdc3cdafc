//! Attacks on memory: heads and forms that never end.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use countersign_tests::{
    client::{Session, converse, read_head},
    environment::DASHBOARD,
    fake::Protocol,
    resources::Resource,
};
use futures_util::{StreamExt as _, future::join_all, stream};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use rstest::rstest;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{EXAMPLE, HOST, PATIENCE, TestBed, get, soon, until};

const MIB: usize = 1024 * 1024;

/// The smallest budget that there is.
const MEMORY: usize = 16 * MIB;

/// A test bed with little memory, and another workload with the same right as the attacker.
async fn little_memory() -> anyhow::Result<TestBed> {
    TestBed::builder()
        .policy(|policy| {
            policy.push(Resource::workload("other"));
            policy.access(EXAMPLE)["workloads"] = json!([DASHBOARD, "other"]);
        })
        .limits(|limits| {
            limits.memory = Some(MEMORY as u64);
            limits.unidentified.per_source = 10_000;
            // What rests upstream is held too.
            limits.upstream_idle_timeout = Duration::from_secs(1);
        })
        .start()
        .await
}

/// A number from the metrics, 0 if it is not there.
async fn metric(bed: &TestBed, series: &str) -> anyhow::Result<usize> {
    let value = bed.metric(series).await?;
    Ok(usize::try_from(value.unwrap_or_default())?)
}

async fn held(bed: &TestBed, class: &str) -> anyhow::Result<usize> {
    let series = format!("countersign_memory_held_bytes{{class=\"{class}\"}}");
    metric(bed, &series).await
}

/// Everything is given back once the attacker has left.
async fn all_given_back(bed: &TestBed) -> anyhow::Result<()> {
    until("giving back", async || {
        let strangers = held(bed, "unidentified").await;
        let workloads = held(bed, "workload").await;
        matches!((strangers, workloads), (Ok(0), Ok(0)))
    })
    .await
}

/// A body that need not end.
pub(crate) type Endless = UnsyncBoxBody<Bytes, Infallible>;

/// A body that begins with so many bytes and never ends.
fn endless(bytes: usize) -> Endless {
    let first = Frame::data(Bytes::from(vec![b'a'; bytes]));
    let frames = stream::once(std::future::ready(Ok(first))).chain(stream::pending());
    StreamBody::new(frames).boxed_unsync()
}

/// A form that begins with so many bytes and never ends.
pub(crate) fn endless_form(bytes: usize) -> Request<Endless> {
    Request::post("https://slack.com/api/chat.postMessage")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(endless(bytes))
        .expect("a request")
}

#[tokio::test]
async fn t60_heads_that_never_end_by_the_thousand() -> anyhow::Result<()> {
    let bed = little_memory().await?;
    let mut strangers = Vec::new();
    for _ in 0..1500 {
        let mut stream = TcpStream::connect(bed.gateway.address()).await?;
        let head = format!("GET http://a/ HTTP/1.1\r\nX: {}", "x".repeat(12 * 1024));
        // One that was closed for another takes no more.
        let _ = stream.write_all(head.as_bytes()).await;
        strangers.push(stream);
    }
    assert!(held(&bed, "unidentified").await? <= MEMORY / 3);
    let client = bed.client();
    for _ in 0..20 {
        let answer = soon("an answer", client.send(get("/"))).await??;
        assert_eq!(answer.status, StatusCode::OK);
    }
    let evicted = "countersign_memory_refused_total{class=\"unidentified\",reason=\"evicted\"}";
    let refused =
        "countersign_memory_refused_total{class=\"unidentified\",reason=\"memory_short\"}";
    assert!(metric(&bed, evicted).await? + metric(&bed, refused).await? > 0);
    drop((strangers, client));
    all_given_back(&bed).await
}

#[rstest]
#[case::header("GET http://a/ HTTP/1.1\r\nX: LONG")]
#[case::target("CONNECT LONG")]
#[case::many_headers("GET http://a/ HTTP/1.1\r\nMANY")]
#[tokio::test]
async fn t60_a_long_head_before_any_proof(#[case] head: &str) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let head = head
        .replace("LONG", &"x".repeat(30 * 1024))
        .replace("MANY", &format!("x: {}\r\n", "y".repeat(1000)).repeat(30));
    let mut stream = TcpStream::connect(bed.gateway.address()).await?;
    let answer = soon("an answer", converse(&mut stream, head.as_bytes())).await??;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert!(answer.contains("details=\"head_too_large"), "{answer}");
    let record = bed.record().await?;
    assert_eq!(record["reason"], "head_too_large", "{record}");
    Ok(())
}

/// The same head is taken once a proven request has come, and within a tunnel.
#[tokio::test]
async fn t60_the_configured_bound_holds_for_the_proven() -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    // Over HTTP/2 it takes less itself.
    bed.api.speak(Protocol::Http1);
    let token = &bed.token;
    let head = format!("GET https://{HOST}/ HTTP/1.1\r\nProxy-Authorization: Bearer {token}\r\n");
    let mut stream = TcpStream::connect(bed.gateway.address()).await?;
    let first = format!("{head}\r\n");
    stream.write_all(first.as_bytes()).await?;
    let answer = soon("an answer", read_head(&mut stream)).await??;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let mut body = vec![0; "GET /".len()];
    soon("the body", stream.read_exact(&mut body)).await??;
    let long = "x".repeat(30 * 1024);
    let second = format!("{head}X-Long: {long}\r\nConnection: close\r\n\r\n");
    let answer = soon("an answer", converse(&mut stream, second.as_bytes())).await??;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut request = get("/");
        let value = long.parse().expect("a header value");
        request.headers_mut().insert("x-long", value);
        let client = bed.client().over(protocol);
        let answer = soon("an answer", client.send(request)).await??;
        assert_eq!(answer.status, StatusCode::OK);
    }
    Ok(())
}

/// 128 streams on each of four connections, each with most of a form.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t62_forms_that_never_end_over_many_streams() -> anyhow::Result<()> {
    let mut bed = little_memory().await?;
    let client = bed.client().over(Protocol::Http2);
    let mut sessions = Vec::new();
    for _ in 0..4 {
        let stream = client.tls_stream("slack.com").await?;
        sessions.push(Session::<Endless>::over(stream).await?);
    }
    let mut refused = 0;
    let streams = sessions.iter().flat_map(|session| {
        (0..128).map(|_| {
            let mut stream = session.another().expect("it is HTTP/2");
            async move {
                let started = stream.start(endless_form(900 * 1024));
                tokio::time::timeout(Duration::from_secs(5), started).await
            }
        })
    });
    let attack = async {
        for answer in join_all(streams).await.into_iter().flatten().flatten() {
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert!(answer.headers().contains_key("retry-after"));
            refused += 1;
        }
        anyhow::Ok(())
    };
    let honest = async {
        let client = bed.client_of("other");
        for _ in 0..50 {
            let answer = soon("an answer", client.send(get("/"))).await??;
            assert_eq!(answer.status, StatusCode::OK);
            let most = held(&bed, "workload").await?;
            // What is on its way back may be overdrawn.
            assert!(most <= MEMORY + MEMORY / 16, "{most} bytes are held");
        }
        anyhow::Ok(())
    };
    let (attacked, served) = futures_util::join!(attack, honest);
    attacked?;
    served?;
    assert!(refused > 0, "nothing was refused");
    let share = "countersign_memory_refused_total{class=\"workload\",reason=\"memory_share\"}";
    assert!(metric(&bed, share).await? > 0);
    let told = async {
        loop {
            let record = bed.gateway.decisions().next().await;
            if record["reason"] == "memory_share" {
                return record;
            }
        }
    };
    let record = tokio::time::timeout(PATIENCE, told).await?;
    assert_eq!(record["blame"], "caller", "{record}");
    drop((sessions, client));
    all_given_back(&bed).await
}
