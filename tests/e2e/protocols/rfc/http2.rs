//! HTTP/2: what is malformed is not passed on, from either side.

use anyhow::ensure;
use countersign_tests::{client::Failure, fake::Protocol};
use http::Method;

use super::{
    Row,
    bench::{Bench, H1, H2, Outcome},
    frames::{self, Fields, PROTOCOL_ERROR},
    row,
    scripted::{Then, framed},
};

/// The fields of an honest request, to be followed by others.
pub(super) const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "https"),
    (":path", "/asked"),
    (":authority", "h1.example.test"),
];

pub(super) fn rows() -> Vec<Row> {
    [
        requests(),
        unserved_requests(),
        later_frames(),
        honest_requests(),
        answers(),
        ends(),
        honest_answers(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// (paragraph, duty, fields): never sent on.
#[rustfmt::skip]
const MALFORMED: &[(&str, &str, Fields<'_>)] = &[
    ("9113 8.2", "a request's field name in upper case", &[GET[0], GET[1], GET[2], GET[3], ("X-A", "b")]),
    ("9113 8.2.1", "a request's field name with a space", &[GET[0], GET[1], GET[2], GET[3], ("x a", "b")]),
    ("9113 8.2.1", "a request's field name with a colon", &[GET[0], GET[1], GET[2], GET[3], ("x:a", "b")]),
    ("9113 8.2.1", "a request's value with LF", &[GET[0], GET[1], GET[2], GET[3], ("x-a", "b\nc: d")]),
    ("9113 8.2.1", "a request's value with CR", &[GET[0], GET[1], GET[2], GET[3], ("x-a", "b\rc: d")]),
    ("9113 8.2.1", "a request's value with NUL", &[GET[0], GET[1], GET[2], GET[3], ("x-a", "b\0c")]),
    ("9113 8.2.1", "a request's value that begins with a space", &[GET[0], GET[1], GET[2], GET[3], ("x-a", " b")]),
    ("9113 8.2.1", "a request's value that ends with a tab", &[GET[0], GET[1], GET[2], GET[3], ("x-a", "b\t")]),
    ("9113 8.2.2", "a request's Connection", &[GET[0], GET[1], GET[2], GET[3], ("connection", "x-a")]),
    ("9113 8.2.2", "a request's Proxy-Connection", &[GET[0], GET[1], GET[2], GET[3], ("proxy-connection", "close")]),
    ("9113 8.2.2", "a request's Keep-Alive", &[GET[0], GET[1], GET[2], GET[3], ("keep-alive", "5")]),
    ("9113 8.2.2", "a request's Transfer-Encoding", &[GET[0], GET[1], GET[2], GET[3], ("transfer-encoding", "chunked")]),
    ("9113 8.2.2", "a request's Upgrade", &[GET[0], GET[1], GET[2], GET[3], ("upgrade", "h2c")]),
    ("9113 8.2.2", "a request's TE that is not trailers", &[GET[0], GET[1], GET[2], GET[3], ("te", "gzip")]),
    ("9113 8.3", "an unknown pseudo-header", &[GET[0], GET[1], GET[2], GET[3], (":other", "a")]),
    ("9113 8.3", "an answer's pseudo-header in a request", &[GET[0], GET[1], GET[2], GET[3], (":status", "200")]),
    ("9113 8.3", "a pseudo-header behind a field", &[GET[0], GET[1], GET[2], ("x-a", "b"), GET[3]]),
    ("9113 8.3", "a pseudo-header twice", &[GET[0], GET[1], GET[2], (":path", "/b"), GET[3]]),
    ("9113 8.3", "an authority twice", &[GET[0], GET[1], GET[2], GET[3], GET[3]]),
    ("8441 4", "an extended CONNECT that was not offered", &[(":method", "CONNECT"), (":protocol", "websocket"), GET[1], GET[2], GET[3]]),
    ("9113 8.3.1", "no method", &[GET[1], GET[2], GET[3]]),
    ("9113 8.3.1", "no scheme", &[GET[0], GET[2], GET[3]]),
    ("9113 8.3.1", "no path", &[GET[0], GET[1], GET[3]]),
    ("9113 8.3.1", "an empty path", &[GET[0], GET[1], (":path", ""), GET[3]]),
    ("9113 8.3.1", "a path without its slash", &[GET[0], GET[1], (":path", "asked"), GET[3]]),
    ("9113 8.3.1", "an authority with userinfo", &[GET[0], GET[1], GET[2], (":authority", "me@h1.example.test")]),
    ("9113 8.3.1", "neither authority nor Host", &[GET[0], GET[1], GET[2]]),
    ("9113 8.3.1", "a Host that is not the authority", &[GET[0], GET[1], GET[2], GET[3], ("host", "h2.example.test")]),
    ("9113 8.3.1", "an authority that is not the connection's", &[GET[0], GET[1], GET[2], (":authority", "h2.example.test")]),
    ("9113 8.1.1", "a length without a body", &[GET[0], GET[1], GET[2], GET[3], ("content-length", "5")]),
    ("9113 8.1.1", "a length that is no number", &[GET[0], GET[1], GET[2], GET[3], ("content-length", "+0")]),
];

fn requests() -> Vec<Row> {
    let mut rows: Vec<_> = MALFORMED
        .iter()
        .map(|&(paragraph, duty, fields)| {
            Row::new(paragraph, duty, move |bench| {
                Box::pin(async move {
                    bench.h1.seen();
                    // Reset, or refused by an answer, or the connection's end.
                    bench.frames(H1, fields, None).await?;
                    let seen = bench.h1.seen();
                    ensure!(seen.is_empty(), "it was sent on: {seen:?}");
                    let record = bench.only_record().await?;
                    ensure!(record["blame"] == "caller", "{record}");
                    ensure!(
                        record["target"]["authority"] == "h1.example.test:443",
                        "{record}"
                    );
                    ensure!(record["target"]["protocol"] == "h2", "{record}");
                    Ok(())
                })
            })
        })
        .collect();
    rows.extend([
        row!("9113 8.1.1", "a body longer than its length", |bench| {
            let mut fields = GET.to_vec();
            fields[0].1 = "POST";
            fields.push(("content-length", "2"));
            let outcome = bench.frames(H1, &fields, Some(b"longer")).await?;
            ensure!(outcome == Outcome::Reset(PROTOCOL_ERROR), "{outcome:?}");
            let record = bench.only_record().await?;
            ensure!(record["blame"] == "caller", "{record}");
        }),
        row!("9113 8.1.1", "a body shorter than its length", |bench| {
            bench.h1.seen();
            let mut fields = GET.to_vec();
            fields[0].1 = "POST";
            fields.push(("content-length", "200"));
            let outcome = bench.frames(H1, &fields, Some(b"short")).await?;
            ensure!(outcome == Outcome::Reset(PROTOCOL_ERROR), "{outcome:?}");
            ensure!(bench.h1.seen().is_empty());
            let record = bench.only_record().await?;
            ensure!(record["blame"] == "caller", "{record}");
        }),
    ]);
    rows
}

/// What the library resets or answers by itself.
fn unserved_requests() -> Vec<Row> {
    vec![
        row!(
            "9113 8.1.1",
            "each malformed request leaves a record",
            |bench| {
                let twice = [GET[0], GET[1], GET[2], GET[2], GET[3]];
                let upgrade = [GET[0], GET[1], GET[2], GET[3], ("connection", "upgrade")];
                let bytes = [
                    frames::headers(1, &twice, true),
                    frames::headers(3, &upgrade, true),
                    frames::headers(5, &GET, true),
                    frames::headers(7, &twice, true),
                ]
                .concat();
                let mut stream = bench.tunnel(H1, Protocol::Http2).await?;
                let reasons = bench.recorded_of(&mut stream, &bytes, 4).await?;
                let malformed = reasons
                    .iter()
                    .filter(|reason| *reason == "request_malformed");
                ensure!(malformed.count() == 3, "{reasons:?}");
                ensure!(reasons.contains(&"permitted".to_owned()), "{reasons:?}");
            }
        ),
        row!(
            "9113 8.5",
            "a CONNECT with a length leaves a record",
            |bench| {
                let to = (":authority", "h1.example.test:443");
                let connect = [(":method", "CONNECT"), to, ("content-length", "5")];
                let mut stream = bench.tunnel(H1, Protocol::Http2).await?;
                let bytes = frames::headers(1, &connect, false);
                let reasons = bench.recorded_of(&mut stream, &bytes, 1).await?;
                ensure!(reasons == ["request_malformed"], "{reasons:?}");
            }
        ),
    ]
}

fn later_frames() -> Vec<Row> {
    vec![
        row!(
            "9113 8.1",
            "a pseudo-header in a request's trailers is malformed",
            |bench| {
                bench.h1.seen();
                let mut fields = GET.to_vec();
                fields[0].1 = "POST";
                let bytes = [
                    frames::headers(1, &fields, false),
                    frames::headers(1, &[(":path", "/other")], true),
                ];
                bench.raw_frames(H1, &bytes.concat()).await?;
                let seen = bench.h1.seen().concat();
                ensure!(!seen.contains("other"), "{seen}");
            }
        )
        .departs(),
        row!(
            "9113 8.1",
            "a second head that does not end the request",
            |bench| {
                let mut fields = GET.to_vec();
                fields[0].1 = "POST";
                let bytes = [
                    frames::headers(1, &fields, false),
                    frames::headers(1, &[("x-a", "b")], false),
                ];
                let outcome = bench.raw_frames(H1, &bytes.concat()).await?;
                ensure!(outcome != Outcome::Answered, "{outcome:?}");
            }
        ),
        row!("9113 8.4", "a client's PUSH_PROMISE", |bench| {
            let promise = [2u32.to_be_bytes().to_vec(), frames::block(&GET)].concat();
            let bytes = frames::frame(frames::PUSH_PROMISE, frames::END_HEADERS, 1, &promise);
            let outcome = bench.raw_frames(H1, &bytes).await?;
            ensure!(outcome == Outcome::Over, "{outcome:?}");
        }),
    ]
}

fn honest_requests() -> Vec<Row> {
    vec![
        row!(
            "9113 8.3.1",
            "over HTTP/1.1 the authority is the Host",
            |bench| {
                bench.h1.seen();
                let outcome = bench.frames(H1, &GET, None).await?;
                ensure!(outcome == Outcome::Answered, "{outcome:?}");
                let seen = bench.h1.seen().concat();
                ensure!(seen.starts_with("GET /asked HTTP/1.1\r\n"), "{seen}");
                ensure!(seen.contains("\r\nhost: h1.example.test\r\n"), "{seen}");
            }
        ),
        row!("9113 8.3.1", "a Host alone will do", |bench| {
            let fields = [GET[0], GET[1], GET[2], ("host", "h1.example.test")];
            let outcome = bench.frames(H1, &fields, None).await?;
            ensure!(outcome == Outcome::Answered, "{outcome:?}");
        }),
        row!("9113 8.1", "a body of no bytes is a body", |bench| {
            let mut fields = GET.to_vec();
            fields[0].1 = "POST";
            fields.push(("content-length", "0"));
            let outcome = bench.frames(H1, &fields, Some(b"")).await?;
            ensure!(outcome == Outcome::Answered, "{outcome:?}");
        }),
    ]
}

/// (paragraph, duty, fields, body): never passed on.
#[rustfmt::skip]
const BROKEN: &[(&str, &str, Fields<'_>, &[u8])] = &[
    ("9113 8.2", "an answer's field name in upper case", &[(":status", "200"), ("X-A", "b")], b"ok"),
    ("9113 8.2.1", "an answer's field name with a space", &[(":status", "200"), ("x a", "b")], b"ok"),
    ("9113 8.2.1", "an answer's value with LF", &[(":status", "200"), ("x-a", "b\nc: d")], b"ok"),
    ("9113 8.2.1", "an answer's value with CR", &[(":status", "200"), ("x-a", "b\rc: d")], b"ok"),
    ("9113 8.2.1", "an answer's value with NUL", &[(":status", "200"), ("x-a", "b\0c")], b"ok"),
    ("9113 8.2.1", "an answer's value that begins with a tab", &[(":status", "200"), ("x-a", "\tb")], b"ok"),
    ("9113 8.2.1", "an answer's value that ends with a space", &[(":status", "200"), ("x-a", "b ")], b"ok"),
    ("9113 8.2.2", "an answer's Connection", &[(":status", "200"), ("connection", "close")], b"ok"),
    ("9113 8.2.2", "an answer's Keep-Alive", &[(":status", "200"), ("keep-alive", "timeout=5")], b"ok"),
    ("9113 8.2.2", "an answer's Proxy-Connection", &[(":status", "200"), ("proxy-connection", "close")], b"ok"),
    ("9113 8.2.2", "an answer's Transfer-Encoding", &[(":status", "200"), ("transfer-encoding", "chunked")], b"ok"),
    ("9113 8.2.2", "an answer's Upgrade", &[(":status", "200"), ("upgrade", "h2c")], b"ok"),
    ("9113 8.3", "an answer's unknown pseudo-header", &[(":status", "200"), (":other", "a")], b"ok"),
    ("9113 8.3", "an answer's pseudo-header behind a field", &[("x-a", "b"), (":status", "200")], b"ok"),
    ("9113 8.3.2", "an answer without a status", &[("x-a", "b")], b"ok"),
    ("9113 8.3.2", "a status that is no number", &[(":status", "ok")], b"ok"),
    ("9113 8.3.2", "a status twice", &[(":status", "200"), (":status", "201")], b"ok"),
    ("9113 8.1.1", "an answer's body longer than its length", &[(":status", "200"), ("content-length", "1")], b"ok"),
    ("9113 8.1.1", "an answer's body shorter than its length", &[(":status", "200"), ("content-length", "10")], b"ok"),
    ("9113 8.1.1", "an answer's different lengths", &[(":status", "200"), ("content-length", "2"), ("content-length", "3")], b"ok"),
];

/// Tries an answer with a client of each version: it gets 502, or an answer that breaks off.
async fn broken(
    bench: &mut Bench,
    answer: impl Fn(u32) -> Vec<u8> + Copy + Send + 'static,
    then: Then,
) -> anyhow::Result<()> {
    for client in [Protocol::Http1, Protocol::Http2] {
        bench.forget();
        bench.h2.answers(framed(answer, then));
        match bench.ask(client, Method::GET, H2).await? {
            Ok(answer) => {
                let told = answer.header("proxy-status").unwrap_or_default();
                ensure!(
                    answer.status == 502 && told.contains("upstream_broken"),
                    "{answer:?}"
                );
            }
            Err(Failure::Exchange(_)) => {}
            Err(other) => return Err(other.into()),
        }
        let record = bench.record().await?;
        ensure!(record["reason"] == "upstream_broken", "{record}");
        // The next one is not affected.
        let answer = bench.ask(client, Method::GET, H2).await??;
        ensure!(answer.text() == "ok", "{answer:?}");
        bench.record().await?;
    }
    Ok(())
}

fn answers() -> Vec<Row> {
    let mut rows: Vec<_> = BROKEN
        .iter()
        .map(|&(paragraph, duty, fields, body)| {
            Row::new(paragraph, duty, move |bench| {
                Box::pin(async move {
                    let answer = move |id| frames::answer(id, fields, body);
                    broken(bench, answer, Then::Next).await
                })
            })
        })
        .collect();
    rows.extend([
        row!("9113 8.1", "a body before the head", |bench| {
            broken(bench, |id| frames::data(id, b"ok", true), Then::Next).await?;
        }),
        row!(
            "9113 8.1",
            "an interim answer that ends the stream",
            |bench| {
                let answer = |id| frames::headers(id, &[(":status", "103")], true);
                broken(bench, answer, Then::Next).await?;
            }
        ),
        row!(
            "9113 8.1",
            "a pseudo-header in an answer's trailers is malformed",
            |bench| {
                let answer = |id| {
                    let head = frames::headers(id, &[(":status", "200")], false);
                    [
                        head,
                        frames::headers(id, &[(":status", "418"), ("x-sum", "7")], true),
                    ]
                    .concat()
                };
                bench.h2.answers(framed(answer, Then::Next));
                let answer = bench.ask(Protocol::Http2, Method::GET, H2).await??;
                ensure!(answer.status == 200, "{answer:?}");
                let trailers = answer.trailers.unwrap_or_default();
                ensure!(trailers.len() == 1, "{trailers:?}");
            }
        )
        .departs(),
        row!(
            "9113 8.3",
            "a request's pseudo-header in an answer is malformed",
            |bench| {
                let answer = |id| frames::answer(id, &[(":status", "200"), (":path", "/")], b"ok");
                bench.h2.answers(framed(answer, Then::Next));
                let answer = bench.ask(Protocol::Http2, Method::GET, H2).await??;
                let mut names = answer.headers.keys();
                ensure!(
                    !names.any(|name| name.as_str().contains("path")),
                    "{answer:?}"
                );
            }
        )
        .departs(),
    ]);
    rows
}

fn ends() -> Vec<Row> {
    vec![
        row!("9113 8.4", "a pushed answer that was not wanted", |bench| {
            let answer = |id: u32| {
                let promise = [2u32.to_be_bytes().to_vec(), frames::block(&GET)].concat();
                let promise =
                    frames::frame(frames::PUSH_PROMISE, frames::END_HEADERS, id, &promise);
                [promise, frames::answer(id, &[(":status", "200")], b"ok")].concat()
            };
            broken(bench, answer, Then::Next).await?;
        }),
        row!("9113 8.1", "an answer that is reset", |bench| {
            let answer = |id| {
                let head = frames::headers(id, &[(":status", "200")], false);
                [head, frames::data(id, b"o", false), frames::rst(id, 2)].concat()
            };
            broken(bench, answer, Then::Next).await?;
        }),
        row!("9113 8.1", "an answer whose connection ends", |bench| {
            let answer = |id| {
                let head = frames::headers(id, &[(":status", "200")], false);
                [head, frames::data(id, b"o", false)].concat()
            };
            broken(bench, answer, Then::Close).await?;
        }),
    ]
}

fn honest_answers() -> Vec<Row> {
    vec![
        row!(
            "9113 8.1",
            "NO_ERROR behind a whole answer takes nothing away",
            |bench| {
                let answer = |id| {
                    let answer = frames::answer(id, &[(":status", "200")], b"ok");
                    [answer, frames::rst(id, frames::NO_ERROR)].concat()
                };
                bench.h2.answers(framed(answer, Then::Next));
                let answer = bench.ask(Protocol::Http1, Method::GET, H2).await??;
                ensure!(answer.text() == "ok", "{answer:?}");
            }
        ),
        row!(
            "9113 8.1",
            "interim answers precede the last one",
            |bench| {
                let answer = |id| {
                    let interim =
                        frames::headers(id, &[(":status", "103"), ("link", "</a>")], false);
                    [interim, frames::answer(id, &[(":status", "200")], b"ok")].concat()
                };
                bench.h2.answers(framed(answer, Then::Next));
                let answer = bench.ask(Protocol::Http1, Method::GET, H2).await??;
                ensure!(
                    answer.text() == "ok" && answer.header("link").is_none(),
                    "{answer:?}"
                );
            }
        ),
        row!(
            "9113 8.1.1",
            "an answer to HEAD has a length and no body",
            |bench| {
                let answer =
                    |id| frames::headers(id, &[(":status", "200"), ("content-length", "50")], true);
                bench.h2.answers(framed(answer, Then::Next));
                let answer = bench.ask(Protocol::Http1, Method::HEAD, H2).await??;
                ensure!(answer.header("content-length") == Some("50"), "{answer:?}");
            }
        ),
        row!(
            "9110 8.6",
            "204 over HTTP/2 has no Content-Length",
            |bench| {
                let answer =
                    |id| frames::headers(id, &[(":status", "204"), ("content-length", "0")], true);
                bench.h2.answers(framed(answer, Then::Next));
                let answer = bench.ask(Protocol::Http1, Method::GET, H2).await??;
                ensure!(!answer.headers.contains_key("content-length"), "{answer:?}");
            }
        ),
    ]
}
