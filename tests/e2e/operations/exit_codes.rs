//! The exit codes of every command are those of the table in docs/cli.md.

use std::{collections::BTreeMap, fs};

use clap::CommandFactory as _;
use countersign::Cli;
use countersign_tests::{environment::Environment, process::Process};

use super::questions::{AT, Asked, EXPECTED};
use crate::harness::tests_directory;

/// What another test shows.
const ELSEWHERE: [(&str, i32, &str); 10] = [
    ("run", 0, "operations::drain"),
    ("relay", 0, "redirect"),
    ("doctor", 0, "kubernetes::doctor"),
    ("doctor", 1, "kubernetes::doctor"),
    ("exec", 0, "operations::checks"),
    ("exec", 1, "sdks::exec"),
    ("audit", 0, "operations::audit"),
    ("audit", 1, "operations::audit"),
    ("ca", 1, "kubernetes::trust"),
    ("redirect", 2, "redirect"),
];

/// Lines that are told apart by their exit codes; `@NAME` is a file of the test, `ADMIN` a gateway's endpoint.
const LINES: [(&str, i32); 49] = [
    ("check @before.yaml", 0),
    ("check @wrong.yaml", 1),
    ("check", 2),
    ("run --config @nowhere", 2),
    ("relay --config @nowhere", 2),
    ("controller webhooks --injection @injection.yaml", 0),
    ("controller webhooks --injection @nowhere", 2),
    ("doctor --kubeconfig @nowhere", 2),
    ("redirect", 0),
    (
        "explain @before.yaml --as qa/nightly --cluster prod-eu POST https://slack.com/api/chat.postMessage",
        0,
    ),
    (
        "explain @before.yaml --as qa/nightly --cluster prod-eu GET https://slack.com/api/chat.postMessage -o json",
        1,
    ),
    (
        "explain @before.yaml --as qa/retired --cluster prod-eu GET https://slack.com/api/chat.postMessage -o yaml",
        1,
    ),
    ("explain @nowhere --as qa/nightly GET https://slack.com/", 2),
    (
        "explain @before.yaml --as qa/nightly GET http://slack.com/",
        2,
    ),
    ("diff @before.yaml @before.yaml", 0),
    ("diff @before.yaml @after.yaml", 1),
    ("diff @before.yaml @nowhere", 2),
    ("test @right.yaml --resources @before.yaml", 0),
    ("test @expected.yaml --resources @before.yaml", 1),
    ("test @nowhere --resources @before.yaml", 2),
    (
        "who-can GET https://elsewhere.example/ --resources @before.yaml",
        0,
    ),
    (
        "who-can POST https://slack.com/api/chat.postMessage --resources @before.yaml",
        1,
    ),
    ("who-can GET https://slack.com/ --resources @nowhere", 2),
    ("review @sound.yaml --at 2026-10-01T00:00:00Z", 0),
    ("review @before.yaml --at 2026-11-04T00:00:00Z", 1),
    ("review @nowhere", 2),
    ("credentials --admin ADMIN", 0),
    ("credentials --admin 127.0.0.1:1", 2),
    ("tail --once --admin ADMIN", 0),
    ("tail --once --admin 127.0.0.1:1", 2),
    ("triage @permitted.jsonl", 0),
    ("triage @refused.jsonl", 1),
    ("triage @nowhere", 2),
    ("reasons", 0),
    ("reasons nothing_known", 2),
    ("tail --format ocsf @run.jsonl", 0),
    ("receipt --check @receipt.json @run.jsonl", 0),
    ("receipt --check @other.json @run.jsonl", 1),
    ("receipt --check @nowhere @permitted.jsonl", 2),
    ("audit verify @permitted.jsonl --checkpoints @nowhere", 2),
    ("exec --as qa/nightly --resources @nowhere -- true", 2),
    ("ca show --directory CA", 0),
    ("ca show --directory @nowhere", 2),
    ("schema Workload -o yaml", 0),
    ("schema Workloat", 2),
    ("completions zsh", 0),
    ("completions cmd", 2),
    ("man @manual", 0),
    ("man @before.yaml/below", 2),
];

