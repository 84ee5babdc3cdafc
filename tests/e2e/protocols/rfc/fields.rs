//! Header and trailer fields: what is for one hop ends here, everything else goes on as it is.

use anyhow::ensure;
use bytes::Bytes;
use countersign_tests::{client::Answer, fake::Protocol};
use http::{HeaderMap, Method, Request};
use http_body_util::Full;

use super::{
    Row,
    bench::{Bench, H1, H2},
    frames, row,
    scripted::{Then, framed, plain},
};
use crate::harness::{HOST, soon};

const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

/// What the API sees of a request with these headers, whatever is spoken on either side.
async fn received(
    bench: &Bench,
    headers: &[(&'static str, &'static str)],
    client: Protocol,
    upstream: Protocol,
) -> anyhow::Result<HeaderMap> {
    bench.bed.api.speak(upstream);
    // Which a connection that rests does not see.
    let path = format!(
        "/{client:?}-{upstream:?}-{}",
        bench.bed.api.received().count()
    );
    let mut request = Request::new(Full::<Bytes>::default());
    *request.uri_mut() = format!("https://{HOST}{path}").parse()?;
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse()?);
    }
    let answer = soon("an answer", bench.bed.client().over(client).send(request)).await??;
    ensure!(answer.status == 200, "{answer:?}");
    let received = bench.bed.api.received().at(&path).remove(0);
    Ok(received.headers.clone())
}

/// An answer with these header lines, to a client of either version.
async fn answered(bench: &Bench, lines: &str, client: Protocol) -> anyhow::Result<Answer> {
    let answer = format!("HTTP/1.1 200 OK\r\n{lines}\r\nContent-Length: 2\r\n\r\nok");
    bench.h1.answers(plain(&answer, Then::Next));
    Ok(bench.ask(client, Method::GET, H1).await??)
}

