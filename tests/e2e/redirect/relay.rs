//! The relay in a pod: whatever the app does not know, the relay brings, fresh each time.

mod faults;
mod support;

use std::fs;

use countersign_tests::{
    client::Failure,
    environment::Environment,
    fake::{Crowd, Protocol, TokenRequest},
    listener_files::ListenerFiles,
    process,
};
use http::StatusCode;
use rstest::rstest;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use support::{Pod, StubGateway, TlsGateway, connect};

use crate::{
    harness::{post_message, soon, until},
    identity::told_inside::{expired, other_audience},
};

const CHANNEL: &str = "C0123456789";

#[tokio::test]
async fn an_app_without_a_token_is_known_by_the_pods() {
    let env = Environment::start().await.unwrap();
    let mut gateway = TlsGateway::start(&env).await;
    let pod = Pod::start(&env, &[&gateway]).await;

    let answer = pod
        .client(&gateway)
        .send(post_message(CHANNEL, "hello"))
        .await
        .unwrap();
    assert_eq!(answer.json()["ok"], json!(true), "{}", answer.text());
    assert_eq!(env.slack.messages("C0123456789").len(), 1);
    let record = gateway.gateway.decisions().next().await;
    assert_eq!(
        record["caller"]["subject"],
        json!("system:serviceaccount:qa:nightly-dashboard")
    );
    assert_eq!(record["outcome"], json!("permitted"));
}

#[tokio::test]
async fn a_request_in_absolute_form_is_passed_to_the_gateway() {
    let env = Environment::start().await.unwrap();
    let gateway = TlsGateway::start(&env).await;
    let pod = Pod::start(&env, &[&gateway]).await;
    let answer = pod
        .raw(
            "GET https://slack.com/api/auth.test HTTP/1.1\r\nHost: slack.com\r\n\
             Proxy-Authorization: Bearer the-apps-own-nonsense\r\nTE: trailers\r\n\
             X-Private: 1\r\nConnection: close, TE, X-Private\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\"ok\":true"), "{answer}");
    let received = env.slack.received().at("/api/auth.test");
    // The first is the gateway's probe.
    let request = received.last().unwrap();
    // gRPC needs it; the rest was for the relay alone.
    assert_eq!(request.header("te").as_deref(), Some("trailers"));
    assert_eq!(request.header("x-private"), None);
}

#[tokio::test]
async fn an_app_that_half_closes_gets_its_answer() {
    let env = Environment::start().await.unwrap();
    let gateway = TlsGateway::start(&env).await;
    let pod = Pod::start(&env, &[&gateway]).await;
    let rest = "/api/auth.test HTTP/1.1\r\nHost: slack.com\r\n\r\n";
    // In absolute form, and within a tunnel.
    let mut clear = TcpStream::connect(pod.http).await.unwrap();
    let mut tunnel = pod.client(&gateway).tls_stream("slack.com").await.unwrap();
    let (mut first, mut second) = (String::new(), String::new());
    let request = format!("GET https://slack.com{rest}");
    clear.write_all(request.as_bytes()).await.unwrap();
    clear.shutdown().await.unwrap();
    let request = format!("GET {rest}");
    tunnel.write_all(request.as_bytes()).await.unwrap();
    tunnel.shutdown().await.unwrap();
    let read = clear.read_to_string(&mut first);
    soon("an answer", read).await.unwrap().unwrap();
    let read = tunnel.read_to_string(&mut second);
    soon("an answer", read).await.unwrap().unwrap();
    for answer in [first, second] {
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("\"ok\":true"), "{answer}");
    }
}

#[tokio::test]
async fn a_gateways_refusal_comes_through_with_its_body() {
    let env = Environment::start().await.unwrap();
    let gateway = TlsGateway::start(&env).await;
    let pod = Pod::start(&env, &[&gateway]).await;
    fs::write(&pod.token_file, "not.a.token").unwrap();
    match pod
        .client(&gateway)
        .send(post_message(CHANNEL, "hello"))
        .await
    {
        Err(Failure::Refused(answer)) => {
            assert_eq!(answer.status, StatusCode::PROXY_AUTHENTICATION_REQUIRED);
            let status = answer.header("proxy-status").unwrap();
            assert!(status.starts_with("countersign; "), "{status}");
            assert_eq!(answer.json()["status"], json!(407), "{}", answer.text());
        }
        other => panic!("expected the gateway's refusal, got {other:?}"),
    }
}

