//! Which answers are recovered from, and what the client and the record see.

use countersign_tests::{client::Session, fake::Protocol};
use futures_util::StreamExt as _;
use http::{Request, StatusCode};
use http_body_util::StreamBody;
use hyper::body::Frame;
use rstest::rstest;

use super::{HOST, How, get, post, replace_token, start};
use crate::harness::{soon, until};

/// A body larger than what is kept: 64 KiB.
const LARGE: usize = 100_000;

#[rstest]
#[tokio::test]
async fn a_rejected_request_is_sent_once_more_byte_for_byte(
    #[values(Protocol::Http1, Protocol::Http2)] client: Protocol,
    #[values(Protocol::Http1, Protocol::Http2)] upstream: Protocol,
    #[values("/by-json", "/status")] path: &str,
) -> anyhow::Result<()> {
    let mut bed = start().await?;
    bed.api.speak(upstream);
    let mut session = bed.client().over(client).open(HOST).await?;
    for (turn, length) in [0_usize, 1, 5_000, 65_536].into_iter().enumerate() {
        let body: Vec<u8> = (0_u8..=255).cycle().take(length).collect();
        assert_eq!(session.send(get(path)).await?.json()["ok"], true);
        bed.record().await?;
        replace_token(&bed, &format!("next-{turn}-7d6e5f"))?;
        bed.api.received().clear();
        let answer = soon("an answer", session.send(post(path, body))).await??;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let received = bed.api.received().all();
        assert_eq!(received.len(), 2);
        assert_eq!(received[0].body_sha256, received[1].body_sha256);
        assert_eq!(answer.json()["sha256"], received[0].body_sha256);
        assert_eq!(answer.json()["length"], length);
        let record = bed.record().await?;
        assert_eq!(record["outcome"], "permitted", "{record}");
        assert_eq!(record["upstream"]["replayed"], true, "{record}");
        assert_eq!(record["upstream"]["status"], 200);
        assert_eq!(record["bytes"]["request"], length, "{record}");
        let credential = &record["credential"];
        assert_eq!(credential["rejected"]["generation"], turn + 1, "{record}");
        assert_eq!(credential["generation"], turn + 2, "{record}");
    }
    Ok(())
}

#[rstest]
#[case::gzip(How::Encoded("gzip"))]
#[case::br(How::Encoded("br"))]
#[case::zstd(How::Encoded("zstd"))]
#[case::pieces(How::Pieces)]
#[case::at_the_end_of_what_is_looked_at(How::Padded(65_000))]
#[tokio::test]
async fn a_failure_is_found_however_it_is_sent(#[case] how: How) -> anyhow::Result<()> {
    let mut bed = start().await?;
    bed.api.set(how);
    let good = bed.client().send(get("/x")).await?;
    assert_eq!(good.status, StatusCode::OK);
    assert_eq!(bed.record().await?["upstream"]["replayed"], false);
    replace_token(&bed, "second-0a1b2c")?;
    bed.client().send(get("/x")).await?;
    let record = bed.record().await?;
    assert_eq!(record["upstream"]["replayed"], true, "{record}");
    assert_eq!(
        record["credential"]["rejected"]["api_error"],
        "token_expired"
    );
    Ok(())
}

