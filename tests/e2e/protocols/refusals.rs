//! Refusals arrive whole, in the API's own language.

use bytes::Bytes;
use countersign_tests::fake::Protocol;
use http::Request;
use http_body_util::Full;
use rstest::rstest;

use crate::harness::TestBed;

/// Each refusal is answered before the upstream was asked, so while the body is still on its way.
/// It must not be lost in the reset of a stream or connection whose body nobody read.
#[rstest]
#[case::http1(Protocol::Http1)]
#[case::http2(Protocol::Http2)]
#[tokio::test]
async fn a_refused_body_does_not_cost_the_answer(#[case] protocol: Protocol) -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    let client = bed.client().over(protocol);
    for size in [1, 1_000, 60_000, 200_000] {
        let mut session = client.open("slack.com").await?;
        for _ in 0..10 {
            let request = Request::post("https://slack.com/api/chat.delete")
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from(vec![b' '; size])))?;
            let answer = session.send(request).await?;
            assert_eq!(answer.status, 200, "{size} bytes");
            assert_eq!(
                answer.json()["error"],
                "request_not_allowed",
                "{size} bytes"
            );
        }
    }
    assert_eq!(bed.env.slack.received().count(), 0);
    bed.gateway.stop().await?;
    Ok(())
}
