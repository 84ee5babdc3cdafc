//! Requests as messages: their lines and their targets, and what of them goes on.

use anyhow::ensure;

use super::{
    Row,
    bench::{Bench, H1},
    row,
    scripted::{Then, plain},
};

/// A head's end that asks for the connection to be closed.
pub(super) const END: &str = "Connection: close\r\n\r\n";

/// Sends a request within a tunnel; what is answered, and what the API saw.
pub(super) async fn send(bench: &Bench, request: &str) -> anyhow::Result<(String, Vec<String>)> {
    bench.h1.seen();
    let answer = bench.talk(H1, request).await?;
    Ok((answer, bench.h1.seen()))
}

/// It is answered with this status, and nothing is sent on.
pub(super) async fn refused(bench: &Bench, request: &str, status: &str) -> anyhow::Result<()> {
    let (answer, seen) = send(bench, request).await?;
    ensure!(
        answer.starts_with(&format!("HTTP/1.1 {status}")),
        "{answer}"
    );
    ensure!(
        answer.matches("HTTP/1.1 ").count() == 1,
        "two answers: {answer}"
    );
    ensure!(seen.is_empty(), "it was sent on: {seen:?}");
    Ok(())
}

/// It is sent on, once; what the API saw.
pub(super) async fn passed(bench: &Bench, request: &str) -> anyhow::Result<String> {
    let (answer, mut seen) = send(bench, request).await?;
    // To HTTP/1.0 it is said in HTTP/1.0.
    let ok = ["HTTP/1.1 200", "HTTP/1.0 200"];
    ensure!(ok.iter().any(|ok| answer.starts_with(ok)), "{answer}");
    ensure!(seen.len() == 1, "{seen:?}");
    Ok(seen.remove(0))
}

pub(super) fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {H1}\r\n{END}")
}

pub(super) fn rows() -> Vec<Row> {
    [lines(), targets(), destinations()]
        .into_iter()
        .flatten()
        .collect()
}

