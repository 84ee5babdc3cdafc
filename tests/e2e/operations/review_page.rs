//! The access review of the example as one HTML page, from a gateway that has run: what was used, by the scopes of its
//! credential too, is known without a log.
//!
//! `COUNTERSIGN_KEEP_PAGES=DIR` keeps the page there, to look at.

use std::{fs, path::Path};

use countersign_tests::{
    environment::{DASHBOARD, Environment},
    process::{Process, binary},
};
use http::StatusCode;
use tokio::process::Command;

use crate::harness::{auth_test, python, soon, tests_directory};

async fn review(env: &Environment, more: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(binary()?);
    command
        .arg("review")
        .arg(env.policy_directory())
        .arg("--revisions")
        .arg(env.directory().join("state"))
        .args(["--at", "2026-11-30T00:00:00Z"])
        .args(more)
        .current_dir(env.directory());
    let output = soon("the review", command.output()).await??;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{errors}");
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test]
async fn the_page_tells_what_the_example_may_reach_and_uses() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let mut gateway = Process::start(&env, None).await?;
    let client = gateway.client().bearer(&env.token("qa", DASHBOARD));
    for _ in 0..3 {
        assert_eq!(client.send(auth_test()).await?.status, StatusCode::OK);
    }
    drop(client);
    gateway.signal("TERM").await?;
    assert_eq!(gateway.ended().await?.code(), Some(0));

    let rows: serde_json::Value = serde_json::from_str(&review(&env, &["-o", "json"]).await?)?;
    let workloads = rows["workloads"].as_array().into_iter().flatten();
    let own = workloads
        .filter(|row| row["name"] == format!("qa/{DASHBOARD}"))
        .flat_map(|row| row["grants"].as_array().into_iter().flatten());
    let slack = own
        .filter(|grant| grant["target"] == "slack")
        .find(|grant| grant["uses"] == 3)
        .unwrap_or_else(|| panic!("{rows:#}"));
    let credentials = slack["credentials"].as_array().into_iter().flatten();
    let used = credentials
        .clone()
        .find(|credential| credential["uses"] == 3)
        .unwrap_or_else(|| panic!("{slack:#}"));
    assert!(used["lastUsed"].is_string(), "{used:#}");
    let held = used["scopesHeld"].as_array().map_or(0, Vec::len);
    assert!(held > 0, "the API says which scopes it has: {used:#}");

    let page = review(&env, &["-o", "html"]).await?;
    for part in [
        "<!DOCTYPE html>",
        &format!("qa/{DASHBOARD}"),
        "has the scopes",
        "3 times",
        "id=\"findings\"",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    assert!(
        !page.contains("<script") && !page.contains("://"),
        "it loads nothing"
    );
    for secret in env.secrets() {
        assert!(!page.contains(&secret), "a secret is in the page");
    }
    let findings = env.directory().join("findings.jsonl");
    fs::write(&findings, review(&env, &["-o", "ocsf"]).await?)?;
    if let Some(python) = python() {
        let mut command = Command::new(python);
        command
            .arg(tests_directory().join("clients/python/ocsf_findings.py"))
            .arg(&findings);
        let output = soon("the answer of Python", command.output()).await??;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let read: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let found = rows["findings"].as_array().map_or(0, Vec::len);
        assert_eq!(
            read["findings"].as_u64(),
            u64::try_from(found).ok(),
            "{read}"
        );
    }
    if let Some(directory) = std::env::var_os("COUNTERSIGN_KEEP_PAGES") {
        fs::write(Path::new(&directory).join("review.html"), page)?;
    }
    Ok(())
}