/// What begins like a failure but is longer than what is looked at, and what a route says is a file,
/// goes on as it is.
#[rstest]
#[case::longer(How::Padded(65_600), "/x")]
#[case::a_file(How::Plain, "/files/a.json")]
#[tokio::test]
async fn what_is_no_failure_goes_on_untouched(
    #[case] how: How,
    #[case] path: &str,
) -> anyhow::Result<()> {
    let mut bed = start().await?;
    assert_eq!(bed.client().send(get("/x")).await?.json()["ok"], true);
    bed.record().await?;
    bed.api.set(how);
    replace_token(&bed, "second-0a1b2c")?;
    let calls = bed.api.received().count();
    let answer = bed.client().send(get(path)).await?;
    assert!(
        answer
            .text()
            .ends_with(r#""ok":false,"error":"token_expired"}"#)
    );
    let record = bed.record().await?;
    assert_eq!(record["outcome"], "permitted", "{record}");
    assert_eq!(record["upstream"]["replayed"], false);
    assert_eq!(bed.api.received().count(), calls + 1);
    Ok(())
}

/// An answer that leaves the question open is not kept from the client for ever.
#[tokio::test]
async fn an_answer_that_stands_still_goes_on_after_a_second() -> anyhow::Result<()> {
    let bed = start().await?;
    bed.api.set(How::Stalled);
    bed.api.expire("second-0a1b2c");
    let mut session = bed.client().open(HOST).await?;
    let mut response = soon("the head", session.start(get("/x"))).await??;
    assert_eq!(response.status(), StatusCode::OK);
    let frame = soon(
        "the first half",
        http_body_util::BodyExt::frame(&mut response),
    )
    .await?;
    let data = frame.expect("a frame")?.into_data().expect("data");
    assert_eq!(data, r#"{"ok":false,"error"#);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn a_body_too_large_to_keep_is_streamed_whole_and_its_failure_reported(
    #[values(true, false)] announced: bool,
) -> anyhow::Result<()> {
    let mut bed = start().await?;
    assert_eq!(bed.client().send(get("/x")).await?.json()["ok"], true);
    bed.record().await?;
    replace_token(&bed, "second-0a1b2c")?;
    bed.api.received().clear();
    let answer = if announced {
        bed.client().send(post("/x", vec![b'x'; LARGE])).await?
    } else {
        let stream = bed.client().over(Protocol::Http2).tls_stream(HOST).await?;
        let pieces = (0..LARGE / 1000).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 1000]));
        let frames = futures_util::stream::iter(pieces)
            .map(|piece| piece.map(|piece| Frame::data(bytes::Bytes::from(piece))));
        let request = Request::post(format!("https://{HOST}/x")).body(StreamBody::new(frames))?;
        Session::over(stream).await?.send(request).await?
    };
    assert_eq!(answer.json()["error"], "token_expired");
    let received = bed.api.received().all();
    assert_eq!(received.len(), 1);
    assert_eq!(
        (received[0].complete, received[0].body_length),
        (true, LARGE as u64)
    );
    let record = bed.record().await?;
    assert_eq!(record["reason"], "credential_rejected", "{record}");
    assert_eq!(record["outcome"], "failed");
    assert_eq!(record["blame"], "operator");
    assert_eq!(record["upstream"]["api_error"], "token_expired");
    let detail = record["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("limits.replayBytes"), "{detail}");
    // The next one has the new value already.
    assert_eq!(bed.client().send(get("/x")).await?.json()["ok"], true);
    assert_eq!(bed.record().await?["credential"]["generation"], 2);
    Ok(())
}

#[rstest]
#[case("missing_scope", "credential_insufficient", "operator")]
#[case("not_authed", "credential_unseen", "gateway")]
#[tokio::test]
async fn what_renewing_cannot_help_is_passed_on_and_told_to_whom_it_concerns(
    #[case] code: &'static str,
    #[case] reason: &str,
    #[case] blame: &str,
) -> anyhow::Result<()> {
    let mut bed = start().await?;
    bed.api.set(How::Error(code));
    let answer = bed.client().send(get("/x")).await?;
    assert_eq!(answer.json()["error"], code);
    let record = bed.record().await?;
    assert_eq!(record["outcome"], "failed", "{record}");
    assert_eq!(
        (&record["reason"], &record["blame"]),
        (&reason.into(), &blame.into())
    );
    assert_eq!(record["upstream"]["api_error"], code);
    let detail = record["detail"].as_str().unwrap_or_default();
    assert!(
        detail.contains("needed: `chat:write`, provided: `files:read`"),
        "{detail}"
    );
    assert_eq!(bed.api.received().count(), 1);
    // It is the request's fault, not the value's: the next may fare better.
    bed.api.set(How::Plain);
    assert_eq!(bed.client().send(get("/x")).await?.json()["ok"], true);
    Ok(())
}

