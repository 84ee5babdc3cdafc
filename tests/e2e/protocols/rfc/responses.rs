//! What an upstream answers by HTTP/1.1: passed on whole, or refused, never cut in silence.

use countersign_tests::{
    client::{Answer, Failure},
    fake::Protocol,
};
use http::Method;

use super::{
    Row,
    bench::{Bench, H1},
    scripted::{Then, plain},
};

/// What a client gets, over either version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// 200 with this body; whether the next request may use the same connection.
    Whole(&'static str, bool),
    /// An answer without a body.
    Empty(u16, bool),
    /// 502 `upstream_broken`, and the connection is closed.
    Refused,
    /// 502 `response_too_large`, which blames the gateway, and the connection is closed.
    OverBound,
    /// `upstream_broken`, or the beginning of an answer and then an error.
    Broken,
}

use Seen::{Broken, Empty, OverBound, Refused, Whole};

struct Case {
    paragraph: &'static str,
    duty: &'static str,
    method: Method,
    answer: &'static str,
    then: Then,
    seen: Seen,
}

macro_rules! cases {
    ($($paragraph:literal, $duty:literal, $method:ident, $answer:expr, $then:ident => $seen:expr;)*) => {
        vec![$(Case {
            paragraph: $paragraph,
            duty: $duty,
            method: Method::$method,
            answer: $answer,
            then: Then::$then,
            seen: $seen,
        }),*]
    };
}

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    cases! {
        "9112 2.2", "bare LF in a head is not taken", GET, "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", Next => Refused;
        "9112 2.2", "bare LF in one line is not taken", GET, "HTTP/1.1 200 OK\r\nA: b\nContent-Length: 2\r\n\r\nok", Next => Refused;
        "9112 2.2", "bare CR is invalid", GET, "HTTP/1.1 200 OK\r\nA: b\rX: c\r\nContent-Length: 2\r\n\r\nok", Next => Refused;
        "9112 4", "the status line begins with a version of HTTP/1", GET, "HTTP/3.0 200 OK\r\nContent-Length: 2\r\n\r\nok", Next => Refused;
        "9112 4", "the status is three digits", GET, "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok", Next => Refused;
        "9112 4", "nothing precedes the status line", GET, "hello HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Next => Refused;
        "9112 4", "the reason may be empty", GET, "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", Next => Whole("ok", true);
        "9112 5", "a field line has a colon", GET, "HTTP/1.1 200 OK\r\nA\r\nContent-Length: 2\r\n\r\nok", Next => Refused;
        "9112 5", "a field has a name", GET, "HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 2\r\n\r\nok", Next => Refused;
        "9112 5.2", "a folded field makes a 502", GET, "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\nok", Next => Refused;
        "9110 5.5", "NUL is invalid", GET, "HTTP/1.1 200 OK\r\nA: b\0c\r\nContent-Length: 2\r\n\r\nok", Next => Refused;
        "9112 6.1", "a coding in HTTP/1.0 is faulty framing", GET, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Close => Refused;
        "9112 6.1", "a coding that was not asked for is not passed on", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Next => Refused;
        "9112 6.1", "chunked is applied once", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Next => Refused;
        "9112 6.1", "chunked is last", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n2\r\nok\r\n0\r\n\r\n", Next => Refused;
        "9112 6.3", "beside chunks the length is dropped (shorter)", GET, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Next => Whole("hello", false);
        "9112 6.3", "beside chunks the length is dropped (longer)", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 300\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Next => Whole("hello", false);
        "9112 6.3", "beside chunks the length is dropped (zero)", GET, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Next => Whole("hello", false);
        "9112 6.3", "different lengths make a 502", GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!", Next => Refused;
        "9112 6.3", "different lengths in a list make a 502", GET, "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok!", Next => Refused;
        "9112 6.3", "a length said twice is said once", GET, "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\nok", Next => Whole("ok", true);
        "9112 6.3", "a signed length makes a 502", GET, "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", Next => Refused;
        "9112 6.3", "a length that is no number makes a 502", GET, "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok", Next => Refused;
        "9112 6.3", "a length beyond all bounds makes a 502", GET, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok", Next => Refused;
        "9112 6.3", "HEAD has no body, whatever its head says", HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", Next => Empty(200, true);
        "9112 6.3", "bytes behind an answer to HEAD are no answer", HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Next => Empty(200, false);
        "9112 6.3", "204 has no body", GET, "HTTP/1.1 204 No Content\r\n\r\n", Next => Empty(204, true);
        "9112 6.3", "bytes behind a 204 are no answer", GET, "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", Next => Empty(204, false);
        "9112 6.3", "304 has no body", GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", Next => Empty(304, true);
        "9112 6.3", "chunks behind a 304 are no answer", GET, "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Next => Empty(304, false);
        "9112 6.3", "bytes behind a body are not part of it", GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", Next => Whole("ok", false);
        "9112 6.3", "bytes behind the last chunk are not part of it", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nevil", Next => Whole("ok", false);
        "9112 6.3", "without either, the body ends with the connection", GET, "HTTP/1.1 200 OK\r\n\r\nok", Close => Whole("ok", false);
        "9112 6.3", "in HTTP/1.0 too", GET, "HTTP/1.0 200 OK\r\n\r\nok", Close => Whole("ok", false);
        "9112 7.1", "chunked is decoded, its extensions ignored", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\"b\"\r\no\r\n01\r\nk\r\n0\r\n\r\n", Next => Whole("ok", true);
        "9112 7.1", "a chunk's size is hexadecimal", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0x2\r\nok\r\n0\r\n\r\n", Next => Broken;
        "9112 7.1", "a chunk's size does not overflow", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n10000000000000002\r\nok\r\n0\r\n\r\n", Next => Broken;
        "9112 7.1", "a chunk is as long as its size", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok!\r\n0\r\n\r\n", Next => Broken;
        "9112 7.1", "a chunk's lines end with CRLF", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n2\nok\r\n0\r\n\r\n", Next => Broken;
        "9112 7.1.2", "a trailer has a name", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nbad\r\n\r\n", Next => Broken;
        "9112 8", "a body shorter than its length is incomplete", GET, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok", Close => Broken;
        "9112 8", "chunks without a last one are incomplete", GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", Close => Broken;
        "9112 8", "a head that breaks off is no answer", GET, "HTTP/1.1 200 OK\r\nContent-", Close => Refused;
        "9112 9.8", "a body that ends with a cut connection is incomplete", GET, "HTTP/1.1 200 OK\r\n\r\nok", Cut => Broken;
        "9112 9.3", "an answer that says close is the last", GET, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", Next => Whole("ok", false);
        "9112 9.3", "so is one of HTTP/1.0", GET, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", Next => Whole("ok", false);
        "9110 15.2", "interim answers precede the last one", GET, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Next => Whole("ok", true);
        "9110 15.2.2", "101 is for who asked for it", GET, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", Next => Refused;
        "9110 15", "no more than some interim answers", GET, FLOOD, Next => OverBound;
        "9110 5.4", "an answer with 99 headers is passed on, and Date is added", GET, with_headers(98), Next => Whole("ok", true);
        "9110 5.4", "an answer with 101 headers is refused, and not blamed on the API", GET, with_headers(100), Next => OverBound;
        "9110 5.4", "so is one with a head of 70 KB", GET, with_long_headers(), Next => OverBound;
    }
}

