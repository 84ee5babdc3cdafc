//! What a gateway starts with: the newest resources or, if they cannot be used, those that it kept; and when it is
//! ready.

use std::fs;

use countersign_tests::{client::Client, environment::Environment};
use http::StatusCode;
use rstest::rstest;
use serde_json::Value;

use crate::harness::{TestBed, get, until};

async fn status(bed: &TestBed) -> anyhow::Result<(bool, Value)> {
    let (head, body) = bed.ask_admin("/readyz").await?;
    Ok((
        head.starts_with("HTTP/1.1 200 "),
        serde_json::from_str(&body)?,
    ))
}

/// Stops a bed's gateway, and starts another in the same environment once it was changed.
async fn restarted(
    bed: TestBed,
    change: impl FnOnce(&Environment) -> std::io::Result<()>,
) -> anyhow::Result<TestBed> {
    let TestBed { env, gateway, .. } = bed;
    gateway.stop().await?;
    TestBed::builder()
        .within(env)
        .prepare(|env, _| Ok(change(env)?))
        .start()
        .await
}

const ON_LAST_GOOD: &str = "countersign_config_on_last_good_revision ";

#[rstest]
#[case::broken("kind: [unclosed")]
#[case::a_newer_schema(
    "apiVersion: countersign.dev/v9\nkind: Workload\nmetadata: { name: a, namespace: qa }\n"
)]
#[case::a_misspelt_key(
    "apiVersion: countersign.dev/v1alpha1\nkind: Workload\nmetadata: { name: a, namespace: qa }\nspec: { onwer: a }\n"
)]
#[case::empty("")]
#[tokio::test]
async fn a_gateway_starts_on_the_last_good_revision_and_says_so(
    #[case] bad: &str,
) -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    let (_, before) = status(&bed).await?;
    assert_eq!(before.get("started_on_last_good"), None);
    let mut bed = restarted(bed, |env| env.write_yaml("bad.yaml", bad)).await?;

    until("readiness", async || {
        status(&bed).await.is_ok_and(|(ready, _)| ready)
    })
    .await?;
    let (_, started) = status(&bed).await?;
    assert_eq!(started["started_on_last_good"], true, "{started}");
    assert_eq!(started["revision"], before["revision"]);
    let error = started["reload_error"].as_str().expect("it is told");
    assert!(error.contains("bad.yaml"), "{error}");
    assert_eq!(bed.metric(ON_LAST_GOOD).await?, Some(1));
    let answer = bed.client().send(get("/some")).await?;
    assert_eq!(answer.status, StatusCode::OK);
    let record = bed.record().await?;
    assert_eq!(record["policy"]["revision"], before["revision"], "{record}");
    let events = bed.gateway.events();
    let names: Vec<_> = events.iter().map(|event| &event["event"]).collect();
    assert_eq!(names, ["started", "reload_rejected"]);

    // What is bad was not kept, and a further start does the same.
    let bed = restarted(bed, |_| Ok(())).await?;
    let (_, again) = status(&bed).await?;
    assert_eq!(again["revision"], before["revision"]);
    assert_eq!(again["started_on_last_good"], true);

    bed.env.remove_policy("bad.yaml")?;
    bed.reload()?;
    let (_, mended) = status(&bed).await?;
    assert_eq!(mended.get("started_on_last_good"), None);
    assert_eq!(mended["reload_error"], Value::Null);
    assert_eq!(bed.metric(ON_LAST_GOOD).await?, Some(0));
    Ok(())
}

/// A revision that a running gateway took is the one that is kept.
#[tokio::test]
async fn what_a_reload_took_is_kept() -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    bed.edit_policy(|resources| {
        resources.access(crate::harness::EXAMPLE)["allow"][0]["methods"] =
            serde_json::json!(["PUT"]);
    })?;
    let (_, taken) = status(&bed).await?;
    let TestBed { env, gateway, .. } = bed;
    gateway.stop().await?;
    env.write_yaml("bad.yaml", "kind: [unclosed")?;
    let gateway = countersign_tests::gateway::Gateway::start(&env).await?;
    let answer =
        countersign_tests::process::admin(gateway.admin().expect("one"), "/readyz").await?;
    let revision = format!("\"revision\":{}", taken["revision"]);
    assert!(answer.contains(&revision), "{answer}");
    Ok(())
}

