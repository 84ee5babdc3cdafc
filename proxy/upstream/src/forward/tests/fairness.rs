//! One caller's stalled exchanges leave room for those of others.

use std::sync::Arc;

use countersign_config::model::Limits;
use futures_util::FutureExt as _;
use rstest::rstest;

use super::support::{self, Ca, HOST, Server, get, key, read, soon};
use crate::forward::{CallerId, ForwardError, Forwarder, Sent};

fn caller(name: &str) -> CallerId {
    CallerId::of(name)
}

fn bounded(ca: &Ca, server: &Server, upstream_connections: usize) -> Forwarder {
    let limits = Limits {
        upstream_connections,
        ..Limits::default()
    };
    support::with_limits(ca, server.address, &limits)
}

async fn send(forwarder: &Forwarder, from: &str, path: &str) -> Result<Sent, ForwardError> {
    forwarder
        .send_for(caller(from).into(), &key(), get(path))
        .await
}

/// Begins exchanges whose answers nobody reads, as many as one caller may.
async fn stall(forwarder: &Forwarder, from: &str) -> Vec<Sent> {
    let endpoint = forwarder.pool.endpoint(&key()).unwrap();
    let mut stalled = Vec::new();
    while !endpoint.has_its_part(caller(from)) {
        stalled.push(soon(send(forwarder, from, "/large")).await.unwrap());
    }
    stalled
}

#[rstest]
#[case::one("http/1.1", 1, 1)]
#[case::two("http/1.1", 2, 1)]
#[case::four("http/1.1", 4, 3)]
#[case::h2_one("h2", 1, 3)]
#[case::h2_two("h2", 2, 7)]
#[tokio::test]
async fn t70_a_caller_that_stalls_all_it_can_leaves_room_for_others(
    #[case] alpn: &str,
    #[case] connections: usize,
    #[case] expected: usize,
) {
    let ca = Ca::new();
    let server = Server::with_streams(&ca, HOST, &[alpn], 4).await;
    let forwarder = bounded(&ca, &server, connections);
    // What the upstream speaks, and how many streams it allows, is known from here on.
    read(soon(send(&forwarder, "first", "/hello")).await.unwrap()).await;
    let stalled = stall(&forwarder, "greedy").await;
    assert_eq!(stalled.len(), expected);
    if (alpn, connections) == ("http/1.1", 1) {
        // There is nothing to share.
        return;
    }
    for other in ["second", "third", "second"] {
        let sent = soon(send(&forwarder, other, "/hello")).await.unwrap();
        assert_eq!(soon(read(sent)).await, "hello");
    }
    tokio::time::pause();
    let refused = send(&forwarder, "greedy", "/hello").await.unwrap_err();
    assert!(
        matches!(refused, ForwardError::PartTaken { .. }),
        "{refused:?}"
    );
}

/// An upstream may send so much on a connection before it is read: what one caller does not read of
/// that must not be all of it.
#[tokio::test]
async fn t70_downloads_that_nobody_reads_do_not_hold_up_another_on_their_connection() {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &["h2"]).await;
    let forwarder = support::forwarder(&ca, server.address);
    let mut stalled = Vec::new();
    for _ in 0..15 {
        stalled.push(soon(send(&forwarder, "greedy", "/large")).await.unwrap());
    }
    let sent = soon(send(&forwarder, "other", "/large")).await.unwrap();
    assert!(sent.connection.reused, "it has a connection of its own");
    assert_eq!(soon(read(sent)).await.len(), 8 * 1024 * 1024);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn who_waits_is_served_before_who_holds_more() {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &["http/1.1"]).await;
    let forwarder = Arc::new(bounded(&ca, &server, 2));
    let _greedy = soon(send(&forwarder, "greedy", "/large")).await.unwrap();
    let busy = soon(send(&forwarder, "busy", "/large")).await.unwrap();
    let mut greedy_again = Box::pin(send(&forwarder, "greedy", "/hello"));
    assert!(greedy_again.as_mut().now_or_never().is_none());
    let other = tokio::spawn({
        let forwarder = Arc::clone(&forwarder);
        async move { send(&forwarder, "other", "/hello").await }
    });
    soon(read(busy)).await;
    let sent = soon(other).await.unwrap().unwrap();
    assert_eq!(soon(read(sent)).await, "hello");
    assert!(greedy_again.as_mut().now_or_never().is_none());
}

/// Whoever was told that it is his turn, and left, has passed the word on.
#[tokio::test]
async fn a_turn_is_not_lost_with_who_had_it() {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &["http/1.1"]).await;
    let forwarder = Arc::new(bounded(&ca, &server, 1));
    let busy = soon(send(&forwarder, "busy", "/large")).await.unwrap();
    let mut first = Box::pin(send(&forwarder, "first", "/hello"));
    assert!(first.as_mut().now_or_never().is_none());
    let mut second = Box::pin(send(&forwarder, "second", "/hello"));
    assert!(second.as_mut().now_or_never().is_none());
    soon(read(busy)).await;
    drop(first);
    let sent = soon(second).await.unwrap();
    assert_eq!(soon(read(sent)).await, "hello");
}

/// Connections that serve one request only, as WebSockets have, are counted where streams are shared
/// too.
#[rstest]
#[case::h1("http/1.1")]
#[case::h2("h2")]
#[tokio::test]
async fn t70_connections_of_their_own_are_shared_fairly_too(#[case] alpn: &str) {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &[alpn]).await;
    let forwarder = bounded(&ca, &server, 5);
    read(soon(send(&forwarder, "first", "/hello")).await.unwrap()).await;
    let endpoint = forwarder.pool.endpoint(&key()).unwrap();
    let place = |name: &str| {
        let (endpoint, caller) = (Arc::clone(&endpoint), caller(name));
        async move { endpoint.wait_for_place(caller).await }.now_or_never()
    };
    let held: Vec<_> = std::iter::from_fn(|| place("greedy")).collect();
    assert!(held.len() <= 4, "{}", held.len());
    assert!(place("other").is_some());
    let sent = soon(send(&forwarder, "third", "/hello")).await.unwrap();
    assert_eq!(soon(read(sent)).await, "hello");
}
