//! Ways around a governed host's name where unmatched connections are carried: its address, another
//! port, another name, requests in clear.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use countersign_config::host::Host;
use countersign_tests::client::{Ask, Failure, Session, converse, read_head};
use http::{Method, StatusCode};
use rstest::rstest;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
};

use crate::{
    harness::{HOST, SECRET, TestBed, UNMATCHED, get, soon},
    policy::refused,
};

/// A gateway that carries unmatched connections, also to this machine.
async fn carrying() -> anyhow::Result<TestBed> {
    TestBed::builder()
        .tunnel_unmatched()
        .limits(|limits| limits.handshake_timeout = Duration::from_secs(2))
        .prepare(|_, gateway| {
            gateway.upstream.allow_addresses = vec!["127.0.0.0/8".parse()?];
            // The address at the port that the API's target has.
            let api = gateway.upstream.resolve[&(Host::parse(HOST)?, 443)];
            let address = Host::from(api.ip());
            gateway.upstream.resolve.insert((address, 443), api);
            Ok(())
        })
        .start()
        .await
}

/// A server that sends `banner`, then tells what it hears.
async fn server(banner: &'static [u8]) -> io::Result<(SocketAddr, mpsc::UnboundedReceiver<u8>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (tell, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(banner).await?;
            while let Ok(byte) = stream.read_u8().await {
                // The test has seen enough.
                let _unheard = tell.send(byte);
                stream.write_all(&[byte]).await?;
            }
        }
        io::Result::Ok(())
    });
    Ok((address, heard))
}

#[rstest]
#[case::by_address_at_another_port("ADDRESS", HOST, "governed_elsewhere")]
#[case::wildcard_by_address("ADDRESS", "wss-primary.slack.com", "governed_elsewhere")]
#[case::fronted(UNMATCHED, HOST, "authority_mismatch")]
#[tokio::test]
async fn t68_a_hello_for_a_governed_host_is_not_carried(
    #[case] connect: &str,
    #[case] name: &str,
    #[case] reason: &str,
    #[values(false, true)] old_tls: bool,
    #[values(Ask::Http11, Ask::Http10)] ask: Ask,
) -> anyhow::Result<()> {
    let mut bed = carrying().await?;
    let mut client = bed.end_to_end_client();
    if old_tls {
        client = client.only_tls12(&bed.env.authority.pem());
    }
    let target = match connect {
        "ADDRESS" => bed.api.address().to_string(),
        name => format!("{name}:443"),
    };
    let tunnel = client.tunnel(ask, &target, None).await?;
    let error = client.greet(tunnel, name).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("AccessDenied"), "{error}");
    refused(&mut bed, reason).await?;
    Ok(())
}

#[tokio::test]
async fn t68_a_governed_host_by_its_address_is_intercepted_at_its_port() -> anyhow::Result<()> {
    let mut bed = carrying().await?;
    let client = bed.client();
    let tunnel = client.tunnel(Ask::Http11, "127.0.0.1:443", None).await?;
    let stream = client.greet(tunnel, HOST).await?;
    let mut session = Session::over(stream).await?;
    let answer = session.send(get("/some")).await?;
    assert_eq!(answer.text(), "GET /some");
    assert_eq!(bed.record().await?["outcome"], "permitted");
    let received = &bed.api.received().at("/some")[0];
    let bearer = format!("Bearer {SECRET}");
    assert_eq!(received.header_values("authorization"), [bearer]);
    let mut request = get("/some");
    *request.method_mut() = Method::DELETE;
    assert_eq!(session.send(request).await?.status, StatusCode::FORBIDDEN);
    assert_eq!(bed.record().await?["reason"], "request_not_allowed");
    Ok(())
}

#[rstest]
#[case::exact("api.example.test:8443")]
#[case::spelled("API.Example.Test.:80")]
#[case::wildcard("wss-primary.slack.com:22")]
#[tokio::test]
async fn t68_a_governed_host_has_no_other_port(#[case] target: &str) -> anyhow::Result<()> {
    let mut bed = carrying().await?;
    let asked = bed.client().tunnel(Ask::Http11, target, None).await;
    let Err(Failure::Connect(answer)) = asked.map(drop) else {
        anyhow::bail!("{target} was carried");
    };
    assert!(answer.to_string().starts_with("HTTP/1.1 403 "), "{answer}");
    refused(&mut bed, "governed_elsewhere").await?;
    Ok(())
}

#[rstest]
#[case::https_at_another_port("https://api.example.test:8443/", "governed_elsewhere")]
#[case::http("http://api.example.test/", "plaintext_refused")]
#[case::http_at_another_port("http://API.example.test.:8080/", "plaintext_refused")]
#[tokio::test]
async fn t68_absolute_requests_for_a_governed_host(
    #[case] uri: &str,
    #[case] reason: &str,
) -> anyhow::Result<()> {
    let mut bed = carrying().await?;
    let mut request = get("/");
    *request.uri_mut() = uri.parse()?;
    let answer = bed.client().send_absolute(request).await?;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    refused(&mut bed, reason).await?;
    Ok(())
}