/// An answer with so many headers besides its length.
fn with_headers(count: usize) -> &'static str {
    let more = "A: b\r\n".repeat(count);
    format!("HTTP/1.1 200 OK\r\n{more}Content-Length: 2\r\n\r\nok").leak()
}

fn with_long_headers() -> &'static str {
    let more = format!("A: {}\r\n", "b".repeat(7_000)).repeat(10);
    format!("HTTP/1.1 200 OK\r\n{more}Content-Length: 2\r\n\r\nok").leak()
}

/// More interim answers than anybody has a use for.
const FLOOD: &str = concat!(
    "HTTP/1.1 103 \r\n\r\nHTTP/1.1 103 \r\n\r\nHTTP/1.1 103 \r\n\r\nHTTP/1.1 103 \r\n\r\n",
    "HTTP/1.1 103 \r\n\r\nHTTP/1.1 103 \r\n\r\nHTTP/1.1 103 \r\n\r\nHTTP/1.1 103 \r\n\r\n",
    "HTTP/1.1 103 \r\n\r\nHTTP/1.1 103 \r\n\r\nHTTP/1.1 103 \r\n\r\nHTTP/1.1 103 \r\n\r\n",
    "HTTP/1.1 103 \r\n\r\nHTTP/1.1 103 \r\n\r\nHTTP/1.1 103 \r\n\r\nHTTP/1.1 103 \r\n\r\n",
    "HTTP/1.1 103 \r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
);

