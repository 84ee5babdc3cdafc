//! Frames of HTTP/2 in numbers, of each kind and each odd form, before anything is proven and
//! after: the gateway answers others, its log stays short, and it grows no larger.

use std::{fmt::Write as _, fs};

use countersign_tests::{
    client::{Client, Stream},
    environment::Environment,
    listener_files::ListenerFiles,
    process::{Process, logged_by},
};
use http::{Request, StatusCode};
use http_body_util::Full;
use rstest::rstest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::harness::{PATIENCE, soon};

/// Frames of each kind.
const MANY: usize = 100_000;

/// Those that are sent at once.
const AT_ONCE: usize = 1000;

/// Connections they may take, where the gateway ends one that breaks the protocol.
const CONNECTIONS: usize = 20;

/// Lines of the process log that all of that may cause.
const LINES: usize = 120;

/// How much more memory may be resident afterwards, in KiB.
const GROWTH: u64 = 16 * 1024;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// RFC 9113, section 4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header field as a literal without indexing and without Huffman's code (RFC 7541, 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name, value] {
        match text.len() {
            short @ 0..127 => field.push(u8::try_from(short).expect("below 127")),
            long => {
                field.push(127);
                let mut rest = long - 127;
                while rest >= 128 {
                    field.push(u8::try_from(rest % 128).expect("seven bits") | 128);
                    rest /= 128;
                }
                field.push(u8::try_from(rest).expect("seven bits"));
            }
        }
        field.extend(text.as_bytes());
    }
    field
}

/// The next stream that a client may open, for the n-th frame.
fn next(number: usize) -> u32 {
    u32::try_from(2 * number + 3).expect("not that many")
}

/// The frames of a kind, the n-th of them.
fn odd(kind: &str, number: usize) -> Vec<u8> {
    let stream = next(number);
    match kind {
        "ping" => frame(PING, 0, 0, &[0; 8]),
        "ping_ack" => frame(PING, ACK, 0, &[7; 8]),
        "ping_on_a_stream" => frame(PING, 0, 1, &[0; 8]),
        "settings" => frame(SETTINGS, 0, 0, &[]),
        "settings_ack" => frame(SETTINGS, ACK, 0, &[]),
        "settings_unknown" => frame(SETTINGS, 0, 0, &[0xfa, 0xfa, 0, 0, 0, 1]),
        "settings_of_the_window" => {
            frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, number.to_be_bytes()[7]])
        }
        "window_update" => frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        "window_update_of_nothing" => frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
        "window_update_on_an_idle_stream" => frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 1]),
        "priority" => frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 16]),
        "priority_on_itself" => frame(PRIORITY, 0, 3, &[0, 0, 0, 3, 16]),
        "rst_of_an_idle_stream" => frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]),
        "rst_of_the_first_stream" => frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
        "goaway" => frame(GOAWAY, 0, 0, &[0; 8]),
        "unknown" => frame(0xbb, 0xff, 0, b"whatever it is"),
        "unknown_on_a_stream" => frame(0xbb, 0xff, stream, b"whatever it is"),
        "altsvc" => frame(0xa, 0, 0, b"\0\0h2=\":443\""),
        "priority_update" => frame(0x10, 0, 0, &[0, 0, 0, 1, b'u', b'=', b'1']),
        "empty_data" => frame(DATA, 0, 1, &[]),
        "data_on_an_idle_stream" => frame(DATA, 0, stream, b"x"),
        "data_on_no_stream" => frame(DATA, 0, 0, b"x"),
        "empty_headers" => frame(HEADERS, END_HEADERS | END_STREAM, stream, &[]),
        "headers_and_reset" => {
            let mut both = frame(HEADERS, END_HEADERS, stream, &field(":method", "GET"));
            both.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
            both
        }
        "headers_that_do_not_end" if number == 0 => frame(HEADERS, 0, 3, &[]),
        "headers_that_do_not_end" => frame(CONTINUATION, 0, 3, &[]),
        "continuation_of_nothing" => frame(CONTINUATION, 0, stream, &[]),
        "push_promise" => frame(PUSH_PROMISE, END_HEADERS, stream, &[0, 0, 0, 2]),
        other => unreachable!("there is no {other}"),
    }
}