#[tokio::test]
async fn t68_an_absolute_request_to_an_address_with_a_governed_host() -> anyhow::Result<()> {
    let mut bed = carrying().await?;
    let (address, mut heard) = server(b"").await?;
    let bytes = format!(
        "GET http://{address}/ HTTP/1.1\r\nHost: {HOST}\r\nProxy-Authorization: Bearer TOKEN\r\nConnection: close\r\n\r\n"
    );
    let answer = bed.to_proxy(&bytes).await?;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(heard.try_recv().is_err());
    refused(&mut bed, "request_malformed").await?;
    Ok(())
}

const HONEST: &str = "GET /honest HTTP/1.1\r\nHost: other.example.test\r\n\r\n";

/// Through a tunnel to an address, alone and behind an honest request on the same connection.
#[rstest]
#[case::host(
    "GET /evil HTTP/1.1\r\nHost: api.example.test\r\n\r\n",
    "plaintext_refused"
)]
#[case::port(
    "GET /evil HTTP/1.1\r\nHost: API.Example.test.:8080\r\n\r\n",
    "plaintext_refused"
)]
#[case::wildcard(
    "GET /evil HTTP/1.1\r\nHost: wss-x.slack.com\r\n\r\n",
    "plaintext_refused"
)]
#[case::absolute(
    "GET http://api.example.test/evil HTTP/1.1\r\nHost: api.example.test\r\n\r\n",
    "plaintext_refused"
)]
#[case::old_absolute(
    "GET http://api.example.test/evil HTTP/1.0\r\n\r\n",
    "plaintext_refused"
)]
#[case::empty_lines(
    "\r\n\r\nGET /evil HTTP/1.1\r\nHost: api.example.test\r\n\r\n",
    "plaintext_refused"
)]
#[case::two_hosts(
    "GET /evil HTTP/1.1\r\nHost: a.test\r\nHost: api.example.test\r\n\r\n",
    "request_malformed"
)]
#[case::bare_line_feeds("GET /evil HTTP/1.1\nHost: api.example.test\n\n", "request_malformed")]
#[case::lower_case(
    "get /evil http/1.1\r\nHost: api.example.test\r\n\r\n",
    "request_malformed"
)]
#[case::http2("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "tunnel_unreadable")]
#[case::another_proxy("CONNECT api.example.test:443 HTTP/1.1\r\n\r\n", "plaintext_refused")]
#[tokio::test]
async fn t68_requests_in_clear_through_a_tunnel(
    #[case] evil: &str,
    #[case] reason: &str,
    #[values(false, true)] later: bool,
) -> anyhow::Result<()> {
    if later && evil.starts_with("PRI") {
        return Ok(());
    }
    let mut bed = carrying().await?;
    let (address, mut heard) = server(b"").await?;
    let target = address.to_string();
    let mut tunnel = bed.client().tunnel(Ask::Http11, &target, None).await?;
    if later {
        tunnel.write_all(HONEST.as_bytes()).await?;
        soon("the echo", read_head(&mut tunnel)).await??;
    }
    let answer = soon("the end", converse(&mut tunnel, evil.as_bytes())).await??;
    if !later {
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
        assert!(answer.contains(reason), "{answer}");
    }
    refused(&mut bed, reason).await?;
    let mut all = Vec::new();
    while let Ok(byte) = heard.try_recv() {
        all.push(byte);
    }
    let all = String::from_utf8_lossy(&all);
    // Of a line that no server takes for a request before it ends, the beginning may go.
    assert!(!all.contains('\n') || all == HONEST, "{all:?}");
    Ok(())
}

/// The near misses: what is not governed passes, and nobody is waited for.
#[rstest]
#[case::request("GET / HTTP/1.1\r\nHost: notapi.example.test\r\n\r\n")]
#[case::no_host("GET / HTTP/1.0\r\n\r\n")]
#[case::websocket(
    "GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
)]
#[case::ssh("SSH-2.0-OpenSSH_9.9\r\n")]
#[case::smtp("EHLO api.example.test\r\n")]
#[case::text("hello")]
#[case::binary("\0\0\0\x08\x04")]
#[tokio::test]
async fn t68_other_protocols_and_hosts_pass(
    #[case] says: &str,
    #[values("", "220 ready\r\n")] banner: &'static str,
) -> anyhow::Result<()> {
    let mut bed = carrying().await?;
    let (address, _heard) = server(banner.as_bytes()).await?;
    let target = address.to_string();
    let mut tunnel = bed.client().tunnel(Ask::Http11, &target, None).await?;
    let mut greeting = vec![0; banner.len()];
    soon("the banner", tunnel.read_exact(&mut greeting)).await??;
    for _ in 0..2 {
        tunnel.write_all(says.as_bytes()).await?;
        let mut back = vec![0; says.len()];
        soon("the echo", tunnel.read_exact(&mut back)).await??;
        assert_eq!(back, says.as_bytes());
    }
    drop(tunnel);
    assert_eq!(bed.record().await?["outcome"], "tunnelled");
    Ok(())
}