/// The relay shows what it has: only the gateway can tell the app in its API's language.
#[rstest]
#[case::other_audience(other_audience, "identity_audience")]
#[case::expired(expired, "identity_expired")]
#[tokio::test]
async fn a_final_refusal_of_the_pods_token_reaches_the_app_inside_its_tunnel(
    #[case] make: fn(&Environment, &TokenRequest) -> String,
    #[case] reason: &str,
    #[values(Protocol::Http1, Protocol::Http2)] protocol: Protocol,
) {
    let env = Environment::start().await.unwrap();
    let mut gateway = TlsGateway::start(&env).await;
    let pod = Pod::start(&env, &[&gateway]).await;
    let token = make(&env, &TokenRequest::new("qa", "nightly-dashboard"));
    fs::write(&pod.token_file, token).unwrap();
    let client = pod.client(&gateway).over(protocol);
    // One after the other, and several at once.
    for _ in 0..2 {
        let sent = (0..4).map(|_| client.send(post_message(CHANNEL, "hello")));
        for answer in futures_util::future::join_all(sent).await {
            let answer = answer.unwrap().json();
            assert_eq!(answer["ok"], json!(false), "{answer}");
            assert_eq!(answer["error"], json!(reason), "{answer}");
            let record = gateway.gateway.decisions().next().await;
            assert_eq!(record["reason"], json!(reason), "{record}");
            assert_eq!(
                record["refused_token"]["namespace"],
                json!("qa"),
                "{record}"
            );
        }
    }
    assert!(env.slack.messages(CHANNEL).is_empty());
    // What was told inside a tunnel says that the pod is refused, all the same.
    let (status, told) = pod.readiness().await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{told}");
    assert!(told.contains(reason), "{told}");
}

#[tokio::test]
async fn a_token_file_that_is_wrong_is_told_and_recovered_from() {
    let env = Environment::start().await.unwrap();
    let gateway = TlsGateway::start(&env).await;
    let pod = Pod::start(&env, &[&gateway]).await;
    for content in [None, Some("")] {
        match content {
            None => fs::remove_file(&pod.token_file).unwrap(),
            Some(content) => fs::write(&pod.token_file, content).unwrap(),
        }
        match pod
            .client(&gateway)
            .send(post_message(CHANNEL, "hello"))
            .await
        {
            Err(Failure::Refused(answer)) => {
                assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
                assert_eq!(answer.json()["reason"], json!("relay-token-unusable"));
            }
            other => panic!("expected the relay's refusal, got {other:?}"),
        }
        assert_eq!(pod.readiness().await.0, StatusCode::SERVICE_UNAVAILABLE);
    }
    fs::write(&pod.token_file, env.token("qa", "nightly-dashboard")).unwrap();
    let answer = pod
        .client(&gateway)
        .send(post_message(CHANNEL, "hello"))
        .await
        .unwrap();
    assert_eq!(answer.json()["ok"], json!(true));
    assert_eq!(pod.readiness().await.0, StatusCode::OK);
}

#[tokio::test]
async fn many_tunnels_share_few_connections() {
    let env = Environment::start().await.unwrap();
    let gateway = StubGateway::start(env.directory(), &[b"h2"]).await;
    let pod = Pod::start_with(&env, vec![gateway.name()], &gateway.ca).await;
    let mut tunnels = Vec::new();
    for _ in 0..150 {
        tunnels.push(connect(pod.http, "echo.example:443").await);
    }
    for tunnel in &mut tunnels {
        tunnel.write_all(b"ping").await.unwrap();
        let mut echo = [0; 4];
        tunnel.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"ping");
    }
    assert_eq!(gateway.connections(), 2, "100 tunnels go on one connection");
}

#[tokio::test]
async fn a_gateway_without_http2_is_spoken_to_in_http1() {
    let env = Environment::start().await.unwrap();
    let gateway = StubGateway::start(env.directory(), &[b"http/1.1"]).await;
    let pod = Pod::start_with(&env, vec![gateway.name()], &gateway.ca).await;
    for _ in 0..3 {
        let mut tunnel = connect(pod.http, "echo.example:443").await;
        tunnel.write_all(b"ping").await.unwrap();
        let mut echo = [0; 4];
        tunnel.read_exact(&mut echo).await.unwrap();
    }
    assert_eq!(pod.readiness().await.0, StatusCode::OK);
}

