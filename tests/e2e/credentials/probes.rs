//! A value is tried by a probe before a pod's request has to find out, and again while it is used;
//! what probes show is told, and nothing of it is a value.

use std::time::Duration;

use bytes::Bytes;
use countersign_core::clock::Clock;
use countersign_tests::{
    client::Client,
    fake::Misbehaviour,
    gateway::Gateway,
    process,
    world::{Options, World},
};
use futures_util::StreamExt as _;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::Value;

const PROBE: &str = "/api/auth.test";
const POST_MESSAGE: &str = "/api/chat.postMessage";
const QASE_PROBE: &str = "/v1/project";

/// The longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

struct Stage {
    world: World,
    gateway: Gateway,
    client: Client,
}

impl Stage {
    async fn start() -> anyhow::Result<Self> {
        let world = World::with(Options {
            clock: Clock::manual(Clock::system().now()),
            ..Options::default()
        })
        .await?;
        let gateway = Gateway::start(&world).await?;
        let token = world.token("qa", "nightly-dashboard");
        let client = gateway.client(&world).bearer(&token);
        Ok(Self {
            world,
            gateway,
            client,
        })
    }

    /// Posts a message; the API's answer, and the record.
    async fn say(&mut self) -> anyhow::Result<(Value, Value)> {
        let message = Request::post(format!("https://slack.com{POST_MESSAGE}"))
            .header("content-type", "application/json")
            .body(Full::from(r#"{"channel":"C0","text":"hello"}"#))?;
        let answer = self.client.send(message).await?;
        Ok((answer.json(), self.gateway.decisions().next().await))
    }

    /// How often Slack was probed.
    fn probes(&self) -> usize {
        self.world.slack.received().at(PROBE).len()
    }

    fn messages(&self) -> usize {
        self.world.slack.received().at(POST_MESSAGE).len()
    }

    /// What the admin endpoint tells of a credential, and all of its answer as text.
    async fn status(&self, credential: &str) -> anyhow::Result<(Value, String)> {
        let admin = self.gateway.admin().expect("there is one");
        let answer = process::admin(admin, "/credentials").await?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let all: Value = serde_json::from_str(body)?;
        let all_of = all["credentials"].as_array().expect("a list");
        let found = all_of.iter().find(|one| one["name"] == credential);
        Ok((found.cloned().expect("it is there"), answer))
    }

    /// Posts messages until Slack was probed so often: nothing tells of a probe beside the requests.
    async fn until_probed(&mut self, times: usize) -> anyhow::Result<()> {
        let waiting = tokio::time::timeout(PATIENCE, async {
            while self.probes() < times {
                self.say().await?;
            }
            anyhow::Ok(())
        });
        waiting.await?
    }
}

/// Lets time pass by tokio's clock, which runs on afterwards.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_probe_tells_whose_the_credential_is_and_what_it_could_do_without() -> anyhow::Result<()>
{
    let mut stage = Stage::start().await?;
    for _ in 0..10 {
        assert_eq!(stage.say().await?.0["ok"], true);
    }
    assert_eq!(stage.probes(), 1, "one for all requests");
    let probe = stage.world.slack.received().at(PROBE)[0].clone();
    let bearer = format!("Bearer {}", stage.world.slack.bot_token());
    assert_eq!(probe.header_values("authorization"), [bearer]);
    assert!(
        probe
            .header("user-agent")
            .is_some_and(|a| a.contains("(probe)"))
    );

    let (status, text) = stage.status("qa/slack-bot").await?;
    let probe = &status["health"]["probe"];
    assert_eq!(probe["finding"], "works", "{status}");
    assert_eq!(probe["shows"]["team"], "Acme");
    assert_eq!(probe["shows"]["user"], "dashboard");
    let scopes = &status["health"]["scopes"];
    let unused = scopes["unused"].as_array().expect("a list");
    assert!(unused.contains(&"files:read".into()), "{scopes}");
    assert!(!unused.contains(&"chat:write".into()), "{scopes}");
    for secret in stage.world.secrets() {
        assert!(!text.contains(&secret), "the status holds a secret");
    }
    // No slot of another kind is probed: a webhook's path is no token.
    let (webhook, _) = stage.status("qa/slack-webhook").await?;
    assert!(webhook["health"]["probe"].is_null(), "{webhook}");

    let admin = stage.gateway.admin().expect("there is one");
    let metrics = process::admin(admin, "/metrics").await?;
    let counted = r#"countersign_probes_total{credential="qa/slack-bot",result="works"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
    let fetched = r#"countersign_credential_fetches_total{credential="qa/slack-bot",result="ok"} "#;
    assert!(metrics.contains(fetched), "{metrics}");
    // Nobody asked for it, so there is no record of it.
    let records = stage.gateway.stop().await?;
    assert!(
        records
            .iter()
            .all(|record| record["target"]["path"] != PROBE)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_first_requests_make_one_probe() -> anyhow::Result<()> {
    let stage = Stage::start().await?;
    let url = "https://api.qase.io/v1/run/DEMO?limit=1";
    let asking = (0..1_000).map(|_| {
        let request = Request::get(url).body(Full::<Bytes>::default());
        let client = stage.client.clone();
        async move { client.send(request?).await.map_err(anyhow::Error::from) }
    });
    let answers: Vec<_> = futures_util::stream::iter(asking)
        .buffer_unordered(100)
        .collect()
        .await;
    for answer in answers {
        assert_eq!(answer?.status, StatusCode::OK);
    }
    assert_eq!(stage.world.qase.received().at(QASE_PROBE).len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_value_that_the_api_rejects_is_never_put_on_a_pods_request() -> anyhow::Result<()> {
    let mut stage = Stage::start().await?;
    stage.world.slack.revoke(&stage.world.slack.bot_token());
    let (answer, record) = stage.say().await?;
    assert_eq!(answer["error"], "credential_rejected", "{answer}");
    assert_eq!(record["outcome"], "refused", "{record}");
    assert_eq!(record["blame"], "operator");
    let detail = record["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("`token_revoked`"), "{detail}");
    for _ in 0..20 {
        stage.say().await?;
    }
    assert_eq!(stage.messages(), 0, "no message was spent on it");
    assert_eq!(stage.probes(), 1, "and Slack was left alone");
    let (status, _) = stage.status("qa/slack-bot").await?;
    assert_eq!(status["state"], "failed", "{status}");
    assert_eq!(status["health"]["probe"]["finding"], "rejected");

    // A better one is probed, and used at once.
    let token = stage.world.slack.replace_bot_token();
    stage.world.write_secret("slack-bot", &token)?;
    pass(Duration::from_secs(2)).await;
    let (answer, _) = stage.say().await?;
    assert_eq!(answer["ok"], true, "{answer}");
    assert_eq!(stage.probes(), 2);
    assert_eq!(stage.world.slack.messages("C0"), ["hello"]);
    Ok(())
}

#[tokio::test]
async fn a_changed_value_is_probed_before_its_use() -> anyhow::Result<()> {
    let mut stage = Stage::start().await?;
    stage.say().await?;
    let (good, file) = (stage.world.slack.bot_token(), "slack-bot");
    // Somebody puts a wrong one there.
    stage.world.write_secret(file, "xoxb-000000000000-wrong")?;
    pass(Duration::from_secs(2)).await;
    let (answer, record) = stage.say().await?;
    assert_eq!(answer["error"], "credential_rejected", "{record}");
    assert_eq!((stage.probes(), stage.messages()), (2, 1));
    stage.world.write_secret(file, &good)?;
    pass(Duration::from_secs(2)).await;
    assert_eq!(stage.say().await?.0["ok"], true);
    assert_eq!((stage.probes(), stage.messages()), (3, 2));
    Ok(())
}

#[tokio::test]
async fn a_probe_is_repeated_while_its_credential_is_used_and_holds_nobody_up() -> anyhow::Result<()>
{
    let mut stage = Stage::start().await?;
    stage.say().await?;
    pass(Duration::from_mins(9)).await;
    stage.say().await?;
    assert_eq!(stage.probes(), 1);
    pass(Duration::from_mins(2)).await;
    stage.until_probed(2).await?;
    assert_eq!(stage.probes(), 2);

    // Revoked while nobody looked: the repeated probe finds it, and the next request is spared.
    stage.world.slack.revoke(&stage.world.slack.bot_token());
    pass(Duration::from_mins(11)).await;
    let waiting = tokio::time::timeout(PATIENCE, async {
        loop {
            let (answer, _) = stage.say().await?;
            if answer["error"] == "credential_rejected" {
                return anyhow::Ok(());
            }
        }
    });
    waiting.await??;
    Ok(())
}

#[tokio::test]
async fn a_probe_that_cannot_be_made_keeps_nobody_from_trying() -> anyhow::Result<()> {
    let mut stage = Stage::start().await?;
    // Slack fails, and then limits, its probe alone.
    stage.world.slack.fail("auth.test", 1, "internal_error");
    assert_eq!(stage.say().await?.0["ok"], true);
    let (status, _) = stage.status("qa/slack-bot").await?;
    let probe = &status["health"]["probe"];
    assert_eq!(probe["finding"], "unknown", "{status}");
    assert_eq!(probe["detail"], "the API answered `internal_error`");

    // Made again after a minute; a limit is noted and kept to.
    stage.world.slack.limit("auth.test", 1, 120);
    pass(Duration::from_secs(61)).await;
    stage.until_probed(2).await?;
    pass(Duration::from_secs(61)).await;
    for _ in 0..5 {
        assert_eq!(stage.say().await?.0["ok"], true);
    }
    assert_eq!(stage.probes(), 2, "the limit still holds");
    pass(Duration::from_secs(61)).await;
    stage.until_probed(3).await?;
    let (status, _) = stage.status("qa/slack-bot").await?;
    assert_eq!(status["health"]["probe"]["finding"], "works", "{status}");
    Ok(())
}

#[tokio::test]
async fn an_api_that_is_away_is_told_as_that() -> anyhow::Result<()> {
    let mut stage = Stage::start().await?;
    let away = Some(Misbehaviour::ResetOnAccept);
    stage.world.slack.misbehave(away);
    let (_, record) = stage.say().await?;
    assert_eq!(record["blame"], "upstream", "{record}");
    let (status, _) = stage.status("qa/slack-bot").await?;
    assert_eq!(status["health"]["probe"]["finding"], "unknown", "{status}");
    stage.world.slack.misbehave(None);
    assert_eq!(stage.say().await?.0["ok"], true);
    Ok(())
}
