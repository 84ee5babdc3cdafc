//! A credential goes only where policy says, also when the gateway asks for itself, rewrites a path, or
//! ends a value.

use bytes::Bytes;
use countersign_core::clock::Clock;
use countersign_tests::{
    client::{Answer, Client},
    gateway::Gateway,
    process,
    world::{Options, World},
};
use http::{Request, StatusCode};
use http_body_util::Full;
use rstest::rstest;
use serde_json::Value;

const QASE: &str = "https://api.qase.io";
const EU: &str = "https://api-eu.qase.io";
const ACME: &str = "https://api-acme.qase.io";

/// An enterprise's own host, as its operator adds it.
const ENTERPRISE: &str = r"
apiVersion: countersign.dev/v1alpha1
kind: TargetService
metadata: { name: qase }
spec: { extends: qase, hosts: [api-acme.qase.io] }
";

/// A world whose dashboard's policy has a text replaced.
fn changed(world: World, from: &str, to: &str) -> anyhow::Result<World> {
    let name = "nightly-dashboard.yaml";
    let written = std::fs::read_to_string(world.policy_directory().join(name))?;
    anyhow::ensure!(written.contains(from), "the world's policy has changed");
    world.write_policy(name, &written.replace(from, to))?;
    Ok(world)
}

pub(crate) fn client(gateway: &Gateway, world: &World) -> Client {
    let token = world.token("qa", "nightly-dashboard");
    gateway.client(world).bearer(&token)
}

