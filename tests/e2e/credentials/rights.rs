//! The right to keep a rotated token is proven before anything is spent, and what could not be kept at
//! once is kept before the gateway ends.

use std::{fs, time::Duration};

use countersign_core::clock::Clock;
use countersign_tests::{
    client::Client,
    environment::Environment,
    fake::{Grant, Moment},
    gateway::Gateway,
    openbao::OpenBao,
    process::Process,
};
use http::StatusCode;
use rstest::rstest;
use serde_json::Value;

use crate::{
    credentials::{
        rotation::rotating_environment,
        state::{NAMESPACE, keep_in_directory, keep_in_secrets, keep_in_vault},
    },
    harness::{SmallDisk, auth_test, pass, soon, until},
};

const SECRET: &str = "countersign-state.qa.slack-bot";

/// An environment whose bot token rotates, by a clock that stands still.
async fn rotating() -> anyhow::Result<Environment> {
    rotating_environment(Clock::manual(Clock::system().now())).await
}

async fn call(client: &Client) -> anyhow::Result<Value> {
    Ok(soon("an answer", client.send(auth_test())).await??.json())
}

async fn until_good(client: &Client) -> anyhow::Result<()> {
    until("a good answer", async || {
        let answer = call(client).await;
        answer.is_ok_and(|answer| answer["ok"] == true)
    })
    .await
}

/// How often Slack was asked for a token.
fn spent(env: &Environment) -> usize {
    env.slack.received().at("/api/oauth.v2.access").len()
}

