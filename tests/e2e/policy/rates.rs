//! `conditions.rate`: refused when enforced, told when observed, and not forgotten by a reload.

use countersign_tests::{
    client::Answer,
    environment::{DASHBOARD, DASHBOARD_FILE},
    resources::{Resource, Resources},
};
use serde_json::{Value, json};

use crate::harness::{TestBed, list_runs};

/// The dashboard may list runs once an hour.
fn resources(mode: &str, owner: &str) -> Resources {
    Resources::from([
        Resource::workload(DASHBOARD).with("owner", json!(owner)),
        Resource::credential("qase-reader", "qase").token_file("qase"),
        Resource::access("reads", DASHBOARD, "qase")
            .credential_named("qase-reader")
            .allow(json!({"methods": ["GET"], "paths": ["/v1/run/*"]}))
            .with("conditions", json!({"rate": "1/h"}))
            .with("mode", json!(mode)),
    ])
}

async fn start(mode: &'static str) -> anyhow::Result<TestBed> {
    TestBed::builder()
        .prepare(|env, _| Ok(env.write_policy(DASHBOARD_FILE, resources(mode, "qa@example.com"))?))
        .start()
        .await
}

async fn ask(bed: &mut TestBed) -> anyhow::Result<(Answer, Value)> {
    let answer = bed.client().send(list_runs()).await?;
    Ok((answer, bed.record().await?))
}

#[tokio::test]
async fn an_enforced_rate_refuses_also_after_a_reload() -> anyhow::Result<()> {
    let mut bed = start("enforce").await?;
    let (answer, _) = ask(&mut bed).await?;
    assert_eq!(answer.status, 200);
    for owner in ["qa@example.com", "other@example.com"] {
        let changed = resources("enforce", owner);
        bed.env.write_policy(DASHBOARD_FILE, changed)?;
        bed.reload()?;
        let (answer, record) = ask(&mut bed).await?;
        assert_eq!(answer.status, 429);
        assert!(answer.header("retry-after").is_some());
        assert_eq!(record["reason"], "rate_limited");
    }
    assert_eq!(bed.env.qase.received().of_pods().len(), 1);
    bed.gateway.stop().await?;
    Ok(())
}

#[tokio::test]
async fn an_observed_rate_is_told_and_refuses_nothing() -> anyhow::Result<()> {
    let mut bed = start("observe").await?;
    for would_refuse in [Value::Null, "rate_limited".into()] {
        let (answer, record) = ask(&mut bed).await?;
        assert_eq!(answer.status, 200);
        assert_eq!(record["policy"]["would_refuse"], would_refuse, "{record}");
    }
    bed.gateway.stop().await?;
    Ok(())
}
