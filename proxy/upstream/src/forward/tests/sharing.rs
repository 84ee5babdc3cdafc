//! Which connections are kept, shared, bounded and replaced.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use countersign_config::{
    memory,
    model::{Limits, ResourceName},
};
use countersign_core::{budget::Budget, metrics::Metrics};
use http_body_util::BodyExt;
use rstest::rstest;
use tokio::sync::Notify;

use super::support::{self, Ca, HOST, Server, get, key, post, read, read_head, soon, write};
use crate::forward::{CallerId, ForwardError, Forwarder, Outbound, RequestBody, Requester};

#[rstest]
#[case::h1("http/1.1")]
#[case::h2("h2")]
#[tokio::test]
async fn t26_no_connection_serves_two_workloads_credentials_or_callers(#[case] alpn: &str) {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &[alpn]).await;
    let forwarder = support::forwarder(&ca, server.address);
    let keys = [
        key(),
        Outbound {
            workload: ResourceName::namespaced("qa", "other"),
            ..key()
        },
        Outbound {
            credential: Some(ResourceName::namespaced("qa", "other")),
            ..key()
        },
        Outbound {
            credential: None,
            ..key()
        },
        Outbound {
            caller: Some([1; 32]),
            ..key()
        },
        Outbound {
            caller: Some([2; 32]),
            ..key()
        },
    ];
    for round in 0..2 {
        for key in &keys {
            let sent = soon(forwarder.send(key, get("/hello"))).await.unwrap();
            assert_eq!(sent.connection.reused, round == 1);
            read(sent).await;
        }
    }
    assert_eq!(server.connections(), keys.len());
    let used: Vec<_> = server.received().iter().map(|r| r.connection).collect();
    assert_eq!(used, [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_connection_closed_at_rest_is_replaced_and_the_request_sent_once() {
    let ca = Ca::new();
    let address = support::scripted(&ca, HOST, |connection, mut stream| async move {
        let head = read_head(&mut stream).await;
        assert_eq!(head.starts_with("POST"), connection == 1);
        write(
            &mut stream,
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        )
        .await;
        // Closed without saying so in the response.
    })
    .await;
    let forwarder = support::forwarder(&ca, address);
    let first = soon(forwarder.send(&key(), get("/"))).await.unwrap();
    assert_eq!(read(first).await, "ok");
    wait_until_closed(&forwarder).await;
    let body = RequestBody::full(Bytes::from_static(b"a=b"), Arc::default());
    let second = soon(forwarder.send(&key(), post("/", body))).await.unwrap();
    assert!(!second.connection.reused);
    assert_eq!(read(second).await, "ok");
}

/// The upstream may close a connection that has rested just as it is used, and a POST is not sent again.
#[rstest]
#[case::post_at_once("POST", 0, true)]
#[case::post_soon("POST", 500, true)]
#[case::post_after_a_rest("POST", 1_100, false)]
#[case::patch_after_a_rest("PATCH", 1_100, false)]
#[case::get_after_a_rest("GET", 1_100, true)]
#[case::put_after_a_rest("PUT", 1_100, true)]
#[tokio::test]
async fn what_cannot_be_sent_again_goes_on_no_connection_that_has_rested(
    #[case] method: &str,
    #[case] rest: u64,
    #[case] reused: bool,
    #[values(1, 8)] connections: usize,
) {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &["http/1.1"]).await;
    let limits = Limits {
        upstream_connections: connections,
        ..Limits::default()
    };
    let forwarder = support::with_limits(&ca, server.address, &limits);
    read(soon(forwarder.send(&key(), get("/hello"))).await.unwrap()).await;
    for _ in 0..3 {
        tokio::time::pause();
        tokio::time::advance(Duration::from_millis(rest)).await;
        tokio::time::resume();
        let mut request = post("/hello", RequestBody::full("a=b".into(), Arc::default()));
        *request.method_mut() = method.parse().unwrap();
        let sent = soon(forwarder.send(&key(), request)).await.unwrap();
        assert_eq!(sent.connection.reused, reused);
        read(sent).await;
        // The one that had rested made room.
        let endpoint = forwarder.pool.endpoint(&key()).unwrap();
        assert_eq!(endpoint.counts(), (0, 1, 0));
    }
}

/// Also while it is at rest; and with another connection open for its caller there may be no room.
#[rstest]
#[case::h1("http/1.1")]
#[case::h2("h2")]
#[tokio::test]
async fn a_connection_takes_of_its_callers_memory_as_long_as_it_is_open(#[case] alpn: &str) {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &[alpn]).await;
    let forwarder = support::forwarder(&ca, server.address);
    let budget = Budget::new(4 * memory::UPSTREAM, &Metrics::new());
    let account = budget.account_of("issuer", "subject");
    let room = budget.open_for(&account, 0).unwrap();
    let other = |name: &str| Outbound {
        workload: ResourceName::cluster_wide(name),
        ..key()
    };
    let send = |key: Outbound| {
        let (forwarder, requester) = (&forwarder, Requester::new(CallerId::of("a"), &room));
        async move { forwarder.send_for(requester, &key, get("/hello")).await }
    };
    for name in ["one", "one", "two"] {
        read(soon(send(other(name))).await.unwrap()).await;
    }
    let open = usize::try_from(2 * memory::UPSTREAM).unwrap();
    assert_eq!(budget.held(), (0, open));
    let refused = soon(send(other("three"))).await.unwrap_err();
    assert!(matches!(refused, ForwardError::Memory(_)), "{refused}");
    // What is open serves on.
    read(soon(send(other("one"))).await.unwrap()).await;
    drop(forwarder);
    let closed = async {
        while budget.held().1 > 0 {
            tokio::task::yield_now().await;
        }
    };
    soon(closed).await;
}

/// Until the sweep, which looks at connections at rest, has seen the close.
async fn wait_until_closed(forwarder: &Forwarder) {
    let closed = async {
        while forwarder.resting(&key()) > 0 {
            tokio::task::yield_now().await;
            forwarder.sweep();
        }
    };
    soon(closed).await;
}

#[tokio::test]
async fn the_last_moment_close_is_noticed_when_the_connection_is_taken() {
    let ca = Ca::new();
    let (close, closed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let script = {
        let (close, closed) = (close.clone(), closed.clone());
        move |_, mut stream| {
            let (close, closed) = (close.clone(), closed.clone());
            async move {
                read_head(&mut stream).await;
                write(
                    &mut stream,
                    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                )
                .await;
                close.notified().await;
                drop(stream);
                closed.notify_one();
            }
        }
    };
    let address = support::scripted(&ca, HOST, script).await;
    let forwarder = support::forwarder(&ca, address);
    let first = soon(forwarder.send(&key(), get("/"))).await.unwrap();
    assert_eq!(read(first).await, "ok");
    assert_eq!(forwarder.resting(&key()), 1);
    close.notify_one();
    soon(closed.notified()).await;
    // The runtime looks at its sockets once in some tens of turns.
    for _ in 0..500 {
        tokio::task::yield_now().await;
    }
    let second = soon(forwarder.send(&key(), get("/"))).await.unwrap();
    assert!(!second.connection.reused);
}

#[tokio::test]
async fn a_connection_that_says_something_unasked_is_not_used_again() {
    let ca = Ca::new();
    let address = support::scripted(&ca, HOST, |_, mut stream| async move {
        read_head(&mut stream).await;
        let two = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\
                   HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
        write(&mut stream, two).await;
        std::future::pending::<()>().await;
    })
    .await;
    let forwarder = support::forwarder(&ca, address);
    for _ in 0..2 {
        let sent = soon(forwarder.send(&key(), get("/"))).await.unwrap();
        assert!(!sent.connection.reused);
        assert_eq!(read(sent).await, "ok");
    }
}

#[rstest]
#[case::told_to("/close")]
#[tokio::test]
async fn a_connection_the_upstream_ends_is_not_kept(#[case] path: &str) {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &["http/1.1"]).await;
    let forwarder = support::forwarder(&ca, server.address);
    let sent = soon(forwarder.send(&key(), get(path))).await.unwrap();
    assert_eq!(read(sent).await, "hello");
    assert_eq!(forwarder.counts(&key()), (0, 0, 0));
}

#[tokio::test]
async fn t07_a_connection_whose_body_was_not_read_is_closed() {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &["http/1.1"]).await;
    let forwarder = support::forwarder(&ca, server.address);
    let mut sent = soon(forwarder.send(&key(), get("/large"))).await.unwrap();
    soon(sent.response.body_mut().frame())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(forwarder.counts(&key()), (1, 0, 0));
    drop(sent);
    assert_eq!(forwarder.counts(&key()), (0, 0, 0));
    let next = soon(forwarder.send(&key(), get("/hello"))).await.unwrap();
    assert!(!next.connection.reused);
}

#[tokio::test]
async fn at_the_bound_a_request_waits_for_a_connection() {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &["http/1.1"]).await;
    let limits = Limits {
        upstream_connections: 1,
        ..Limits::default()
    };
    let forwarder = Arc::new(support::with_limits(&ca, server.address, &limits));
    let first = soon(forwarder.send(&key(), get("/large"))).await.unwrap();
    let second = tokio::spawn({
        let forwarder = forwarder.clone();
        async move { forwarder.send(&key(), get("/hello")).await }
    });
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    soon(read(first)).await;
    let second = soon(second).await.unwrap().unwrap();
    assert!(second.connection.reused);
    assert_eq!(read(second).await, "hello");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn at_the_bound_a_request_does_not_wait_for_ever() {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &["http/1.1"]).await;
    let limits = Limits {
        upstream_connections: 1,
        ..Limits::default()
    };
    let forwarder = support::with_limits(&ca, server.address, &limits);
    let _busy = soon(forwarder.send(&key(), get("/large"))).await.unwrap();
    tokio::time::pause();
    let refused = forwarder.send(&key(), get("/hello")).await.unwrap_err();
    assert!(
        matches!(refused, ForwardError::Overloaded { connections: 1, .. }),
        "{refused:?}"
    );
    // Another key has a bound of its own.
    tokio::time::resume();
    let other = Outbound {
        credential: None,
        ..key()
    };
    soon(forwarder.send(&other, get("/hello"))).await.unwrap();
}

#[tokio::test]
async fn concurrent_http1_requests_have_a_connection_each() {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &["http/1.1"]).await;
    let forwarder = support::forwarder(&ca, server.address);
    let requests = (0..5).map(|_| async {
        let sent = forwarder.send(&key(), get("/large")).await.unwrap();
        assert_eq!(read(sent).await.len(), 8 * 1024 * 1024);
    });
    soon(futures_util::future::join_all(requests)).await;
    assert_eq!(forwarder.counts(&key()), (0, server.connections(), 0));
}

