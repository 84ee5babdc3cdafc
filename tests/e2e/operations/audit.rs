//! A real gateway's log, sealed and signed: `countersign audit` finds every line that is not as it was written, and proves
//! one without the rest.

use std::{
    fs,
    process::{Command, Output},
};

use countersign_tests::{
    environment::{DASHBOARD, Environment},
    process::{Process, binary},
};
use http::StatusCode;

use crate::harness::auth_test;

fn audit(arguments: &[&str]) -> anyhow::Result<Output> {
    Ok(Command::new(binary()?)
        .arg("audit")
        .args(arguments)
        .output()?)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn a_log_that_was_changed_is_found_and_one_record_is_proven() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let signed = env.directory().join("audit");
    let file = format!("{{ file: {} }}", env.decision_log().display());
    let with_audit = format!("{file}\n    audit: {{ directory: {} }}", signed.display());
    env.edit_gateway(&file, &with_audit)?;
    let mut gateway = Process::start(&env, None).await?;
    let client = gateway.client().bearer(&env.token("qa", DASHBOARD));
    for _ in 0..5 {
        assert_eq!(client.send(auth_test()).await?.status, StatusCode::OK);
    }
    drop(client);
    gateway.signal("TERM").await?;
    gateway.ended().await?;

    let log = env.decision_log();
    let (log, signed) = (
        log.to_str().unwrap_or_default(),
        signed.to_str().unwrap_or_default(),
    );
    let verify = || audit(&["verify", log, "--checkpoints", signed]);
    let whole = verify()?;
    assert_eq!(
        whole.status.code(),
        Some(0),
        "{}{}",
        text(&whole.stdout),
        text(&whole.stderr)
    );
    assert!(text(&whole.stdout).contains("the log is what the gateway wrote"));

    let records = env.decisions()?;
    let id = records[2]["id"].as_str().unwrap_or_default().to_owned();
    let (line, proof) = (
        env.directory().join("line.json"),
        env.directory().join("one.tlog-proof"),
    );
    let (line, proof) = (
        line.to_str().unwrap_or_default(),
        proof.to_str().unwrap_or_default(),
    );
    let proven = audit(&["prove", &id, log, "--checkpoints", signed, "--line", line])?;
    assert_eq!(proven.status.code(), Some(0), "{}", text(&proven.stderr));
    fs::write(proof, &proven.stdout)?;
    let key = format!("{signed}/audit.pub");
    let check = || audit(&["check", line, proof, "--key", &key]);
    let checked = check()?;
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stdout));
    fs::write(
        line,
        fs::read_to_string(line)?.replace("\"permitted\"", "\"refused\""),
    )?;
    assert_eq!(check()?.status.code(), Some(1));

    let written = fs::read_to_string(log)?;
    let mut lines: Vec<_> = written.lines().collect();
    lines.remove(3);
    fs::write(log, lines.join("\n") + "\n")?;
    let removed = verify()?;
    let said = text(&removed.stdout);
    assert_eq!(removed.status.code(), Some(1), "{said}");
    assert!(
        said.contains("decisions.jsonl:4: 1 lines are missing"),
        "{said}"
    );
    assert!(
        said.contains("the log is NOT what the gateway wrote"),
        "{said}"
    );
    Ok(())
}
