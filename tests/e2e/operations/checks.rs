//! What commands say before a gateway runs: nothing that is wrong passes as usable, and nobody is taken for
//! somebody without a word.

use std::{
    ffi::OsStr,
    fs,
    process::{Command, Output, Stdio},
};

use countersign_tests::{
    environment::Environment,
    process::{self, Process},
};
use rstest::rstest;

use crate::harness::until;

fn countersign<S: AsRef<OsStr>>(arguments: &[S]) -> anyhow::Result<Output> {
    let mut command = Command::new(process::binary()?);
    let command = command.args(arguments).env_remove("RUST_LOG");
    Ok(command.stdin(Stdio::null()).output()?)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_check_of_nothing_is_no_proof() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    fs::write(directory.path().join("policy.yaml.bak"), "kind: Workload")?;
    let place = directory.path().as_os_str();
    let checked = countersign(&[OsStr::new("check"), place])?;
    let said = text(&checked.stderr);
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(said.contains("error[nothing-found]"), "{said}");
    assert!(!text(&checked.stdout).contains("usable"));
    // Nor does it explain or run anything.
    let mut explain = vec![OsStr::new("explain"), place];
    explain.extend(["--as", "qa/app", "GET", "https://slack.com/"].map(OsStr::new));
    let explained = countersign(&explain)?;
    assert_eq!(explained.status.code(), Some(2), "{explained:?}");
    let mut exec: Vec<_> = ["exec", "--as", "qa/app", "--resources"]
        .map(OsStr::new)
        .into();
    exec.extend([place, OsStr::new("--"), OsStr::new("true")]);
    let ran = countersign(&exec)?;
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    assert!(text(&ran.stderr).contains("nothing-found"), "{ran:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_checked_with_the_resources_that_it_names() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let config = env.gateway_yaml().display().to_string();
    let check = |strict: &'static str| {
        let mut line = vec!["check", "--config", &config];
        line.extend(Some(strict).filter(|strict| !strict.is_empty()));
        countersign(&line)
    };
    let sound = check("")?;
    assert_eq!(sound.status.code(), Some(0), "{sound:?}");
    let said = text(&sound.stdout);
    assert!(said.contains("gateway test, "), "{said}");
    assert!(said.contains(" policies, "), "{said}");

    env.edit_gateway("upstream-roots.pem", "no-roots.pem")?;
    let missing = check("")?;
    let said = text(&missing.stderr);
    assert!(said.contains("warning[not-here]"), "{said}");
    assert!(said.contains("no-roots.pem is not there"), "{said}");
    assert!(
        text(&missing.stdout).starts_with("usable, with "),
        "{missing:?}"
    );
    assert_eq!(check("--strict")?.status.code(), Some(1));

    env.write_yaml("broken.yaml", "apiVersion: x\nkind: unknown\n")?;
    assert_eq!(check("")?.status.code(), Some(1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_as_nobody_is_told_so_before_it_starts() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let config = env.gateway_yaml().display().to_string();
    let exec =
        |subject: &str| countersign(&["exec", "--config", &config, "--as", subject, "--", "true"]);
    for subject in [
        "qa/nightly-dashbord",
        "system:serviceaccount:qa:nightly-dashbord",
    ] {
        let ran = exec(subject)?;
        let said = text(&ran.stderr);
        assert_eq!(ran.status.code(), Some(0), "{said}");
        assert!(said.contains("warning: no workload matches"), "{said}");
        assert!(
            said.contains("did you mean qa/nightly-dashboard?"),
            "{said}"
        );
    }
    let ran = exec("qa/nightly-dashboard")?;
    assert!(!text(&ran.stderr).contains("no workload"), "{ran:?}");
    let ran = exec("nightly-dashboard")?;
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    assert!(
        text(&ran.stderr).contains("did you mean qa/nightly-dashboard?"),
        "{ran:?}"
    );
    Ok(())
}

#[rstest]
#[case::workload("qa/nightly-dashboard")]
#[case::subject("system:serviceaccount:qa:nightly-dashboard")]
#[tokio::test(flavor = "multi_thread")]
async fn explain_takes_the_names_that_exec_takes(#[case] subject: &str) -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let policy = env.policy_directory().display().to_string();
    let url = "https://slack.com/api/chat.postMessage";
    let explained = countersign(&["explain", &policy, "--as", subject, "POST", url])?;
    assert_eq!(explained.status.code(), Some(0), "{explained:?}");
    let nobody = countersign(&[
        "explain",
        &policy,
        "--as",
        "qa/nightly-dashbord",
        "POST",
        url,
    ])?;
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
    let said = text(&nobody.stdout);
    assert!(
        said.contains("did you mean qa/nightly-dashboard?"),
        "{said}"
    );
    Ok(())
}

/// The parts of `/readyz` that tell of the Gateway file.
async fn config_status(
    gateway: &Process,
) -> anyhow::Result<(serde_json::Value, serde_json::Value)> {
    let answer = gateway.admin("/readyz").await?;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let mut body: serde_json::Value = serde_json::from_str(body)?;
    Ok((body["restart_needed"].take(), body["config_error"].take()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_gateway_file_is_told_until_the_restart() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let mut gateway = Process::start(&env, None).await?;
    let at_start = fs::read_to_string(env.gateway_yaml())?;
    env.edit_gateway("unmatched: deny", "unmatched: tunnel")?;
    gateway.signal("HUP").await?;
    until("the keys that changed", async || {
        let status = config_status(&gateway).await;
        status.is_ok_and(|(keys, _)| keys == serde_json::json!(["spec.unmatched"]))
    })
    .await?;
    let line = |printed: &str| {
        let line = printed
            .lines()
            .find(|line| line.contains("restart the gateway"))?;
        Some(line.to_owned())
    };
    let line = gateway.said(line).await?;
    assert!(line.contains("\"changed\":\"spec.unmatched\""), "{line}");
    let metrics = gateway.admin("/metrics").await?;
    assert!(
        metrics.contains("countersign_config_restart_needed 1"),
        "{metrics}"
    );

    // A file that the next start would refuse is worse.
    env.edit_gateway("unmatched: tunnel", "unmatchd: tunnel")?;
    gateway.signal("HUP").await?;
    until("the mistake", async || {
        let status = config_status(&gateway).await;
        status.is_ok_and(|(_, error)| error.as_str().is_some_and(|e| e.contains("unknown-key")))
    })
    .await?;
    // Nobody asks for this one: the file is watched.
    fs::write(env.gateway_yaml(), at_start)?;
    until("the end of it", async || {
        let status = config_status(&gateway).await;
        status.is_ok_and(|(keys, error)| keys == serde_json::json!([]) && error.is_null())
    })
    .await?;
    let metrics = gateway.admin("/metrics").await?;
    assert!(
        metrics.contains("countersign_config_restart_needed 0"),
        "{metrics}"
    );
    Ok(())
}