/// Calls, is refused because of what the state's store does not allow, and nothing was spent; the
/// operator's sentence.
async fn refused(env: &Environment, gateway: &mut Gateway) -> anyhow::Result<String> {
    let client = gateway
        .client(env)
        .bearer(&env.token("qa", "nightly-dashboard"));
    let answer = call(&client).await?;
    assert_eq!(answer["error"], "credential_state_unusable", "{answer}");
    let record = gateway.decisions().next().await;
    assert_eq!(record["blame"], "operator", "{record}");
    assert_eq!(spent(env), 0, "nothing may be sent to Slack");
    let detail = record["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("nothing is sent to Slack"), "{detail}");
    Ok(detail.to_owned())
}

/// Works from now on, and after a restart without another refresh.
async fn works_and_is_kept(env: &Environment, gateway: Gateway) -> anyhow::Result<()> {
    let token = env.token("qa", "nightly-dashboard");
    until_good(&gateway.client(env).bearer(&token)).await?;
    assert_eq!(env.slack.refreshes(), 1);
    gateway.stop().await?;
    let gateway = Gateway::start(env).await?;
    until_good(&gateway.client(env).bearer(&token)).await?;
    assert_eq!(env.slack.refreshes(), 1);
    Ok(())
}

#[rstest]
#[case::update(&["get", "create"], "may not update Secret")]
#[case::create(&["get", "update"], "may not create Secret")]
#[case::both(&["get"], "may not create and update Secret")]
#[case::all(&[], "may not get and create and update Secret")]
#[case::get(&["create", "update"], "may not get Secret")]
#[case::those_of_a_reader(&["get", "list", "watch"], "may not create and update Secret")]
#[case::patch_is_no_update(&["get", "create", "patch"], "may not update Secret")]
#[tokio::test]
async fn a_role_that_lacks_a_verb_spends_nothing(
    #[case] verbs: &[&str],
    #[case] told: &str,
) -> anyhow::Result<()> {
    let env = rotating().await?;
    keep_in_secrets(&env, &env.api_server.url())?;
    env.api_server.grant(Grant::all(NAMESPACE, verbs));
    let mut gateway = Gateway::start(&env).await?;
    let detail = refused(&env, &mut gateway).await?;
    assert!(detail.contains(told), "{detail}");
    assert!(detail.contains("verbs: [create]"), "{detail}");
    let named = format!("resourceNames: [{SECRET}], verbs: [get, update]");
    assert!(detail.contains(&named), "{detail}");
    assert!(env.api_server.secret(NAMESPACE, SECRET).is_none());

    // The role is mended.
    env.api_server.revoke_grants();
    env.api_server.grant(Grant::all(NAMESPACE, &["create"]));
    env.api_server
        .grant(Grant::one(NAMESPACE, SECRET, &["get", "update"]));
    pass(Duration::from_secs(6)).await;
    works_and_is_kept(&env, gateway).await
}

#[tokio::test]
async fn what_a_role_lacks_is_not_asked_with_every_request() -> anyhow::Result<()> {
    let env = rotating().await?;
    keep_in_secrets(&env, &env.api_server.url())?;
    env.api_server
        .grant(Grant::all(NAMESPACE, &["get", "create"]));
    let mut gateway = Gateway::start(&env).await?;
    let tries = || {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/secrets");
        env.api_server.received().at(&path).len()
    };
    refused(&env, &mut gateway).await?;
    let once = tries();
    for _ in 0..3 {
        // The slot itself remembers a failure for a second.
        pass(Duration::from_millis(1_100)).await;
        refused(&env, &mut gateway).await?;
    }
    assert_eq!(tries(), once);
    pass(Duration::from_secs(5)).await;
    refused(&env, &mut gateway).await?;
    assert!(
        tries() > once,
        "it is looked again whether the role was mended"
    );
    Ok(())
}

/// Who makes the Secret beforehand need not let the gateway create any.
#[tokio::test]
async fn a_secret_that_is_there_needs_no_create() -> anyhow::Result<()> {
    let env = rotating().await?;
    keep_in_secrets(&env, &env.api_server.url())?;
    let empty = r#"{"format":1,"serial":0,"seeds":[],"pair":null,"attempt":null}"#;
    let data = [("state", empty.as_bytes())];
    env.api_server.set_secret(NAMESPACE, SECRET, &data);
    env.api_server
        .grant(Grant::one(NAMESPACE, SECRET, &["get"]));
    let mut gateway = Gateway::start(&env).await?;
    let detail = refused(&env, &mut gateway).await?;
    assert!(detail.contains("may not update Secret"), "{detail}");
    env.api_server
        .grant(Grant::one(NAMESPACE, SECRET, &["update"]));
    pass(Duration::from_secs(6)).await;
    works_and_is_kept(&env, gateway).await
}

#[rstest]
#[case::update(r#"["create", "read"]"#, "lacks update for")]
#[case::create(r#"["read", "update"]"#, "lacks create for")]
#[case::a_readers(r#"["read"]"#, "lacks create and update for")]
#[case::a_writers(r#"["create", "update"]"#, "lacks read for")]
#[case::denied(r#"["deny"]"#, "lacks create and read and update for")]
#[tokio::test]
async fn a_vault_policy_that_lacks_a_capability_spends_nothing(
    #[case] capabilities: &str,
    #[case] told: &str,
) -> anyhow::Result<()> {
    let env = rotating().await?;
    let Some(bao) = OpenBao::start(&env.authority).await? else {
        return Ok(());
    };
    let policy = |capabilities: &str| {
        format!(r#"path "secret/data/countersign/*" {{ capabilities = {capabilities} }}"#)
    };
    let token = bao.token(&policy(capabilities), "1h").await?;
    keep_in_vault(&env, &bao.url(), bao.ca_pem(), &token)?;
    let mut gateway = Gateway::start(&env).await?;
    let detail = refused(&env, &mut gateway).await?;
    assert!(detail.contains(told), "{detail}");
    let all = r#"capabilities = ["create", "read", "update"]"#;
    assert!(detail.contains(all), "{detail}");

    let whole = policy(r#"["create", "read", "update"]"#);
    let token = bao.token(&whole, "1h").await?;
    fs::write(env.directory().join("vault-token"), token)?;
    pass(Duration::from_secs(6)).await;
    works_and_is_kept(&env, gateway).await
}

#[rstest]
#[case::read_only("ro,mode=0700", "ReadOnlyFilesystem", "rw")]
#[case::no_room("size=4k,mode=0700", "StorageFull", "size=1m")]
#[case::room_for_one_document("size=12k,mode=0700", "StorageFull", "size=1m")]
#[case::no_more_files("nr_inodes=3,mode=0700", "StorageFull", "nr_inodes=100")]
#[tokio::test]
async fn a_directory_without_room_spends_nothing(
    #[case] options: &str,
    #[case] kind: &str,
    #[case] mended: &str,
) -> anyhow::Result<()> {
    let env = rotating().await?;
    let directory = env.directory().join("small");
    let Some(small) = SmallDisk::mount(directory.clone(), options)? else {
        return Ok(());
    };
    keep_in_directory(&env, &directory)?;
    let mut gateway = Gateway::start(&env).await?;
    let client = gateway
        .client(&env)
        .bearer(&env.token("qa", "nightly-dashboard"));
    let answer = soon("a refusal", client.send(auth_test())).await??;
    // It may pass, so that it is said in HTTP.
    assert_eq!(
        answer.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        answer.text()
    );
    let record = gateway.decisions().next().await;
    assert_eq!(
        record["reason"], "credential_source_unavailable",
        "{record}"
    );
    let words = match kind {
        "ReadOnlyFilesystem" => "read-only filesystem",
        _ => "no storage space",
    };
    let detail = record["detail"].as_str().unwrap_or_default();
    assert!(detail.contains(words), "{detail}");
    assert_eq!(spent(&env), 0, "nothing may be sent to Slack");
    small.remount(mended)?;
    works_and_is_kept(&env, gateway).await
}

/// A gateway whose store fails from the moment at which Slack has the token, which the caller saw.
async fn stranded(env: &Environment) -> anyhow::Result<Process> {
    keep_in_secrets(env, &env.api_server.url())?;
    let verbs = ["get", "create", "update"];
    env.api_server.grant(Grant::all(NAMESPACE, &verbs));
    let mut process = Process::start(env, None).await?;
    let client = process
        .client()
        .bearer(&env.token("qa", "nightly-dashboard"));
    let hold = env.slack.hold_refresh(Moment::BeforeActing);
    let losing = async {
        soon("the refresh", hold.reached()).await?;
        env.api_server
            .set_outage(Some(StatusCode::SERVICE_UNAVAILABLE));
        hold.release();
        anyhow::Ok(())
    };
    let (answer, lost) = tokio::join!(call(&client), losing);
    lost?;
    assert_eq!(
        answer?["ok"],
        Value::Null,
        "it is not used before it is kept"
    );
    process
        .said(|printed| {
            printed
                .contains("a new token cannot be stored")
                .then_some(())
        })
        .await?;
    Ok(process)
}

async fn terminated(process: &mut Process) -> anyhow::Result<()> {
    process.signal("TERM").await?;
    process
        .said(|printed| printed.contains("draining").then_some(()))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_kept_is_kept_before_the_end() -> anyhow::Result<()> {
    let env = rotating_environment(Clock::default()).await?;
    let mut process = stranded(&env).await?;
    terminated(&mut process).await?;
    env.api_server.set_outage(None);
    assert!(process.ended().await?.success());
    let printed = process.printed();
    assert!(printed.contains("the new token is now stored"), "{printed}");

    let process = Process::start(&env, None).await?;
    let client = process
        .client()
        .bearer(&env.token("qa", "nightly-dashboard"));
    until_good(&client).await?;
    assert_eq!(env.slack.refreshes(), 1, "what was kept is used");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_kept_is_kept_without_a_request() -> anyhow::Result<()> {
    let env = rotating_environment(Clock::default()).await?;
    let mut process = stranded(&env).await?;
    env.api_server.set_outage(None);
    process
        .said(|printed| {
            printed
                .contains("the new token is now stored")
                .then_some(())
        })
        .await?;
    process.kill().await?;
    let process = Process::start(&env, None).await?;
    let client = process
        .client()
        .bearer(&env.token("qa", "nightly-dashboard"));
    until_good(&client).await?;
    assert_eq!(env.slack.refreshes(), 1, "a kill takes nothing any more");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_kept_to_the_end_is_told_with_its_remedy() -> anyhow::Result<()> {
    let env = rotating_environment(Clock::default()).await?;
    let mut process = stranded(&env).await?;
    terminated(&mut process).await?;
    assert!(process.ended().await?.success());
    let printed = process.printed();
    let told = printed
        .lines()
        .find(|line| line.contains("could not be stored before the process ended"));
    let told: Value = serde_json::from_str(told.unwrap_or_default())?;
    assert_eq!(told["level"], "ERROR", "{told}");
    assert_eq!(told["credential"], "qa/slack-bot");
    assert!(
        told["error"]
            .as_str()
            .is_some_and(|error| error.contains("503")),
        "{told}"
    );
    let remedy = "reinstall the app";
    assert!(
        told["message"]
            .as_str()
            .is_some_and(|text| text.contains(remedy))
    );
    assert!(!printed.contains("xoxe"), "no token is told");
    Ok(())
}