pub(super) fn rows() -> Vec<Row> {
    [
        towards_the_api(),
        hops_to_the_api(),
        towards_the_client(),
        dates_and_bodies(),
        trailers(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn towards_the_api() -> Vec<Row> {
    vec![
        row!(
            "9110 7.6.1",
            "Connection, and what it nominates, ends here",
            |bench| {
                let headers = [
                    ("connection", "keep-alive, x-hop"),
                    ("x-hop", "1"),
                    ("x-end", "2"),
                ];
                let seen = received(bench, &headers, Protocol::Http1, Protocol::Http1).await?;
                ensure!(
                    !seen.contains_key("x-hop") && !seen.contains_key("connection"),
                    "{seen:?}"
                );
                ensure!(seen["x-end"] == "2", "{seen:?}");
            }
        ),
        row!(
            "9110 7.6.1",
            "so do the known ones that it does not nominate",
            |bench| {
                let headers = [
                    ("proxy-connection", "close"),
                    ("keep-alive", "5"),
                    ("upgrade", "h2c"),
                ];
                let seen = received(bench, &headers, Protocol::Http1, Protocol::Http1).await?;
                let none = headers.iter().all(|(name, _)| !seen.contains_key(*name));
                ensure!(none, "{seen:?}");
            }
        ),
        row!("9110 7.6.3", "Via is added to requests", |bench| {
            for (client, upstream) in BOTH.into_iter().zip(BOTH) {
                let seen = received(bench, &[("via", "1.1 mine")], client, upstream).await?;
                ensure!(seen.get_all("via").iter().count() == 1, "{seen:?}");
            }
        })
        .departs(),
        row!("9110 5.1", "unknown fields go on", |bench| {
            for (client, upstream) in BOTH.into_iter().zip(BOTH) {
                let seen = received(bench, &[("x-never-heard-of", "a")], client, upstream).await?;
                ensure!(seen["x-never-heard-of"] == "a", "{seen:?}");
            }
        }),
        row!("9110 5.3", "fields of one name keep their order", |bench| {
            for (client, upstream) in BOTH.into_iter().zip(BOTH) {
                let headers = [("x-a", "1"), ("x-b", "0"), ("x-a", "2, 3"), ("x-a", "4")];
                let seen = received(bench, &headers, client, upstream).await?;
                let all: Vec<_> = seen.get_all("x-a").iter().collect();
                ensure!(all == ["1", "2, 3", "4"], "{all:?}");
            }
        }),
    ]
}

fn hops_to_the_api() -> Vec<Row> {
    vec![
        row!("9110 11.7.2", "Proxy-Authorization ends here", |bench| {
            let headers = [("proxy-authorization", "Bearer x")];
            for (client, upstream) in BOTH.into_iter().zip(BOTH) {
                let seen = received(bench, &headers, client, upstream).await?;
                ensure!(!seen.contains_key("proxy-authorization"), "{seen:?}");
            }
        }),
        row!(
            "9110 10.1.4",
            "TE goes on as trailers, and is nominated",
            |bench| {
                let seen = received(
                    bench,
                    &[("te", "trailers")],
                    Protocol::Http2,
                    Protocol::Http1,
                )
                .await?;
                ensure!(
                    seen["te"] == "trailers" && seen["connection"] == "te",
                    "{seen:?}"
                );
            }
        ),
        row!(
            "9113 8.2.2",
            "TE is trailers or nothing over HTTP/2",
            |bench| {
                let seen = received(
                    bench,
                    &[("te", "gzip;q=0.5")],
                    Protocol::Http1,
                    Protocol::Http2,
                )
                .await?;
                ensure!(!seen.contains_key("te"), "{seen:?}");
            }
        ),
        row!(
            "9113 8.2.2",
            "no field of a connection goes on over HTTP/2",
            |bench| {
                let headers = [
                    ("connection", "x-hop"),
                    ("keep-alive", "5"),
                    ("upgrade", "h2c"),
                ];
                let seen = received(bench, &headers, Protocol::Http1, Protocol::Http2).await?;
                let none = headers.iter().all(|(name, _)| !seen.contains_key(*name));
                ensure!(none, "{seen:?}");
            }
        ),
        row!(
            "9113 8.2.3",
            "cookies that HTTP/2 has cut are one over HTTP/1.1",
            |bench| {
                let headers = [("cookie", "a=b"), ("cookie", "c=d"), ("cookie", "e=f")];
                let seen = received(bench, &headers, Protocol::Http2, Protocol::Http1).await?;
                let all: Vec<_> = seen.get_all("cookie").iter().collect();
                ensure!(all == ["a=b; c=d; e=f"], "{all:?}");
            }
        ),
    ]
}

fn towards_the_client() -> Vec<Row> {
    vec![
        row!(
            "9110 7.6.1",
            "an answer's fields for one hop end here",
            |bench| {
                for client in BOTH {
                    let lines = "Connection: x-hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
                             Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nX-End: 2";
                    let answer = answered(bench, lines, client).await?;
                    let hop = ["x-hop", "keep-alive", "proxy-connection", "upgrade"];
                    let none = hop.iter().all(|name| !answer.headers.contains_key(*name));
                    ensure!(none && answer.header("x-end") == Some("2"), "{answer:?}");
                }
            }
        ),
        row!("9110 7.6.3", "Via is added to answers", |bench| {
            for client in BOTH {
                let answer = answered(bench, "Via: 1.1 theirs", client).await?;
                ensure!(answer.header("via") == Some("1.1 theirs"), "{answer:?}");
            }
        })
        .departs(),
        row!(
            "9110 5.3",
            "an answer's fields of one name keep their order",
            |bench| {
                for client in BOTH {
                    let answer =
                        answered(bench, "Set-Cookie: a=b\r\nX: y\r\nSet-Cookie: c=d", client);
                    let answer = answer.await?;
                    let all: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
                    ensure!(all == ["a=b", "c=d"], "{all:?}");
                }
            }
        ),
    ]
}

fn dates_and_bodies() -> Vec<Row> {
    vec![
        row!(
            "9110 6.6.1",
            "an answer without a Date is given one",
            |bench| {
                for client in BOTH {
                    let answer = answered(bench, "X: y", client).await?;
                    ensure!(answer.header("date").is_some(), "{answer:?}");
                }
            }
        ),
        row!(
            "9110 6.6.1",
            "an answer's own Date is left alone",
            |bench| {
                for client in BOTH {
                    let date = "Tue, 15 Nov 1994 08:12:31 GMT";
                    let answer = answered(bench, &format!("Date: {date}"), client).await?;
                    ensure!(answer.header("date") == Some(date), "{answer:?}");
                }
            }
        ),
        row!("9110 7.7", "an answer's body is left alone", |bench| {
            let lines = "Content-Encoding: gzip\r\nCache-Control: no-transform";
            let answer = answered(bench, lines, Protocol::Http2).await?;
            ensure!(answer.text() == "ok", "{answer:?}");
            ensure!(
                answer.header("content-encoding") == Some("gzip"),
                "{answer:?}"
            );
        }),
        row!("9110 8.6", "204 has no Content-Length", |bench| {
            for client in BOTH {
                bench.h1.answers(plain(
                    "HTTP/1.1 204 \r\nContent-Length: 0\r\n\r\n",
                    Then::Next,
                ));
                let answer = bench.ask(client, Method::GET, H1).await??;
                ensure!(!answer.headers.contains_key("content-length"), "{answer:?}");
            }
        }),
        row!(
            "9112 5.1",
            "space before the colon of an answer's field is removed",
            |bench| {
                let answer = answered(bench, "X-A : b", Protocol::Http1).await?;
                ensure!(answer.status == 502, "{answer:?}");
            }
        )
        .departs(),
    ]
}

fn trailers() -> Vec<Row> {
    const HTTP1: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
        2\r\nok\r\n0\r\nX-Sum: 7\r\nContent-Length: 9\r\nConnection: x\r\nTransfer-Encoding: x\r\n\r\n";
    vec![
        row!(
            "9110 6.5.1",
            "an answer's trailers stay trailers",
            |bench| {
                for client in BOTH {
                    bench.h1.answers(plain(HTTP1, Then::Next));
                    let mut request = Request::new(Full::<Bytes>::default());
                    *request.uri_mut() = format!("https://{H1}/").parse()?;
                    request.headers_mut().insert("te", "trailers".parse()?);
                    let answer = bench.bed.client().over(client).send(request).await?;
                    ensure!(answer.header("x-sum").is_none(), "{answer:?}");
                    let trailers = answer.trailers.clone().unwrap_or_default();
                    ensure!(
                        trailers.len() == 1 && trailers["x-sum"] == "7",
                        "{answer:?}"
                    );
                }
            }
        ),
        row!(
            "9113 8.1",
            "so do those of an answer over HTTP/2",
            |bench| {
                let answer = |id| {
                    [
                        frames::headers(id, &[(":status", "200"), ("trailer", "x-sum")], false),
                        frames::data(id, b"ok", false),
                        frames::headers(id, &[("x-sum", "7")], true),
                    ]
                    .concat()
                };
                bench.h2.answers(framed(answer, Then::Next));
                let answer = bench.ask(Protocol::Http2, Method::GET, H2).await??;
                let trailers = answer.trailers.clone().unwrap_or_default();
                ensure!(trailers["x-sum"] == "7", "{answer:?}");
            }
        ),
        row!(
            "9110 6.5.1",
            "a request's trailers are not merged",
            |bench| {
                bench.h1.seen();
                let request = format!(
                    "POST / HTTP/1.1\r\nHost: {H1}\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\
                 Connection: close\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n"
                );
                let answer = bench.talk(H1, &request).await?;
                ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                let seen = bench.h1.seen().concat().to_ascii_lowercase();
                ensure!(!seen.contains("x-sum"), "{seen}");
            }
        ),
    ]
}
