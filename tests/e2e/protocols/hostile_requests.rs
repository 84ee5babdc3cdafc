//! Attacks, numbered as in the project's list of threats, over raw sockets where a client library
//! would not go along. Refused means: the stated status, a reason code in the record, and nothing
//! sent upstream.

use std::time::Duration;

use countersign_tests::client::{Ask, read_head};
use http::{HeaderValue, Method, StatusCode};
use rstest::rstest;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::harness::{HOST, SECRET, TestBed, exchange, get, soon};

/// What comes back for bytes within an intercepted tunnel.
async fn in_tunnel(bed: &TestBed, bytes: &str) -> anyhow::Result<String> {
    let mut stream = bed.client().tls_stream(HOST).await?;
    exchange(&mut stream, bytes).await
}

#[rstest]
#[case::host("GET / HTTP/1.1\r\nHost: slack.com\r\nConnection: close\r\n\r\n")]
#[case::absolute(
    "GET https://slack.com/ HTTP/1.1\r\nHost: api.example.test\r\nConnection: close\r\n\r\n"
)]
#[case::port("GET / HTTP/1.1\r\nHost: api.example.test:8443\r\nConnection: close\r\n\r\n")]
#[tokio::test]
async fn t01_a_request_for_another_host_within_a_tunnel(#[case] bytes: &str) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let answer = in_tunnel(&bed, bytes).await?;
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    bed.refused("authority_mismatch").await?;
    Ok(())
}

#[tokio::test]
async fn t01_a_greeting_for_another_host_than_connect_named() -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    // Its certificate is for the host of CONNECT, so that an honest client stops here.
    let client = bed.client();
    let target = format!("{HOST}:443");
    let tunnel = client.tunnel(Ask::Http11, &target, None).await?;
    assert!(client.greet(tunnel, "slack.com").await.is_err());
    bed.refused("client_tls").await?;
    Ok(())
}

#[rstest]
#[case::case_and_dot("API.Example.Test.:443", 200)]
#[case::userinfo("user@api.example.test:443", 400)]
#[case::no_port("api.example.test", 400)]
#[case::port_zero("api.example.test:0", 400)]
#[case::brackets("[api.example.test]:443", 400)]
#[case::two_colons("api.example.test:443:443", 400)]
#[case::percent("api%2eexample.test:443", 400)]
#[tokio::test]
async fn t02_spellings_of_a_host_are_canonical_or_refused(
    #[case] host: &str,
    #[case] status: u16,
) -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    let token = &bed.token;
    let mut stream = TcpStream::connect(bed.gateway.address()).await?;
    let head = format!("CONNECT {host} HTTP/1.1\r\nProxy-Authorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let answer = soon("an answer", read_head(&mut stream)).await??;
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{answer}"
    );
    Ok(())
}

#[rstest]
#[case::absolute_form_against_host(
    "GET https://api.example.test/ HTTP/1.1\r\nHost: slack.com\r\nProxy-Authorization: Bearer TOKEN\r\nConnection: close\r\n\r\n"
)]
#[case::two_hosts(
    "GET https://api.example.test/ HTTP/1.1\r\nHost: api.example.test\r\nHost: slack.com\r\nProxy-Authorization: Bearer TOKEN\r\nConnection: close\r\n\r\n"
)]
#[tokio::test]
async fn t03_hosts_that_disagree_to_the_proxy(#[case] bytes: &str) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let answer = bed.to_proxy(bytes).await?;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    bed.refused("request_malformed").await?;
    Ok(())
}

