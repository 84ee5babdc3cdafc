//! Connections, methods that are for a hop, and what may be sent again.

use anyhow::ensure;
use countersign_tests::fake::Protocol;
use tokio::io::AsyncWriteExt as _;

use super::{
    Row,
    bench::H1,
    messages::{END, get, passed, refused, send},
    row,
    scripted::{Then, plain},
};
use crate::harness::soon;

pub(super) fn rows() -> Vec<Row> {
    [connections(), methods()].into_iter().flatten().collect()
}

fn connections() -> Vec<Row> {
    vec![
        row!(
            "9112 9.3",
            "a connection serves the next request",
            |bench| {
                let keep = format!("GET /1 HTTP/1.1\r\nHost: {H1}\r\n\r\n");
                let (answer, _) = send(bench, &format!("{keep}{}", get("/2"))).await?;
                ensure!(answer.matches("HTTP/1.1 200").count() == 2, "{answer}");
            }
        ),
        row!(
            "9112 9.3.2",
            "pipelined requests are answered in their order",
            |bench| {
                for body in ["one", "two"] {
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{body}");
                    bench.h1.answers(plain(&answer, Then::Next));
                }
                let keep = format!("GET /1 HTTP/1.1\r\nHost: {H1}\r\n\r\n");
                let (answer, _) = send(bench, &format!("{keep}{}", get("/2"))).await?;
                let (one, two) = (answer.find("one"), answer.find("two"));
                ensure!(one.is_some() && one < two, "{answer}");
            }
        ),
        row!(
            "9112 9.6",
            "after close the connection ends, and says so",
            |bench| {
                let (answer, seen) = send(bench, &format!("{}{}", get("/1"), get("/2"))).await?;
                ensure!(answer.matches("HTTP/1.1 200").count() == 1, "{answer}");
                ensure!(
                    answer
                        .to_ascii_lowercase()
                        .contains("\r\nconnection: close\r\n"),
                    "{answer}"
                );
                ensure!(seen.len() == 1, "{seen:?}");
            }
        ),
        row!(
            "9112 C.2.2",
            "a client of HTTP/1.0 keeps no connection",
            |bench| {
                let old = format!("GET / HTTP/1.0\r\nHost: {H1}\r\nConnection: keep-alive\r\n\r\n");
                let (answer, seen) = send(bench, &old.repeat(2)).await?;
                ensure!(answer.matches("HTTP/1.0 200").count() == 1, "{answer}");
                ensure!(answer.contains("\r\nconnection: close"), "{answer}");
                ensure!(seen.len() == 1, "{seen:?}");
            }
        ),
        row!(
            "9112 9.8",
            "the end of a connection is told by TLS",
            |bench| {
                let mut stream = bench.tunnel(H1, Protocol::Http1).await?;
                stream.write_all(get("/").as_bytes()).await?;
                let mut answer = Vec::new();
                // Without close_notify this is an error.
                let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer);
                soon("the end", read).await??;
            }
        ),
    ]
}

fn options(left: &str) -> String {
    format!("OPTIONS / HTTP/1.1\r\nHost: {H1}\r\nMax-Forwards: {left}\r\n{END}")
}

fn methods() -> Vec<Row> {
    vec![
        row!("9110 7.6.2", "Max-Forwards: 0 is not forwarded", |bench| {
            refused(bench, &options("0"), "405").await?;
        }),
        row!(
            "9110 7.6.2",
            "Max-Forwards is one less when forwarded",
            |bench| {
                let seen = passed(bench, &options("7")).await?.to_ascii_lowercase();
                ensure!(seen.contains("max-forwards: 6\r\n"), "{seen}");
            }
        ),
        row!(
            "9110 7.6.2",
            "Max-Forwards of other methods is left alone",
            |bench| {
                let request = options("0").replace("OPTIONS", "GET");
                ensure!(
                    passed(bench, &request)
                        .await?
                        .to_ascii_lowercase()
                        .contains("max-forwards: 0\r\n")
                );
            }
        ),
        row!("9110 9.3.7", "no Max-Forwards is added", |bench| {
            let request = format!("OPTIONS / HTTP/1.1\r\nHost: {H1}\r\n{END}");
            ensure!(
                !passed(bench, &request)
                    .await?
                    .to_ascii_lowercase()
                    .contains("max-forwards")
            );
        }),
        row!("9110 9.3.8", "TRACE is forwarded", |bench| {
            refused(bench, &get("/").replace("GET", "TRACE"), "405").await?;
        })
        .departs(),
        row!(
            "9110 9.2.2",
            "what is not idempotent is not sent again",
            |bench| {
                passed(bench, &get("/")).await?;
                bench.h1.answers(plain("", Then::Close));
                let request =
                    format!("POST / HTTP/1.1\r\nHost: {H1}\r\nContent-Length: 0\r\n{END}");
                let (answer, seen) = send(bench, &request).await?;
                ensure!(answer.starts_with("HTTP/1.1 502"), "{answer}");
                ensure!(seen.len() == 1, "{seen:?}");
            }
        ),
        row!(
            "9112 9.3.1",
            "what is idempotent may be, on a fresh connection",
            |bench| {
                passed(bench, &get("/")).await?;
                bench.h1.answers(plain("", Then::Close));
                let (answer, seen) = send(bench, &get("/")).await?;
                ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                ensure!(seen.len() == 2, "{seen:?}");
            }
        ),
    ]
}
