//! How the command line behaves on a terminal and off it: colours, progress, width, slips, completions, manual pages.

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Output, Stdio},
};

use clap::CommandFactory as _;
use countersign::Cli;
use countersign_tests::{environment::Environment, process};
use rstest::rstest;

use super::questions::Asked;

const ESCAPE: char = '\u{1b}';

/// More records than are read without a word.
const MANY: usize = 20_000;

/// What a shell's command shows on a terminal of so many columns.
fn on_a_terminal(columns: u16, command: &str) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let shown = folder.path().join("shown");
    // `script` gives it a terminal of its own.
    let line = format!("stty rows 24 cols {columns}; {command}");
    let status = Command::new("script")
        .args(["--quiet", "--return", "--command", &line])
        .arg(&shown)
        .env("TERM", "xterm-256color")
        .env("COUNTERSIGN", process::binary()?)
        .env_remove("NO_COLOR")
        // Whoever runs in CI is shown colours on any terminal.
        .env_remove("CI")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    anyhow::ensure!(status.is_ok(), "`script` of util-linux is missing");
    let text = fs::read_to_string(&shown)?;
    // Its own first and last line.
    let lines = text.lines().filter(|line| !line.starts_with("Script "));
    let lines: Vec<_> = lines.map(str::trim_end).collect();
    Ok(lines.join("\n"))
}