/// Who waits until the server has spoken is looked at all the same.
#[tokio::test]
async fn t68_a_late_hello_is_looked_at() -> anyhow::Result<()> {
    let mut bed = carrying().await?;
    let (address, mut heard) = server(b"220 ready\r\n").await?;
    let client = bed.end_to_end_client();
    let target = address.to_string();
    let mut tunnel = client.tunnel(Ask::Http11, &target, None).await?;
    soon("the banner", tunnel.read_exact(&mut [0; 11])).await??;
    assert!(client.greet(tunnel, HOST).await.is_err());
    refused(&mut bed, "governed_elsewhere").await?;
    assert!(heard.try_recv().is_err());
    Ok(())
}

#[rstest]
#[case::hello(&[22, 3, 1, 2, 0, 1])]
#[case::head(b"GET / HTTP/1.1\r\nHost: api.exam")]
#[tokio::test]
async fn t68_what_has_begun_must_end(#[case] begun: &[u8]) -> anyhow::Result<()> {
    let mut bed = carrying().await?;
    let (address, mut heard) = server(b"").await?;
    let target = address.to_string();
    let mut tunnel = bed.client().tunnel(Ask::Http11, &target, None).await?;
    soon("the end", converse(&mut tunnel, begun)).await??;
    refused(&mut bed, "head_timeout").await?;
    assert!(heard.try_recv().is_err());
    Ok(())
}

/// A client without SNI is judged by the address, once a governed host is known to be there.
#[tokio::test]
async fn t68_a_hello_without_a_name_at_a_governed_hosts_address() -> anyhow::Result<()> {
    let mut bed = carrying().await?;
    let address = bed.api.address();
    let client = bed.end_to_end_client();
    assert_eq!(bed.client().send(get("/some")).await?.text(), "GET /some");
    bed.record().await?;
    let target = address.to_string();
    let tunnel = client.tunnel(Ask::Http11, &target, None).await?;
    let unnamed = client.greet(tunnel, &address.ip().to_string()).await;
    assert!(unnamed.is_err());
    assert_eq!(bed.record().await?["reason"], "governed_elsewhere");
    // The near miss: the same address, for a host that is not governed.
    let tunnel = client.tunnel(Ask::Http11, &target, None).await?;
    let stream = client.greet(tunnel, UNMATCHED).await?;
    drop(stream);
    assert_eq!(bed.record().await?["outcome"], "tunnelled");
    Ok(())
}

#[tokio::test]
async fn t68_a_tunnel_by_a_name_that_is_governed_now_is_closed() -> anyhow::Result<()> {
    let mut bed = carrying().await?;
    let client = bed.end_to_end_client();
    let target = bed.api.address().to_string();
    let tunnel = client.tunnel(Ask::Http11, &target, None).await?;
    let mut stream = client.greet(tunnel, UNMATCHED).await?;
    bed.edit_policy(|policy| policy.target("example")["hosts"] = json!([HOST, UNMATCHED]))?;
    let ended = soon("the end", stream.read(&mut [0; 8])).await?;
    // Cut off without a farewell of TLS, which only its server could give.
    assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    refused(&mut bed, "access_changed").await?;
    Ok(())
}

/// A server may ask for a second hello, which then is in clear as well.
#[tokio::test]
async fn t68_a_second_hello_is_looked_at() -> anyhow::Result<()> {
    let mut bed = carrying().await?;
    let (address, mut heard) = server(b"").await?;
    let hello = |name: &str| -> anyhow::Result<Vec<u8>> {
        let roots = rustls::RootCertStore::empty();
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
        let name = rustls::pki_types::ServerName::try_from(name.to_owned())?;
        let mut connection = rustls::ClientConnection::new(Arc::new(config), name)?;
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes)?;
        Ok(bytes)
    };
    let target = address.to_string();
    let mut tunnel = bed.client().tunnel(Ask::Http11, &target, None).await?;
    let first = hello(UNMATCHED)?;
    tunnel.write_all(&first).await?;
    let mut back = vec![0; first.len()];
    soon("the echo", tunnel.read_exact(&mut back)).await??;
    let second = [&[20, 3, 3, 0, 1, 1][..], &hello(HOST)?].concat();
    soon("the end", converse(&mut tunnel, &second)).await?.ok();
    assert_eq!(bed.record().await?["reason"], "governed_elsewhere");
    let mut all = Vec::new();
    while let Ok(byte) = heard.try_recv() {
        all.push(byte);
    }
    assert!(all.len() <= first.len() + 6, "the second hello was carried");
    Ok(())
}
