use bytes::Bytes;
use countersign_core::slots::{self, Share, Slots};
use rstest::rstest;
use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt as _, DuplexStream};

use super::*;
use crate::accept::refused_tunnel::Unheard;

/// Keeps what it is told of.
#[derive(Default)]
struct Heard(std::cell::RefCell<Vec<Unserved>>);

impl Broken for &Heard {
    fn unserved(&self, why: Unserved) {
        self.0.borrow_mut().push(why);
    }

    fn ended(&self, _: &ConnectionState, _: &hyper::Error) -> Option<Response<Bytes>> {
        let mut response = Response::new(Bytes::from_static(b"why"));
        *response.status_mut() = http::StatusCode::IM_A_TEAPOT;
        Some(response)
    }
}

/// Serves one side of a pipe, answering each request with its path.
async fn echo(stream: DuplexStream, closing: CancellationToken) -> Result<(), hyper::Error> {
    let connection_state = ConnectionState::new();
    let requests = Arc::clone(&connection_state);
    let handle = move |request: Request<Incoming>| {
        let in_flight = requests.begin();
        let path = Bytes::from(request.uri().path().to_owned());
        async move { Response::new(AnswerBody::whole(path, in_flight)) }
    };
    let limits = Limits::default();
    let (slot, purse) = (proven(), Purse::unshared());
    serve(
        stream,
        Protocol::Http1,
        &limits,
        Room {
            slot: &slot,
            purse: &purse,
        },
        connection_state,
        closing,
        Requests {
            handle,
            broken: Unheard,
            leaving: Leaving::default(),
        },
    )
    .await
}

/// The place of a connection whose caller is proven.
fn proven() -> Slot {
    let slots = Slots::new(slots::Bounds::from(&Limits::default()), None);
    let slot = slots.enter(&"proxy".into(), Ipv4Addr::LOCALHOST.into());
    slot.prove(|| Share::Own).unwrap();
    slot
}

/// Reads one answer, whose body is `path`.
async fn answer(client: &mut DuplexStream, path: &str) {
    let mut seen = Vec::new();
    let end = format!("\r\n\r\n{path}");
    while !seen.ends_with(end.as_bytes()) {
        seen.push(client.read_u8().await.unwrap());
    }
    assert!(seen.starts_with(b"HTTP/1.1 200 "));
}

