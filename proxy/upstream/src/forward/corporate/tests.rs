use std::path::Path;

use countersign_config::model::ProxyAuthentication;
use rstest::rstest;
use tokio::{
    io::{AsyncReadExt as _, DuplexStream},
    task::JoinHandle,
};

use super::*;

/// A proxy that answers so, and then waits for the gateway to leave. Gives what it was asked.
fn proxy(answer: &'static str) -> (DuplexStream, JoinHandle<String>) {
    let (gateway, mut stream) = tokio::io::duplex(1 << 16);
    let proxy = tokio::spawn(async move {
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            asked.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        if answer.ends_with("\r\n") {
            // It has no more to say.
            stream.shutdown().await.unwrap();
        }
        stream.read_to_end(&mut asked).await.unwrap();
        String::from_utf8(asked).unwrap()
    });
    (gateway, proxy)
}

async fn asked(answer: &'static str, basic: Option<&Basic>) -> (Result<(), ProxyFault>, String) {
    let (mut stream, proxy) = proxy(answer);
    let authority = Authority::with_port("slack.com:443").unwrap();
    let result = open_tunnel(&mut stream, &authority, basic).await;
    drop(stream);
    (result, proxy.await.unwrap())
}

async fn basic(directory: &Path, password: &str) -> Basic {
    let password_file = directory.join("password");
    std::fs::write(&password_file, password).unwrap();
    let from = ProxyAuthentication {
        username: "gateway".to_owned(),
        password_file,
    };
    Basic::read(&from).await.unwrap()
}

#[rstest]
#[case("HTTP/1.1 200 Connection established\r\n\r\n", None)]
#[case("HTTP/1.0 200\r\nVia: x\r\n\r\n", None)]
#[case("HTTP/1.1 2000 OK\r\n\r\n", Some("its answer is not HTTP"))]
#[case("SSH-2.0-OpenSSH\r\n", Some("its answer is not HTTP"))]
#[case(
    "\u{15}\u{3}\u{1}\0\u{2}\u{2}F",
    Some("its answer is TLS: write `https://` in upstream.proxy, or name its port without TLS")
)]
#[case(
    "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200",
    Some("it sent something before the tunnel stood")
)]
#[case("HTTP/1.1 200 OK\r\n", Some("it closed the connection"))]
#[case("HTTP/1.1 403 Forbidden\r\n\r\n", Some("it answered 403 Forbidden"))]
#[case("HTTP/1.1 302\r\nLocation: /login\r\n\r\n", Some("it answered 302"))]
#[tokio::test(start_paused = true)]
async fn only_a_clean_success_opens_a_tunnel(
    #[case] answer: &'static str,
    #[case] expected: Option<&str>,
) {
    let (result, sent) = asked(answer, None).await;
    assert_eq!(
        sent,
        "CONNECT slack.com:443 HTTP/1.1\r\nHost: slack.com:443\r\n\r\n"
    );
    match expected {
        None => result.unwrap(),
        Some(what) => assert_eq!(result, Err(ProxyFault::Refused(what.to_owned()))),
    }
}

/// A refusal with a page was once told as bytes before the tunnel stood.
#[rstest]
#[case::text(
    "HTTP/1.1 403 Forbidden\r\nContent-Length: 24\r\n\r\nblocked: category social",
    "it answered 403 Forbidden: \"blocked: category social\""
)]
#[case::page(
    "HTTP/1.1 403 Forbidden\r\n\r\n<!DOCTYPE html><html><head><title>Access Denied</title>\
     <style>p { color: red }</style><!-- x > y --><SCRIPT>var a = 1 > 2;</script></head><body>\n  <p>Ask  the\n helpdesk.</p>",
    "it answered 403 Forbidden: \"Access Denied Ask the helpdesk.\""
)]
#[case::secret(
    "HTTP/1.1 403 No\r\n\r\nyour xoxb-1234567890-abcdef is seen",
    "it answered 403 No: \"your [redacted] is seen\""
)]
#[case::controls(
    "HTTP/1.1 403 No\r\n\r\n\u{1b}[31mred",
    "it answered 403 No: \"\\u{1b}[31mred\""
)]
#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_in_the_proxys_words(#[case] answer: &'static str, #[case] told: &str) {
    let (result, _) = asked(answer, None).await;
    assert_eq!(result, Err(ProxyFault::Refused(told.to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_long_refusal_is_told_in_part() {
    let answer = format!("HTTP/1.1 403 Forbidden\r\n\r\n{}", "long ".repeat(10_000));
    let (result, _) = asked(answer.leak(), None).await;
    let told = result.unwrap_err().to_string();
    assert!(told.ends_with("...\"") && told.len() < 300, "{told}");
}

#[rstest]
#[case("HTTP/1.1 502 Bad Gateway\r\n\r\n")]
#[case("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nDNS")]
#[case("HTTP/1.1 504 Gateway Timeout\r\n\r\n")]
#[tokio::test(start_paused = true)]
async fn what_the_proxy_could_not_reach_is_not_its_refusal(#[case] answer: &'static str) {
    let (result, _) = asked(answer, None).await;
    assert!(matches!(result, Err(ProxyFault::Failed(_))), "{result:?}");
}

#[rstest]
#[case::none(false, "Basic realm=\"corp\"", "set upstream.proxyAuthentication")]
#[case::wrong(true, "Basic realm=\"corp\"", "does not accept the user name")]
#[case::other(
    false,
    "Negotiate\r\nProxy-Authenticate: NTLM",
    "it offers Negotiate, NTLM"
)]
#[case::other_though_set(
    true,
    "Negotiate",
    "it offers Negotiate and the gateway has only Basic"
)]
#[tokio::test(start_paused = true)]
async fn a_proxy_that_wants_authentication_is_told_with_what_is_missing(
    #[case] has_basic: bool,
    #[case] offered: &str,
    #[case] told: &str,
) {
    let directory = tempfile::tempdir().unwrap();
    let basic = basic(directory.path(), "hunter2").await;
    let answer =
        format!("HTTP/1.1 407 No\r\nProxy-Authenticate: {offered}\r\nContent-Length: 0\r\n\r\n");
    let (result, _) = asked(answer.leak(), has_basic.then_some(&basic)).await;
    let fault = result.unwrap_err();
    assert!(
        matches!(fault, ProxyFault::Unauthenticated { .. }),
        "{fault}"
    );
    assert!(fault.to_string().contains(told), "{fault}");
}

#[tokio::test(start_paused = true)]
async fn the_password_is_sent_to_the_proxy_and_shown_to_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let basic = basic(directory.path(), "pa:ss wd\n").await;
    let (result, sent) = asked(
        "HTTP/1.1 403 pa:ss wd\r\n\r\nZ2F0ZXdheTpwYTpzcyB3ZA== or pa:ss wd",
        Some(&basic),
    )
    .await;
    assert!(
        sent.ends_with("\r\nProxy-Authorization: Basic Z2F0ZXdheTpwYTpzcyB3ZA==\r\n\r\n"),
        "{sent}"
    );
    let told = "it answered 403 [redacted]: \"[redacted] or [redacted]\"";
    assert_eq!(result, Err(ProxyFault::Refused(told.to_owned())));
    assert!(!format!("{basic:?}").contains("pa:ss"));
}

#[tokio::test]
async fn a_password_file_that_is_gone_is_named() {
    let from = ProxyAuthentication {
        username: "gateway".to_owned(),
        password_file: "/nowhere/password".into(),
    };
    let fault = Basic::read(&from).await.unwrap_err().to_string();
    assert_eq!(
        fault,
        "was not asked: the password file /nowhere/password does not exist"
    );
}
