use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::*;
use crate::{budget::Budget, metrics::Metrics};

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_given_up() {
    let (_client, server) = tokio::io::duplex(16);
    let connection_state = ConnectionState::new();
    let mut stream = ClientStream::new(server, Arc::clone(&connection_state), LIMIT);
    let start = Instant::now();
    let error = stream.write_all(&[0; 64]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(start.elapsed().as_secs(), LIMIT.as_secs());
    assert!(connection_state.has_stalled());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_is_not() {
    let (mut client, server) = tokio::io::duplex(16);
    let connection_state = ConnectionState::new();
    let mut stream = ClientStream::new(server, Arc::clone(&connection_state), LIMIT);
    let read = async {
        for _ in 0..4 {
            tokio::time::sleep(LIMIT / 2).await;
            client.read_exact(&mut [0; 16]).await.unwrap();
        }
    };
    let (written, ()) = futures_util::join!(stream.write_all(&[0; 64]), read);
    written.unwrap();
    assert!(!connection_state.has_stalled());
}

const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const ENDLESS: &[u8] = b"\0\0\x01\x01\0\0\0\0\x01a";
const MORE: &[u8] = b"\0\0\x01\x09\0\0\0\0\x01a";
const END: &[u8] = b"\0\0\x01\x09\x04\0\0\0\x01a";
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0pingpong";

/// For how long such an HTTP/2 client is waited for, if it times out at all.
async fn given_up(pieces: &[&[u8]], in_flight: bool) -> Option<u64> {
    let (mut client, server) = tokio::io::duplex(256);
    let connection_state = ConnectionState::new();
    let _in_flight = in_flight.then(|| connection_state.begin());
    let mut stream = ClientStream::new(server, connection_state, 100 * LIMIT).with_frames(LIMIT);
    let start = Instant::now();
    let drip = async {
        for piece in pieces {
            client.write_all(piece).await.unwrap();
            tokio::time::sleep(LIMIT / 4).await;
        }
        std::future::pending::<()>().await;
    };
    let read = async {
        loop {
            if let Err(error) = stream.read(&mut [0; 64]).await {
                assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                return start.elapsed().as_secs();
            }
        }
    };
    tokio::select! {
        biased;
        seconds = read => Some(seconds),
        () = drip => None,
        () = tokio::time::sleep(20 * LIMIT) => None,
    }
}

/// In total, not from byte to byte.
#[rstest::rstest]
#[case::silent(&[], Some(10))]
#[case::half_a_preface(&[&GREETING[..9], &GREETING[9..10], &GREETING[10..20]], Some(10))]
#[case::no_settings(&[&GREETING[..24], PING, PING, PING, PING, PING], Some(10))]
#[case::endless(&[GREETING, ENDLESS, MORE, MORE, MORE, MORE, MORE, MORE], Some(12))]
#[case::half_a_frame(&[GREETING, &ENDLESS[..9]], Some(12))]
#[case::greeted(&[GREETING], None)]
#[case::pings(&[GREETING, PING, PING, PING, PING, PING, PING, PING], None)]
#[case::ended(&[GREETING, ENDLESS, MORE, MORE, END], None)]
#[case::one_after_another(&[GREETING, ENDLESS, END, ENDLESS, END, ENDLESS, END, ENDLESS, END], None)]
#[tokio::test(start_paused = true)]
async fn a_header_block_has_a_deadline(
    #[case] pieces: &[&[u8]],
    #[case] expected: Option<u64>,
    #[values(false, true)] in_flight: bool,
) {
    assert_eq!(given_up(pieces, in_flight).await, expected);
}

/// A client that is always in the middle of a head, but of another one each time, is on time.
#[tokio::test(start_paused = true)]
async fn the_next_head_has_all_the_time_again() {
    let next: &[u8] = &[END, ENDLESS].concat();
    let pieces = [&[GREETING, ENDLESS][..], &[next; 12], &[END]].concat();
    assert_eq!(given_up(&pieces, false).await, None);
}

async fn read_after(sent: &str, in_flight: bool) -> Result<io::Result<usize>, ()> {
    let (mut client, server) = tokio::io::duplex(256);
    let connection_state = ConnectionState::new();
    let _in_flight = in_flight.then(|| connection_state.begin());
    let mut stream = ClientStream::new(server, Arc::clone(&connection_state), 100 * LIMIT)
        .with_heads(LIMIT, 100);
    client.write_all(sent.as_bytes()).await.unwrap();
    if !sent.is_empty() {
        stream.read_exact(&mut vec![0; sent.len()]).await.unwrap();
    }
    tokio::time::timeout(2 * LIMIT, stream.read(&mut [0; 8]))
        .await
        .map_err(drop)
}

#[rstest::rstest]
#[case::nothing_yet("", false, true)]
#[case::half_a_head("GET / HTTP/1.1\r\n", false, true)]
#[case::half_a_second_head("GET / HTTP/1.1\r\n\r\nGET", false, true)]
#[case::resting("GET / HTTP/1.1\r\n\r\n", false, false)]
#[case::in_progress("GET / HTTP/1.1\r\n\r\nGET", true, false)]
#[case::a_tunnel("", true, false)]
#[tokio::test(start_paused = true)]
async fn only_a_head_that_is_due_has_a_deadline(
    #[case] sent: &str,
    #[case] in_flight: bool,
    #[case] overdue: bool,
) {
    let read = read_after(sent, in_flight).await;
    let timed_out = matches!(&read, Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut);
    assert_eq!(timed_out, overdue, "{read:?}");
}

const GET: &str = "GET / HTTP/1.1\r\n\r\n";

/// A client that has sent `text` and closed its side, and the stream after reading that.
async fn half_closed(text: &str, in_flight: bool) -> (tokio::io::DuplexStream, Half) {
    let (mut client, server) = tokio::io::duplex(256);
    let connection_state = ConnectionState::new();
    let in_flight = in_flight.then(|| connection_state.begin());
    let mut stream = ClientStream::new(server, Arc::clone(&connection_state), 100 * LIMIT)
        .with_heads(LIMIT, 100);
    client.write_all(text.as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    stream.read_exact(&mut vec![0; text.len()]).await.unwrap();
    (client, (stream, connection_state, in_flight))
}

type Half = (
    ClientStream<tokio::io::DuplexStream>,
    Arc<ConnectionState>,
    Option<crate::wire::connection_state::InFlightGuard>,
);

#[tokio::test(start_paused = true)]
async fn the_end_of_the_requests_is_kept_back_until_the_answer_has_ended() {
    let (mut client, (mut stream, connection_state, in_flight)) = half_closed(GET, true).await;
    let read = tokio::spawn(async move {
        let count = stream.read(&mut [0; 8]).await.unwrap();
        assert!(connection_state.is_idle());
        count
    });
    // Tested twice with complete interim responses.
    for _ in 0..2 {
        let mut interim = [0; 25];
        client.read_exact(&mut interim).await.unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    assert!(!read.is_finished());
    drop(in_flight);
    assert_eq!(read.await.unwrap(), 0);
}

#[rstest::rstest]
#[case::within_a_head("GET / HTTP/1.1\r\n", true)]
#[case::within_a_body("POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc", true)]
#[case::between_requests(GET, false)]
#[tokio::test(start_paused = true)]
async fn any_other_end_is_the_clients_leaving(#[case] text: &str, #[case] in_flight: bool) {
    let (_client, (mut stream, _activity, _in_flight)) = half_closed(text, in_flight).await;
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_end_within_a_tunnel_is_passed_on() {
    let (_client, (mut stream, connection_state, _in_flight)) = half_closed(GET, true).await;
    connection_state.switch();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_left_is_found_out() {
    let (client, (mut stream, _activity, _in_flight)) = half_closed(GET, true).await;
    drop(client);
    let start = Instant::now();
    let error = stream.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(start.elapsed() < LIMIT);
}

#[rstest::rstest]
#[case::an_answer_has_begun(GET, true)]
#[case::http10("GET / HTTP/1.0\r\n\r\n", false)]
#[tokio::test(start_paused = true)]
async fn a_client_that_would_not_skip_it_is_sent_no_interim_response(
    #[case] request: &str,
    #[case] answered: bool,
) {
    let (mut client, (mut stream, _activity, _in_flight)) = half_closed(request, true).await;
    if answered {
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        client.read_exact(&mut [0; 17]).await.unwrap();
    }
    let waits = tokio::time::timeout(LIMIT, stream.read(&mut [0; 8])).await;
    assert!(waits.is_err());
    let nothing = tokio::time::timeout(LIMIT, client.read_u8()).await;
    assert!(nothing.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_answer_amid_an_interim_response_follows_it() {
    let (mut client, (mut stream, _activity, _in_flight)) = half_closed(GET, true).await;
    let (mut first, mut nothing) = ([0; 23], [0; 8]);
    tokio::select! {
        read = client.read_exact(&mut first) => drop(read.unwrap()),
        _ = stream.read(&mut nothing) => panic!("it is not over"),
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
    let mut rest = [0; 19];
    client.read_exact(&mut rest).await.unwrap();
    assert_eq!(&rest, b"\r\nHTTP/1.1 200 OK\r\n");
}

/// How much is read at a time, if all has come at once, before other tasks have their turn.
fn pieces(meter: Option<Meter>) -> (usize, usize) {
    let (mut client, server) = tokio::io::duplex(4 * PIECE);
    let stream = ClientStream::new(server, ConnectionState::new(), LIMIT);
    let mut stream = match meter {
        Some(meter) => stream.charged_by(meter),
        None => stream,
    };
    let sent = client.write_all(&vec![0; 3 * PIECE]).now_or_never();
    sent.expect("there is room").unwrap();
    let mut read = || {
        let mut piece = 0;
        while let Some(count) = stream.read(&mut [0; 8 * 1024]).now_or_never() {
            piece += count.unwrap();
        }
        piece
    };
    (read(), read())
}

#[test]
fn one_client_after_the_other_is_read_and_strangers_in_small_pieces() {
    let metrics = crate::metrics::Metrics::new();
    let purse = crate::budget::Budget::new(1 << 20, &metrics).admit();
    let meter = Meter::new(&purse.unwrap(), 1024);
    assert_eq!(pieces(Some(meter)), (STRANGERS_PIECE, STRANGERS_PIECE));
    assert_eq!(pieces(None), (PIECE, PIECE));
}

/// What a client of a body of `announced` bytes meets when the server closes after its response: the
/// client sends `sent` bytes in pieces with a pause before each, and reads only then.
struct Rest {
    identified: bool,
    announced: usize,
    sent: usize,
    pause: Duration,
}

impl Rest {
    /// Whether all could be sent, what was read of the response, and how long the server took.
    async fn meets(&self) -> (bool, String, Duration) {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let budget = Budget::new(1 << 30, &Metrics::new());
        let purse = if self.identified {
            let account = budget.account_of("issuer", "subject");
            budget.open_for(&account, 0).unwrap()
        } else {
            budget.admit().unwrap()
        };
        let connection_state = ConnectionState::new();
        // A handler got the request, and answered it.
        connection_state.streams.began();
        let mut stream = ClientStream::new(server, connection_state, 100 * LIMIT)
            .with_heads(LIMIT, 100)
            .charged_by(Meter::new(&purse, 1024));
        let head = format!(
            "POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n",
            self.announced
        );
        client.write_all(head.as_bytes()).await.unwrap();
        stream.read_exact(&mut vec![0; head.len()]).await.unwrap();
        stream.write_all(b"no").await.unwrap();
        let start = Instant::now();
        let served = async {
            stream.shutdown().await.unwrap();
            drop(stream);
            start.elapsed()
        };
        let piece = vec![0; 256 * 1024];
        let talk = async {
            let mut left = self.sent;
            while left > 0 {
                tokio::time::sleep(self.pause).await;
                let now = left.min(piece.len());
                if client.write_all(&piece[..now]).await.is_err() {
                    break;
                }
                left -= now;
            }
            let mut told = String::new();
            client.read_to_string(&mut told).await.unwrap();
            (left == 0, told)
        };
        let (took, (whole, told)) = futures_util::join!(served, talk);
        (whole, told, took)
    }
}

const MIB: usize = 1024 * 1024;

#[rstest::rstest]
#[case::at_once(true, 32 * MIB, 32 * MIB, 0, true, 0)]
#[case::slowly(true, MIB, MIB, 1_000, true, 4)]
#[case::never(true, MIB, 0, 0, true, 5)]
#[case::with_a_pause_too_long(true, MIB, MIB, 6_000, false, 5)]
#[case::for_ever(true, 100 * MIB, 100 * MIB, 400, false, 60)]
#[case::more_than_the_bound(true, 200 * MIB, 200 * MIB, 0, false, 0)]
#[case::a_stranger(false, 512 * 1024, 512 * 1024, 0, true, 0)]
#[case::a_stranger_who_sends_much(false, 32 * MIB, 32 * MIB, 0, false, 0)]
#[case::a_stranger_who_sends_slowly(false, MIB, MIB, 600, false, 1)]
#[tokio::test(start_paused = true)]
async fn the_rest_of_a_body_is_read_within_bounds(
    #[case] identified: bool,
    #[case] announced: usize,
    #[case] sent: usize,
    #[case] pause: u64,
    #[case] whole: bool,
    #[case] seconds: u64,
) {
    let rest = Rest {
        identified,
        announced,
        sent,
        pause: Duration::from_millis(pause),
    };
    let (all, told, took) = rest.meets().await;
    assert_eq!((all, told.as_str(), took.as_secs()), (whole, "no", seconds));
}

/// Nothing is waited for but a body: not a next request, and not the end of what is not HTTP.
#[rstest::rstest]
#[case::no_body("GET / HTTP/1.1\r\n\r\n")]
#[case::a_head_that_has_begun("GET / HTTP/1.1\r\n\r\nGET / HT")]
#[case::broken("GET / HTTP/1.1\nHost: a\r\n\r\n")]
#[tokio::test(start_paused = true)]
async fn a_connection_without_a_body_is_closed_at_once(#[case] sent: &str) {
    let (mut client, server) = tokio::io::duplex(1024);
    let mut stream =
        ClientStream::new(server, ConnectionState::new(), LIMIT).with_heads(LIMIT, 100);
    client.write_all(sent.as_bytes()).await.unwrap();
    stream.read_exact(&mut vec![0; sent.len()]).await.unwrap();
    let start = Instant::now();
    stream.shutdown().await.unwrap();
    assert!(start.elapsed().is_zero());
}

/// hyper's own response to what it could not read is kept from the client; that of a handler is not.
#[tokio::test]
async fn a_response_that_nobody_asked_for_is_held_back() {
    let (mut client, server) = tokio::io::duplex(256);
    let connection_state = ConnectionState::new();
    let mut stream =
        ClientStream::new(server, Arc::clone(&connection_state), LIMIT).with_heads(LIMIT, 100);
    let in_flight = connection_state.begin();
    connection_state.streams.began();
    stream.write_all(b"one").await.unwrap();
    drop(in_flight);
    stream.write_all(b", two").await.unwrap();
    assert!(!connection_state.is_owed());
    stream.flush().await.unwrap();
    stream.write_all(b", and three").await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(connection_state.is_owed());
    let mut stream = stream.into_inner();
    stream.write_all(b".").await.unwrap();
    drop(stream);
    let mut told = String::new();
    client.read_to_string(&mut told).await.unwrap();
    assert_eq!(told, "one, two.");
}