/// Sends these pieces, each after so many pauses as stand before it, and reads an answer for each
/// path.
#[rstest]
#[case::nothing_between(&[(0, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"), (3, "GET /b HTTP/1.1\r\nHost: h\r\n\r\n")])]
#[case::half_a_head(&[(0, "GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b"), (3, " HTTP/1.1\r\nHost: h\r\n\r\n")])]
#[case::an_empty_line(&[(0, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n\r\n"), (3, "GET /b HTTP/1.1\r\nHost: h\r\n\r\n")])]
#[case::one_byte_first(&[(0, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"), (3, "G"), (3, "ET /b HTTP/1.1\r\nHost: h\r\n\r\n")])]
#[tokio::test(start_paused = true)]
async fn a_connection_that_paused_goes_on_where_it_was(#[case] pieces: &[(u32, &str)]) {
    let (mut client, server) = tokio::io::duplex(4096);
    let talk = async {
        for (pauses, piece) in pieces {
            tokio::time::sleep(*pauses * PAUSE).await;
            client.write_all(piece.as_bytes()).await.unwrap();
        }
        answer(&mut client, "/a").await;
        answer(&mut client, "/b").await;
        drop(client);
    };
    let (served, ()) = futures_util::join!(echo(server, CancellationToken::new()), talk);
    served.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_body_that_nobody_read_is_never_a_request() {
    let (mut client, server) = tokio::io::duplex(4096);
    let talk = async {
        let head = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nx";
        client.write_all(head).await.unwrap();
        answer(&mut client, "/a").await;
        tokio::time::sleep(3 * PAUSE).await;
        // Whether it can still be written is all the same: nothing answers.
        let _ = client
            .write_all(b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n")
            .await;
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest).await;
        assert_eq!(String::from_utf8_lossy(&rest), "");
    };
    let (served, ()) = futures_util::join!(echo(server, CancellationToken::new()), talk);
    served.unwrap();
}

#[rstest]
#[case::before_its_pause(0)]
#[case::in_its_pause(3)]
#[tokio::test(start_paused = true)]
async fn a_connection_that_rests_is_closed_by_the_drain(#[case] pauses: u32) {
    let (mut client, server) = tokio::io::duplex(4096);
    let closing = CancellationToken::new();
    let talk = async {
        let request = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
        client.write_all(request).await.unwrap();
        answer(&mut client, "/a").await;
        tokio::time::sleep(pauses * PAUSE).await;
        closing.cancel();
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    };
    let (served, ()) = futures_util::join!(echo(server, closing.clone()), talk);
    served.unwrap();
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// `INITIAL_WINDOW_SIZE` is 0.
const NO_WINDOW: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0";

const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0pingpong";

/// `GET https://h/`, without a body.
const HEADERS: &[u8] = b"\0\0\x06\x01\x05\0\0\0\x01\x82\x87\x84\x41\x01h";

/// The same with a body that does not end.
const ENDLESS: &[u8] = b"\0\0\x06\x01\x04\0\0\0\x01\x83\x87\x84\x41\x01h";

/// Room for one more byte of the answer.
const WINDOW: &[u8] = b"\0\0\x04\x08\0\0\0\0\x01\0\0\0\x01";

/// One byte more of the body.
const DATA: &[u8] = b"\0\0\x01\0\0\0\0\0\x01a";

const GREETING: [&[u8]; 2] = [PREFACE, NO_WINDOW];

const REQUEST: &[u8] = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n";

/// A client that makes no room for its answer, makes it byte by byte, or says nothing that counts is
/// listened to as long as what it has proven is worth.
#[rstest]
#[case::no_request(Protocol::Http2, &[], PING, false, 5..=7)]
#[case::answer_not_taken(Protocol::Http2, &[HEADERS], PING, false, 5..=11)]
#[case::answer_taken_by_bytes(Protocol::Http2, &[HEADERS], WINDOW, false, 5..=17)]
#[case::body_without_end(Protocol::Http2, &[ENDLESS], DATA, false, 5..=11)]
#[case::proven(Protocol::Http2, &[], PING, true, 20..=602)]
#[case::proven_answer_not_taken(Protocol::Http2, &[HEADERS], PING, true, 20..=602)]
#[case::http1_no_request(Protocol::Http1, &[], b"\r\n", false, 5..=11)]
#[case::http1_answer_not_taken(Protocol::Http1, &[REQUEST], b"", false, 5..=11)]
#[case::http1_answers_not_taken(Protocol::Http1, &[REQUEST, REQUEST, REQUEST], REQUEST, false, 5..=11)]
#[tokio::test(start_paused = true)]
async fn t63_a_stranger_is_given_up_soon(
    #[case] protocol: Protocol,
    #[case] begins: &[&[u8]],
    #[case] goes_on: &[u8],
    #[case] is_proven: bool,
    #[case] seconds: std::ops::RangeInclusive<u64>,
) {
    // Nothing that the client is sent is read, and little of it finds room.
    let (mut client, server) = tokio::io::duplex(match protocol {
        Protocol::Http1 => 64,
        Protocol::Http2 => 1 << 20,
    });
    let slots = Slots::new(slots::Bounds::from(&Limits::default()), None);
    let stranger = slots.enter(&"proxy".into(), Ipv4Addr::LOCALHOST.into());
    let slot = if is_proven { proven() } else { stranger };
    let connection_state = ConnectionState::new();
    let requests = Arc::clone(&connection_state);
    let handle = move |_: Request<Incoming>| {
        let in_flight = requests.begin();
        async move { Response::new(AnswerBody::whole(Bytes::from_static(b"no"), in_flight)) }
    };
    let start = tokio::time::Instant::now();
    let (limits, purse) = (Limits::default(), Purse::unshared());
    let served = serve(
        server,
        protocol,
        &limits,
        Room {
            slot: &slot,
            purse: &purse,
        },
        connection_state,
        CancellationToken::new(),
        Requests {
            handle,
            broken: Unheard,
            leaving: Leaving::default(),
        },
    );
    let greeting = match protocol {
        Protocol::Http1 => &[][..],
        Protocol::Http2 => &GREETING,
    };
    let talk = async {
        for bytes in [greeting, begins].concat() {
            client.write_all(bytes).await.unwrap();
        }
        loop {
            client.write_all(goes_on).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        biased;
        _ = served => {
            let elapsed = start.elapsed().as_secs();
            assert!(seconds.contains(&elapsed), "{elapsed}");
        }
        () = talk => {}
    }
}

/// A client that vanished without a word: a ping gets no answer. No head is late, and nothing of it is told.
#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_pings_has_left() {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let connection_state = ConnectionState::new();
    let (limits, purse, slot) = (Limits::default(), Purse::unshared(), proven());
    let served = serve(
        server,
        Protocol::Http2,
        &limits,
        Room {
            slot: &slot,
            purse: &purse,
        },
        Arc::clone(&connection_state),
        CancellationToken::new(),
        Requests {
            handle: |_| async { Response::new(AnswerBody::empty()) },
            broken: Unheard,
            leaving: Leaving::default(),
        },
    );
    let greeting = [PREFACE, b"\0\0\0\x04\0\0\0\0\0"].concat();
    client.write_all(&greeting).await.unwrap();
    let error = served.await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    assert!(!is_worth_telling(&error, &connection_state));
}

/// Each request that hyper resets or answers by itself is told of, beside one that is served.
#[tokio::test(start_paused = true)]
async fn requests_that_no_handler_gets_are_told_of() {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let connection_state = ConnectionState::new();
    let (limits, purse, slot) = (Limits::default(), Purse::unshared(), proven());
    let told = Heard::default();
    let served = serve(
        server,
        Protocol::Http2,
        &limits,
        Room {
            slot: &slot,
            purse: &purse,
        },
        Arc::clone(&connection_state),
        CancellationToken::new(),
        Requests {
            handle: |_| async { Response::new(AnswerBody::empty()) },
            broken: &told,
            leaving: Leaving::default(),
        },
    );
    // Without a method, whole, and with a body.
    let malformed = b"\0\0\x05\x01\x05\0\0\0\x03\x87\x84\x41\x01h";
    let begun = b"\0\0\x05\x01\x04\0\0\0\x05\x87\x84\x41\x01h";
    let settings = &b"\0\0\0\x04\0\0\0\0\0"[..];
    let bytes = [PREFACE, settings, HEADERS, malformed, begun].concat();
    client.write_all(&bytes).await.unwrap();
    let stay = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(client);
    };
    let (ended, ()) = futures_util::join!(served, stay);
    ended.unwrap();
    assert_eq!(told.0.into_inner(), [Unserved::Malformed; 2]);
}

/// What hyper cannot read is answered as the record of it says, after whatever was answered before.
#[rstest]
#[case::no_request("nonsense\r\n\r\n", 0)]
#[case::a_bad_header("GET /a HTTP/1.1\r\nHost: h\r\n: b\r\n\r\n", 0)]
#[case::behind_a_request("GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\na b\r\n\r\n", 1)]
#[case::behind_two(
    "GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\nG(T /c HTTP/1.1\r\n\r\n",
    2
)]
#[tokio::test(start_paused = true)]
async fn what_is_no_request_is_answered_as_its_record_says(
    #[case] sent: &str,
    #[case] served_before: usize,
) {
    let (mut client, server) = tokio::io::duplex(1 << 16);
    let connection_state = ConnectionState::new();
    let requests = Arc::clone(&connection_state);
    let handle = move |_: Request<Incoming>| {
        let in_flight = requests.begin();
        async move { Response::new(AnswerBody::whole(Bytes::from_static(b"yes"), in_flight)) }
    };
    let (limits, purse, slot) = (Limits::default(), Purse::unshared(), proven());
    let told = Heard::default();
    let served = serve(
        server,
        Protocol::Http1,
        &limits,
        Room {
            slot: &slot,
            purse: &purse,
        },
        connection_state,
        CancellationToken::new(),
        Requests {
            handle,
            broken: &told,
            leaving: Leaving::default(),
        },
    );
    let talk = async {
        client.write_all(sent.as_bytes()).await.unwrap();
        let mut seen = String::new();
        client.read_to_string(&mut seen).await.unwrap();
        seen
    };
    let (served, seen) = futures_util::join!(served, talk);
    served.unwrap_err();
    assert_eq!(
        seen.matches("HTTP/1.1 200 ").count(),
        served_before,
        "{seen}"
    );
    assert_eq!(
        seen.matches("HTTP/1.1 ").count(),
        served_before + 1,
        "{seen}"
    );
    assert!(seen.contains("HTTP/1.1 418 I'm a teapot\r\n"), "{seen}");
    assert!(seen.ends_with("connection: close\r\n\r\nwhy"), "{seen}");
}
