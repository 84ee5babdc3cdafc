//! A value is tried by a probe before a pod's request has to find out, and again while it is used;
//! what probes show is told, and nothing of it is a value.

use std::time::Duration;

use countersign_core::clock::Clock;
use countersign_tests::fake::Misbehaviour;
use futures_util::StreamExt as _;
use http::StatusCode;
use serde_json::Value;

use crate::harness::{TestBed, list_runs, pass, post_message, soon};

const PROBE: &str = "/api/auth.test";
const POST_MESSAGE: &str = "/api/chat.postMessage";
const QASE_PROBE: &str = "/v1/project";

async fn start() -> anyhow::Result<TestBed> {
    let clock = Clock::manual(Clock::system().now());
    TestBed::builder().clock(&clock).start().await
}

/// Posts a message; the API's answer, and the record.
async fn say(bed: &mut TestBed) -> anyhow::Result<(Value, Value)> {
    let answer = bed.client().send(post_message("C0", "hello")).await?;
    Ok((answer.json(), bed.record().await?))
}

/// How often Slack was probed.
fn probes(bed: &TestBed) -> usize {
    bed.env.slack.received().at(PROBE).len()
}

fn messages(bed: &TestBed) -> usize {
    bed.env.slack.received().at(POST_MESSAGE).len()
}

/// Posts messages until Slack was probed so often: nothing tells of a probe beside the requests.
async fn until_probed(bed: &mut TestBed, times: usize) -> anyhow::Result<()> {
    let probing = async {
        while probes(bed) < times {
            say(bed).await?;
        }
        anyhow::Ok(())
    };
    soon("a probe", probing).await?
}

