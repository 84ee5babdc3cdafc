//! Requests and responses that go well.

use std::sync::Arc;

use bytes::Bytes;
use countersign_config::model::Limits;
use http::{Method, Request, Version};
use http_body_util::BodyExt;
use rstest::rstest;

use super::support::{self, Ca, HOST, Server, get, key, post, read, soon};
use crate::forward::{BodyMeter, Outbound, Protocol, RequestBody};

#[tokio::test]
async fn http1_is_used_where_the_upstream_offers_no_more_and_is_kept() {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &["http/1.1"]).await;
    let forwarder = support::forwarder(&ca, server.address);

    let first = soon(forwarder.send(&key(), get("/hello?a=b")))
        .await
        .unwrap();
    assert_eq!(first.connection.protocol, Protocol::Http1);
    assert!(!first.connection.reused);
    assert_eq!(first.connection.address, server.address);
    assert_eq!(read(first).await, "hello");
    let second = soon(forwarder.send(&key(), get("/hello"))).await.unwrap();
    assert!(second.connection.reused);
    assert_eq!(read(second).await, "hello");

    assert_eq!(server.connections(), 1);
    let received = server.received();
    assert_eq!(received[0].method, Method::GET);
    assert_eq!(received[0].uri, "/hello?a=b");
    assert_eq!(received[0].version, Version::HTTP_11);
    assert_eq!(received[0].headers["host"], HOST);
}

#[tokio::test]
async fn http2_is_preferred_and_shared_by_concurrent_requests() {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &["h2", "http/1.1"]).await;
    let forwarder = support::forwarder(&ca, server.address);
    let requests = (0..20).map(|_| async {
        let sent = forwarder.send(&key(), get("/hello?a=b")).await.unwrap();
        assert_eq!(sent.connection.protocol, Protocol::Http2);
        assert_eq!(read(sent).await, "hello");
    });
    soon(futures_util::future::join_all(requests)).await;
    assert_eq!(server.connections(), 1);
    let received = server.received();
    assert_eq!(received.len(), 20);
    assert_eq!(received[0].uri, "https://api.test/hello?a=b");
    assert_eq!(received[0].version, Version::HTTP_2);
    assert!(!received[0].headers.contains_key("host"));
}

#[rstest]
#[case::h1("http/1.1")]
#[case::h2("h2")]
#[tokio::test]
async fn bodies_pass_both_ways_and_trailers_down(#[case] alpn: &str) {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &[alpn]).await;
    let forwarder = support::forwarder(&ca, server.address);
    let (incoming, mut client) = support::chunked_body().await;
    let meter = Arc::new(BodyMeter::default());
    let mut request = post("/echo", RequestBody::streaming(incoming, meter.clone()));
    let headers = request.headers_mut();
    headers.insert("te", "trailers".parse().unwrap());
    let script = async {
        support::send(&mut client, b"5\r\nhello\r\n").await;
        support::send(&mut client, b"6\r\n world\r\n0\r\nauthorization: x\r\n\r\n").await;
    };
    let (sent, ()) = soon(futures_util::future::join(
        forwarder.send(&key(), request),
        script,
    ))
    .await;
    let body = soon(sent.unwrap().response.into_body().collect())
        .await
        .unwrap();
    // The server's own trailers, and none of the client's, which it would have sent back.
    let trailers = body.trailers().unwrap();
    assert_eq!(trailers["x-checksum"], "7");
    assert!(!trailers.contains_key("authorization"));
    assert_eq!(body.to_bytes(), "hello world");
    assert_eq!(meter.bytes(), 11);
    assert!(meter.ended() && !meter.failed());
}

