//! A request that an upstream says it has not acted on is sent again, once, on another connection
//! (RFC 9113, sections 6.8 and 8.7), whatever its method; if its body is gone, the client is told.

use bytes::Bytes;
use countersign_tests::{client::Answer, fake::Protocol};
use http::{Method, Request};
use http_body_util::Full;
use rstest::rstest;

use super::{
    bench::{Bench, H2},
    frames,
    scripted::{Reply, Then, framed},
};
use crate::harness::soon;

/// How an upstream refuses a stream.
fn refusal(how: &str) -> Reply {
    let (bytes, then): (fn(u32) -> Vec<u8>, _) = match how {
        "refused" => (|id| frames::rst(id, frames::REFUSED_STREAM), Then::Next),
        "goaway" => (|id| frames::goaway(id - 1, frames::NO_ERROR), Then::Next),
        "goaway, closed" => (|id| frames::goaway(id - 1, frames::NO_ERROR), Then::Close),
        "goaway, enhance your calm" => (|id| frames::goaway(id - 1, 11), Then::Close),
        "two goaways" => (
            |id| {
                let first = frames::goaway(0x7fff_ffff, frames::NO_ERROR);
                [first, frames::goaway(id - 1, frames::NO_ERROR)].concat()
            },
            Then::Close,
        ),
        other => panic!("{other}"),
    };
    framed(bytes, then)
}

async fn send(bench: &Bench, method: Method, body: &Bytes) -> anyhow::Result<Answer> {
    let mut request = Request::new(Full::new(body.clone()));
    *request.method_mut() = method;
    *request.uri_mut() = format!("https://{H2}/asked").parse()?;
    let client = bench.bed.client().over(Protocol::Http2);
    Ok(soon("an answer", client.send(request)).await??)
}

#[rstest]
#[tokio::test]
async fn a_request_that_was_not_processed_is_sent_again_once(
    #[values(
        "refused",
        "goaway",
        "goaway, closed",
        "goaway, enhance your calm",
        "two goaways"
    )]
    how: &str,
    #[values(false, true)] early: bool,
    #[values(false, true)] used_before: bool,
) -> anyhow::Result<()> {
    let mut bench = Bench::start().await?;
    if used_before {
        send(&bench, Method::GET, &Bytes::new()).await?;
        bench.record().await?;
    }
    // No more than is kept: 64 KiB.
    for (method, size) in [(Method::GET, 0), (Method::POST, 5), (Method::POST, 50_000)] {
        bench.h2.seen();
        let connections = bench.h2.connections();
        bench.h2.answers(Reply {
            early,
            ..refusal(how)
        });
        let body = Bytes::from(vec![b'x'; size]);
        let answer = send(&bench, method.clone(), &body).await?;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "ok".into()));
        let record = bench.record().await?;
        assert_eq!(record["outcome"], "permitted", "{record}");
        assert_eq!(record["bytes"]["request"], size, "{record}");
        let seen = bench.h2.seen();
        let whole = seen.last().map(String::len);
        assert_eq!(whole, Some(size), "{method}: {} requests", seen.len());
        assert!(seen.len() <= 2, "{method}: {} requests", seen.len());
        let first = usize::from(connections == 0);
        assert_eq!(bench.h2.connections(), connections + first + 1, "{method}");
    }
    Ok(())
}

/// The upstream has the last word, and it is known that it has not acted.
#[rstest]
#[tokio::test]
async fn a_request_that_is_refused_twice_is_not_sent_a_third_time(
    #[values("refused", "goaway, closed")] how: &str,
) -> anyhow::Result<()> {
    let mut bench = Bench::start().await?;
    bench.h2.answers(refusal(how));
    bench.h2.answers(refusal(how));
    let answer = send(&bench, Method::POST, &Bytes::from_static(b"once")).await?;
    assert_eq!(answer.status.as_u16(), 503);
    let record = bench.record().await?;
    assert_eq!(record["reason"], "upstream_not_taken", "{record}");
    assert_eq!(record["blame"], "upstream", "{record}");
    assert_eq!(bench.h2.seen(), ["once", "once"]);
    let answer = send(&bench, Method::POST, &Bytes::from_static(b"next")).await?;
    assert_eq!(answer.text(), "ok");
    Ok(())
}

#[rstest]
#[case::larger_than_what_is_kept(100_000, "")]
#[case::nothing_is_kept(5, "  limits: { replayBytes: 0 }\n")]
#[tokio::test]
async fn a_body_that_is_gone_is_not_sent_again_and_the_client_is_told(
    #[case] size: usize,
    #[case] spec: &str,
) -> anyhow::Result<()> {
    let mut bench = Bench::with(spec).await?;
    // After it has read the whole body.
    bench.h2.answers(refusal("refused"));
    let body = Bytes::from(vec![b'x'; size]);
    let answer = send(&bench, Method::POST, &body).await?;
    assert_eq!(answer.status.as_u16(), 503);
    let told = answer.header("proxy-status").unwrap_or_default();
    assert!(told.contains("upstream_not_taken"), "{told}");
    let record = bench.record().await?;
    let detail = record["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("limits.replayBytes"), "{record}");
    assert_eq!(bench.h2.seen().len(), 1);
    Ok(())
}

/// What may have been acted on is not sent again.
#[rstest]
#[case::goaway_above(|id| frames::goaway(id, frames::NO_ERROR))]
#[case::goaway_above_with_an_error(|id| frames::goaway(id, 2))]
#[case::reset(|id| frames::rst(id, 2))]
#[case::cancelled(|id| frames::rst(id, 8))]
#[case::closed(|_| Vec::new())]
#[tokio::test]
async fn a_request_that_may_have_been_processed_is_not_sent_again(
    #[case] bytes: fn(u32) -> Vec<u8>,
    #[values("GET", "POST")] method: Method,
) -> anyhow::Result<()> {
    let mut bench = Bench::start().await?;
    bench.h2.answers(framed(bytes, Then::Close));
    let answer = send(&bench, method, &Bytes::new()).await?;
    assert_eq!(answer.status.as_u16(), 502);
    let record = bench.record().await?;
    assert_eq!(record["reason"], "upstream_broken", "{record}");
    assert_eq!(bench.h2.seen().len(), 1);
    Ok(())
}
