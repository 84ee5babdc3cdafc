//! A credential goes only where policy says, also when the gateway asks for itself, rewrites a path, or
//! ends a value.

use bytes::Bytes;
use countersign_tests::{
    client::{Answer, Client},
    environment::{DASHBOARD_FILE, Environment},
    fake::Slack,
    resources::{Resource, Resources},
};
use http::{HeaderValue, Request, StatusCode, header::AUTHORIZATION};
use http_body_util::Full;
use rstest::rstest;
use serde_json::json;

use crate::{
    credentials::rotation::{REFRESH_TOKEN, rotating},
    harness::{TestBed, list_runs, post_message},
};

const QASE: &str = "https://api.qase.io";
const EU: &str = "https://api-eu.qase.io";
const ACME: &str = "https://api-acme.qase.io";

/// An enterprise's own host, as its operator adds it.
fn enterprise() -> Resources {
    Resources::from([Resource::extended_target("qase").with("hosts", json!(["api-acme.qase.io"]))])
}

/// A test bed whose dashboard's resources are changed.
async fn with_policy(edit: impl FnOnce(&mut Resources)) -> anyhow::Result<TestBed> {
    TestBed::builder()
        .prepare(|env, _| Ok(env.edit_policy(DASHBOARD_FILE, edit)?))
        .start()
        .await
}

/// A request to list runs at this host of Qase.
fn list_runs_at(url: &str) -> Request<Full<Bytes>> {
    let mut request = list_runs();
    let url = format!("{url}/v1/run/DEMO");
    *request.uri_mut() = url.parse().expect("a URL");
    request
}

/// Posts as an app does that holds a token of its own.
pub(super) async fn post(client: &Client, url: &str) -> anyhow::Result<Answer> {
    let mut request = post_message("C0", "private");
    let own = HeaderValue::from_static("Bearer xoxb-of-the-caller");
    request.headers_mut().insert(AUTHORIZATION, own);
    *request.uri_mut() = url.parse()?;
    Ok(client.send(request).await?)
}

/// The hosts at which Qase was asked, and how often it was probed.
fn asked(env: &Environment) -> (Vec<String>, usize) {
    let all = env.qase.received().all();
    let probes = all.iter().filter(|request| request.path == "/v1/project");
    let probes = probes.count();
    let mut hosts: Vec<_> = all.iter().map(|request| request.host.clone()).collect();
    hosts.dedup();
    (hosts, probes)
}

#[rstest]
#[case::europe(EU, "api-eu.qase.io")]
#[case::elsewhere(QASE, "api.qase.io")]
#[case::enterprise(ACME, "api-acme.qase.io")]
#[tokio::test]
async fn t75_a_probe_goes_to_the_host_that_policy_names(
    #[case] url: &str,
    #[case] host: &'static str,
) -> anyhow::Result<()> {
    let bed = TestBed::builder().prepare(|env, _| {
        env.edit_policy(DASHBOARD_FILE, |policy| {
            policy.access("dashboard-reads-qase")["allow"][0]["hosts"] = json!([host]);
        })?;
        env.qase.only_at(host);
        Ok(env.write_policy("enterprise.yaml", enterprise())?)
    });
    let bed = bed.start().await?;
    for _ in 0..5 {
        let answer = bed.client().send(list_runs_at(url)).await?;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    assert_eq!(asked(&bed.env), (vec![host.to_owned()], 1));
    Ok(())
}

/// A workload chooses the host where policy leaves it open; what it meets there is of that host.
#[tokio::test]
async fn t75_a_host_that_does_not_know_a_token_says_nothing_for_another() -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    bed.env.qase.only_at("api-eu.qase.io");
    let client = bed.client();
    for _ in 0..3 {
        let wrong = client.send(list_runs_at(QASE)).await?;
        assert!(!wrong.status.is_success(), "{wrong:?}");
        let right = client.send(list_runs_at(EU)).await?;
        assert_eq!(right.status, StatusCode::OK, "{right:?}");
    }
    Ok(())
}

/// A fixed URL is none that policy names, so that there is no probe; and the status says so.
#[tokio::test]
async fn t75_a_fixed_probe_is_not_made_where_nothing_permits_it() -> anyhow::Result<()> {
    let probe = json!({"method": "GET", "url": format!("{QASE}/v1/project?limit=1")});
    let bed = TestBed::builder().prepare(|env, _| {
        let fixed = Resource::extended_target("qase").with("probe", probe);
        Ok(env.write_policy("fixed.yaml", [fixed])?)
    });
    let bed = bed.start().await?;
    let client = bed.client();
    let answer = client.send(list_runs_at(EU)).await?;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(asked(&bed.env), (vec!["api-eu.qase.io".to_owned()], 0));
    let told = bed.credential("qa/qase-reader").await?;
    let why = told["health"]["not_probed"].as_str().unwrap_or_default();
    assert!(
        why.contains("no policy with qa/qase-reader permits GET"),
        "{told}"
    );
    assert!(told["health"]["probe"].is_null(), "{told}");
    // The near miss: a request to that very host waits for it.
    let answer = client.send(list_runs_at(QASE)).await?;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(asked(&bed.env).1, 1);
    Ok(())
}

