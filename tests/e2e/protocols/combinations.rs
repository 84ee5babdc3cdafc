//! Whatever a client speaks on its side and an API on its own, the request comes through whole,
//! with the credential on it.

use bytes::Bytes;
use countersign_config::model::Unmatched;
use countersign_tests::{
    client::{Answer, Ask, Session, read_head},
    fake::Protocol,
};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use rstest::rstest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};

use crate::harness::{HOST, TestBed, UNMATCHED, get, soon};

type Frames = channel::Receiver;
type Streamed = StreamBody<Frames>;

/// A body whose frames the test sends when it likes.
mod channel {
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use bytes::Bytes;
    use hyper::body::Frame;
    use tokio::sync::mpsc;

    pub(super) struct Receiver(pub(super) mpsc::Receiver<Frame<Bytes>>);

    impl futures_util::Stream for Receiver {
        type Item = Result<Frame<Bytes>, Infallible>;

        fn poll_next(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Self::Item>> {
            self.0.poll_recv(context).map(|frame| frame.map(Ok))
        }
    }
}

#[rstest]
#[case::http11(Ask::Http11, false)]
#[case::http10_without_host(Ask::Http10, false)]
#[case::http11_over_tls(Ask::Http11, true)]
#[case::http10_over_tls(Ask::Http10, true)]
#[case::http2_over_tls(Ask::Http2, true)]
#[tokio::test]
async fn every_way_to_connect_makes_a_tunnel(
    #[case] ask: Ask,
    #[case] tls: bool,
    #[values(Protocol::Http1, Protocol::Http2)] within: Protocol,
) -> anyhow::Result<()> {
    let builder = TestBed::builder();
    let builder = if tls { builder.tls_listener() } else { builder };
    let mut bed = builder.start().await?;
    let roots = bed.env.authority.pem();
    let client = bed.client().over(within);
    let tunnel = client
        .tunnel(ask, &format!("{HOST}:443"), tls.then_some(&*roots))
        .await?;
    let mut session = Session::over(client.greet(tunnel, HOST).await?).await?;
    // A second request proves that the tunnel outlives the first.
    for path in ["/first", "/second"] {
        let answer = soon("an answer", session.send(get(path))).await??;
        assert_eq!(answer.text(), format!("GET {path}"));
        let record = bed.record().await?;
        assert_eq!(record["outcome"], "permitted", "{record}");
    }
    Ok(())
}

#[tokio::test]
async fn connect_without_proof_is_refused_in_each_version() -> anyhow::Result<()> {
    let mut bed = TestBed::builder().tls_listener().start().await?;
    let roots = bed.env.authority.pem();
    let client = bed.gateway.client(&bed.env);
    for ask in [Ask::Http11, Ask::Http10, Ask::Http2] {
        let tunnel = client
            .tunnel(ask, &format!("{HOST}:443"), Some(&roots))
            .await;
        assert!(
            tunnel.is_err(),
            "{ask:?} made a tunnel without any identity"
        );
        assert_eq!(bed.record().await?["reason"], "identity_missing");
    }
    Ok(())
}

#[rstest]
#[tokio::test]
async fn bodies_stream_both_ways_and_a_requests_trailers_end_here(
    #[values(Protocol::Http1, Protocol::Http2)] client: Protocol,
    #[values(Protocol::Http1, Protocol::Http2)] upstream: Protocol,
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    bed.api.speak(upstream);
    let client = bed.client().over(client);
    let tunnel = client.tls_stream(HOST).await?;
    let mut session: Session<Streamed> = Session::over(tunnel).await?;
    let (send, frames) = tokio::sync::mpsc::channel(1);
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("https://{HOST}/echo"))
        .header("te", "trailers")
        .header("trailer", "x-checksum")
        .body(StreamBody::new(channel::Receiver(frames)))?;
    let exchange = tokio::spawn(async move { session.start(request).await });
    send.send(Frame::data(Bytes::from_static(b"first"))).await?;
    let mut response = soon("the head", exchange).await???;
    assert_eq!(response.status(), StatusCode::OK);
    // The first piece comes back before the second was sent: nothing waits for a whole body.
    let first = soon("the first piece", response.frame()).await?;
    let first = first.expect("there is more")?.into_data();
    assert_eq!(first.ok().as_deref(), Some(&b"first"[..]));
    send.send(Frame::data(Bytes::from(vec![b'x'; 300_000])))
        .await?;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("abc"));
    send.send(Frame::trailers(trailers)).await?;
    drop(send);
    let answer = soon("the rest", Answer::of(response)).await??;
    assert_eq!(answer.body.len(), 300_000);
    // Some servers merge them into the headers, where they could pass for what we set.
    assert_eq!(answer.trailers, None);
    let record = bed.record().await?;
    assert_eq!(record["outcome"], "permitted", "{record}");
    assert_eq!(record["bytes"]["request"], 300_005, "{record}");
    assert_eq!(record["bytes"]["response"], 300_005, "{record}");
    Ok(())
}

