//! An API that sends the credential back to the caller.

use countersign_tests::fake::Protocol;
use rstest::rstest;

use crate::harness::{HOST, SECRET, TestBed, get};

#[rstest]
#[case::in_a_header("/leak/header", true)]
#[case::in_the_body("/leak/body", true)]
#[case::split_over_chunks("/leak/split", true)]
#[case::all_but_a_byte("/leak/nearly", false)]
#[case::not_at_all("/some", false)]
#[tokio::test]
async fn t18_an_echo_is_recorded_and_taken_out_of_headers(
    #[case] path: &str,
    #[case] echoed: bool,
    #[values(Protocol::Http1, Protocol::Http2)] upstream: Protocol,
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    bed.api.speak(upstream);
    let answer = bed.client().open(HOST).await?.send(get(path)).await?;
    for (name, value) in &answer.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        assert!(!value.contains(SECRET), "{name}");
    }
    if path == "/leak/header" {
        let shown = answer.header("x-debug");
        assert_eq!(shown, Some("key=[redacted]; again=[redacted]"));
    }
    let record = bed.record().await?;
    assert_eq!(record["outcome"], "permitted", "{record}");
    let told = record["upstream"].get("echoed");
    assert_eq!(told.is_some_and(|told| *told == true), echoed, "{record}");
    assert!(!record.to_string().contains(SECRET));
    Ok(())
}

/// The recorded error is compared with the very value, whatever that looks like.
#[tokio::test]
async fn t18_an_error_that_names_the_credential_is_recorded_without_it() -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    bed.client().send(get("/leak/error")).await?;
    let record = bed.record().await?;
    assert_eq!(record["upstream"]["api_error"], "bad key [redacted]");
    assert_eq!(record["upstream"]["echoed"], true, "{record}");
    Ok(())
}