#[rstest]
#[case::h1("http/1.1")]
#[case::h2("h2")]
#[tokio::test]
async fn large_bodies_stream_up_and_down(#[case] alpn: &str) {
    const SIZE: usize = 32 * 1024 * 1024;
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &[alpn]).await;
    let forwarder = support::forwarder(&ca, server.address);
    let (incoming, mut client) = support::client_body(SIZE).await;
    let meter = Arc::new(BodyMeter::default());
    let request = post("/sink", RequestBody::streaming(incoming, meter.clone()));
    let piece = vec![b'x'; 64 * 1024];
    let script = async {
        for _ in 0..SIZE / piece.len() {
            support::send(&mut client, &piece).await;
        }
    };
    let (sent, ()) = soon(futures_util::future::join(
        forwarder.send(&key(), request),
        script,
    ))
    .await;
    assert_eq!(read(sent.unwrap()).await, "hello");
    assert_eq!(server.received()[0].body, SIZE);
    assert_eq!(server.received()[0].headers["content-length"], "33554432");
    assert_eq!(meter.bytes(), SIZE as u64);

    let large = soon(forwarder.send(&key(), get("/large"))).await.unwrap();
    assert!(large.connection.reused);
    assert_eq!(soon(read(large)).await.len(), 8 * 1024 * 1024);
    let next = soon(forwarder.send(&key(), get("/hello"))).await.unwrap();
    assert!(next.connection.reused);
    assert_eq!(server.connections(), 1);
}

/// A client that reads nothing before it has sent all: with both bodies larger than every buffer,
/// neither may wait for the other.
#[rstest]
#[case::h1("http/1.1")]
#[case::h2("h2")]
#[tokio::test]
async fn a_response_before_the_end_of_its_request_does_not_stop_the_request(#[case] alpn: &str) {
    const SIZE: usize = 8 * 1024 * 1024;
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &[alpn]).await;
    let forwarder = support::forwarder(&ca, server.address);
    let (incoming, mut client) = support::client_body(SIZE).await;
    let meter = Arc::new(BodyMeter::default());
    let request = post("/early", RequestBody::streaming(incoming, meter.clone()));
    let sent = soon(forwarder.send(&key(), request)).await.unwrap();
    let piece = vec![b'x'; 64 * 1024];
    for _ in 0..SIZE / piece.len() {
        soon(support::send(&mut client, &piece)).await;
    }
    assert_eq!(soon(read(sent)).await.len(), 8 * 1024 * 1024);
    assert_eq!(meter.bytes(), SIZE as u64);
}

#[tokio::test]
async fn a_body_that_was_read_in_part_goes_on_whole() {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &["http/1.1"]).await;
    let forwarder = support::forwarder(&ca, server.address);
    let (mut incoming, mut client) = support::client_body(11).await;
    support::send(&mut client, b"hello").await;
    let prefix = incoming.frame().await.unwrap().unwrap();
    let prefix = prefix.into_data().unwrap();
    support::send(&mut client, b" world").await;
    let body = RequestBody::resumed(prefix, incoming, Arc::default());
    let sent = soon(forwarder.send(&key(), post("/echo", body)))
        .await
        .unwrap();
    assert_eq!(read(sent).await, "hello world");
    assert_eq!(server.received()[0].headers["content-length"], "11");
}

#[rstest]
#[case::no_content(Method::GET, "/empty", "h2")]
#[case::head(Method::HEAD, "/hello", "h2")]
#[case::no_content_h1(Method::GET, "/empty", "http/1.1")]
#[case::head_h1(Method::HEAD, "/hello", "http/1.1")]
#[tokio::test]
async fn responses_without_body_leave_the_connection_usable(
    #[case] method: Method,
    #[case] path: &str,
    #[case] alpn: &str,
) {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &[alpn]).await;
    let forwarder = support::forwarder(&ca, server.address);
    let mut request = get(path);
    *request.method_mut() = method;
    let sent = soon(forwarder.send(&key(), request)).await.unwrap();
    if alpn == "http/1.1" {
        // Who sees that there is no body does not ask for it.
        assert!(http_body::Body::is_end_stream(sent.response.body()));
    }
    drop(sent);
    let next = soon(forwarder.send(&key(), get("/hello"))).await.unwrap();
    assert!(next.connection.reused);
    assert_eq!(read(next).await, "hello");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_whole_body_is_sent_with_its_length() {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &["http/1.1"]).await;
    let forwarder = support::forwarder(&ca, server.address);
    let meter = Arc::new(BodyMeter::default());
    let body = RequestBody::full(Bytes::from_static(b"a=b"), meter.clone());
    let sent = soon(forwarder.send(&key(), post("/echo", body)))
        .await
        .unwrap();
    assert_eq!(read(sent).await, "a=b");
    assert_eq!(server.received()[0].headers["content-length"], "3");
    assert_eq!(meter.bytes(), 3);
}

