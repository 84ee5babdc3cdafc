//! Slack's own ways, with the catalog's Slack.

use bytes::Bytes;
use countersign_tests::{gateway::Gateway, world::World};
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::Value;

const POST_MESSAGE: &str = "/api/chat.postMessage";

fn message(text: &str) -> Request<Full<Bytes>> {
    Request::post(format!("https://slack.com{POST_MESSAGE}"))
        .header("content-type", "application/json")
        .body(Full::from(format!(r#"{{"channel":"C0","text":"{text}"}}"#)))
        .expect("a request")
}

async fn say(
    world: &World,
    gateway: &mut Gateway,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<(Value, Value)> {
    let token = world.token("qa", "nightly-dashboard");
    let client = gateway.client(world).bearer(&token);
    let answer = client.send(request).await?;
    assert_eq!(answer.status, StatusCode::OK);
    Ok((answer.json(), gateway.decisions().next().await))
}

/// Within one request the operator knows, and what to do.
#[tokio::test]
async fn a_revoked_token_is_reported_with_its_remedy_and_left_alone() -> anyhow::Result<()> {
    let world = World::start().await?;
    let mut gateway = Gateway::start(&world).await?;
    let (good, _) = say(&world, &mut gateway, message("one")).await?;
    assert_eq!(good["ok"], true);
    world.slack.revoke(&world.slack.bot_token());
    let (answer, record) = say(&world, &mut gateway, message("two")).await?;
    assert_eq!(answer["error"], "token_revoked");
    assert_eq!(record["reason"], "credential_rejected", "{record}");
    assert_eq!(record["blame"], "operator");
    assert_eq!(record["upstream"]["api_error"], "token_revoked");
    let detail = record["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("qa/slack-bot"), "{detail}");
    assert!(detail.contains("Put a working secret"), "{detail}");
    let (answer, record) = say(&world, &mut gateway, message("three")).await?;
    if answer["error"] == "credential_rejected" {
        assert_eq!(record["outcome"], "refused");
    }
    Ok(())
}

#[tokio::test]
async fn a_replaced_token_is_read_again_and_the_message_sent_once() -> anyhow::Result<()> {
    let world = World::start().await?;
    let mut gateway = Gateway::start(&world).await?;
    say(&world, &mut gateway, message("one")).await?;
    let token = world.slack.replace_bot_token();
    world.write_secret("slack-bot", &token)?;
    let (answer, record) = say(&world, &mut gateway, message("two")).await?;
    assert_eq!(answer["ok"], true, "{answer}");
    assert_eq!(record["credential"]["generation"], 2, "{record}");
    assert_eq!(world.slack.messages("C0"), ["one", "two"]);
    Ok(())
}

#[tokio::test]
async fn a_webhook_that_is_gone_is_the_operators_to_mend() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.write_secret("slack-webhook", "/services/T000/B000/gone")?;
    let mut gateway = Gateway::start(&world).await?;
    let token = world.token("qa", "nightly-dashboard");
    let client = gateway.client(&world).bearer(&token);
    let hook = Request::post("https://hooks.slack.com/services/countersign/dashboard")
        .header("content-type", "application/json")
        .body(Full::from(r#"{"text":"hello"}"#))?;
    let answer = client.send(hook).await?;
    assert!(!answer.status.is_success());
    let record = gateway.decisions().next().await;
    let told = record["upstream"]["api_error"].as_str().unwrap_or_default();
    assert!(
        ["no_service", "invalid_token", "no_team"].contains(&told),
        "{record}"
    );
    assert_eq!(record["reason"], "credential_rejected", "{record}");
    Ok(())
}
