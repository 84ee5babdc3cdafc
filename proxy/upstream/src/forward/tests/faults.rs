//! Upstreams and clients that misbehave: each fault has its own name, and nothing hangs.

use std::{future::pending, sync::Arc};

use countersign_core::reason::Blame;
use http_body_util::BodyExt;
use rstest::rstest;
use tokio::sync::mpsc;

use super::support::{self, Ca, HOST, Server, get, key, post, read_head, scripted, soon, write};
use crate::forward::{BodyMeter, ForwardError, RequestBody};

#[rstest]
#[case::closed("", "Reset")]
#[case::half_a_head("HTTP/1.1 200 OK\r\nContent-", "Reset")]
#[case::no_http("SSH-2.0-OpenSSH_9.2\r\n\r\n", "MalformedResponse")]
#[case::bad_status("HTTP/1.1 20 OK\r\n\r\n", "MalformedResponse")]
#[case::space_before_colon("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "MalformedResponse")]
#[case::folded("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "MalformedResponse")]
#[case::two_lengths(
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "MalformedResponse"
)]
#[case::unasked_switch("HTTP/1.1 101 Switching Protocols\r\n\r\n", "MalformedResponse")]
#[tokio::test]
async fn a_bad_head_is_an_error(#[case] answer: &'static str, #[case] expected: &str) {
    let ca = Ca::new();
    let address = scripted(&ca, HOST, move |_, mut stream| async move {
        read_head(&mut stream).await;
        write(&mut stream, answer).await;
    })
    .await;
    let forwarder = support::forwarder(&ca, address);
    let error = soon(forwarder.send(&key(), get("/"))).await.unwrap_err();
    assert_eq!(variant(&error), expected, "{error}");
}

#[tokio::test]
async fn a_head_without_end_is_cut() {
    let ca = Ca::new();
    let address = scripted(&ca, HOST, |_, mut stream| async move {
        read_head(&mut stream).await;
        write(&mut stream, "HTTP/1.1 200 OK\r\n").await;
        let line = format!("A: {}\r\n", "b".repeat(1000));
        for _ in 0..90 {
            write(&mut stream, &line).await;
        }
        pending::<()>().await;
    })
    .await;
    let forwarder = support::forwarder(&ca, address);
    let error = soon(forwarder.send(&key(), get("/"))).await.unwrap_err();
    assert_eq!(variant(&error), "OverBound", "{error}");
}

/// What the library itself bounds: if it says so in other words, they are not known any more.
#[rstest]
#[case::many_headers(format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(101)))]
#[case::long_trailers(chunked(&format!("0\r\n{}\r\n", format!("A: {}\r\n", "b".repeat(900)).repeat(90))))]
#[case::many_trailers(chunked(&format!("0\r\n{}\r\n", "A: b\r\n".repeat(200))))]
#[case::long_extensions(chunked(&format!("2;{}\r\nok\r\n0\r\n\r\n", "x".repeat(17_000))))]
#[tokio::test]
async fn a_bound_of_ours_is_not_the_upstreams_fault(#[case] answer: String) {
    let ca = Ca::new();
    let address = scripted(&ca, HOST, move |_, mut stream| {
        let answer = answer.clone();
        async move {
            read_head(&mut stream).await;
            write(&mut stream, &answer).await;
            pending::<()>().await;
        }
    })
    .await;
    let forwarder = support::forwarder(&ca, address);
    let error = match soon(forwarder.send(&key(), get("/"))).await {
        Ok(sent) => soon(sent.response.into_body().collect()).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(variant(&error), "OverBound", "{error}");
    assert_eq!(error.reason().facts().blame, Blame::Gateway);
}

fn chunked(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

#[rstest]
#[case::short("Content-Length: 100\r\n\r\nhello", "Reset")]
#[case::chunk_cut("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "Reset")]
#[case::bad_chunk(
    "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    "MalformedResponse"
)]
#[tokio::test]
async fn a_body_that_breaks_off_is_an_error(#[case] rest: &'static str, #[case] expected: &str) {
    let ca = Ca::new();
    let address = scripted(&ca, HOST, move |_, mut stream| async move {
        read_head(&mut stream).await;
        write(&mut stream, &format!("HTTP/1.1 200 OK\r\n{rest}")).await;
    })
    .await;
    let forwarder = support::forwarder(&ca, address);
    // What comes along with the head is looked at before the head is passed on.
    let error = match soon(forwarder.send(&key(), get("/"))).await {
        Ok(sent) => soon(sent.response.into_body().collect()).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(variant(&error), expected, "{error}");
}

#[rstest]
#[case::another_name("other.test")]
#[case::longer_name("api.test.evil.test")]
#[tokio::test]
async fn t20_a_certificate_for_another_name_is_refused(#[case] name: &str) {
    let ca = Ca::new();
    let server = Server::start(&ca, name, &["h2"]).await;
    let forwarder = support::forwarder(&ca, server.address);
    let error = soon(forwarder.send(&key(), get("/"))).await.unwrap_err();
    assert_eq!(variant(&error), "TlsBadCertificate", "{error}");
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn t20_a_certificate_of_an_unknown_issuer_is_refused() {
    let server = Server::start(&Ca::new(), HOST, &["h2"]).await;
    let forwarder = support::forwarder(&Ca::new(), server.address);
    let error = soon(forwarder.send(&key(), get("/"))).await.unwrap_err();
    assert_eq!(variant(&error), "TlsBadCertificate", "{error}");
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn t20_plain_http_is_refused() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut first = [0; 5];
        stream.read_exact(&mut first).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        first
    });
    let forwarder = support::forwarder(&Ca::new(), address);
    let error = soon(forwarder.send(&key(), get("/"))).await.unwrap_err();
    assert_eq!(variant(&error), "TlsHandshake", "{error}");
    assert_eq!(seen.await.unwrap()[0], 22, "a TLS handshake record");
}