pub(super) fn rows() -> Vec<Row> {
    cases()
        .into_iter()
        .map(|case| {
            let (paragraph, duty) = (case.paragraph, case.duty);
            Row::new(paragraph, duty, move |bench| Box::pin(check(bench, case)))
        })
        .collect()
}

/// Tries an answer with a client of each version, and then what the connection is good for.
async fn check(bench: &mut Bench, case: Case) -> anyhow::Result<()> {
    for client in [Protocol::Http1, Protocol::Http2] {
        // There is one connection, and it rests.
        ok(bench).await?;
        let connections = bench.h1.connections();
        bench.forget();
        bench.h1.answers(plain(case.answer, case.then));
        let answer = bench.ask(client, case.method.clone(), H1).await?;
        let record = bench.record().await?;
        let seen = seen(answer, case.seen);
        anyhow::ensure!(seen == Ok(()), "{client:?}: {seen:?}; {record}");
        let reason = match case.seen {
            Whole(..) | Empty(..) => "permitted",
            Refused | Broken => "upstream_broken",
            OverBound => "response_too_large",
        };
        anyhow::ensure!(record["reason"] == reason, "{client:?}: {record}");
        if case.seen == OverBound {
            anyhow::ensure!(record["blame"] == "gateway", "{client:?}: {record}");
        }
        ok(bench).await?;
        let reused = bench.h1.connections() == connections;
        let reusable = matches!(case.seen, Whole(_, true) | Empty(_, true));
        anyhow::ensure!(reused == reusable, "{client:?}: reused: {reused}");
    }
    Ok(())
}

/// An ordinary exchange.
async fn ok(bench: &mut Bench) -> anyhow::Result<()> {
    bench.forget();
    let answer = bench.ask(Protocol::Http2, Method::GET, H1).await??;
    anyhow::ensure!(answer.text() == "ok", "the next answer is {answer:?}");
    bench.record().await?;
    Ok(())
}

fn seen(answer: Result<Answer, Failure>, expected: Seen) -> Result<(), String> {
    let fits = match (&answer, expected) {
        (Ok(answer), Whole(body, _)) => {
            let length = answer.header("content-length");
            let exact = length.is_none_or(|length| length == body.len().to_string());
            answer.status == 200 && answer.text() == body && exact
        }
        (Ok(answer), Empty(status, _)) => {
            let no_length = status != 204 || answer.header("content-length").is_none();
            answer.status == status && answer.body.is_empty() && no_length
        }
        (Ok(answer), Refused | Broken) => {
            let told = answer.header("proxy-status").unwrap_or_default();
            answer.status == 502 && told.contains("upstream_broken")
        }
        (Ok(answer), OverBound) => {
            let told = answer.header("proxy-status").unwrap_or_default();
            answer.status == 502 && told.contains("response_too_large")
        }
        (Err(Failure::Exchange(_)), Broken) => true,
        (_, _) => false,
    };
    if fits {
        return Ok(());
    }
    Err(match answer {
        Ok(answer) => format!("{} {:?} {:?}", answer.status, answer.headers, answer.text()),
        Err(error) => error.to_string(),
    })
}
