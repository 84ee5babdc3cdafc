//! What the operator is told of a credential that its API rejects: one state, the last error with its time, where
//! the secret is kept, and a line in the log when it begins and when it is over.

use countersign_tests::{environment::Environment, process::Process};
use http_body_util::Full;
use serde_json::Value;

use super::{How, RejectingApi};
use crate::harness::{TestBed, post_message, until};

/// What `countersign credentials` reads.
async fn status(bed: &TestBed<RejectingApi>) -> anyhow::Result<Value> {
    bed.credential("qa/rejects").await
}

async fn call(bed: &mut TestBed<RejectingApi>) -> anyhow::Result<Value> {
    let request = http::Request::get(format!("https://{}/some", super::HOST));
    bed.client().send(request.body(Full::default())?).await?;
    bed.record().await
}

#[tokio::test]
async fn a_rejected_credential_is_told_as_one_until_it_works() -> anyhow::Result<()> {
    let mut bed = TestBed::with_api(RejectingApi::new()).start().await?;
    call(&mut bed).await?;
    let good = status(&bed).await?;
    assert_eq!(good["state"], "good", "{good}");
    assert!(good["last_error"].is_null(), "{good}");
    let source = good["sources"][0].as_str().unwrap_or_default();
    assert!(source.starts_with("token in the file /") && source.ends_with("/secrets/example"));

    bed.api.expire("second-0a1b2c3d4e");
    assert_eq!(call(&mut bed).await?["reason"], "credential_rejected");
    let rejected = status(&bed).await?;
    assert_eq!(rejected["state"], "failed", "{rejected}");
    let error = rejected["last_error"].as_str().unwrap_or_default();
    assert!(
        error.contains("rejected generation 1: `token_expired`"),
        "{rejected}"
    );
    assert!(rejected["last_error_s"].is_u64(), "{rejected}");

    // An answer that says nothing about the credential changes nothing.
    bed.api.set(How::Failing);
    until("a request that tries it again", async || {
        let record = call(&mut bed).await.unwrap_or_default();
        record["upstream"]["status"] == 500
    })
    .await?;
    let unclear = status(&bed).await?;
    assert_eq!(unclear["state"], "failed", "{unclear}");
    assert!(unclear["last_error"].is_string(), "{unclear}");
    let text = unclear.to_string();
    assert!(!text.contains("at this moment"), "nobody tries it: {text}");
    assert!(text.contains("by the next request"), "{text}");

    bed.api.set(How::Plain);
    bed.env.write_secret("example", "second-0a1b2c3d4e")?;
    until("the new value to work", async || {
        let record = call(&mut bed).await.unwrap_or_default();
        record["outcome"] == "permitted"
    })
    .await?;
    let again = status(&bed).await?;
    assert_eq!(again["state"], "good", "{again}");
    assert!(again["last_error"].is_null(), "{again}");
    let last = &again["health"]["last_rejection"];
    assert_eq!(
        (&last["generation"], &last["said"]),
        (&1.into(), &"token_expired".into())
    );
    assert!(last["accepted_s"].is_u64(), "{again}");
    Ok(())
}

#[tokio::test]
async fn the_log_says_when_a_credential_is_rejected_and_when_it_works_again() -> anyhow::Result<()>
{
    let env = Environment::start().await?;
    let mut gateway = Process::start(&env, None).await?;
    let token = env.token("qa", "nightly-dashboard");
    let client = gateway.client().bearer(&token);
    client.send(post_message("C0", "one")).await?;
    // Slack's catalog has a probe, which works on: only the requests of this method are rejected.
    env.slack.fail("chat.postMessage", 2, "token_revoked");
    client.send(post_message("C0", "two")).await?;
    let said = |message: &'static str| {
        move |printed: &str| {
            let events = printed
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            events.into_iter().find(|event| event["message"] == message)
        }
    };
    let rejected = gateway.said(said("the API rejects the credential")).await?;
    assert_eq!(rejected["level"], "WARN", "{rejected}");
    assert_eq!(rejected["credential"], "qa/slack-bot", "{rejected}");
    assert_eq!(rejected["said"], "token_revoked", "{rejected}");
    until("a request that works", async || {
        client
            .send(post_message("C0", "three"))
            .await
            .is_ok_and(|answer| answer.json()["ok"] == true)
    })
    .await?;
    let again = gateway
        .said(said("the API accepts the credential again"))
        .await?;
    assert_eq!(again["credential"], "qa/slack-bot", "{again}");
    assert!(!gateway.printed().contains(&env.slack.bot_token()));
    Ok(())
}
