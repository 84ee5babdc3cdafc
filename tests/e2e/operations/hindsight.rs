//! `countersign explain ID` on a gateway whose policy was changed: a refusal names the change that caused it, later the one
//! that mended it, and the kept revisions are what was in force.

use countersign_tests::{
    environment::{DASHBOARD, Environment},
    process::{Process, binary},
};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::harness::{EXAMPLE, TestBed, auth_test, get, soon};

/// The resources that the gateway has kept.
async fn revisions(bed: &TestBed) -> anyhow::Result<Vec<String>> {
    let (head, body) = bed.ask_admin("/revisions").await?;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let heads: Vec<Value> = serde_json::from_str(&body)?;
    let names = heads.iter().map(|head| head["revision"].as_str());
    Ok(names.flatten().map(str::to_owned).collect())
}

async fn explain(bed: &TestBed, id: &Value, more: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(binary()?);
    command
        .arg("explain")
        .arg(id.as_str().unwrap_or_default())
        .args(["--admin", &bed.admin().to_string()])
        .args(more);
    let output = soon("the answer", command.output()).await??;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    Ok(String::from_utf8(output.stdout)?)
}

fn allow(bed: &TestBed, path: &str) -> anyhow::Result<()> {
    bed.edit_policy(|policy| {
        policy.access(EXAMPLE)["allow"] = json!([{ "methods": ["GET"], "paths": [path] }]);
    })
}

#[tokio::test]
async fn a_refusal_that_a_change_caused_names_the_change_and_its_owner() -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    assert_eq!(
        bed.client().send(get("/some")).await?.status,
        StatusCode::OK
    );
    bed.recorded("permitted").await?;
    allow(&bed, "/sums")?;
    // Later changes that do not matter must not be blamed.
    allow(&bed, "/sum")?;
    let answer = bed.client().send(get("/some")).await?;
    assert_ne!(answer.status, StatusCode::OK);
    let refused = bed.recorded("request_not_allowed").await?;
    let names = revisions(&bed).await?;
    let [first, second, third] = &names[..] else {
        panic!("{names:?}")
    };
    assert_eq!(refused["revision"], third.as_str(), "{refused}");

    let told = explain(&bed, &refused["id"], &[]).await?;
    println!("{told}");
    let has = |told: &str, part: &str| assert!(told.contains(part), "{part} is not in {told}");
    has(&told, &format!("then: revision {third}, in force since "));
    has(&told, &format!("caused by revision {second} of "));
    has(&told, &format!("which changed 1 resource of {first}"));
    let owner = "(ask qa-platform@example.com)";
    has(
        &told,
        &format!("  changed AccessPolicy qa/{EXAMPLE} {owner}"),
    );
    has(&told, "/sums");
    has(&told, &format!("now: revision {third} would refuse it"));
    has(
        &told,
        &format!("smallest change: add to `allow` of AccessPolicy qa/{EXAMPLE}"),
    );
    has(&told, "  would permit qa/nightly-dashboard: GET");

    allow(&bed, "/some")?;
    let names = revisions(&bed).await?;
    let told = explain(&bed, &refused["id"], &[]).await?;
    has(
        &told,
        &format!("now: revision {} would permit it", names[3]),
    );
    has(&told, &format!("changed by revision {} of ", names[3]));

    // From the directory, for a program.
    let directory = bed.env.directory().join("state");
    let directory = directory.to_str().unwrap_or_default();
    let told = explain(
        &bed,
        &refused["id"],
        &["--revisions", directory, "-o", "json"],
    )
    .await?;
    let told: Value = serde_json::from_str(&told)?;
    let cause = &told["hindsight"]["caused_by"];
    assert_eq!(cause["revision"], second.as_str(), "{told:#}");
    assert_eq!(cause["resources"][0]["name"], format!("qa/{EXAMPLE}"));
    assert_eq!(told["hindsight"]["now"]["sent"], true);
    assert_eq!(told["hindsight"]["notes"], json!([]));
    Ok(())
}

#[tokio::test]
async fn revisions_outlive_their_process_and_nothing_else_is_at_their_path() -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    allow(&bed, "/other")?;
    let before = revisions(&bed).await?;
    let (head, _) = bed.ask_admin("/revisions/..%2F..%2Fgateway.yaml").await?;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    let TestBed { env, gateway, .. } = bed;
    drop(gateway);
    let again = countersign_tests::gateway::Gateway::start_with(&env, |_| {}).await?;
    let admin = again.admin().expect("there is an admin endpoint");
    let answer = countersign_tests::process::admin(admin, "/revisions").await?;
    for name in &before {
        assert!(answer.contains(name), "{name} is not in {answer}");
    }
    assert_eq!(answer.matches("\"digest\"").count(), before.len());
    Ok(())
}

/// Uses are counted by the processes one after the other, and no log is read.
#[tokio::test]
async fn the_last_use_of_a_grant_survives_restarts() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    for _ in 0..2 {
        let mut gateway = Process::start(&env, None).await?;
        let client = gateway.client().bearer(&env.token("qa", DASHBOARD));
        assert_eq!(client.send(auth_test()).await?.status, StatusCode::OK);
        drop(client);
        gateway.signal("TERM").await?;
        assert_eq!(gateway.ended().await?.code(), Some(0));
    }
    let mut records = env.decisions()?;
    let last = records.pop().expect("there are records");
    let mut command = Command::new(binary()?);
    command
        .args(["who-can", "POST", "https://slack.com/api/auth.test"])
        .arg("--resources")
        .arg(env.policy_directory())
        .arg("--revisions")
        .arg(env.directory().join("state"))
        .args(["-o", "json"]);
    let output = soon("the answer", command.output()).await??;
    let told: Value = serde_json::from_slice(&output.stdout)?;
    let grants = told["grants"].as_array().into_iter().flatten();
    let own: Vec<_> = grants
        .filter(|grant| grant["workload"] == format!("qa/{DASHBOARD}"))
        .collect();
    let used = own.iter().find(|grant| grant["uses"] == 2);
    let used = used.unwrap_or_else(|| panic!("{told:#}"));
    // Records have milliseconds.
    let at = |value: &Value| {
        let time: jiff::Timestamp = value.as_str()?.parse().ok()?;
        Some(time.as_millisecond())
    };
    assert_eq!(at(&used["lastUsed"]), at(&last["time"]));
    // Both processes had one and the same revision.
    assert_eq!(used["since"]["orEarlier"], true, "{used:#}");
    Ok(())
}
