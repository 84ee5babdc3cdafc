//! What may be reached, and by which way.

use std::net::SocketAddr;

use countersign_config::{
    host::Host,
    model::{Limits, TrustRoots, Upstream, UpstreamProxy},
};
use countersign_core::destination::Authority;
use rstest::rstest;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use super::support::{self, Ca, HOST, Server, get, key, read, soon};
use crate::forward::{ForwardError, Forwarder, Outbound};

fn at(upstream: &Upstream, own: Vec<SocketAddr>) -> Forwarder {
    Forwarder::new(upstream, &Limits::default(), own).unwrap()
}

fn key_of(address: SocketAddr) -> Outbound {
    Outbound {
        authority: Authority::new(Host::Ip(address.ip()), address.port()),
        ..key()
    }
}

#[tokio::test]
async fn t28_a_private_address_is_refused_unless_allowed() {
    let ca = Ca::new();
    let server = Server::start(&ca, "127.0.0.1", &["h2"]).await;
    let mut upstream = support::upstream(&ca, server.address);
    let key = key_of(server.address);

    let refused = soon(at(&upstream, Vec::new()).send(&key, get("/hello"))).await;
    assert!(matches!(
        refused,
        Err(ForwardError::AddressForbidden { address, .. }) if address == server.address.ip()
    ));
    let refused = soon(at(&upstream, Vec::new()).tunnel(&key)).await;
    assert!(matches!(
        refused,
        Err(ForwardError::AddressForbidden { .. })
    ));
    assert_eq!(server.connections(), 0);

    upstream.allow_addresses = vec!["127.0.0.0/8".parse().unwrap()];
    let forwarder = at(&upstream, Vec::new());
    let sent = soon(forwarder.send(&key, get("/hello"))).await.unwrap();
    assert_eq!(read(sent).await, "hello");
    let (_tunnel, address) = soon(forwarder.tunnel(&key)).await.unwrap();
    assert_eq!(address, server.address);
}

#[rstest]
#[case::by_override(true)]
#[case::by_address(false)]
#[tokio::test]
async fn t30_our_own_addresses_are_never_dialled(#[case] overridden: bool) {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &["h2"]).await;
    let mut upstream = support::upstream(&ca, server.address);
    upstream.allow_addresses = vec!["127.0.0.0/8".parse().unwrap()];
    let key = if overridden {
        key()
    } else {
        key_of(server.address)
    };
    let unspecified: SocketAddr = ([0, 0, 0, 0], server.address.port()).into();
    for own in [server.address, unspecified] {
        let forwarder = at(&upstream, Vec::new());
        forwarder.set_own_addresses(vec![own]);
        let refused = soon(forwarder.send(&key, get("/hello"))).await;
        assert!(matches!(refused, Err(ForwardError::OwnAddress { .. })));
        let refused = soon(forwarder.tunnel(&key)).await;
        assert!(matches!(refused, Err(ForwardError::OwnAddress { .. })));
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_closed_port_is_a_failed_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let forwarder = support::forwarder(&Ca::new(), address);
    let error = soon(forwarder.send(&key(), get("/"))).await.unwrap_err();
    assert!(
        matches!(error, ForwardError::Connect { address: tried, .. } if tried == address),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let forwarder = support::forwarder(&Ca::new(), listener.local_addr().unwrap());
    let waiting = tokio::spawn(async move { forwarder.send(&key(), get("/")).await });
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    soon(stream.read_u8()).await.unwrap();
    tokio::time::pause();
    let error = waiting.await.unwrap().unwrap_err();
    assert!(
        matches!(error, ForwardError::ConnectTimeout { .. }),
        "{error:?}"
    );
}

/// A proxy that answers `CONNECT api.test:443` by a tunnel to `to`.
async fn corporate_proxy(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                let right = head.starts_with(b"CONNECT api.test:443 HTTP/1.1\r\n");
                let answer = if right { "200 OK" } else { "403 Forbidden" };
                let answer = format!("HTTP/1.1 {answer}\r\n\r\n");
                client.write_all(answer.as_bytes()).await.unwrap();
                if right {
                    let mut upstream = TcpStream::connect(to).await.unwrap();
                    // Either side may end it as it likes.
                    let _ended = copy_bidirectional(&mut client, &mut upstream).await;
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_corporate_proxy_is_gone_through() {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &["h2"]).await;
    let proxy = corporate_proxy(server.address).await;
    let mut upstream = support::upstream(&ca, server.address);
    upstream.resolve.clear();
    upstream.proxy = Some(UpstreamProxy {
        host: Host::Ip(proxy.ip()),
        port: proxy.port(),
        tls: None,
        authentication: None,
    });
    let forwarder = at(&upstream, Vec::new());
    let sent = soon(forwarder.send(&key(), get("/hello"))).await.unwrap();
    assert_eq!(sent.connection.address, proxy);
    assert_eq!(read(sent).await, "hello");

    let elsewhere = Outbound {
        authority: support::authority(444),
        ..key()
    };
    let refused = soon(forwarder.send(&elsewhere, get("/")))
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!("the proxy {proxy} opened no tunnel: it answered 403 Forbidden")
    );
    // An address is judged here all the same.
    let private = key_of("10.0.0.1:443".parse().unwrap());
    let refused = soon(forwarder.send(&private, get("/"))).await;
    assert!(matches!(
        refused,
        Err(ForwardError::AddressForbidden { .. })
    ));
}

#[tokio::test]
async fn roots_that_cannot_be_read_are_told_with_their_key() {
    let ca = Ca::new();
    let mut upstream = support::upstream(&ca, "127.0.0.1:1".parse().unwrap());
    upstream.proxy = Some(UpstreamProxy {
        host: Host::parse("proxy.test").unwrap(),
        port: 3128,
        tls: Some(TrustRoots::Only("/nowhere/ca.pem".into())),
        authentication: None,
    });
    let error = Forwarder::new(&upstream, &Limits::default(), Vec::new()).unwrap_err();
    let told = error.to_string();
    assert!(
        told.starts_with("cannot read the roots of upstream.proxyRoots in /nowhere/ca.pem"),
        "{told}"
    );
}