/// Domain fronting: the request names another host in every place it can.
#[rstest]
#[case::h1("http/1.1")]
#[case::h2("h2")]
#[tokio::test]
async fn t01_only_the_key_says_where_a_request_goes(#[case] alpn: &str) {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &[alpn]).await;
    let forwarder = support::forwarder(&ca, server.address);
    let request = Request::get("https://evil.test/hello")
        .header("host", "evil.test")
        .body(RequestBody::empty())
        .unwrap();
    let sent = soon(forwarder.send(&key(), request)).await.unwrap();
    assert_eq!(read(sent).await, "hello");
    let received = server.received();
    let told = match received[0].uri.authority() {
        Some(authority) => authority.as_str(),
        None => received[0].headers["host"].to_str().unwrap(),
    };
    assert_eq!(told, HOST);
    assert_eq!(
        received[0].headers.get_all("host").iter().count(),
        usize::from(alpn != "h2")
    );
}

#[rstest]
#[case::h1("http/1.1")]
#[case::h2("h2")]
#[tokio::test]
async fn another_port_is_named(#[case] alpn: &str) {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &[alpn]).await;
    let mut upstream = support::upstream(&ca, server.address);
    upstream.resolve = upstream
        .resolve
        .into_iter()
        .map(|((host, _), address)| ((host, 8443), address))
        .collect();
    let forwarder =
        crate::forward::Forwarder::new(&upstream, &Limits::default(), Vec::new()).unwrap();
    let key = Outbound {
        authority: support::authority(8443),
        ..key()
    };
    let sent = soon(forwarder.send(&key, get("/hello"))).await.unwrap();
    assert_eq!(read(sent).await, "hello");
    let received = &server.received()[0];
    let told = match received.uri.authority() {
        Some(authority) => authority.as_str(),
        None => received.headers["host"].to_str().unwrap(),
    };
    assert_eq!(told, "api.test:8443");
}

#[rstest]
#[case::interim(
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n\
     HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    200,
    "ok"
)]
#[case::not_modified("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, "")]
#[tokio::test]
async fn t55_framing_is_that_of_the_final_response(
    #[case] answer: &'static str,
    #[case] status: u16,
    #[case] body: &str,
) {
    let ca = Ca::new();
    let address = support::scripted(&ca, HOST, move |_, mut stream| async move {
        for _ in 0..2 {
            support::read_head(&mut stream).await;
            support::write(&mut stream, answer).await;
        }
    })
    .await;
    let forwarder = support::forwarder(&ca, address);
    for reused in [false, true] {
        let sent = soon(forwarder.send(&key(), get("/"))).await.unwrap();
        assert_eq!(sent.connection.reused, reused);
        assert_eq!(sent.response.status(), status);
        assert_eq!(read(sent).await, body.as_bytes());
    }
}

/// What is held for each request under way.
#[tokio::test]
async fn the_future_of_a_request_stays_small() {
    let ca = Ca::new();
    let forwarder = support::forwarder(&ca, ([127, 0, 0, 1], 1).into());
    let (key, request) = (key(), get("/"));
    let size = size_of_val(&forwarder.send(&key, request));
    assert!(size <= 4096, "{size} bytes");
}