#[tokio::test]
async fn a_probe_tells_whose_the_credential_is_and_what_it_could_do_without() -> anyhow::Result<()>
{
    let mut bed = start().await?;
    for _ in 0..10 {
        assert_eq!(say(&mut bed).await?.0["ok"], true);
    }
    assert_eq!(probes(&bed), 1, "one for all requests");
    let probe = bed.env.slack.received().at(PROBE)[0].clone();
    let bearer = format!("Bearer {}", bed.env.slack.bot_token());
    assert_eq!(probe.header_values("authorization"), [bearer]);
    assert!(
        probe
            .header("user-agent")
            .is_some_and(|a| a.contains("(probe)"))
    );

    let (_, text) = bed.ask_admin("/credentials").await?;
    let status = bed.credential("qa/slack-bot").await?;
    let probe = &status["health"]["probe"];
    assert_eq!(probe["finding"], "works", "{status}");
    assert_eq!(probe["shows"]["team"], "Acme");
    assert_eq!(probe["shows"]["user"], "dashboard");
    let scopes = &status["health"]["scopes"];
    let unused = scopes["unused"].as_array().expect("a list");
    assert!(unused.contains(&"files:read".into()), "{scopes}");
    assert!(!unused.contains(&"chat:write".into()), "{scopes}");
    for secret in bed.env.secrets() {
        assert!(!text.contains(&secret), "the status holds a secret");
    }
    // No slot of another kind is probed: a webhook's path is no token.
    let webhook = bed.credential("qa/slack-webhook").await?;
    assert!(webhook["health"]["probe"].is_null(), "{webhook}");

    let (_, metrics) = bed.ask_admin("/metrics").await?;
    let counted = r#"countersign_probes_total{credential="qa/slack-bot",result="works"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
    let fetched = r#"countersign_credential_fetches_total{credential="qa/slack-bot",result="ok"} "#;
    assert!(metrics.contains(fetched), "{metrics}");
    // Nobody asked for it, so there is no record of it.
    let records = bed.gateway.stop().await?;
    assert!(
        records
            .iter()
            .all(|record| record["target"]["path"] != PROBE)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_first_requests_make_one_probe() -> anyhow::Result<()> {
    let bed = start().await?;
    let client = bed.client();
    let asking = (0..1_000).map(|_| client.send(list_runs()));
    let answers: Vec<_> = futures_util::stream::iter(asking)
        .buffer_unordered(100)
        .collect()
        .await;
    for answer in answers {
        assert_eq!(answer?.status, StatusCode::OK);
    }
    assert_eq!(bed.env.qase.received().at(QASE_PROBE).len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_value_that_the_api_rejects_is_never_put_on_a_pods_request() -> anyhow::Result<()> {
    let mut bed = start().await?;
    bed.env.slack.revoke(&bed.env.slack.bot_token());
    let (answer, record) = say(&mut bed).await?;
    assert_eq!(answer["error"], "credential_rejected", "{answer}");
    assert_eq!(record["outcome"], "refused", "{record}");
    assert_eq!(record["blame"], "operator");
    let detail = record["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("`token_revoked`"), "{detail}");
    for _ in 0..20 {
        say(&mut bed).await?;
    }
    assert_eq!(messages(&bed), 0, "no message was spent on it");
    assert_eq!(probes(&bed), 1, "and Slack was left alone");
    let status = bed.credential("qa/slack-bot").await?;
    assert_eq!(status["state"], "failed", "{status}");
    assert_eq!(status["health"]["probe"]["finding"], "rejected");

    // A better one is probed, and used at once.
    let token = bed.env.slack.replace_bot_token();
    bed.env.write_secret("slack-bot", &token)?;
    pass(Duration::from_secs(2)).await;
    let (answer, _) = say(&mut bed).await?;
    assert_eq!(answer["ok"], true, "{answer}");
    assert_eq!(probes(&bed), 2);
    assert_eq!(bed.env.slack.messages("C0"), ["hello"]);
    Ok(())
}

#[tokio::test]
async fn a_changed_value_is_probed_before_its_use() -> anyhow::Result<()> {
    let mut bed = start().await?;
    say(&mut bed).await?;
    let (good, file) = (bed.env.slack.bot_token(), "slack-bot");
    // Somebody puts a wrong one there.
    bed.env.write_secret(file, "xoxb-000000000000-wrong")?;
    pass(Duration::from_secs(2)).await;
    let (answer, record) = say(&mut bed).await?;
    assert_eq!(answer["error"], "credential_rejected", "{record}");
    assert_eq!((probes(&bed), messages(&bed)), (2, 1));
    bed.env.write_secret(file, &good)?;
    pass(Duration::from_secs(2)).await;
    assert_eq!(say(&mut bed).await?.0["ok"], true);
    assert_eq!((probes(&bed), messages(&bed)), (3, 2));
    Ok(())
}

#[tokio::test]
async fn a_probe_is_repeated_while_its_credential_is_used_and_holds_nobody_up() -> anyhow::Result<()>
{
    let mut bed = start().await?;
    say(&mut bed).await?;
    pass(Duration::from_mins(9)).await;
    say(&mut bed).await?;
    assert_eq!(probes(&bed), 1);
    pass(Duration::from_mins(2)).await;
    until_probed(&mut bed, 2).await?;
    assert_eq!(probes(&bed), 2);

    // Revoked while nobody looked: the repeated probe finds it, and the next request is spared.
    bed.env.slack.revoke(&bed.env.slack.bot_token());
    pass(Duration::from_mins(11)).await;
    let found = async {
        while say(&mut bed).await?.0["error"] != "credential_rejected" {}
        anyhow::Ok(())
    };
    soon("a refusal", found).await?
}

#[tokio::test]
async fn a_probe_that_cannot_be_made_keeps_nobody_from_trying() -> anyhow::Result<()> {
    let mut bed = start().await?;
    // Slack fails, and then limits, its probe alone.
    bed.env.slack.fail("auth.test", 1, "internal_error");
    assert_eq!(say(&mut bed).await?.0["ok"], true);
    let status = bed.credential("qa/slack-bot").await?;
    let probe = &status["health"]["probe"];
    assert_eq!(probe["finding"], "unknown", "{status}");
    assert_eq!(probe["detail"], "the API answered `internal_error`");

    // Made again after a minute; a limit is noted and kept to.
    bed.env.slack.limit("auth.test", 1, 120);
    pass(Duration::from_secs(61)).await;
    until_probed(&mut bed, 2).await?;
    pass(Duration::from_secs(61)).await;
    for _ in 0..5 {
        assert_eq!(say(&mut bed).await?.0["ok"], true);
    }
    assert_eq!(probes(&bed), 2, "the limit still holds");
    pass(Duration::from_secs(61)).await;
    until_probed(&mut bed, 3).await?;
    let status = bed.credential("qa/slack-bot").await?;
    assert_eq!(status["health"]["probe"]["finding"], "works", "{status}");
    Ok(())
}

#[tokio::test]
async fn an_api_that_is_away_is_told_as_that() -> anyhow::Result<()> {
    let mut bed = start().await?;
    let away = Some(Misbehaviour::ResetOnAccept);
    bed.env.slack.misbehave(away);
    // Slack's catalog entry tells that by closing the connection.
    let answer = bed.client().send(post_message("C0", "hello")).await;
    assert!(answer.is_err(), "{answer:?}");
    let record = bed.record().await?;
    assert_eq!(record["blame"], "upstream", "{record}");
    let status = bed.credential("qa/slack-bot").await?;
    assert_eq!(status["health"]["probe"]["finding"], "unknown", "{status}");
    bed.env.slack.misbehave(None);
    assert_eq!(say(&mut bed).await?.0["ok"], true);
    Ok(())
}
