//! `countersign exec`: a command that holds nothing reaches Slack, and only where policy allows.

use std::{fs, process::ExitCode};

use clap::Parser;
use countersign::Cli;
use countersign_tests::environment::Environment;
use serde_json::Value;

/// Runs `script` by `countersign exec` as `subject`, in this process.
async fn exec(env: &Environment, subject: &str, script: &str) -> anyhow::Result<ExitCode> {
    let path = |path: std::path::PathBuf| path.display().to_string();
    let line = [
        "countersign",
        "exec",
        "--config",
        &path(env.gateway_yaml()),
        "--as",
        subject,
        "--decisions",
        &path(env.decision_log()),
        "--",
        "sh",
        "-c",
        script,
        "sh",
        &path(env.directory().to_owned()),
    ];
    let cli = Cli::try_parse_from(line)?;
    tokio::task::spawn_blocking(|| cli.run()).await?
}

/// Whether `tool` can be run here; says so if not.
fn installed(tool: &str) -> bool {
    let found = std::process::Command::new(tool)
        .arg("--version")
        .output()
        .is_ok();
    if !found {
        countersign_tests::skipped(&format!("{tool} is not installed"));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_posts_to_slack_with_a_dummy_and_may_do_nothing_else() {
    if !installed("curl") {
        return;
    }
    let env = Environment::start().await.unwrap();
    let script = r#"
        slack() { curl -sS --max-time 20 -H 'Authorization: Bearer xoxb-dummy' "$@"; }
        slack -d 'channel=C1&text=hi' -o "$1/posted" https://slack.com/api/chat.postMessage
        slack -d 'x=1' -o "$1/revoked" https://slack.com/api/auth.revoke
        curl -sS --max-time 20 -o "$1/stranger" https://example.com/ 2>"$1/stranger-error"
        env > "$1/env"
        exit 7"#;
    let code = exec(&env, "qa/nightly-dashboard", script).await.unwrap();
    assert_eq!(code, ExitCode::from(7), "the command's own exit code");

    let read = |name: &str| fs::read_to_string(env.directory().join(name)).unwrap();
    let posted: Value = serde_json::from_str(&read("posted")).unwrap();
    assert_eq!(posted["ok"], true, "{posted}");
    assert_eq!(env.slack.messages("C1"), ["hi"]);
    let revoked: Value = serde_json::from_str(&read("revoked")).unwrap();
    assert_eq!(revoked["ok"], false, "{revoked}");
    assert!(env.slack.received().at("/api/auth.revoke").is_empty());
    assert!(
        !env.directory().join("stranger").exists(),
        "unmatched hosts are denied"
    );

    let decisions = env.decisions().unwrap();
    let outcomes: Vec<_> = decisions
        .iter()
        .map(|record| record["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(
        outcomes,
        ["permitted", "refused", "refused"],
        "{decisions:?}"
    );
    assert_eq!(
        decisions[0]["caller"]["subject"],
        "system:serviceaccount:qa:nightly-dashboard"
    );
    let environment = read("env");
    for secret in env.secrets() {
        assert!(
            !environment.contains(&secret),
            "the command was given a secret"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_as_somebody_whom_no_policy_names_gets_nothing() {
    if !installed("curl") {
        return;
    }
    let env = Environment::start().await.unwrap();
    let script =
        "curl -sS --max-time 20 -d channel=C1 https://slack.com/api/chat.postMessage; true";
    exec(&env, "qa/somebody-else", script).await.unwrap();
    assert!(env.slack.received().all().is_empty());
    let decisions = env.decisions().unwrap();
    assert_eq!(decisions[0]["outcome"], "refused", "{decisions:?}");
}

/// The issuer of one run is unknown to the next, and the cluster's own is unknown to both.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_the_cluster_is_worth_nothing_to_it() {
    if !installed("curl") {
        return;
    }
    let env = Environment::start().await.unwrap();
    let token = env.token("qa", "nightly-dashboard");
    let script = format!(
        r#"proxy="http://token:{token}@${{HTTPS_PROXY##*@}}"
        curl -sS --max-time 20 -x "$proxy" -d 'channel=C1&text=hi' https://slack.com/api/chat.postMessage
        test $? -ne 0"#
    );
    let code = exec(&env, "qa/nightly-dashboard", &script).await.unwrap();
    assert_eq!(code, ExitCode::SUCCESS, "the proxy refused the token");
    assert!(env.slack.received().all().is_empty());
}