#[rstest]
#[tokio::test]
async fn grpc_sees_its_status_and_its_te_header(
    #[values(Protocol::Http1, Protocol::Http2)] client: Protocol,
    #[values(Protocol::Http1, Protocol::Http2)] upstream: Protocol,
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    bed.api.speak(upstream);
    let mut request = get("/trailers");
    *request.method_mut() = Method::POST;
    let headers = request.headers_mut();
    headers.insert("te", HeaderValue::from_static("trailers"));
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    let answer = bed.client().over(client).send(request).await?;
    assert_eq!(answer.text(), "message");
    let status = answer
        .trailers
        .and_then(|trailers| trailers.get("grpc-status").cloned());
    assert_eq!(status, Some(HeaderValue::from_static("0")));
    let received = &bed.api.received().at("/trailers")[0];
    assert_eq!(received.header("te").as_deref(), Some("trailers"));
    // An upstream's trailers were once taken for the client's leaving.
    let record = bed.record().await?;
    assert_eq!(record["outcome"], "permitted", "{record}");
    Ok(())
}

#[rstest]
#[tokio::test]
async fn answers_without_a_body_leave_the_connection_in_step(
    #[values(Protocol::Http1, Protocol::Http2)] client: Protocol,
    #[values(Protocol::Http1, Protocol::Http2)] upstream: Protocol,
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    bed.api.speak(upstream);
    let mut session = bed.client().over(client).open(HOST).await?;
    for (method, path, status) in [
        (Method::HEAD, "/some", 200),
        (Method::GET, "/no-content", 204),
        (Method::GET, "/not-modified", 304),
        (Method::HEAD, "/not-modified", 304),
        (Method::GET, "/last", 200),
    ] {
        let mut request = get(path);
        *request.method_mut() = method.clone();
        let answer = soon("an answer", session.send(request)).await??;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}");
        assert_eq!(
            answer.body.is_empty(),
            path != "/last",
            "{method} {path}: {}",
            answer.text()
        );
        if method == Method::HEAD && status == 200 {
            assert_eq!(answer.header("content-length"), Some("10"));
        }
        assert_eq!(
            answer.header("etag").is_some(),
            path.starts_with("/no"),
            "{path}"
        );
        assert_eq!(bed.record().await?["outcome"], "permitted");
    }
    // All five went over one connection, so that a byte too many would have shown.
    assert_eq!(bed.api.server().accepted_connections(), 1);
    Ok(())
}

#[tokio::test]
async fn expect_100_continue_is_answered_here_and_does_not_travel() -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    let mut stream = bed.client().tls_stream(HOST).await?;
    let head = format!(
        "POST /upload HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let go = soon("100", read_head(&mut stream)).await??;
    assert!(go.starts_with("HTTP/1.1 100 "), "{go}");
    stream.write_all(b"hello").await?;
    let answer = soon("the answer", read_head(&mut stream)).await??;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let received = &bed.api.received().at("/upload")[0];
    assert_eq!(received.header("expect"), None);
    assert_eq!(&received.body[..], b"hello");
    Ok(())
}

/// THREATS 55: who is refused without 100 must not have its body taken for a next request.
#[tokio::test]
async fn expect_100_continue_of_a_refused_request_does_not_desynchronise() -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let mut stream = bed.client().tls_stream(HOST).await?;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: api.example.test\r\n\r\n";
    let head = format!(
        "DELETE /x HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        smuggled.len()
    );
    stream.write_all(head.as_bytes()).await?;
    let answer = soon("the refusal", read_head(&mut stream)).await??;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(bed.record().await?["reason"], "request_not_allowed");
    // The gateway may have closed; what matters is that nobody answers the body.
    let _closed = stream.write_all(smuggled.as_bytes()).await;
    let mut rest = Vec::new();
    let _closed = soon("the end", stream.read_to_end(&mut rest)).await?;
    assert!(!String::from_utf8_lossy(&rest).contains("GET /smuggled"));
    assert_eq!(bed.api.received().count(), 0);
    Ok(())
}

