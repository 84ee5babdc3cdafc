//! Clients that know nothing of a proxy, bed to a transparent listener by real rules.

mod namespace;
mod pinned;
mod refused_token;
mod steered;

use anyhow::Context as _;
use bytes::Bytes;
use countersign_config::model::{ListenerMode, Transparency};
use countersign_tests::{environment::DASHBOARD, fake::Protocol};
use http::Request;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rstest::rstest;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use namespace::entered;
use steered::{
    APP, LISTENER, REDIRECT, SLACK, SLACK_6, SNI, SOON, STRANGER, TPROXY, direct_client, from_app,
    hello, say, transparent, tunnelling,
};

use crate::harness::{TestBed, post_message, soon};

/// Slack answers over this address, with the credential put on, by HTTP/1.1 and HTTP/2.
async fn slack_answers(bed: &mut TestBed, address: &str) -> anyhow::Result<()> {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let client = direct_client(bed, address).over(protocol);
        let answer = soon(
            "an answer",
            client.send(post_message("C0123456789", "steered")),
        )
        .await??;
        assert_eq!(answer.json()["ok"], true, "{}", answer.text());
        let record = bed.record().await?;
        assert_eq!(record["outcome"], "permitted", "{record}");
        assert_eq!(record["target"]["authority"], "slack.com:443");
        assert_eq!(record["original_destination"], address);
        assert_eq!(record["caller"]["proof"], "own-token", "{record}");
        let dialled = bed.env.slack.address().to_string();
        assert_eq!(record["upstream"]["address"], dialled.as_str());
    }
    let bearer = [format!("Bearer {}", bed.env.slack.bot_token())];
    for request in bed.env.slack.received().all() {
        assert_eq!(request.header_values("authorization"), bearer);
    }
    Ok(())
}

#[rstest]
#[case::ipv4(SLACK, "a_redirected_client_is_served::case_1_ipv4")]
#[case::ipv6(SLACK_6, "a_redirected_client_is_served::case_2_ipv6")]
#[tokio::test]
async fn a_redirected_client_is_served(
    #[case] address: &str,
    #[case] test: &str,
) -> anyhow::Result<()> {
    if !entered(module_path!(), test, REDIRECT) {
        return Ok(());
    }
    let mut bed = transparent(Transparency::Redirect).start().await?;
    slack_answers(&mut bed, address).await
}

#[rstest]
#[case::ipv4(SLACK, "a_client_steered_by_tproxy_is_served::case_1_ipv4")]
#[case::ipv6(SLACK_6, "a_client_steered_by_tproxy_is_served::case_2_ipv6")]
#[tokio::test]
async fn a_client_steered_by_tproxy_is_served(
    #[case] address: &str,
    #[case] test: &str,
) -> anyhow::Result<()> {
    if !entered(module_path!(), test, TPROXY) {
        return Ok(());
    }
    let mut bed = transparent(Transparency::Tproxy).start().await?;
    slack_answers(&mut bed, address).await?;
    // A connection to the listener itself is no bed one.
    let mut direct = TcpStream::connect(LISTENER).await?;
    assert_eq!(say(&mut direct, b"").await?, b"");
    assert_eq!(bed.record().await?["reason"], "loop_refused");
    Ok(())
}

/// Needs no root: the kernel knows of no original destination, or of this very listener.
#[tokio::test]
async fn a_connection_to_the_listener_itself_is_refused() -> anyhow::Result<()> {
    let mut bed = TestBed::builder()
        .prepare(|env, gateway| {
            env.write_secret("pod-token", &env.token("qa", DASHBOARD))?;
            let listener = &mut gateway.listeners[0];
            listener.mode = ListenerMode::Transparent(Transparency::Redirect);
            listener.own_token_file = Some(env.secret_directory().join("pod-token"));
            Ok(())
        })
        .start()
        .await?;
    let address = bed.gateway.address().to_string();
    let client = direct_client(&bed, &address);
    let request = post_message("C0123456789", "steered");
    assert!(client.send(request).await.is_err());
    let record = bed.record().await?;
    assert_eq!(record["outcome"], "refused");
    assert_eq!(record["reason"], "loop_refused", "{record}");
    assert_eq!(bed.env.slack.received().count(), 0);
    bed.gateway.stop().await?;
    Ok(())
}