#[tokio::test]
async fn without_a_kept_revision_a_bad_one_stops_the_start() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    env.write_yaml("bad.yaml", "kind: [unclosed")?;
    let Err(error) = countersign_tests::gateway::Gateway::start(&env).await else {
        panic!("it started")
    };
    assert!(error.to_string().contains("bad.yaml"), "{error}");
    Ok(())
}

/// Policies name secrets and never hold them, and so does what is kept.
#[tokio::test]
async fn no_secret_is_kept_with_a_revision() -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    assert_eq!(
        bed.client().send(get("/some")).await?.status,
        StatusCode::OK
    );
    let kept = bed.env.directory().join("state/last-good");
    let mut read = 0;
    for entry in fs::read_dir(kept)? {
        let text = fs::read_to_string(entry?.path())?;
        assert!(text.contains("AccessPolicy"));
        for secret in bed.env.secrets() {
            assert!(!text.contains(&secret), "a secret is kept");
        }
        read += 1;
    }
    assert_eq!(read, 1);
    Ok(())
}

#[tokio::test]
async fn a_gateway_without_the_issuers_keys_is_not_ready_until_it_has_them() -> anyhow::Result<()> {
    let aside = |env: &Environment| env.directory().join("aside.json");
    let keys = |env: &Environment| env.directory().join("jwks.json");
    let bed = TestBed::builder()
        .prepare(|env, _| Ok(fs::rename(keys(env), aside(env))?))
        .start()
        .await?;
    until("what it waits for", async || {
        let told = status(&bed).await.map(|(ready, body)| {
            assert!(!ready, "{body}");
            body["waiting_for"][0]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        });
        told.is_ok_and(|told| told.contains("jwks.json"))
    })
    .await?;
    fs::rename(aside(&bed.env), keys(&bed.env))?;
    let is_ready = async || status(&bed).await.is_ok_and(|(ready, _)| ready);
    until("readiness", is_ready).await?;
    // A later outage does not take a gateway out that still serves.
    fs::rename(keys(&bed.env), aside(&bed.env))?;
    let answer = bed.client().send(get("/some")).await?;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(is_ready().await);
    Ok(())
}

/// A gateway that may not review tokens refuses everybody.
#[rstest]
#[case::down(Some(StatusCode::SERVICE_UNAVAILABLE))]
#[case::without_rights(None)]
#[tokio::test]
async fn a_gateway_whose_reviews_are_not_answered_is_not_ready(
    #[case] outage: Option<StatusCode>,
) -> anyhow::Result<()> {
    let bed = TestBed::builder()
        .token_review()
        .prepare(|env, _| {
            match outage {
                Some(_) => env.api_server.set_outage(outage),
                None => env.api_server.set_cluster_rights(&[]),
            }
            Ok(())
        })
        .start()
        .await?;
    until("what it waits for", async || {
        let told = status(&bed).await.map(|(ready, body)| {
            assert!(!ready, "{body}");
            body["waiting_for"][0]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        });
        told.is_ok_and(|told| told.contains("503") || told.contains("tokenreviews"))
    })
    .await?;
    if outage.is_none() {
        return Ok(());
    }
    bed.env.api_server.set_outage(None);
    let is_ready = async || status(&bed).await.is_ok_and(|(ready, _)| ready);
    until("readiness", is_ready).await?;
    bed.env.api_server.set_outage(outage);
    assert!(is_ready().await);
    Ok(())
}

#[tokio::test]
async fn a_client_that_trusts_the_root_before_is_told_so() -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    let before = bed.gateway.roots().to_owned();
    let mut bed = restarted(bed, |env| {
        fs::remove_file(env.ca_directory().join("root.pem"))
    })
    .await?;
    let client = Client::through(bed.gateway.address(), &before).bearer(&bed.token);
    assert!(client.send(get("/some")).await.is_err());
    let record = bed.recorded("own_certificate").await?;
    let detail = record["detail"].as_str().expect("a detail");
    assert!(
        detail.contains("replaced another at 20") && detail.contains("trusts the one before"),
        "{detail}"
    );
    Ok(())
}