/// A test bed whose dashboard may use every hook of Slack, with this path as its secret.
async fn hooks(secret: impl FnOnce(&Slack) -> String) -> anyhow::Result<TestBed> {
    let kinds = ["services", "workflows", "triggers", "commands", "actions"];
    let paths = kinds.map(|kind| format!("/{kind}/**"));
    let bed = with_policy(|policy| {
        policy.access("dashboard-posts-to-slack")["allow"][3]["paths"] = json!(paths);
    });
    let bed = bed.await?;
    let secret = secret(&bed.env.slack);
    bed.env.write_secret("slack-webhook", &secret)?;
    Ok(bed)
}

#[rstest]
#[case::slash_command("commands")]
#[case::button("actions")]
#[tokio::test]
async fn t75_a_private_answer_is_not_published(#[case] kind: &str) -> anyhow::Result<()> {
    let bed = hooks(|slack| slack.webhook_path()).await?;
    let (env, client) = (&bed.env, bed.client());
    let path = env.slack.response_path(kind);
    let answer = post(&client, &format!("https://hooks.slack.com{path}")).await?;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(env.slack.messages("response"), ["private"]);
    assert!(env.slack.messages("webhook").is_empty());
    let received = env.slack.received().all();
    assert!(
        received
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
    // The near miss is the webhook itself.
    post(&client, "https://hooks.slack.com/services/countersign/any").await?;
    assert_eq!(env.slack.messages("webhook"), ["private"]);
    Ok(())
}

#[rstest]
#[case::webhook_for_a_trigger("/triggers/T0/1/x", "credential_unusable")]
#[case::webhook_for_a_workflow("/workflows/T0/1/x", "credential_unusable")]
#[case::no_hook("/servicesx/T0/1/x", "path_denied")]
#[case::web_api("/api/chat.postMessage", "path_denied")]
#[tokio::test]
async fn t75_a_webhooks_secret_takes_the_place_of_no_other_path(
    #[case] path: &str,
    #[case] reason: &str,
) -> anyhow::Result<()> {
    let mut bed = hooks(|slack| slack.webhook_path()).await?;
    post(&bed.client(), &format!("https://hooks.slack.com{path}")).await?;
    bed.recorded(reason).await?;
    assert_eq!(bed.env.slack.received().count(), 0);
    Ok(())
}

#[tokio::test]
async fn t75_a_triggers_secret_starts_its_workflow_and_nothing_else() -> anyhow::Result<()> {
    let bed = hooks(|slack| slack.trigger_path()).await?;
    let (env, client) = (&bed.env, bed.client());
    let answer = post(&client, "https://hooks.slack.com/triggers/countersign/x").await?;
    assert_eq!(answer.json()["ok"], true, "{answer:?}");
    assert_eq!(env.slack.messages("trigger"), ["started"]);
    post(&client, "https://hooks.slack.com/services/countersign/x").await?;
    assert_eq!(env.slack.received().count(), 1);
    Ok(())
}

/// What ends a user's token would deactivate a bot.
#[rstest]
#[case::users(true)]
#[case::bots(false)]
#[tokio::test]
async fn t75_an_idle_token_is_ended_if_that_ends_nothing_else(
    #[case] users: bool,
) -> anyhow::Result<()> {
    let bed = rotating(REFRESH_TOKEN).prepare(|env, _| {
        if users {
            env.slack.rotate_a_users_token();
        }
        env.edit_policy(DASHBOARD_FILE, |policy| {
            let bot = policy.credential("slack-bot");
            bot["idleAfter"] = json!("2s");
            bot["revokeWhenIdle"] = json!(true);
            // That it is a user's is said by the slot, and not believed.
            policy.access("dashboard-posts-to-slack")["credentials"]["user"] = json!("slack-bot");
        })?;
        Ok(())
    });
    let bed = bed.start().await?;
    let answer = post(&bed.client(), "https://slack.com/api/auth.test").await?;
    assert_eq!(answer.json()["ok"], true, "{answer:?}");
    let told = bed.credential("qa/slack-bot").await?;
    assert_eq!(told["unheeded"].is_string(), !users, "{told}");
    bed.gateway.stop().await?;
    let revoked = bed.env.slack.received().at("/api/auth.revoke").len();
    assert_eq!(revoked, usize::from(users));
    assert!(bed.env.slack.bot_is_active());
    Ok(())
}
