//! Heads that exceed a bound of the gateway's, and what cannot be read at all: the record says so, and the client is
//! told where it can be.

use anyhow::{Context as _, ensure};
use countersign_tests::{
    client::{Failure, read_head},
    fake::Protocol,
};
use http::Method;
use rstest::rstest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    Row,
    bench::{Bench, H1, H2},
    frames,
    http2::GET,
    row,
    scripted::{Then, framed},
};
use crate::harness::{TestBed, exchange, soon};

pub(super) fn rows() -> Vec<Row> {
    [requests(), answers(), unreadable()]
        .into_iter()
        .flatten()
        .collect()
}

/// The bound is 64 KiB.
fn requests() -> Vec<Row> {
    vec![row!(
        "9110 5.4",
        "a head of HTTP/2 that is too large leaves a record",
        |bench| {
            for (method, ends) in [("GET", true), ("POST", false)] {
                let fields = [(":method", method), GET[1], GET[2], GET[3]];
                for (how, bytes) in [
                    ("twice", frames::long_headers(1, &fields, ends)),
                    ("20 times", frames::repeated(1, &fields, 10_000, ends)),
                    ("on the wire", frames::wide(1, &fields, 70_000, ends)),
                    ("20 on the wire", frames::wide(1, &fields, 1_300_000, ends)),
                ] {
                    bench.forget();
                    let mut stream = bench.tunnel(H1, Protocol::Http2).await?;
                    let reasons = bench.recorded_of(&mut stream, &bytes, 1).await?;
                    ensure!(
                        reasons == ["head_too_large"],
                        "{method}, {how}: {reasons:?}"
                    );
                }
            }
        }
    )]
}

/// An answer that exceeds a bound: the gateway is to blame, and the next one comes through.
async fn over_bound(
    bench: &mut Bench,
    answer: impl Fn(u32) -> Vec<u8> + Copy + Send + 'static,
) -> anyhow::Result<()> {
    for client in [Protocol::Http1, Protocol::Http2] {
        bench.forget();
        bench.h2.answers(framed(answer, Then::Next));
        match bench.ask(client, Method::GET, H2).await? {
            Ok(answer) => {
                let told = answer.header("proxy-status").unwrap_or_default();
                ensure!(
                    answer.status == 502 && told.contains("response_too_large"),
                    "{answer:?}"
                );
            }
            // Its trailers came too late to be told of.
            Err(Failure::Exchange(_)) => {}
            Err(other) => return Err(other.into()),
        }
        let record = bench.record().await?;
        ensure!(record["reason"] == "response_too_large", "{record}");
        ensure!(record["blame"] == "gateway", "{record}");
        let detail = record["detail"].as_str().unwrap_or_default();
        ensure!(detail.contains("limits.headBytes"), "{record}");
        let answer = bench.ask(client, Method::GET, H2).await??;
        ensure!(answer.text() == "ok", "{answer:?}");
        bench.record().await?;
    }
    Ok(())
}

fn answers() -> Vec<Row> {
    const OK: (&str, &str) = (":status", "200");
    vec![
        row!(
            "9110 5.4",
            "an answer of HTTP/2 below the bound is passed on",
            |bench| {
                // To a client of HTTP/1.1: that of HTTP/2 takes no more than 16 KiB.
                let answer = |id| frames::wide(id, &[OK], 65_000, true);
                bench.h2.answers(framed(answer, Then::Next));
                let answer = bench.ask(Protocol::Http1, Method::GET, H2).await??;
                ensure!(answer.header("x-wide").map(str::len) == Some(65_000));
            }
        ),
        row!(
            "9110 5.4",
            "one of twice the bound is refused, and not blamed on the API",
            |bench| {
                over_bound(bench, |id| frames::repeated(id, &[OK], 900, true)).await?;
            }
        ),
        row!("9110 5.4", "so is one of five times", |bench| {
            over_bound(bench, |id| frames::wide(id, &[OK], 330_000, true)).await?;
        }),
        row!("9110 5.4", "so is one of twenty times", |bench| {
            over_bound(bench, |id| frames::repeated(id, &[OK], 10_000, true)).await?;
        }),
        row!("9110 6.5", "so are trailers", |bench| {
            over_bound(bench, |id| {
                let head = frames::headers(id, &[OK], false);
                let body = frames::data(id, b"ok", false);
                [head, body, frames::repeated(id, &[], 900, true)].concat()
            })
            .await?;
        }),
    ]
}

/// What HTTP/1.1 does not allow, at the place `BAD`.
const UNREADABLE: &[(&str, u16, &str)] = &[
    (
        "GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n",
        400,
        "request_malformed",
    ),
    (
        "G(T / HTTP/1.1\r\nHost: h\r\n\r\n",
        400,
        "request_malformed",
    ),
    ("GET / HTTP/7\r\nHost: h\r\n\r\n", 400, "request_malformed"),
    (
        "GET /<a> HTTP/1.1\r\nHost: h\r\n\r\n",
        400,
        "request_malformed",
    ),
    (
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n",
        400,
        "request_malformed",
    ),
    ("nonsense\r\n\r\n", 400, "request_malformed"),
    (
        "GET / HTTP/1.1\r\nHost: h\r\nMANY\r\n",
        431,
        "head_too_large",
    ),
    (
        "GET / HTTP/1.1\r\nHost: h\r\nX-Long: LONGLONG\r\n\r\n",
        431,
        "head_too_large",
    ),
];