fn run(arguments: &[&str]) -> anyhow::Result<Output> {
    Ok(Command::new(process::binary()?).args(arguments).output()?)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[rstest]
#[case::on_a_terminal("", true)]
#[case::no_color("NO_COLOR=1 ", false)]
#[case::dumb("TERM=dumb ", false)]
fn colours_are_for_terminals_that_show_them(
    #[case] setting: &str,
    #[case] coloured: bool,
) -> anyhow::Result<()> {
    let asked = Asked::new();
    asked.write("wrong.yaml", "kind: Workloat\n");
    let wrong = asked.path("wrong.yaml").display().to_string();
    for line in [
        format!("{setting}\"$COUNTERSIGN\" check {wrong}"),
        format!("{setting}\"$COUNTERSIGN\" --help"),
        format!("{setting}\"$COUNTERSIGN\" triag"),
    ] {
        let shown = on_a_terminal(100, &line)?;
        assert_eq!(shown.contains(ESCAPE), coloured, "{line}\n{shown}");
    }
    let piped = run(&["check", &wrong])?;
    assert!(!text(&piped.stderr).contains(ESCAPE), "{piped:?}");
    Ok(())
}

#[test]
fn progress_is_told_on_a_terminal_alone() -> anyhow::Result<()> {
    let asked = Asked::new();
    let record = "{\"schema\":\"countersign.decision/v1\",\"time\":\"2026-11-04T00:00:00Z\",\
                  \"id\":\"0194f3c1-2a44-7000-8000-000000000001\",\"outcome\":\"permitted\",\"reason\":\"permitted\",\
                  \"blame\":null}\n";
    asked.write("log.jsonl", &record.repeat(MANY));
    let log = asked.path("log.jsonl").display().to_string();
    let resources = asked.path("before.yaml").display().to_string();
    for line in [
        format!("triage {log}"),
        format!("review {resources} --decisions {log}"),
        format!("diff {resources} {resources} --decisions {log}"),
    ] {
        let shown = on_a_terminal(100, &format!("\"$COUNTERSIGN\" {line}"))?;
        assert!(shown.contains("records read"), "{line}\n{shown}");
        let dumb = on_a_terminal(100, &format!("TERM=dumb \"$COUNTERSIGN\" {line}"))?;
        assert!(!dumb.contains("records read"), "{line}\n{dumb}");
        let piped = run(&line.split(' ').collect::<Vec<_>>())?;
        assert!(!text(&piped.stderr).contains("records read"), "{piped:?}");
    }
    Ok(())
}

/// Words that are longer than a line cannot be broken.
fn too_wide(shown: &str, columns: usize) -> Vec<&str> {
    let wide = shown.lines().filter(|line| line.chars().count() > columns);
    // Nor is a usage, which is one line.
    let broken = wide.filter(|line| !line.starts_with("Usage:"));
    broken
        .filter(|line| line.split_whitespace().count() > 1)
        .collect()
}

#[test]
fn forty_columns_are_enough() -> anyhow::Result<()> {
    let mut lines = vec![
        "--help".to_owned(),
        "reasons".to_owned(),
        "reasons rate_limited".to_owned(),
    ];
    let command = Cli::command();
    let names = command.get_subcommands().map(clap::Command::get_name);
    lines.extend(names.map(|name| format!("{name} -h")));
    for line in lines {
        let shown = on_a_terminal(40, &format!("NO_COLOR=1 \"$COUNTERSIGN\" {line}"))?;
        assert!(!shown.is_empty(), "{line}");
        assert_eq!(too_wide(&shown, 40), Vec::<&str>::new(), "{line}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slip_is_answered_with_what_was_meant() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let gateway = process::Process::start(&env, None).await?;
    let admin = gateway.admin_address().to_string();
    let policy = env.policy_directory().display().to_string();
    let signed = env.directory().join("signed.json").display().to_string();
    let url = "https://slack.com/api/chat.postMessage";
    for (line, meant) in [
        (vec!["triag"], "triage"),
        (vec!["triage", "--worklaod", "qa/x"], "--workload"),
        (vec!["reasons", "identity_expird"], "identity_expired"),
        (vec!["schema", "Workloat"], "Workload"),
        (
            vec!["credentials", "--admin", &admin, "qa/slack-bt"],
            "qa/slack-bot",
        ),
        (
            vec![
                "review",
                &policy,
                "--sign-offs",
                &signed,
                "--sign-off",
                "me",
                "--workload",
                "qa/nightly-dashbord",
            ],
            "qa/nightly-dashboard",
        ),
        (
            vec!["explain", &policy, "--as", "nightly-dashboard", "POST", url],
            "qa/nightly-dashboard",
        ),
    ] {
        let ended = run(&line)?;
        let told = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{line:?}: {told}");
        assert!(told.contains(meant), "{line:?}: {told}");
        assert_eq!(text(&ended.stdout), "", "{line:?}");
    }
    Ok(())
}

#[test]
fn a_shell_completes_commands_and_options() -> anyhow::Result<()> {
    let script = "source <(\"$COUNTERSIGN\" completions bash)
        COMP_WORDS=(countersign \"$1\"); COMP_CWORD=1
        _countersign countersign \"$1\" countersign
        printf '%s\\n' \"${COMPREPLY[@]}\"";
    let completed = Command::new("bash")
        .args(["-euc", script, "bash", "tri"])
        .env("COUNTERSIGN", process::binary()?)
        .output()?;
    assert_eq!(text(&completed.stdout).trim(), "triage", "{completed:?}");
    for (shell, holds) in [
        ("bash", "--follow"),
        ("zsh", "#compdef countersign"),
        ("fish", "complete -c countersign"),
    ] {
        let script = run(&["completions", shell])?;
        assert!(text(&script.stdout).contains(holds), "{shell}");
    }
    Ok(())
}

#[test]
fn every_command_has_a_manual_page() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let written = run(&["man", &folder.path().display().to_string()])?;
    assert_eq!(written.status.code(), Some(0), "{written:?}");
    let mut pages = BTreeSet::new();
    for page in fs::read_dir(folder.path().join("man1"))? {
        let page = page?;
        let source = fs::read_to_string(page.path())?;
        assert!(source.contains(".TH countersign"), "{source}");
        pages.insert(page.file_name().to_string_lossy().into_owned());
    }
    let command = Cli::command();
    for name in command.get_subcommands().map(clap::Command::get_name) {
        assert!(pages.contains(&format!("countersign-{name}.1")), "{name}");
    }
    assert!(pages.contains("countersign-audit-verify.1"), "{pages:?}");
    Ok(())
}