/// A gateway with a second listener, which has TLS: without it no client speaks HTTP/2 to a proxy.
struct Target {
    gateway: Process,
    tls: Client,
    roots: String,
}

impl Target {
    async fn start(env: &Environment, rust_log: Option<&str>) -> anyhow::Result<Self> {
        let files = ListenerFiles::write(env.directory(), &[[127, 0, 0, 1].into()])?;
        let yaml = fs::read_to_string(env.gateway_yaml())?;
        let (before, after) = yaml.split_once("  identity:\n").expect("the env's file");
        let listener = format!(
            "    - {{ name: tls, address: \"127.0.0.1:0\", mode: explicit, tls: {{ certificate: {}, key: {} }} }}\n",
            files.certificate.display(),
            files.key.display()
        );
        let yaml = format!("{before}{listener}  identity:\n{after}");
        fs::write(env.gateway_yaml(), yaml)?;
        let gateway = Process::start(env, rust_log).await?;
        let tls = logged_by(&gateway.printed(), "tls").expect("all listen");
        let roots = fs::read_to_string(&files.ca)?;
        Ok(Self {
            tls: Client::through(tls, &roots),
            gateway,
            roots,
        })
    }
}

/// The next frame of the gateway's: its kind and its payload.
async fn read_frame(stream: &mut Stream) -> anyhow::Result<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length)?];
    stream.read_exact(&mut payload).await?;
    Ok((head[3], payload))
}

/// A connection on which HTTP/2 was begun, and a CONNECT as well if there is a token.
async fn begin(target: &Target, token: Option<&str>) -> anyhow::Result<Stream> {
    let mut stream = target.tls.to_proxy(Some(&target.roots), "h2").await?;
    stream.write_all(PREFACE).await?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    stream.flush().await?;
    let (kind, _) = soon("the gateway's settings", read_frame(&mut stream)).await??;
    anyhow::ensure!(kind == SETTINGS, "a frame of kind {kind}");
    let Some(token) = token else {
        return Ok(stream);
    };
    let bearer = format!("Bearer {token}");
    let block = [
        field(":method", "CONNECT"),
        field(":authority", "slack.com:443"),
        field("proxy-authorization", &bearer),
    ];
    let headers = frame(HEADERS, END_HEADERS, 1, &block.concat());
    stream.write_all(&headers).await?;
    stream.flush().await?;
    // Its answer begins with a frame of headers on the stream.
    let answered = soon("an answer to CONNECT", async {
        loop {
            let (kind, payload) = read_frame(&mut stream).await?;
            if kind == HEADERS {
                return anyhow::Ok(payload);
            }
        }
    });
    let block = answered.await??;
    // The static table's eighth entry is `:status: 200` (RFC 7541, appendix A).
    anyhow::ensure!(block.first() == Some(&0x88), "CONNECT was refused");
    Ok(stream)
}

/// Sends frames of a kind until all are sent or the gateway has closed too many connections.
async fn flood(target: &Target, token: Option<&str>, kind: &str) -> anyhow::Result<usize> {
    let (mut sent, mut connections) = (0, 0);
    while sent < MANY && connections < CONNECTIONS {
        connections += 1;
        let stream = begin(target, token).await?;
        let (mut read, mut write) = tokio::io::split(stream);
        let sending = async {
            for first in (0..MANY).step_by(AT_ONCE) {
                let frames = (first..first + AT_ONCE).map(|number| odd(kind, number));
                let frames = frames.collect::<Vec<_>>().concat();
                // An error is that the gateway has closed the connection.
                if write.write_all(&frames).await.is_err() || write.flush().await.is_err() {
                    return;
                }
                sent += AT_ONCE;
            }
        };
        let answered = async {
            // However it ends: what is read is not looked at.
            let _ = tokio::io::copy(&mut read, &mut tokio::io::sink()).await;
        };
        let over = async {
            tokio::select! {
                () = sending => {}
                () = answered => {}
            }
        };
        soon("the frames' being taken", over).await?;
    }
    anyhow::ensure!(sent > 0, "no {kind} was taken");
    Ok(sent)
}