pub(crate) async fn post(client: &Client, url: &str) -> anyhow::Result<Answer> {
    let request = Request::post(url)
        .header("content-type", "application/json")
        .header("authorization", "Bearer xoxb-of-the-caller")
        .body(Full::<Bytes>::from(r#"{"channel":"C0","text":"private"}"#))?;
    Ok(client.send(request).await?)
}

async fn status(gateway: &Gateway, credential: &str) -> anyhow::Result<Value> {
    let admin = gateway.admin().expect("there is one");
    let answer = process::admin(admin, "/credentials").await?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let all: Value = serde_json::from_str(body)?;
    let all = all["credentials"].as_array().expect("a list");
    let found = all.iter().find(|one| one["name"] == credential);
    Ok(found.cloned().expect("it is there"))
}

/// The hosts at which Qase was asked, and how often it was probed.
fn asked(world: &World) -> (Vec<String>, usize) {
    let all = world.qase.received().all();
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
    let named =
        format!("    - hosts: [{host}]\n      methods: [GET]\n      paths: [\"/v1/project/*\"");
    let world = World::start().await?;
    let world = changed(
        world,
        "    - methods: [GET]\n      paths: [\"/v1/project/*\"",
        &named,
    )?;
    world.write_policy("enterprise.yaml", ENTERPRISE)?;
    world.qase.only_at(host);
    let gateway = Gateway::start(&world).await?;
    for _ in 0..5 {
        let request = Request::get(format!("{url}/v1/run/DEMO")).body(Full::<Bytes>::default())?;
        let answer = client(&gateway, &world).send(request).await?;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    assert_eq!(asked(&world), (vec![host.to_owned()], 1));
    Ok(())
}

/// A workload chooses the host where policy leaves it open; what it meets there is of that host.
#[tokio::test]
async fn t75_a_host_that_does_not_know_a_token_says_nothing_for_another() -> anyhow::Result<()> {
    let world = World::start().await?;
    world.qase.only_at("api-eu.qase.io");
    let gateway = Gateway::start(&world).await?;
    let client = client(&gateway, &world);
    let get = |url: &str| {
        let url = format!("{url}/v1/run/DEMO");
        Request::get(url).body(Full::<Bytes>::default())
    };
    for _ in 0..3 {
        let wrong = client.send(get(QASE)?).await?;
        assert!(!wrong.status.is_success(), "{wrong:?}");
        let right = client.send(get(EU)?).await?;
        assert_eq!(right.status, StatusCode::OK, "{right:?}");
    }
    Ok(())
}

/// A fixed URL is none that policy names, so that there is no probe; and the status says so.
#[tokio::test]
async fn t75_a_fixed_probe_is_not_made_where_nothing_permits_it() -> anyhow::Result<()> {
    let world = World::start().await?;
    let fixed = format!("{QASE}/v1/project?limit=1");
    world.write_policy(
        "fixed.yaml",
        &ENTERPRISE.replace(
            "hosts: [api-acme.qase.io] }",
            &format!("probe: {{ method: GET, url: \"{fixed}\" }} }}"),
        ),
    )?;
    let gateway = Gateway::start(&world).await?;
    let client = client(&gateway, &world);
    let request = Request::get(format!("{EU}/v1/run/DEMO")).body(Full::<Bytes>::default())?;
    assert_eq!(client.send(request).await?.status, StatusCode::OK);
    assert_eq!(asked(&world), (vec!["api-eu.qase.io".to_owned()], 0));
    let told = status(&gateway, "qa/qase-reader").await?;
    let why = told["health"]["not_probed"].as_str().unwrap_or_default();
    assert!(
        why.contains("no policy with qa/qase-reader permits GET"),
        "{told}"
    );
    assert!(told["health"]["probe"].is_null(), "{told}");
    // The near miss: a request to that very host waits for it.
    let request = Request::get(format!("{QASE}/v1/run/DEMO")).body(Full::<Bytes>::default())?;
    assert_eq!(client.send(request).await?.status, StatusCode::OK);
    assert_eq!(asked(&world).1, 1);
    Ok(())
}

/// A policy with every hook of Slack.
const HOOKS: &str = "paths: [\"/services/**\", \"/workflows/**\", \"/triggers/**\", \"/commands/**\", \"/actions/**\"]";

async fn hooks(secret: impl Fn(&World) -> String) -> anyhow::Result<World> {
    let world = World::start().await?;
    let named = "paths: [\"/services/countersign/dashboard\"]";
    let world = changed(world, named, HOOKS)?;
    world.write_secret("slack-webhook", &secret(&world))?;
    Ok(world)
}

#[rstest]
#[case::slash_command("commands")]
#[case::button("actions")]
#[tokio::test]
async fn t75_a_private_answer_is_not_published(#[case] kind: &str) -> anyhow::Result<()> {
    let world = hooks(|world| world.slack.webhook_path()).await?;
    let gateway = Gateway::start(&world).await?;
    let client = client(&gateway, &world);
    let path = world.slack.response_path(kind);
    let answer = post(&client, &format!("https://hooks.slack.com{path}")).await?;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(world.slack.messages("response"), ["private"]);
    assert!(world.slack.messages("webhook").is_empty());
    let received = world.slack.received().all();
    assert!(
        received
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
    // The near miss is the webhook itself.
    post(&client, "https://hooks.slack.com/services/countersign/any").await?;
    assert_eq!(world.slack.messages("webhook"), ["private"]);
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
    let world = hooks(|world| world.slack.webhook_path()).await?;
    let mut gateway = Gateway::start(&world).await?;
    post(
        &client(&gateway, &world),
        &format!("https://hooks.slack.com{path}"),
    )
    .await?;
    let record = gateway.decisions().next().await;
    assert_eq!(record["reason"], reason, "{record}");
    assert_eq!(world.slack.received().count(), 0);
    Ok(())
}

#[tokio::test]
async fn t75_a_triggers_secret_starts_its_workflow_and_nothing_else() -> anyhow::Result<()> {
    let world = hooks(|world| world.slack.trigger_path()).await?;
    let gateway = Gateway::start(&world).await?;
    let client = client(&gateway, &world);
    let answer = post(&client, "https://hooks.slack.com/triggers/countersign/x").await?;
    assert_eq!(answer.json()["ok"], true, "{answer:?}");
    assert_eq!(world.slack.messages("trigger"), ["started"]);
    post(&client, "https://hooks.slack.com/services/countersign/x").await?;
    assert_eq!(world.slack.received().count(), 1);
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
    let clock = Clock::system();
    let options = Options {
        clock,
        ..Options::default()
    };
    let seed = crate::credentials::rotation::REFRESH_TOKEN;
    let world = crate::credentials::rotation::world_with(options, seed).await?;
    let world = changed(
        world,
        seed_end(),
        "slack-refresh-token }\n  idleAfter: 2s\n  revokeWhenIdle: true\n",
    )?;
    // That it is a user's is said by the slot, and not believed.
    let world = changed(
        world,
        "{ bot: slack-bot,",
        "{ bot: slack-bot, user: slack-bot,",
    )?;
    if users {
        world.slack.rotate_a_users_token();
    }
    let gateway = Gateway::start(&world).await?;
    let answer = post(&client(&gateway, &world), "https://slack.com/api/auth.test").await?;
    assert_eq!(answer.json()["ok"], true, "{answer:?}");
    let told = status(&gateway, "qa/slack-bot").await?;
    assert_eq!(told["unheeded"].is_string(), !users, "{told}");
    gateway.stop().await?;
    let revoked = world.slack.received().at("/api/auth.revoke").len();
    assert_eq!(revoked, usize::from(users));
    assert!(world.slack.bot_is_active());
    Ok(())
}

fn seed_end() -> &'static str {
    "slack-refresh-token }\n"
}