const HONEST: &str = "GET /first HTTP/1.1\r\nHost: h1.example.test\r\n\r\n";

fn written(bytes: &str) -> String {
    bytes
        .replace("MANY\r\n", &"x: y\r\n".repeat(150))
        .replace("LONG", &"x".repeat(66_000))
}

/// The answer tells the reason and the record, as every refusal does.
fn tells(answer: &str, status: u16, record: &serde_json::Value) -> anyhow::Result<()> {
    let id = record["id"].as_str().unwrap_or_default();
    let reason = record["reason"].as_str().unwrap_or_default();
    let head = answer.to_ascii_lowercase();
    ensure!(head.starts_with(&format!("http/1.1 {status} ")), "{answer}");
    let told = format!("details=\"{reason}; {id}\"");
    ensure!(head.contains(&told), "{answer}");
    ensure!(head.contains("connection: close\r\n"), "{answer}");
    ensure!(answer.contains("Countersign: "), "{answer}");
    Ok(())
}

fn unreadable() -> Vec<Row> {
    vec![row!(
        "9112 3",
        "what cannot be read is answered with its reason",
        |bench| {
            for (bytes, status, reason) in UNREADABLE {
                for first in [true, false] {
                    bench.forget();
                    let mut stream = bench.tunnel(H1, Protocol::Http1).await?;
                    if !first {
                        stream.write_all(HONEST.as_bytes()).await?;
                        let head = soon("a head", read_head(&mut stream)).await??;
                        ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
                        stream.read_exact(&mut [0; 2]).await?;
                        ensure!(bench.record().await?["outcome"] == "permitted");
                    }
                    let seen = exchange(&mut stream, &written(bytes)).await;
                    let seen = seen.with_context(|| format!("{bytes:?}, first: {first}"))?;
                    let record = bench.only_record().await?;
                    ensure!(record["reason"] == *reason, "{bytes}: {record}");
                    ensure!(record["blame"] == "caller", "{record}");
                    tells(&seen, *status, &record)?;
                }
            }
        }
    )]
}

#[rstest]
#[case::no_colon("GET http://api.example.test/ HTTP/1.1\r\nno colon\r\n\r\n", 400)]
#[case::no_request("nonsense\r\n\r\n", 400)]
#[case::many("GET http://api.example.test/ HTTP/1.1\r\nMANY\r\n", 431)]
#[case::long("GET http://api.example.test/ HTTP/1.1\r\nX-Long: LONG\r\n\r\n", 431)]
#[tokio::test]
async fn what_the_proxy_itself_cannot_read_is_answered_with_its_reason(
    #[case] bytes: &str,
    #[case] status: u16,
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let answer = bed.to_proxy(&written(bytes)).await?;
    let record = bed.record().await?;
    let told = record["reason"].as_str().unwrap_or_default();
    assert!(answer.contains(told), "{answer}");
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{answer}"
    );
    Ok(())
}

/// To the proxy itself over HTTP/2, where nobody is identified yet.
#[rstest]
#[case::connect_with_a_length(
    frames::headers(1, &[(":method", "CONNECT"), (":authority", "api.example.test:443"), ("content-length", "5")], false),
    "request_malformed"
)]
#[case::connect_with_a_path(
    frames::headers(1, &[(":method", "CONNECT"), (":authority", "api.example.test:443"), (":path", "/")], true),
    "request_malformed"
)]
#[case::connect_without_authority(
    frames::headers(1, &[(":method", "CONNECT")], true),
    "authority_invalid"
)]
#[case::two_paths(frames::headers(1, &[GET[0], GET[1], GET[2], GET[2], GET[3]], true), "request_malformed")]
#[case::a_connection_field(
    frames::headers(1, &[GET[0], GET[1], GET[2], GET[3], ("connection", "close")], true),
    "request_malformed"
)]
#[case::a_head_on_stream_0(frames::headers(0, &GET, true), "request_malformed")]
#[case::data_before_a_head(frames::data(1, b"body", true), "request_malformed")]
#[case::large_head(frames::repeated(1, &GET, 200, true), "head_too_large")]
#[case::larger_head(frames::repeated(1, &GET, 10_000, true), "head_too_large")]
#[tokio::test]
async fn what_is_no_request_to_the_proxy_over_http2_leaves_one_record(
    #[case] bytes: Vec<u8>,
    #[case] reason: &str,
) -> anyhow::Result<()> {
    let mut bed = TestBed::builder().tls_listener().start().await?;
    let roots = bed.env.authority.pem();
    let mut stream = bed.client().to_proxy(Some(&roots), "h2").await?;
    let bytes = [frames::PREFACE, &frames::settings(), &bytes].concat();
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    let record = bed.recorded(reason).await?;
    assert_eq!(record["blame"], "caller", "{record}");
    drop(stream);
    let records = bed.gateway.stop().await?;
    assert_eq!(records.len(), 1, "{records:?}");
    Ok(())
}