/// Another client is answered.
async fn answers(gateway: &Process, token: &str) -> anyhow::Result<()> {
    let request = Request::post("https://slack.com/api/auth.test").body(Full::default())?;
    let client = gateway.client().bearer(token);
    let answer = soon("an answer to another client", client.send(request)).await??;
    assert_eq!(answer.status, StatusCode::OK);
    Ok(())
}

const KINDS: [&str; 27] = [
    "ping",
    "ping_ack",
    "ping_on_a_stream",
    "settings",
    "settings_ack",
    "settings_unknown",
    "settings_of_the_window",
    "window_update",
    "window_update_of_nothing",
    "window_update_on_an_idle_stream",
    "priority",
    "priority_on_itself",
    "rst_of_an_idle_stream",
    "rst_of_the_first_stream",
    "goaway",
    "unknown",
    "unknown_on_a_stream",
    "altsvc",
    "priority_update",
    "empty_data",
    "data_on_an_idle_stream",
    "data_on_no_stream",
    "empty_headers",
    "headers_and_reset",
    "headers_that_do_not_end",
    "continuation_of_nothing",
    "push_promise",
];

#[rstest]
#[case::before_identity(false, None)]
#[case::after_identity(true, None)]
// It says at `info` where it listens.
#[case::with_all_warnings(false, Some("warn,countersign=info"))]
#[tokio::test]
async fn t58_frames_by_the_hundred_thousand(
    #[case] identified: bool,
    #[case] rust_log: Option<&str>,
) -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let target = Target::start(&env, rust_log).await?;
    let gateway = &target.gateway;
    let token = env.token("qa", "nightly-dashboard");
    answers(gateway, &token).await?;
    let resident = gateway.status("VmRSS")?;
    let mut told = String::new();
    for kind in KINDS {
        let before = gateway.printed().lines().count();
        let sent = flood(&target, identified.then_some(&*token), kind).await?;
        answers(gateway, &token).await?;
        let lines = gateway.printed().lines().count() - before;
        let grown = gateway.status("VmRSS")?.saturating_sub(resident);
        writeln!(told, "{kind}: {sent} sent, {lines} lines, {grown} KiB more")?;
        assert!(lines <= LINES, "{kind}: {lines} lines");
        assert!(grown <= GROWTH, "{kind}: {grown} KiB more");
    }
    countersign_tests::told(&told);
    Ok(())
}

/// Nobody reads the process log, and `RUST_LOG` asks for everything.
#[rstest]
#[case::by_default(None)]
#[case::with_all_details(Some("trace"))]
#[tokio::test]
async fn t58_a_process_log_that_nobody_reads_stops_nobody(
    #[case] rust_log: Option<&str>,
) -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let mut target = Target::start(&env, rust_log).await?;
    let token = env.token("qa", "nightly-dashboard");
    target.gateway.stop_reading();
    for kind in ["ping_ack", "ping", "empty_headers"] {
        flood(&target, None, kind).await?;
        answers(&target.gateway, &token).await?;
    }
    let gateway = &mut target.gateway;
    if rust_log.is_some() {
        let metrics = timeout(PATIENCE, gateway.admin("/metrics")).await??;
        let count = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|count| count.trim().parse::<u64>().ok())
        };
        let dropped = count("countersign_log_lines_dropped_total ");
        let suppressed = count("countersign_log_lines_suppressed_total ");
        assert!(dropped.is_some_and(|count| count > 0), "{dropped:?}");
        assert!(suppressed.is_some_and(|count| count > 0), "{suppressed:?}");
        gateway.read_again();
        gateway
            .said(|printed| {
                printed
                    .contains("lines of the process log were lost")
                    .then_some(())
            })
            .await?;
    }
    gateway.read_again();
    gateway.signal("TERM").await?;
    assert_eq!(gateway.ended().await?.code(), Some(0));
    Ok(())
}

/// It ends in time too, though its last words reach nobody.
#[tokio::test]
async fn t58_a_gateway_whose_log_nobody_reads_ends_when_told() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let mut target = Target::start(&env, Some("debug")).await?;
    target.gateway.stop_reading();
    flood(&target, None, "ping_ack").await?;
    let gateway = &mut target.gateway;
    gateway.signal("TERM").await?;
    assert_eq!(gateway.ended().await?.code(), Some(0));
    Ok(())
}