/// The API may have acted before it failed.
#[rstest]
#[tokio::test]
async fn a_transient_error_is_never_sent_again(
    #[values(
        "internal_error",
        "fatal_error",
        "service_unavailable",
        "request_timeout"
    )]
    code: &'static str,
) -> anyhow::Result<()> {
    let mut bed = start().await?;
    bed.api.set(How::Error(code));
    let answer = bed.client().send(post("/x", "once")).await?;
    assert_eq!(answer.json()["error"], code);
    let record = bed.record().await?;
    assert_eq!(record["outcome"], "permitted", "{record}");
    assert_eq!(record["upstream"]["api_error"], code);
    assert_eq!(bed.api.received().count(), 1);
    Ok(())
}

/// One request finds out, the others are refused here in the API's own language, and a new value is
/// free to go at once.
#[tokio::test]
async fn a_value_that_stays_rejected_is_not_tried_by_every_request() -> anyhow::Result<()> {
    let mut bed = start().await?;
    let mut session = bed.client().open(HOST).await?;
    assert_eq!(session.send(get("/x")).await?.json()["ok"], true);
    bed.record().await?;
    bed.api.expire("second-0a1b2c");
    bed.api.received().clear();
    let began = tokio::time::Instant::now();
    let first = session.send(get("/x")).await?;
    assert_eq!(first.json()["error"], "token_expired");
    let record = bed.record().await?;
    assert_eq!(record["reason"], "credential_rejected", "{record}");
    assert_eq!(record["outcome"], "failed");
    for _ in 0..40 {
        let answer = session.send(get("/x")).await?;
        let record = bed.record().await?;
        assert_eq!(record["reason"], "credential_rejected", "{record}");
        if answer.json()["error"] == "credential_rejected" {
            assert_eq!(
                (&record["outcome"], answer.status),
                (&"refused".into(), StatusCode::OK)
            );
            assert_eq!(record["blame"], "operator");
        }
    }
    // Back-offs of 1, 2, 4, ... seconds at least: one call in each.
    let most = 1 + (began.elapsed().as_secs() + 1).ilog2() as usize;
    assert!(
        bed.api.received().count() <= most,
        "{} calls, {most} at most",
        bed.api.received().count()
    );

    replace_token(&bed, "second-0a1b2c")?;
    until("the new value", async || {
        let answer = session.send(get("/x")).await;
        answer.is_ok_and(|answer| answer.json()["ok"] == true)
    })
    .await
}

#[tokio::test]
async fn fifty_requests_that_fail_with_one_value_share_one_renewal() -> anyhow::Result<()> {
    let mut bed = start().await?;
    assert_eq!(bed.client().send(get("/x")).await?.json()["ok"], true);
    bed.record().await?;
    let mut sessions = Vec::new();
    for _ in 0..50 {
        sessions.push(bed.client().open(HOST).await?);
    }
    // The recheck of the file is due by now; this one makes sure that the old value is held.
    assert_eq!(bed.client().send(get("/x")).await?.json()["ok"], true);
    bed.record().await?;
    replace_token(&bed, "second-0a1b2c")?;
    bed.api.received().clear();
    let requests = sessions
        .iter_mut()
        .enumerate()
        .map(|(number, session)| session.send(post("/x", format!("body {number}"))));
    let answers = soon("all answers", futures_util::future::join_all(requests)).await?;
    for answer in answers {
        assert_eq!(answer?.json()["ok"], true);
    }
    let mut replayed = 0;
    for _ in 0..50 {
        let record = bed.record().await?;
        assert_eq!(record["outcome"], "permitted", "{record}");
        assert_eq!(record["credential"]["generation"], 2, "{record}");
        if record["upstream"]["replayed"] == true {
            assert_eq!(record["credential"]["rejected"]["generation"], 1);
            replayed += 1;
        }
    }
    assert!(replayed > 0, "no request met the rejected value");
    assert_eq!(bed.api.received().count(), 50 + replayed);
    Ok(())
}
