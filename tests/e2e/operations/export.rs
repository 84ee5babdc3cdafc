//! Records that a command gives to a SIEM are the events that a gateway would have written itself.

use countersign_tests::{
    environment::{DASHBOARD, Environment, records},
    process::{Process, binary},
};
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::Value;
use tokio::process::Command;

use super::several_sinks::read_by_python;
use crate::harness::{post_message, soon};

#[tokio::test(flavor = "multi_thread")]
async fn a_log_becomes_events_of_ocsf_afterwards() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let mut gateway = Process::start(&env, None).await?;
    let client = gateway.client().bearer(&env.token("qa", DASHBOARD));
    let answer = soon("an answer", client.send(post_message("C0", "hello"))).await??;
    assert_eq!(answer.status, StatusCode::OK);
    let denied = Request::post("https://slack.com/api/auth.revoke").body(Full::default())?;
    soon("a refusal", client.send(denied)).await??;
    drop(client);
    gateway.signal("TERM").await?;
    assert_eq!(gateway.ended().await?.code(), Some(0));

    let mut command = Command::new(binary()?);
    command.args(["tail", "-o", "ocsf"]).arg(env.decision_log());
    let output = soon("the events", command.output()).await??;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    let events = env.directory().join("exported.jsonl");
    std::fs::write(&events, &output.stdout)?;
    let exported = records(&events)?;
    let written = env.decisions()?;
    let of_requests: Vec<&Value> = exported
        .iter()
        .map(|event| &event["unmapped"]["countersign"])
        .filter(|record| record["outcome"].is_string())
        .collect();
    assert_eq!(of_requests, written.iter().collect::<Vec<_>>());
    let classes: Vec<_> = exported
        .iter()
        .filter_map(|event| event["class_uid"].as_u64())
        .collect();
    for class in [4002, 3003, 6002] {
        assert!(classes.contains(&class), "{class} is not in {classes:?}");
    }
    let text = String::from_utf8(output.stdout)?;
    for secret in env.secrets() {
        assert!(!text.contains(&secret), "a secret is in an event");
    }
    if let Some(read) = read_by_python("ocsf_events.py", &events).await? {
        assert_eq!(
            read["events"].as_u64(),
            Some(exported.len() as u64),
            "{read}"
        );
    }
    Ok(())
}