#[tokio::test]
async fn a_silent_upstream_is_given_up() {
    let ca = Ca::new();
    let (asked, mut asks) = mpsc::unbounded_channel();
    let address = scripted(&ca, HOST, move |_, mut stream| {
        let asked = asked.clone();
        async move {
            read_head(&mut stream).await;
            asked.send(()).unwrap();
            pending::<()>().await;
        }
    })
    .await;
    let forwarder = support::forwarder(&ca, address);
    let waiting = tokio::spawn(async move { forwarder.send(&key(), get("/")).await });
    soon(asks.recv()).await.unwrap();
    tokio::time::pause();
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(variant(&error), "ResponseTimeout", "{error}");
}

#[tokio::test]
async fn an_upstream_silent_amid_its_body_is_given_up() {
    let ca = Ca::new();
    let address = scripted(&ca, HOST, |_, mut stream| async move {
        read_head(&mut stream).await;
        let start = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello";
        write(&mut stream, start).await;
        pending::<()>().await;
    })
    .await;
    let forwarder = support::forwarder(&ca, address);
    let mut sent = soon(forwarder.send(&key(), get("/"))).await.unwrap();
    let body = sent.response.body_mut();
    assert_eq!(
        soon(body.frame())
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap(),
        "hello"
    );
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    let error = body.frame().await.unwrap().unwrap_err();
    assert_eq!(variant(&error), "BodyIdle", "{error}");
    assert_eq!(start.elapsed().as_secs(), 300);
}

#[rstest]
#[case::h1("http/1.1")]
#[case::h2("h2")]
#[tokio::test]
async fn a_client_that_breaks_off_its_body_is_to_blame(#[case] alpn: &str) {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &[alpn]).await;
    let forwarder = support::forwarder(&ca, server.address);
    let (incoming, mut client) = support::client_body(100).await;
    let meter = Arc::new(BodyMeter::default());
    let request = post("/echo", RequestBody::streaming(incoming, meter.clone()));
    let gone = async {
        support::send(&mut client, b"hello").await;
        drop(client);
    };
    let (result, ()) = soon(futures_util::future::join(
        forwarder.send(&key(), request),
        gone,
    ))
    .await;
    let error = result.unwrap_err();
    assert_eq!(variant(&error), "ClientBody", "{error}");
    assert!(meter.failed());
    assert!(server.received().is_empty());
}

#[rstest]
#[case::h1("http/1.1")]
#[case::h2("h2")]
#[tokio::test]
async fn a_client_silent_amid_its_body_is_to_blame(#[case] alpn: &str) {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &[alpn]).await;
    let forwarder = Arc::new(support::forwarder(&ca, server.address));
    let (incoming, mut client) = support::client_body(100).await;
    let meter = Arc::new(BodyMeter::default());
    let request = post("/echo", RequestBody::streaming(incoming, meter.clone()));
    let waiting = tokio::spawn(async move { forwarder.send(&key(), request).await });
    support::send(&mut client, b"hello").await;
    let taken = async {
        while meter.bytes() < 5 || !meter.awaits_client() {
            tokio::task::yield_now().await;
        }
    };
    soon(taken).await;
    tokio::time::pause();
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(variant(&error), "ClientBodyIdle", "{error}");
}

/// An upload that takes longer than the time allowed for an answer, but moves.
#[tokio::test]
async fn a_slow_upload_is_not_cut() {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &["http/1.1"]).await;
    let forwarder = Arc::new(support::forwarder(&ca, server.address));
    let (incoming, mut client) = support::client_body(10).await;
    let meter = Arc::new(BodyMeter::default());
    let request = post("/echo", RequestBody::streaming(incoming, meter.clone()));
    let waiting = tokio::spawn(async move { forwarder.send(&key(), request).await });
    for sent in 1..=10 {
        support::send(&mut client, b"x").await;
        let taken = async {
            while meter.bytes() < sent {
                tokio::task::yield_now().await;
            }
        };
        soon(taken).await;
        tokio::time::pause();
        if sent < 10 {
            tokio::time::advance(std::time::Duration::from_secs(200)).await;
        }
        tokio::time::resume();
    }
    let sent = soon(waiting).await.unwrap().unwrap();
    assert_eq!(support::read(sent).await, "xxxxxxxxxx");
}

/// The name of an error's variant.
fn variant(error: &ForwardError) -> String {
    let text = format!("{error:?}");
    text.split([' ', '{', '(']).next().unwrap().to_owned()
}