/// (paragraph, duty, request): answered by 400, and not sent on.
#[rustfmt::skip]
const MALFORMED: &[(&str, &str, &str)] = &[
    ("9112 2.2", "a bare LF ends no line of a request", "GET / HTTP/1.1\nHost: h1.example.test\n\n"),
    ("9112 2.2", "a bare CR within a request is invalid", "GET / HTTP/1.1\r\nHost: h1.example.test\r\nA: b\rc\r\n\r\n"),
    ("9112 2.2", "white space before the first field is refused", "GET / HTTP/1.1\r\n Host: h1.example.test\r\n\r\n"),
    ("9112 3", "a request line has three parts", "GET /a b HTTP/1.1\r\nHost: h1.example.test\r\nConnection: close\r\n\r\n"),
    ("9112 3.2", "a request has a Host", "GET / HTTP/1.1\r\nA: b\r\nConnection: close\r\n\r\n"),
    ("9112 3.2", "a request has one Host", "GET / HTTP/1.1\r\nHost: h1.example.test\r\nHost: h1.example.test\r\nConnection: close\r\n\r\n"),
    ("9112 3.2", "a Host is valid", "GET / HTTP/1.1\r\nHost: h1 example\r\nConnection: close\r\n\r\n"),
    ("9112 5.1", "no white space before the colon of a request's field", "GET / HTTP/1.1\r\nHost : h1.example.test\r\n\r\n"),
    ("9112 5.2", "no folded field in a request", "GET / HTTP/1.1\r\nHost: h1.example.test\r\nA: b\r\n c\r\n\r\n"),
    ("9110 5.5", "NUL in a request's field is invalid", "GET / HTTP/1.1\r\nHost: h1.example.test\r\nA: b\0\r\n\r\n"),
    ("9112 6.1", "length and coding in a request", "POST / HTTP/1.1\r\nHost: h1.example.test\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("9112 6.1", "a coding in a request of HTTP/1.0", "POST / HTTP/1.0\r\nHost: h1.example.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("9112 6.1", "a coding of a request that is not understood", "POST / HTTP/1.1\r\nHost: h1.example.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("9112 6.3", "a request whose last coding is not chunked", "POST / HTTP/1.1\r\nHost: h1.example.test\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    ("9112 6.3", "different lengths of a request", "POST / HTTP/1.1\r\nHost: h1.example.test\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"),
    ("9112 6.3", "a length of a request that is no number", "POST / HTTP/1.1\r\nHost: h1.example.test\r\nContent-Length: +2\r\n\r\nab"),
];

fn lines() -> Vec<Row> {
    let mut rows: Vec<_> = MALFORMED
        .iter()
        .map(|&(paragraph, duty, request)| {
            Row::new(paragraph, duty, move |bench| {
                Box::pin(async move { refused(bench, request, "400").await })
            })
        })
        .collect();
    rows.extend([
        row!(
            "9112 2.2",
            "an empty line before a request is ignored",
            |bench| {
                passed(bench, &format!("\r\n{}", get("/"))).await?;
            }
        ),
        row!("9112 3", "a long request line is taken", |bench| {
            let target = format!("/{}", "a".repeat(8000));
            ensure!(passed(bench, &get(&target)).await?.contains(&target));
        }),
        row!(
            "9110 2.5",
            "a request goes on with our own version",
            |bench| {
                let old = format!("GET / HTTP/1.0\r\nHost: {H1}\r\n\r\n");
                ensure!(passed(bench, &old).await?.starts_with("GET / HTTP/1.1\r\n"));
            }
        ),
        row!("9110 2.5", "so does an answer", |bench| {
            bench.h1.answers(plain(
                "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
                Then::Close,
            ));
            let (answer, _) = send(bench, &get("/")).await?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }),
    ]);
    rows
}

fn targets() -> Vec<Row> {
    vec![
        row!("9112 3.2", "Host is that of the target", |bench| {
            let seen = passed(bench, &get("/")).await?.to_ascii_lowercase();
            ensure!(
                seen.matches(&format!("\r\nhost: {H1}\r\n")).count() == 1,
                "{seen}"
            );
        }),
        row!("9112 3.2.2", "the absolute form is taken", |bench| {
            let seen = passed(bench, &get(&format!("https://{H1}/a?b"))).await?;
            ensure!(seen.starts_with("GET /a?b HTTP/1.1\r\n"), "{seen}");
        }),
        row!("9112 3.2.1", "an empty path goes on as /", |bench| {
            let seen = passed(bench, &get(&format!("https://{H1}"))).await?;
            ensure!(seen.starts_with("GET / HTTP/1.1\r\n"), "{seen}");
        }),
        row!(
            "9112 3.2.2",
            "the target's host replaces that of Host",
            |bench| {
                let request = format!("GET https://{H1}/ HTTP/1.1\r\nHost: other.test\r\n{END}");
                refused(bench, &request, "4").await?;
            }
        )
        .departs(),
        row!(
            "9112 3.2",
            "a request in absolute form has a Host too",
            |bench| {
                let request = format!("GET https://{H1}/ HTTP/1.1\r\n{END}");
                passed(bench, &request).await?;
            }
        )
        .departs(),
        row!(
            "9112 3.2.4",
            "OPTIONS without a path goes on as *",
            |bench| {
                let request = format!("OPTIONS https://{H1} HTTP/1.1\r\nHost: {H1}\r\n{END}");
                let seen = passed(bench, &request).await?;
                ensure!(seen.starts_with("OPTIONS / HTTP/1.1\r\n"), "{seen}");
            }
        )
        .departs(),
    ]
}

fn destinations() -> Vec<Row> {
    vec![
        row!("9110 7.7", "path and query go on as they are", |bench| {
            let target = "/a-b_c~d/%C3%A9/!$'()*,:@?x=%20+&x==&&y=//";
            let seen = passed(bench, &get(target)).await?;
            ensure!(
                seen.starts_with(&format!("GET {target} HTTP/1.1\r\n")),
                "{seen}"
            );
        }),
        row!(
            "9110 7.4",
            "a request for another host is misdirected",
            |bench| {
                let request = format!("GET / HTTP/1.1\r\nHost: api.qase.io\r\n{END}");
                refused(bench, &request, "421").await?;
            }
        ),
        row!("9110 7.3.1", "nothing is forwarded to ourselves", |bench| {
            let own = bench.bed.gateway.address();
            let request = format!(
                "GET http://{own}/ HTTP/1.1\r\nHost: {own}\r\nProxy-Authorization: Bearer TOKEN\r\n{END}"
            );
            let answer = bench.to_proxy(&request).await?;
            ensure!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        }),
    ]
}
