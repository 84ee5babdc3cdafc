//! Slack's own ways, with the catalog's Slack.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::Value;

use crate::harness::{TestBed, WEBHOOK, post_message};

/// Posts a message; the API's answer, and the record.
async fn say(bed: &mut TestBed, text: &str) -> anyhow::Result<(Value, Value)> {
    let answer = bed.client().send(post_message("C0", text)).await?;
    assert_eq!(answer.status, StatusCode::OK);
    Ok((answer.json(), bed.record().await?))
}

/// Within one request the operator knows, and what to do.
#[tokio::test]
async fn a_revoked_token_is_reported_with_its_remedy_and_left_alone() -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let (good, _) = say(&mut bed, "one").await?;
    assert_eq!(good["ok"], true);
    bed.env.slack.revoke(&bed.env.slack.bot_token());
    let (answer, record) = say(&mut bed, "two").await?;
    assert_eq!(answer["error"], "token_revoked");
    assert_eq!(record["reason"], "credential_rejected", "{record}");
    assert_eq!(record["blame"], "operator");
    assert_eq!(record["upstream"]["api_error"], "token_revoked");
    let detail = record["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("qa/slack-bot"), "{detail}");
    assert!(detail.contains("Put a working secret"), "{detail}");
    let (answer, record) = say(&mut bed, "three").await?;
    if answer["error"] == "credential_rejected" {
        assert_eq!(record["outcome"], "refused");
    }
    Ok(())
}

#[tokio::test]
async fn a_replaced_token_is_read_again_and_the_message_sent_once() -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    say(&mut bed, "one").await?;
    let token = bed.env.slack.replace_bot_token();
    bed.env.write_secret("slack-bot", &token)?;
    let (answer, record) = say(&mut bed, "two").await?;
    assert_eq!(answer["ok"], true, "{answer}");
    assert_eq!(record["credential"]["generation"], 2, "{record}");
    assert_eq!(bed.env.slack.messages("C0"), ["one", "two"]);
    Ok(())
}

#[tokio::test]
async fn a_webhook_that_is_gone_is_the_operators_to_mend() -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let gone = "/services/T000/B000/gone";
    bed.env.write_secret("slack-webhook", gone)?;
    let hook = Request::post(WEBHOOK)
        .header("content-type", "application/json")
        .body(Full::<Bytes>::from(r#"{"text":"hello"}"#))?;
    let answer = bed.client().send(hook).await?;
    assert!(!answer.status.is_success());
    let record = bed.record().await?;
    let told = record["upstream"]["api_error"].as_str().unwrap_or_default();
    assert!(
        ["no_service", "invalid_token", "no_team"].contains(&told),
        "{record}"
    );
    assert_eq!(record["reason"], "credential_rejected", "{record}");
    Ok(())
}