/// What is refused, what the client hears of it, and the reason in the record.
type Refused = (&'static [u8], &'static [u8], &'static str);

#[rustfmt::skip]
const REFUSED: &[Refused] = &[
    (b"GET /api/auth.test HTTP/1.1\r\nHost: slack.com:443\r\n\r\n", b"HTTP/1.1 200", "plaintext_refused"),
    (b"GET http://slack.com/api/auth.test HTTP/1.1\r\nHost: slack.com\r\nConnection: close\r\n\r\n", b"HTTP/1.1 200", "plaintext_refused"),
    (b"GET / HTTP/1.1\r\nHost: notslack.com\r\n\r\n", b"HTTP/1.1 403", "host_unmatched"),
    (b"GET / HTTP/1.1\r\nHost: slack.com:80\r\n\r\n", b"HTTP/1.1 421", "authority_mismatch"),
    (b"GET http://slack.com/ HTTP/1.1\r\nHost: notslack.com\r\n\r\n", b"HTTP/1.1 421", "authority_mismatch"),
    (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 400", "request_malformed"),
    (b"CONNECT slack.com:443 HTTP/1.1\r\nHost: slack.com:443\r\n\r\n", b"HTTP/1.1 405", "method_refused"),
    (b"SSH-2.0-OpenSSH_9.6 Debian-4\r\n", b"", "protocol_unknown"),
    (b"\0\0\0\0 anything", b"", "protocol_unknown"),
    (b"", b"", "head_timeout"),
    (b"GET /half/a/line", b"", "head_timeout"),
    (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", b"", "client_tls"),
    (b"\x16\x03\x01\0\0", b"", "client_tls"),
];

#[tokio::test]
async fn what_is_no_tls_to_a_governed_host_is_refused_with_its_reason() -> anyhow::Result<()> {
    if !entered(
        module_path!(),
        "what_is_no_tls_to_a_governed_host_is_refused_with_its_reason",
        REDIRECT,
    ) {
        return Ok(());
    }
    let mut bed = transparent(Transparency::Redirect)
        .gateway(|gateway| {
            gateway.limits.handshake_timeout = SOON;
        })
        .start()
        .await?;
    for (words, told, reason) in REFUSED {
        let shown = String::from_utf8_lossy(words);
        let mut stream = TcpStream::connect(SLACK).await?;
        let answered = if told.is_empty() {
            say(&mut stream, words)
                .await
                .with_context(|| shown.to_string())?
        } else {
            stream.write_all(words).await?;
            let mut start = vec![0; told.len()];
            soon("an answer", stream.read_exact(&mut start)).await??;
            start
        };
        drop(stream);
        assert!(answered.starts_with(told), "{shown}: {answered:?}");
        let record = bed.record().await?;
        assert_eq!(record["reason"], *reason, "{shown}: {record}");
        assert_eq!(record["original_destination"], SLACK, "{shown}: {record}");
    }
    // Garbage without an end, as much as is looked at.
    let mut stream = TcpStream::connect(SLACK).await?;
    let mut garbage = b"GET /".to_vec();
    garbage.resize(64 * 1024, b'a');
    assert_eq!(say(&mut stream, &garbage).await?, b"");
    assert_eq!(bed.record().await?["reason"], "protocol_unknown");
    // HTTP/2 without TLS, as one who knows that the server speaks it.
    let stream = TokioIo::new(TcpStream::connect(SLACK).await?);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get("http://slack.com:443/api/auth.test");
    let request = request.body(Full::new(Bytes::new()))?;
    let answer = soon("an answer", sender.send_request(request)).await??;
    assert_eq!(answer.status(), 200, "an error of the API");
    let record = bed.record().await?;
    assert_eq!(record["reason"], "plaintext_refused", "{record}");
    assert_eq!(record["target"]["protocol"], "h2", "{record}");
    connection.abort();
    // Another host, over TLS: the client is told by an alert.
    let error = direct_client(&bed, SLACK).open("notslack.com").await.err();
    let error = error.map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("AccessDenied"), "{error}");
    assert_eq!(bed.record().await?["reason"], "host_unmatched");
    assert_eq!(bed.env.slack.received().count(), 0);
    Ok(())
}

#[tokio::test]
async fn a_hello_that_comes_byte_by_byte_is_served() -> anyhow::Result<()> {
    if !entered(
        module_path!(),
        "a_hello_that_comes_byte_by_byte_is_served",
        REDIRECT,
    ) {
        return Ok(());
    }
    let mut bed = transparent(Transparency::Redirect).start().await?;
    // Between the client and the steered connection stands something that cuts.
    let cutter = TcpListener::bind("127.0.0.1:0").await?;
    let address = cutter.local_addr()?.to_string();
    let cutting = tokio::spawn(async move {
        let (near, _) = cutter.accept().await?;
        let far = TcpStream::connect(SLACK).await?;
        far.set_nodelay(true)?;
        let (mut read_near, mut write_near) = near.into_split();
        let (mut read_far, mut write_far) = far.into_split();
        let back =
            tokio::spawn(async move { tokio::io::copy(&mut read_far, &mut write_near).await });
        let mut byte = [0];
        while read_near.read(&mut byte).await? == 1 {
            write_far.write_all(&byte).await?;
            write_far.flush().await?;
        }
        drop(write_far);
        drop(back.await);
        Ok::<_, std::io::Error>(())
    });
    let answer = soon(
        "an answer",
        direct_client(&bed, &address).send(post_message("C0123456789", "steered")),
    )
    .await??;
    assert_eq!(answer.json()["ok"], true, "{}", answer.text());
    assert_eq!(bed.record().await?["outcome"], "permitted");
    cutting.await??;
    Ok(())
}

#[tokio::test]
async fn what_has_no_name_is_tunnelled_to_its_address_where_that_is_allowed() -> anyhow::Result<()>
{
    if !entered(
        module_path!(),
        "what_has_no_name_is_tunnelled_to_its_address_where_that_is_allowed",
        REDIRECT,
    ) {
        return Ok(());
    }
    let mut bed = tunnelling().start().await?;
    let stranger = TcpListener::bind(STRANGER).await?;
    let silence = Vec::new();
    // The outer name of a hello whose real name is hidden is not where it goes.
    let hidden = hello(&[(0, SNI), (0xfe0d, b"\0\0")]);
    let speak = b"EHLO app\r\n".to_vec();
    for words in [speak, silence, hello(&[]), hidden] {
        let mut app = from_app(STRANGER).await?;
        app.write_all(&words).await?;
        let (mut accepted, from) = soon("an answer", stranger.accept()).await??;
        assert_ne!(from.ip().to_string(), APP, "it was not steered");
        let mut heard = vec![0; words.len()];
        soon("an answer", accepted.read_exact(&mut heard)).await??;
        assert_eq!(heard, words, "no byte may be lost");
        accepted.write_all(b"220 welcome").await?;
        drop(accepted);
        let mut answer = String::new();
        soon("an answer", app.read_to_string(&mut answer)).await??;
        assert_eq!(answer, "220 welcome");
        drop(app);
        let record = bed.record().await?;
        assert_eq!(record["outcome"], "tunnelled", "{record}");
        assert_eq!(record["target"]["authority"], STRANGER);
        assert_eq!(record["target"]["protocol"], "transparent");
        assert_eq!(record["bytes"]["request"], words.len(), "{record}");
        assert_eq!(record["bytes"]["response"], 11, "{record}");
    }
    // HTTP in clear goes to where its Host is, by us, and not to a governed host.
    let mut app = from_app(STRANGER).await?;
    app.write_all(b"GET / HTTP/1.1\r\nHost: 203.0.113.20:7007\r\nConnection: close\r\n\r\n")
        .await?;
    let (mut accepted, _) = soon("an answer", stranger.accept()).await??;
    let mut heard = [0; 16];
    soon("an answer", accepted.read_exact(&mut heard)).await??;
    assert_eq!(&heard, b"GET / HTTP/1.1\r\n");
    accepted
        .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        .await?;
    let answer = say(&mut app, b"").await?;
    assert!(answer.starts_with(b"HTTP/1.1 204"), "{answer:?}");
    let record = bed.record().await?;
    assert_eq!(record["outcome"], "tunnelled", "{record}");
    assert_eq!(record["upstream"]["status"], 204, "{record}");
    Ok(())
}

#[tokio::test]
async fn an_unmatched_name_is_tunnelled_to_where_our_dns_has_it() -> anyhow::Result<()> {
    if !entered(
        module_path!(),
        "an_unmatched_name_is_tunnelled_to_where_our_dns_has_it",
        REDIRECT,
    ) {
        return Ok(());
    }
    let elsewhere = TcpListener::bind("127.0.0.1:0").await?;
    let address = elsewhere.local_addr()?;
    let mut bed = tunnelling()
        .resolve("stranger.test", 7007, address)
        .start()
        .await?;
    let words = hello(&[(0, SNI)]);
    let mut app = from_app(STRANGER).await?;
    app.write_all(&words).await?;
    let (mut accepted, _) = soon("an answer", elsewhere.accept()).await??;
    let mut heard = vec![0; words.len()];
    soon("an answer", accepted.read_exact(&mut heard)).await??;
    assert_eq!(heard, words, "no byte may be lost");
    drop((app, accepted));
    let record = bed.record().await?;
    assert_eq!(record["outcome"], "tunnelled", "{record}");
    assert_eq!(record["target"]["authority"], "stranger.test:7007");
    assert_eq!(record["original_destination"], STRANGER);
    Ok(())
}

#[tokio::test]
async fn the_gateways_own_connections_do_not_go_round() -> anyhow::Result<()> {
    if !entered(
        module_path!(),
        "the_gateways_own_connections_do_not_go_round",
        REDIRECT,
    ) {
        return Ok(());
    }
    // The rules do not leave the gateway's user out: what it sends to Slack comes back to it.
    let mut bed = transparent(Transparency::Redirect)
        .gateway(|gateway| {
            for address in gateway.upstream.resolve.values_mut() {
                *address = SLACK.parse().expect("an address");
            }
        })
        .start()
        .await?;
    // Slack's catalog entry tells that by closing the connection.
    let answer = soon(
        "an end",
        direct_client(&bed, SLACK).send(post_message("C0123456789", "steered")),
    )
    .await?;
    assert!(answer.is_err(), "{answer:?}");
    // What came back was the probe of the credential, the request itself, and what became of it.
    let mut reasons = Vec::new();
    for _ in 0..3 {
        let record = bed.record().await?;
        reasons.push(record["reason"].as_str().map(str::to_owned));
    }
    reasons.sort();
    let reasons: Vec<_> = reasons.iter().map(Option::as_deref).collect();
    let refused = Some("loop_refused");
    assert_eq!(reasons, [refused, refused, Some("upstream_connect")]);
    Ok(())
}

#[tokio::test]
async fn without_a_token_of_its_own_the_pod_is_refused() -> anyhow::Result<()> {
    if !entered(
        module_path!(),
        "without_a_token_of_its_own_the_pod_is_refused",
        REDIRECT,
    ) {
        return Ok(());
    }
    let mut bed = transparent(Transparency::Redirect).start().await?;
    let issued = bed.env.token("qa", "nightly-dashboard");
    for (token, reason) in [
        ("", "identity_keys_unavailable"),
        ("not.a-token", "identity_malformed"),
    ] {
        bed.env.write_secret("pod-token", token)?;
        assert!(
            direct_client(&bed, SLACK)
                .send(post_message("C0123456789", "steered"))
                .await
                .is_err()
        );
        let record = bed.record().await?;
        assert_eq!(record["reason"], reason, "{record}");
    }
    // The kubelet puts a new one in its place: it is read at that moment.
    bed.env.write_secret("pod-token", &issued)?;
    let answer = direct_client(&bed, SLACK)
        .send(post_message("C0123456789", "steered"))
        .await?;
    assert_eq!(answer.json()["ok"], true, "{}", answer.text());
    Ok(())
}
