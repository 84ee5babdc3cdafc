//! WebSocket and other upgrades.

use http::{Request, StatusCode};
use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{self, Ca, HOST, Server, get, key, read, read_head, scripted, soon, write};
use crate::forward::{CallerId, ForwardError, RequestBody, UpgradeAnswer};

fn websocket() -> Request<RequestBody> {
    let mut request = get("/link");
    let headers = request.headers_mut();
    headers.insert("connection", "upgrade".parse().unwrap());
    headers.insert("upgrade", "websocket".parse().unwrap());
    headers.insert("sec-websocket-key", KEY.parse().unwrap());
    request
}

/// The example of RFC 6455, section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

#[tokio::test]
async fn after_101_the_bytes_are_the_other_protocols() {
    let ca = Ca::new();
    let address = scripted(&ca, HOST, |_, mut stream| async move {
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("GET /link HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("host: api.test\r\n"), "{head}");
        assert!(head.contains("upgrade: websocket\r\n"), "{head}");
        // The first bytes come along with the head.
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {ACCEPT}\r\n\r\nhello"
        );
        write(&mut stream, &answer).await;
        let mut said = [0; 4];
        stream.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"ping");
        write(&mut stream, "pong").await;
        stream.shutdown().await.unwrap();
    })
    .await;
    let forwarder = support::forwarder(&ca, address);
    let answer = soon(forwarder.upgrade(CallerId::GATEWAY.into(), &key(), websocket()))
        .await
        .unwrap();
    let UpgradeAnswer::Switched {
        response,
        mut stream,
        connection,
    } = answer
    else {
        panic!("{answer:?}");
    };
    assert_eq!(response.headers()["upgrade"], "websocket");
    assert!(!connection.reused);
    stream.write_all(b"ping").await.unwrap();
    stream.flush().await.unwrap();
    let mut heard = String::new();
    soon(stream.read_to_string(&mut heard)).await.unwrap();
    assert_eq!(heard, "hellopong");
    // It counts against the bound as long as it is there.
    assert_eq!(forwarder.pool.endpoint(&key()).unwrap().counts(), (1, 0, 0));
    drop(stream);
    assert_eq!(forwarder.pool.endpoint(&key()).unwrap().counts(), (0, 0, 0));
}

#[rstest]
#[case::http1_only(&["http/1.1"])]
#[case::http2_too(&["h2", "http/1.1"])]
#[tokio::test]
async fn t21_any_other_answer_is_an_ordinary_response(#[case] alpn: &[&str]) {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, alpn).await;
    let forwarder = support::forwarder(&ca, server.address);
    let answer = soon(forwarder.upgrade(CallerId::GATEWAY.into(), &key(), websocket()))
        .await
        .unwrap();
    let UpgradeAnswer::Refused(sent) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(sent.response.status(), StatusCode::OK);
    assert_eq!(read(sent).await, "hello");
    // Such a connection serves nobody else.
    assert_eq!(forwarder.pool.endpoint(&key()).unwrap().counts(), (0, 0, 0));
}

#[rstest]
#[case::h2c("Connection: upgrade\r\nUpgrade: h2c")]
#[case::nothing("X: y")]
#[case::no_accept("Connection: upgrade\r\nUpgrade: websocket")]
#[tokio::test]
async fn t74_a_101_that_does_not_answer_is_malformed_and_closed(#[case] headers: &'static str) {
    let ca = Ca::new();
    let (closed, mut is_closed) = tokio::sync::mpsc::channel(1);
    let address = scripted(&ca, HOST, move |_, mut stream| {
        let closed = closed.clone();
        async move {
            read_head(&mut stream).await;
            let answer = format!("HTTP/1.1 101 Switching Protocols\r\n{headers}\r\n\r\n");
            write(&mut stream, &answer).await;
            // However it is closed, nothing more comes.
            let mut rest = Vec::new();
            let _end = stream.read_to_end(&mut rest).await;
            closed.send(rest).await.unwrap();
        }
    })
    .await;
    let forwarder = support::forwarder(&ca, address);
    let error = soon(forwarder.upgrade(CallerId::GATEWAY.into(), &key(), websocket()))
        .await
        .unwrap_err();
    assert!(
        matches!(error, ForwardError::MalformedResponse { .. }),
        "{error}"
    );
    assert_eq!(soon(is_closed.recv()).await, Some(Vec::new()));
    assert_eq!(forwarder.pool.endpoint(&key()).unwrap().counts(), (0, 0, 0));
}
