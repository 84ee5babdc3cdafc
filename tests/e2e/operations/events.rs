//! What happens to the gateway itself stands in the decision log, so that a gap between records is
//! explained; the metrics know when it started, and what policies in mode observe would have refused.

use std::fs;

use countersign_tests::{
    environment::{DASHBOARD, DASHBOARD_FILE, Environment},
    process::Process,
    resources::Resource,
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{EXAMPLE, TestBed, auth_test, get, until};

fn names(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| event["event"].as_str())
        .collect()
}

#[tokio::test]
async fn a_process_tells_of_its_start_its_reloads_and_its_end() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let mut gateway = Process::start(&env, None).await?;
    let told = async |count: usize| {
        until("the events", async || {
            env.events().is_ok_and(|events| events.len() >= count)
        })
        .await?;
        env.events().map_err(anyhow::Error::from)
    };
    let started = &told(1).await?[0];
    assert_eq!(started["event"], "started", "{started}");
    assert_eq!(started["version"], env!("CARGO_PKG_VERSION"));
    let first = started["revision"].clone();
    let client = gateway.client().bearer(&env.token("qa", DASHBOARD));
    assert_eq!(client.send(auth_test()).await?.status, StatusCode::OK);

    env.edit_policy(DASHBOARD_FILE, |resources| {
        resources.push(Resource::workload("new-one"));
    })?;
    gateway.signal("HUP").await?;
    let reloaded = &told(2).await?[1];
    assert_eq!(reloaded["event"], "reloaded", "{reloaded}");
    assert_eq!(reloaded["previous_revision"], first);
    assert_ne!(reloaded["revision"], first);
    let added = json!([{"change": "added", "kind": "Workload", "name": "qa/new-one"}]);
    assert_eq!(reloaded["changes"], added);

    env.write_yaml("broken.yaml", "kind: Nothing\n")?;
    gateway.signal("HUP").await?;
    let rejected = &told(3).await?[2];
    assert_eq!(rejected["event"], "reload_rejected", "{rejected}");
    assert_eq!(rejected["revision"], reloaded["revision"], "the old one");
    let detail = rejected["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("broken.yaml"), "{detail}");

    gateway.signal("TERM").await?;
    assert_eq!(gateway.ended().await?.code(), Some(0));
    let events = env.events()?;
    let expected = [
        "started",
        "reloaded",
        "reload_rejected",
        "draining",
        "stopped",
    ];
    assert_eq!(names(&events), expected);
    assert_eq!(events[4]["cut_off"], 0);
    // In the order of what happened: the first line, and the last.
    let log = fs::read_to_string(env.decision_log())?;
    let lines: Vec<&str> = log.lines().collect();
    assert!(lines[0].contains("\"started\""), "{log}");
    assert!(lines[lines.len() - 1].contains("\"stopped\""), "{log}");
    assert!(lines[1].contains("countersign.decision/v1"), "{log}");
    assert_eq!(env.decisions()?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_revision_that_is_rejected_again_and_again_is_told_once() -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    assert_eq!(
        bed.client().send(get("/well")).await?.status,
        StatusCode::OK
    );
    bed.env.write_yaml("broken.yaml", "kind: Nothing\n")?;
    for _ in 0..3 {
        assert!(bed.reload().is_err());
    }
    bed.env.remove_policy("broken.yaml")?;
    bed.reload()?;
    bed.env.write_yaml("broken.yaml", "kind: Nothing\n")?;
    assert!(bed.reload().is_err());
    let events = bed.gateway.events();
    assert_eq!(
        names(&events),
        ["started", "reload_rejected", "reload_rejected"]
    );
    Ok(())
}

#[tokio::test]
async fn the_metrics_know_the_start_and_what_would_be_refused() -> anyhow::Result<()> {
    let mut bed = TestBed::builder()
        .policy(|policy| {
            let access = policy.access(EXAMPLE);
            access["mode"] = json!("observe");
            access["allow"] = json!([{"methods": ["GET"], "paths": ["/allowed"]}]);
        })
        .start()
        .await?;
    for path in ["/allowed", "/other", "/other"] {
        assert_eq!(bed.client().send(get(path)).await?.status, StatusCode::OK);
    }
    let record = bed.record().await?;
    assert_eq!(record["policy"].get("would_refuse"), None);
    let record = bed.record().await?;
    assert_eq!(record["policy"]["would_refuse"], "request_not_allowed");
    let series = format!(
        "countersign_would_refuse_total{{reason=\"request_not_allowed\",target=\"example\",policy=\"qa/{EXAMPLE}\"}} "
    );
    assert_eq!(bed.metric(&series).await?, Some(2));
    let started = bed.metric("process_start_time_seconds ").await?;
    let now = bed.env.clock.now().as_second();
    let ago = started.map(|at| now - i64::try_from(at).unwrap_or_default());
    assert!(ago.is_some_and(|ago| (0..60).contains(&ago)), "{started:?}");
    Ok(())
}