/// Resources with nothing to find.
const SOUND: &str = "apiVersion: countersign.dev/v1alpha1
kind: TargetService
metadata: { name: open }
spec: { hosts: [open.example], routes: [{ paths: [\"/**\"] }] }
---
apiVersion: countersign.dev/v1alpha1
kind: Workload
metadata: { name: report, namespace: qa }
spec:
  owner: qa@example.com
  purpose: Reads
  environment: test
  reviewBy: 2027-06-30
  match: [{ cluster: prod-eu, serviceAccount: report }]
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: reads, namespace: qa }
spec:
  owner: qa@example.com
  workloads: [report]
  target: open
  allow: [{ methods: [GET], paths: [\"/report\"] }]
";

#[tokio::test(flavor = "multi_thread")]
async fn every_command_ends_with_the_codes_of_the_table() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let gateway = Process::start(&env, None).await?;
    let asked = prepared()?;
    let admin = gateway.admin_address().to_string();
    let ca = env.ca_directory().display().to_string();
    let mut shown: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for (line, code) in LINES {
        let line = line.replace("ADMIN", &admin).replace("CA", &ca);
        let (ended, text, told) = asked.run(&line);
        assert_eq!(ended, Some(code), "{line}\n{text}\n{told}");
        assert!(code != 2 || text.is_empty(), "{line}\n{text}");
        let command = line.split(' ').next().unwrap_or_default();
        shown.entry(command.to_owned()).or_default().push(code);
    }
    for (command, code, _) in ELSEWHERE {
        shown.entry(command.to_owned()).or_default().push(code);
    }
    let table = table()?;
    let command = Cli::command();
    let mut known = command.get_subcommands().map(clap::Command::get_name);
    assert!(known.all(|name| table.contains_key(name)), "docs/cli.md");
    for (command, codes) in &table {
        let shown = shown.get(command);
        for code in codes {
            let is_shown = shown.is_some_and(|shown| shown.contains(code));
            let own = command == "exec";
            assert!(is_shown || own, "{command} with {code} is not shown");
        }
    }
    Ok(())
}

/// The codes that each command has, as the table says.
fn table() -> anyhow::Result<BTreeMap<String, Vec<i32>>> {
    let page = fs::read_to_string(tests_directory().join("../docs/cli.md"))?;
    let (_, page) = page.split_once("## Exit codes").unwrap_or_default();
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.trim_end_matches('`').to_owned();
        let codes = (0..).zip(cells).filter(|(_, cell)| *cell != "-");
        Some((name, codes.map(|(code, _)| code).collect()))
    };
    Ok(page.lines().filter_map(row).collect())
}

fn prepared() -> anyhow::Result<Asked> {
    let asked = Asked::new();
    asked.write("expected.yaml", EXPECTED);
    let right: Vec<_> = EXPECTED.lines().take(3).collect();
    asked.write("right.yaml", &right.join("\n"));
    asked.write(
        "wrong.yaml",
        "apiVersion: countersign.dev/v1alpha1\nkind: Workloat\n",
    );
    asked.write(
        "injection.yaml",
        "{gateways: [\"gateway.countersign:3129\"], relayImage: \"relay:1\", redirectImage: \"redirect:1\"}",
    );
    asked.write("sound.yaml", SOUND);
    let record = |outcome: &str, reason: &str, blame: &str| {
        format!(
            "{{\"schema\":\"countersign.decision/v1\",\"time\":\"{AT}\",\"id\":\"0194f3c1-2a44-7000-8000-000000000001\",\
             \"outcome\":\"{outcome}\",\"reason\":\"{reason}\",\"blame\":{blame},\
             \"target\":{{\"authority\":\"slack.com:443\",\"method\":\"POST\",\"path\":\"/api/auth.test\"}}}}\n"
        )
    };
    asked.write("permitted.jsonl", &record("permitted", "permitted", "null"));
    asked.write(
        "refused.jsonl",
        &record("refused", "request_not_allowed", "\"operator\""),
    );
    let of_run =
        "\"caller\":{\"pod\":\"nightly-1-x\",\"kubernetes\":{\"job\":\"nightly-1\"}},\"target\":";
    let line = record("permitted", "permitted", "null").replace("\"target\":", of_run);
    asked.write("run.jsonl", &line);
    let (_, receipt, told) = asked.run("receipt --run nightly-1 @run.jsonl");
    anyhow::ensure!(!receipt.is_empty(), "{told}");
    asked.write("receipt.json", &receipt);
    let other = receipt.replace("\"requests\": 1", "\"requests\": 7");
    asked.write("other.json", &other);
    Ok(asked)
}
