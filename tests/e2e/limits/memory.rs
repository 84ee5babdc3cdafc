//! Attacks on memory: heads and forms that never end.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use countersign_tests::{
    client::{Client, Session, converse, read_head},
    fake::Protocol,
    process::admin,
    world::{Options, World},
};
use futures_util::{StreamExt as _, future::join_all, stream};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use rstest::rstest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::site::{HOST, PATIENCE, Site, get, soon};

const MIB: usize = 1024 * 1024;

/// The smallest budget that there is.
const MEMORY: usize = 16 * MIB;

/// Another workload.
pub(crate) const OTHER: &str = "
apiVersion: countersign.dev/v1alpha1
kind: Workload
metadata: { name: other, namespace: qa }
spec:
  owner: qa-platform@example.com
  purpose: Honest
  environment: test
  reviewBy: 2099-06-30
  match:
    - { cluster: prod-eu, serviceAccount: other }
---";

/// Its right, the same as the attacker's.
const RIGHT: &str = "
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: other-uses-example, namespace: qa }
spec:
  owner: qa-platform@example.com
  workloads: [other]
  target: example
  credential: example
  allow:
    - methods: [GET, POST]
      paths: [\"/**\"]
";

async fn little_memory() -> anyhow::Result<Site> {
    let change = |world: &World, gateway: &mut countersign_config::model::Gateway| {
        gateway.limits.memory = Some(MEMORY as u64);
        gateway.limits.unidentified.per_source = 10_000;
        // What rests upstream is held too.
        gateway.limits.upstream_idle_timeout = Duration::from_secs(1);
        Ok(world.write_policy("other.yaml", &[OTHER, RIGHT].concat())?)
    };
    Site::with(Options::default(), change).await
}

/// A client of the other workload.
fn other(site: &Site) -> Client {
    let token = site.world.token("qa", "other");
    site.gateway.client(&site.world).bearer(&token)
}

/// A number from the metrics, 0 if it is not there.
async fn metric(site: &Site, series: &str) -> anyhow::Result<usize> {
    let address = site.gateway.admin().expect("it has an admin endpoint");
    let text = admin(address, "/metrics").await?;
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    Ok(line.map_or(Ok(0), |value| value.trim().parse())?)
}

async fn held(site: &Site, class: &str) -> anyhow::Result<usize> {
    let series = format!("countersign_memory_held_bytes{{class=\"{class}\"}}");
    metric(site, &series).await
}

/// Everything is given back once the attacker has left.
async fn all_given_back(site: &Site) -> anyhow::Result<()> {
    let given_back = async {
        while held(site, "unidentified").await? + held(site, "workload").await? > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    soon("giving back", given_back).await?
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
    let site = little_memory().await?;
    let mut strangers = Vec::new();
    for _ in 0..1500 {
        let mut stream = TcpStream::connect(site.gateway.address()).await?;
        let head = format!("GET http://a/ HTTP/1.1\r\nX: {}", "x".repeat(12 * 1024));
        // One that was closed for another takes no more.
        let _ = stream.write_all(head.as_bytes()).await;
        strangers.push(stream);
    }
    assert!(held(&site, "unidentified").await? <= MEMORY / 3);
    let client = site.client();
    for _ in 0..20 {
        let answer = soon("an answer", client.send(get("/"))).await??;
        assert_eq!(answer.status, StatusCode::OK);
    }
    let evicted = "countersign_memory_refused_total{class=\"unidentified\",reason=\"evicted\"}";
    let refused =
        "countersign_memory_refused_total{class=\"unidentified\",reason=\"memory_short\"}";
    assert!(metric(&site, evicted).await? + metric(&site, refused).await? > 0);
    drop((strangers, client));
    all_given_back(&site).await
}

#[rstest]
#[case::header("GET http://a/ HTTP/1.1\r\nX: LONG")]
#[case::target("CONNECT LONG")]
#[case::many_headers("GET http://a/ HTTP/1.1\r\nMANY")]
#[tokio::test]
async fn t60_a_long_head_before_any_proof(#[case] head: &str) -> anyhow::Result<()> {
    let mut site = Site::start().await?;
    let head = head
        .replace("LONG", &"x".repeat(30 * 1024))
        .replace("MANY", &format!("x: {}\r\n", "y".repeat(1000)).repeat(30));
    let mut stream = TcpStream::connect(site.gateway.address()).await?;
    let answer = soon("an answer", converse(&mut stream, head.as_bytes())).await??;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert!(answer.contains("details=\"head_too_large"), "{answer}");
    let record = site.record().await?;
    assert_eq!(record["reason"], "head_too_large", "{record}");
    Ok(())
}

/// The same head is taken once a proven request has come, and within a tunnel.
#[tokio::test]
async fn t60_the_configured_bound_holds_for_the_proven() -> anyhow::Result<()> {
    let site = Site::start().await?;
    // Over HTTP/2 it takes less itself.
    site.api_speaks(Protocol::Http1);
    let token = &site.token;
    let get = format!("GET https://{HOST}/ HTTP/1.1\r\nProxy-Authorization: Bearer {token}\r\n");
    let mut stream = TcpStream::connect(site.gateway.address()).await?;
    let first = format!("{get}\r\n");
    stream.write_all(first.as_bytes()).await?;
    let answer = soon("an answer", read_head(&mut stream)).await??;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let mut body = vec![0; "GET /".len()];
    soon("the body", stream.read_exact(&mut body)).await??;
    let long = "x".repeat(30 * 1024);
    let second = format!("{get}X-Long: {long}\r\nConnection: close\r\n\r\n");
    let answer = soon("an answer", converse(&mut stream, second.as_bytes())).await??;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut request = crate::harness::site::get("/");
        let value = long.parse().expect("a header value");
        request.headers_mut().insert("x-long", value);
        let client = site.client().over(protocol);
        let answer = soon("an answer", client.send(request)).await??;
        assert_eq!(answer.status, StatusCode::OK);
    }
    Ok(())
}

/// 128 streams on each of four connections, each with most of a form.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t62_forms_that_never_end_over_many_streams() -> anyhow::Result<()> {
    let mut site = little_memory().await?;
    let client = site.client().over(Protocol::Http2);
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
        let client = other(&site);
        for _ in 0..50 {
            let answer = soon("an answer", client.send(get("/"))).await??;
            assert_eq!(answer.status, StatusCode::OK);
            let most = held(&site, "workload").await?;
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
    assert!(metric(&site, share).await? > 0);
    let told = async {
        loop {
            let record = site.gateway.decisions().next().await;
            if record["reason"] == "memory_share" {
                return record;
            }
        }
    };
    let record = tokio::time::timeout(PATIENCE, told).await?;
    assert_eq!(record["blame"], "caller", "{record}");
    drop((sessions, client));
    all_given_back(&site).await
}