#[rstest]
#[case::both_lengths(
    "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "0\r\n\r\n",
    "400"
)]
#[case::two_codings("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n", "400")]
#[case::two_lengths("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!", "400")]
#[case::signed_length("Content-Length: +5\r\n", "hello", "400")]
#[case::bare_line_feed("Transfer-Encoding: chunked\r\n", "5\nhello\r\n0\r\n\r\n", "4")]
#[case::folded_header("X-A: b\r\n c\r\nContent-Length: 0\r\n", "", "400")]
#[tokio::test]
async fn t05_t06_ambiguous_framing_smuggles_nothing(
    #[case] headers: &str,
    #[case] body: &str,
    #[case] status: &str,
) -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    let smuggled = format!("GET /smuggled HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let bytes = format!("POST /some HTTP/1.1\r\nHost: {HOST}\r\n{headers}\r\n{body}{smuggled}");
    let answer = in_tunnel(&bed, &bytes).await?;
    assert!(!answer.contains("GET /smuggled"), "{answer}");
    assert!(bed.api.received().at("/smuggled").is_empty());
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status}")),
        "{answer}"
    );
    for received in bed.api.received().all() {
        let both = ["content-length", "transfer-encoding"].map(|name| received.header(name));
        assert!(both.contains(&None), "an ambiguous length was sent on");
    }
    Ok(())
}

#[rstest]
#[case::t12_in_a_request("Connection: close, authorization\r\n")]
#[case::t13_in_an_upgrade(
    "Connection: upgrade, authorization\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)]
#[case::t14_own_authorization("Authorization: Bearer mine\r\nConnection: close\r\n")]
#[case::t14_several(
    "Authorization: Bearer a\r\nauthorization: Basic Yjpi\r\nConnection: close\r\n"
)]
#[case::t22_h2c(
    "Connection: close, upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
)]
#[tokio::test]
async fn t12_to_t14_t22_headers_that_would_take_ours_away(
    #[case] headers: &str,
) -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    let mut stream = bed.client().tls_stream(HOST).await?;
    let bytes = format!("GET /some HTTP/1.1\r\nHost: {HOST}\r\n{headers}\r\n");
    stream.write_all(bytes.as_bytes()).await?;
    let answer = soon("an answer", read_head(&mut stream)).await??;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let received = &bed.api.received().at("/some")[0];
    assert_eq!(
        received.header_values("authorization"),
        [format!("Bearer {SECRET}")]
    );
    assert_eq!(received.header("http2-settings"), None);
    assert_eq!(received.header("proxy-authorization"), None);
    Ok(())
}

#[rstest]
#[case("authorization_", StatusCode::OK)]
#[case("x_other", StatusCode::OK)]
#[tokio::test]
async fn t15_a_header_that_only_looks_a_little_like_ours_passes(
    #[case] name: &'static str,
    #[case] status: StatusCode,
) -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    let mut request = get("/some");
    request
        .headers_mut()
        .insert(name, HeaderValue::from_static("x"));
    assert_eq!(bed.client().send(request).await?.status, status);
    Ok(())
}

#[tokio::test]
async fn t16_a_placeholder_in_a_body_stays_what_it_is() -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    let mut request = get("/some");
    *request.method_mut() = Method::POST;
    *request.body_mut() = "{token} ${token} Bearer {token}".into();
    bed.client().send(request).await?;
    let received = &bed.api.received().at("/some")[0];
    assert_eq!(&received.body[..], b"{token} ${token} Bearer {token}");
    Ok(())
}

#[rstest]
#[case("TRACE / HTTP/1.1", "method_refused", 405)]
#[case("TRACK / HTTP/1.1", "method_refused", 405)]
#[case("CONNECT slack.com:443 HTTP/1.1", "method_refused", 405)]
#[case("OPTIONS * HTTP/1.1", "method_refused", 405)]
#[case("GET /a/../b HTTP/1.1", "path_not_canonical", 400)]
#[case("GET /a/%2e%2e/b HTTP/1.1", "path_not_canonical", 400)]
#[case("GET //b HTTP/1.1", "path_not_canonical", 400)]
#[case("GET /a%2fb HTTP/1.1", "path_not_canonical", 400)]
#[case("GET /a\\b HTTP/1.1", "path_not_canonical", 400)]
#[case(
    "GET / HTTP/1.1\r\nX-HTTP-Method-Override: DELETE",
    "method_override",
    400
)]
#[case("GET / HTTP/1.1\r\nX-Method-Override: DELETE", "method_override", 400)]
#[tokio::test]
async fn t17_t25_t46_t47_what_is_not_forwarded(
    #[case] line: &str,
    #[case] reason: &str,
    #[case] status: u16,
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let bytes = format!("{line}\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let answer = in_tunnel(&bed, &bytes).await?;
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{answer}"
    );
    bed.refused(reason).await?;
    Ok(())
}

