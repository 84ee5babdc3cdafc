//! The framing of requests, what is expected of a body, and what HTTP/1.0 does not know.

use anyhow::ensure;
use countersign_tests::fake::Protocol;
use http::Method;
use tokio::io::AsyncWriteExt as _;

use super::{
    Row,
    bench::H1,
    messages::{END, get, passed, send},
    row,
    scripted::{Then, plain},
};

pub(super) fn rows() -> Vec<Row> {
    [lengths(), expectations(), versions()]
        .into_iter()
        .flatten()
        .collect()
}

fn lengths() -> Vec<Row> {
    vec![
        row!("9112 6.2", "chunks go on without a length", |bench| {
            let request = format!(
                "POST / HTTP/1.1\r\nHost: {H1}\r\nTransfer-Encoding: chunked\r\n{END}5;a=b\r\nhello\r\n0\r\n\r\n"
            );
            let seen = passed(bench, &request).await?.to_ascii_lowercase();
            ensure!(seen.contains("transfer-encoding: chunked\r\n"), "{seen}");
            ensure!(!seen.contains("content-length"), "{seen}");
            ensure!(seen.ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "{seen}");
        }),
        row!("9112 6.2", "a length goes on with so many bytes", |bench| {
            let request =
                format!("POST / HTTP/1.1\r\nHost: {H1}\r\nContent-Length: 5\r\n{END}hello");
            let seen = passed(bench, &request).await?.to_ascii_lowercase();
            ensure!(seen.contains("content-length: 5\r\n"), "{seen}");
            ensure!(seen.ends_with("\r\n\r\nhello"), "{seen}");
        }),
        row!(
            "9112 8",
            "a request that breaks off is not taken for a whole one",
            |bench| {
                bench.h1.seen();
                let mut stream = bench.tunnel(H1, Protocol::Http1).await?;
                let head =
                    format!("POST / HTTP/1.1\r\nHost: {H1}\r\nContent-Length: 50\r\n\r\nhello");
                stream.write_all(head.as_bytes()).await?;
                stream.shutdown().await?;
                let record = bench.record().await?;
                ensure!(record["reason"] == "client_gone", "{record}");
                ensure!(bench.h1.seen().is_empty());
            }
        ),
        row!(
            "9112 6.3",
            "what follows a body is the next request",
            |bench| {
                let first =
                    format!("POST /1 HTTP/1.1\r\nHost: {H1}\r\nContent-Length: 5\r\n\r\nhello");
                let (answer, seen) = send(bench, &format!("{first}{}", get("/2"))).await?;
                ensure!(answer.matches("HTTP/1.1 200").count() == 2, "{answer}");
                ensure!(
                    seen.len() == 2 && seen[1].starts_with("GET /2 "),
                    "{seen:?}"
                );
            }
        ),
        row!(
            "9110 6.4.1",
            "an answer to HEAD has the length that GET has",
            |bench| {
                bench.h1.answers(plain(
                    "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n",
                    Then::Next,
                ));
                let answer = bench.ask(Protocol::Http2, Method::HEAD, H1).await??;
                ensure!(answer.header("content-length") == Some("50"), "{answer:?}");
            }
        ),
    ]
}

fn expectations() -> Vec<Row> {
    vec![
        row!("9110 10.1.1", "Expect is answered, and the body taken", |bench| {
            let request = format!(
                "POST / HTTP/1.1\r\nHost: {H1}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n{END}hello"
            );
            let (answer, seen) = send(bench, &request).await?;
            ensure!(answer.contains("HTTP/1.1 200"), "{answer}");
            ensure!(seen.len() == 1 && seen[0].ends_with("hello"), "{seen:?}");
        }),
        row!("9110 10.1.1", "Expect of HTTP/1.0 is ignored", |bench| {
            let request = format!(
                "POST / HTTP/1.0\r\nHost: {H1}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"
            );
            let (answer, _) = send(bench, &request).await?;
            ensure!(answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.0 200"), "{answer}");
        }),
        row!("9110 10.1.1", "Expect goes on to the API", |bench| {
            let request = format!(
                "POST / HTTP/1.1\r\nHost: {H1}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n{END}hello"
            );
            let (_, seen) = send(bench, &request).await?;
            ensure!(!seen[0].to_ascii_lowercase().contains("expect"), "{seen:?}");
        })
        .departs(),
    ]
}

fn versions() -> Vec<Row> {
    vec![
        row!("9110 15.2", "interim answers go on to the client", |bench| {
            let answer = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            bench.h1.answers(plain(answer, Then::Next));
            let (answer, _) = send(bench, &get("/")).await?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        })
        .departs(),
        row!("9110 15.2", "a client of HTTP/1.0 gets no interim answer", |bench| {
            bench.h1.answers(plain("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 \r\n\r\n", Then::Next));
            let (answer, _) = send(bench, &format!("GET / HTTP/1.0\r\nHost: {H1}\r\n\r\n")).await?;
            ensure!(answer.matches("HTTP/1.").count() == 1, "{answer}");
        }),
        row!("9112 6.1", "a client of HTTP/1.0 gets no chunks", |bench| {
            let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
            bench.h1.answers(plain(answer, Then::Next));
            let (answer, _) = send(bench, &format!("GET / HTTP/1.0\r\nHost: {H1}\r\n\r\n")).await?;
            ensure!(!answer.to_ascii_lowercase().contains("transfer-encoding"), "{answer}");
            ensure!(answer.ends_with("\r\n\r\nok"), "{answer}");
        }),
    ]
}