#[tokio::test]
async fn another_http2_connection_is_opened_when_the_streams_are_used_up() {
    let ca = Ca::new();
    let server = Server::with_streams(&ca, HOST, &["h2"], 2).await;
    let forwarder = support::forwarder(&ca, server.address);
    // The first learns the upstream's limit.
    read(soon(forwarder.send(&key(), get("/hello"))).await.unwrap()).await;
    let mut open = Vec::new();
    for _ in 0..5 {
        open.push(soon(forwarder.send(&key(), get("/large"))).await.unwrap());
    }
    assert_eq!(server.connections(), 3);
    for sent in open {
        soon(read(sent)).await;
    }
}

#[rstest]
#[case::h1("http/1.1")]
#[case::h2("h2")]
#[tokio::test]
async fn unused_connections_are_closed_and_forgotten(#[case] alpn: &str) {
    let ca = Ca::new();
    let server = Server::start(&ca, HOST, &[alpn]).await;
    let forwarder = support::forwarder(&ca, server.address);
    read(soon(forwarder.send(&key(), get("/hello"))).await.unwrap()).await;
    assert_eq!(forwarder.pool.endpoints(), 1);
    forwarder.sweep();
    assert_eq!(forwarder.pool.endpoints(), 1);
    tokio::time::pause();
    tokio::time::advance(Limits::default().upstream_idle_timeout).await;
    forwarder.sweep();
    assert_eq!(forwarder.pool.endpoints(), 0);
    tokio::time::resume();
    let sent = soon(forwarder.send(&key(), get("/hello"))).await.unwrap();
    assert!(!sent.connection.reused);
}

impl Forwarder {
    fn counts(&self, key: &Outbound) -> (usize, usize, usize) {
        self.pool.endpoint(key).unwrap().counts()
    }

    fn resting(&self, key: &Outbound) -> usize {
        self.counts(key).1
    }

    fn sweep(&self) {
        self.pool.sweep();
    }
}