#[tokio::test]
async fn socket_mode_runs_over_websocket() -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let client = bed.client().at(bed.env.clock.clone());
    let opened = client
        .send(
            Request::post("https://slack.com/api/apps.connections.open")
                .header("authorization", "Bearer xapp-1-dummy")
                .body(Full::default())?,
        )
        .await?;
    assert_eq!(bed.record().await?["credential"]["name"], "qa/slack-app");
    let url = opened.json()["url"].as_str().unwrap_or_default().to_owned();
    let stream = client.tls_stream("wss-primary.slack.com").await?;
    let request = url.as_str().into_client_request()?;
    let handshake = Box::pin(tokio_tungstenite::client_async(request, stream));
    let (mut socket, answer) = soon("101", handshake).await??;
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut id = None;
    while id.is_none() {
        let message = soon("an envelope", socket.next()).await?.expect("open")?;
        if let Message::Text(text) = message {
            let envelope: serde_json::Value = serde_json::from_str(&text)?;
            id = envelope["envelope_id"].as_str().map(str::to_owned);
        }
    }
    let id = id.unwrap_or_default();
    let acknowledgement = serde_json::json!({ "envelope_id": id }).to_string();
    socket.send(Message::Text(acknowledgement.into())).await?;
    socket.send(Message::Ping("2".into())).await?;
    while soon("the pong", socket.next()).await?.expect("open")? != Message::Pong("2".into()) {}
    assert_eq!(bed.env.slack.acknowledged(), [id]);
    bed.env.slack.disconnect_sockets();
    while let Some(Ok(_)) = soon("the end", socket.next()).await? {}
    drop(socket);
    let record = bed.record().await?;
    assert_eq!(record["outcome"], "permitted", "{record}");
    assert_eq!(record["target"]["protocol"], "websocket");
    assert_eq!(record["upstream"]["status"], 101);
    assert_eq!(record["credential"], serde_json::Value::Null);
    Ok(())
}

#[tokio::test]
async fn absolute_https_gets_tls_and_a_credential_and_absolute_http_neither() -> anyhow::Result<()>
{
    let mut bed = TestBed::start().await?;
    let answer = bed.client().send_absolute(get("/clear")).await?;
    assert_eq!(
        (answer.status, answer.text()),
        (StatusCode::OK, "GET /clear".into())
    );
    assert_eq!(bed.record().await?["outcome"], "permitted");

    let mut plain = get("/clear");
    *plain.uri_mut() = format!("http://{HOST}/clear").parse()?;
    let answer = bed.client().send_absolute(plain).await?;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(bed.record().await?["reason"], "plaintext_refused");
    assert_eq!(bed.api.received().count(), 1);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn unmatched_hosts_are_denied_or_carried_unread(
    #[values(Unmatched::Deny, Unmatched::Tunnel)] unmatched: Unmatched,
) -> anyhow::Result<()> {
    let mut bed = TestBed::builder()
        .gateway(|gateway| {
            gateway.unmatched = unmatched;
        })
        .start()
        .await?;
    // End to end: the client trusts the API's own root, and not the gateway's.
    let client = bed.end_to_end_client();
    let mut request = get("/through");
    *request.uri_mut() = format!("https://{UNMATCHED}/through").parse()?;
    let answer = client.send(request).await;
    let record = bed.record().await?;
    match unmatched {
        Unmatched::Deny => {
            assert!(answer.is_err());
            assert_eq!(record["reason"], "host_unmatched");
            assert_eq!(bed.api.received().count(), 0);
        }
        Unmatched::Tunnel => {
            assert_eq!(answer?.text(), "GET /through");
            assert_eq!(record["outcome"], "tunnelled", "{record}");
            assert_eq!(record["credential"], serde_json::Value::Null);
            let received = &bed.api.received().at("/through")[0];
            assert_eq!(received.header("authorization"), None);
        }
    }
    Ok(())
}

#[rstest]
#[case::both(&["h2", "http/1.1"], Version::HTTP_2)]
#[case::both_reversed(&["http/1.1", "h2"], Version::HTTP_2)]
#[case::only_http1(&["http/1.1"], Version::HTTP_11)]
#[case::no_alpn(&[], Version::HTTP_11)]
#[tokio::test]
async fn alpn_chooses_the_clients_protocol(
    #[case] offered: &[&str],
    #[case] spoken: Version,
    #[values(false, true)] old_tls: bool,
) -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    let mut client = bed.client().offering(offered);
    if old_tls {
        client = client.only_tls12(bed.gateway.roots());
    }
    let stream = client.tls_stream(HOST).await?;
    let version = stream.get_ref().1.protocol_version();
    assert_eq!(version == Some(rustls::ProtocolVersion::TLSv1_2), old_tls);
    let answer = Session::over(stream).await?.send(get("/alpn")).await?;
    assert_eq!(
        (answer.version, answer.text()),
        (spoken, "GET /alpn".into())
    );
    Ok(())
}