/// The near miss is a chain of six, and all others of these tests.
#[tokio::test]
async fn t59_a_gateways_chain_is_bounded_too() {
    for (crowd, good) in [(Crowd::Many, false), (Crowd::Most, true)] {
        let env = Environment::start().await.unwrap();
        let files = ListenerFiles::write(env.directory(), &[[127, 0, 0, 1].into()]).unwrap();
        let chain = fs::read_to_string(&files.certificate).unwrap() + &crowd.pem();
        fs::write(&files.certificate, chain).unwrap();
        let gateway = TlsGateway::start(&env).await;
        let pod = Pod::start_not_ready(&env, vec![gateway.name()], &files.ca).await;
        match pod
            .client(&gateway)
            .send(post_message(CHANNEL, "hello"))
            .await
        {
            Ok(answer) if good => assert_eq!(answer.json()["ok"], json!(true)),
            Err(Failure::Refused(answer)) if !good => {
                assert_eq!(answer.json()["reason"], json!("relay-gateway-unreachable"));
                let told = answer.text();
                assert!(told.contains("201 certificates, more than 6"), "{told}");
            }
            other => panic!("{crowd:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_gateway_that_is_gone_is_passed_over() {
    let env = Environment::start().await.unwrap();
    let first = TlsGateway::start(&env).await;
    let second = TlsGateway::start(&env).await;
    let pod = Pod::start(&env, &[&first, &second]).await;
    first.gateway.stop().await.unwrap();
    for text in ["one", "two", "three", "four"] {
        let answer = pod
            .client(&second)
            .send(post_message(CHANNEL, text))
            .await
            .unwrap();
        assert_eq!(answer.json()["ok"], json!(true));
    }
    assert_eq!(pod.readiness().await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_gateway_that_answers_503_is_passed_over() {
    let env = Environment::start().await.unwrap();
    let full = StubGateway::full(env.directory()).await;
    let gateway = StubGateway::start_beside(&full, &[b"h2"]).await;
    let names = vec![full.name(), gateway.name()];
    let pod = Pod::start_with(&env, names, &full.ca).await;
    for _ in 0..4 {
        drop(connect(pod.http, "echo.example:443").await);
    }
    let alone = Pod::start_with(&env, vec![full.name()], &full.ca).await;
    let answer = alone.raw(
        "CONNECT echo.example:443 HTTP/1.1\r\nHost: echo.example:443\r\nConnection: close\r\n\r\n",
    );
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

#[tokio::test]
async fn a_gateway_with_another_certificate_is_not_believed() {
    let env = Environment::start().await.unwrap();
    let gateway = StubGateway::start(env.directory(), &[b"h2"]).await;
    let other = tempfile::tempdir().unwrap();
    let impostor = StubGateway::start(other.path(), &[b"h2"]).await;
    let pod = Pod::start_not_ready(&env, vec![impostor.name()], &gateway.ca).await;
    let answer = pod
        .raw("CONNECT slack.com:443 HTTP/1.1\r\nHost: slack.com:443\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert!(answer.contains("relay-gateway-unreachable"), "{answer}");
    assert!(answer.contains("certificate"), "{answer}");
    assert_eq!(pod.readiness().await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert!(impostor.tokens().is_empty(), "it must not see the token");
}

#[tokio::test]
async fn what_is_open_goes_on_while_it_drains() {
    let env = Environment::start().await.unwrap();
    let gateway = StubGateway::start(env.directory(), &[b"h2"]).await;
    let pod = Pod::start_with(&env, vec![gateway.name()], &gateway.ca).await;
    let mut open = connect(pod.http, "echo.example:443").await;
    let (http, running, _directory) = pod.terminate();
    // An app that is finishing may open one more.
    let mut late = connect(http, "echo.example:443").await;
    for tunnel in [&mut open, &mut late] {
        tunnel.write_all(b"ping").await.unwrap();
        tunnel.read_exact(&mut [0; 4]).await.unwrap();
    }
    assert!(!running.is_finished());
    drop((open, late));
    soon("its end", running).await.unwrap().unwrap();
    TcpStream::connect(http).await.unwrap_err();
}

/// A connection on which nothing was proven would be closed after seconds.
#[tokio::test]
async fn a_relay_says_who_it_is_before_it_carries_anything() {
    let env = Environment::start().await.unwrap();
    let gateway = TlsGateway::start(&env).await;
    let _pod = Pod::start(&env, &[&gateway]).await;
    let admin = gateway.gateway.admin().unwrap();
    let known = "countersign_client_connections_by_class{class=\"identified\"} 1";
    until("it to be identified", async || {
        let metrics = process::admin(admin, "/metrics").await.unwrap();
        metrics.lines().any(|line| line == known)
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn t63_what_is_not_carried_keeps_no_app_out() {
    let env = Environment::start().await.unwrap();
    let gateway = StubGateway::start(env.directory(), &[b"h2"]).await;
    let names = vec![gateway.name()];
    let pod = Pod::start_bounded(&env, names, &gateway.ca, 4).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(pod.http).await.unwrap());
    }
    let mut carried = Vec::new();
    for _ in 0..4 {
        carried.push(connect(pod.http, "echo.example:443").await);
    }
    let answer = pod
        .raw("CONNECT echo.example:443 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("relay-full"), "{answer}");
    for tunnel in &mut carried {
        tunnel.write_all(b"ping").await.unwrap();
        tunnel.read_exact(&mut [0; 4]).await.unwrap();
    }
}