#[tokio::test]
async fn t19_a_redirect_is_passed_on_and_not_followed() -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    let answer = bed.client().send(get("/redirect")).await?;
    assert_eq!(answer.status, StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(
        answer.header("location"),
        Some("https://unmatched.example.test/")
    );
    assert_eq!(bed.api.received().count(), 1);
    Ok(())
}

#[tokio::test]
async fn t24_bytes_before_the_answer_to_connect() -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let bytes = format!(
        "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\nProxy-Authorization: Bearer TOKEN\r\n\r\n\
         GET /early HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
    );
    let answer = bed.to_proxy(&bytes).await?;
    assert!(!answer.contains("GET /early"), "{answer}");
    bed.refused("early_data").await?;
    Ok(())
}

#[rstest]
#[case::header("GET / HTTP/1.1\r\nHost: api.example.test\r\nX-Long: LONG\r\n\r\n")]
#[case::target("GET /LONG HTTP/1.1\r\nHost: api.example.test\r\n\r\n")]
#[tokio::test]
async fn t49_oversized_heads(#[case] bytes: &str) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let bytes = bytes.replace("LONG", &"x".repeat(128 * 1024));
    let answer = in_tunnel(&bed, &bytes).await?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    assert!(["414", "431", "400"].contains(&status), "{answer}");
    bed.refused("head_too_large").await?;
    Ok(())
}

#[rstest]
#[case::connect("CONNECT api.exam", false)]
#[case::within("GET / HT", true)]
#[tokio::test]
async fn t50_heads_that_never_end(#[case] begun: &str, #[case] within: bool) -> anyhow::Result<()> {
    let mut bed = TestBed::builder()
        .limits(|limits| limits.head_timeout = Duration::from_millis(300))
        .start()
        .await?;
    // Each returns once the gateway has closed the connection.
    if within {
        in_tunnel(&bed, begun).await?;
    } else {
        bed.to_proxy(begun).await?;
    }
    bed.refused("head_timeout").await?;
    Ok(())
}

#[tokio::test]
async fn t52_control_characters_in_what_is_recorded() -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    in_tunnel(
        &bed,
        "GET /a\u{1b}[31m HTTP/1.1\r\nHost: api.example.test\r\n\r\n",
    )
    .await?;
    let record = bed.record().await?.to_string();
    assert!(
        !record.contains('\u{1b}') && !record.contains("\\u001b[31m"),
        "{record}"
    );
    assert_eq!(bed.api.received().count(), 0);
    Ok(())
}

#[rstest]
#[case("\0\0\0\0")]
#[case("GET\r\n\r\n")]
#[case("GET / HTTP/9.9\r\n\r\n")]
#[case("GET / HTTP/1.1\r\nHost : api.example.test\r\n\r\n")]
#[case("GET / HTTP/1.1\r\nNo colon\r\n\r\n")]
#[case("\x16\x03\x01 TLS within TLS\r\n\r\n")]
#[tokio::test]
async fn t56_what_is_not_http_within_a_tunnel(#[case] bytes: &str) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let answer = in_tunnel(&bed, bytes).await?;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
        "{answer}"
    );
    bed.refused("request_malformed").await?;
    assert_eq!(bed.client().send(get("/well")).await?.text(), "GET /well");
    Ok(())
}

#[tokio::test]
async fn t57_the_admin_port_takes_no_writes() -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    let admin = bed.admin();
    for path in ["/metrics", "/readyz", "/healthz", "/version"] {
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let mut stream = TcpStream::connect(admin).await?;
            let bytes = format!(
                "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            );
            let answer = exchange(&mut stream, &bytes).await?;
            assert!(
                answer.starts_with("HTTP/1.1 405 "),
                "{method} {path}: {answer}"
            );
        }
    }
    Ok(())
}
