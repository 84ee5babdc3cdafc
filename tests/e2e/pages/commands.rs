//! The commands of the pages. A page that is a walk is typed from its first command to its last, against stand-ins; of every
//! other block of commands it is known why it is not, or which test types it.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, ensure};
use countersign_tests::{environment::Environment, process};
use tokio::net::TcpListener;

use super::{Block, blocks, pages, read};
use crate::harness::tests_directory;

/// Pages whose commands are typed here.
const WALKS: [&str; 1] = ["docs/first-gateway.md"];

/// Other blocks of commands: the page, how the first begins, and who types them or why nobody does.
const OTHERS: [(&str, &str, &str); 22] = [
    ("README.md", "cargo run", "tests/run and CI do"),
    ("README.md", "helm install", "kubernetes::from_empty"),
    (
        "deploy/helm/countersign/README.md",
        "helm install",
        "kubernetes::from_empty",
    ),
    (
        "deploy/helm/countersign/README.md",
        "kubectl label",
        "kubernetes::from_empty",
    ),
    (
        "deploy/README.md",
        "deploy/build-images",
        "kubernetes::images builds them",
    ),
    ("deploy/README.md", "helm install", "kubernetes::from_empty"),
    (
        "deploy/README.md",
        "kubectl apply --server-side -k",
        "kubernetes::helm::made compares what it applies",
    ),
    (
        "deploy/README.md",
        "export_ca",
        "needs pods that run a gateway",
    ),
    (
        "examples/nightly-dashboard/README.md",
        "helm install",
        "kubernetes::from_empty",
    ),
    (
        "examples/nightly-dashboard/README.md",
        "kubectl create job",
        "kubernetes::from_empty",
    ),
    (
        "examples/nightly-dashboard/README.md",
        "countersign check",
        "policy::examples",
    ),
    (
        "docs/audit.md",
        "$ countersign audit verify",
        "operations::audit",
    ),
    (
        "docs/audit.md",
        "$ countersign audit prove",
        "operations::audit",
    ),
    (
        "docs/audit.md",
        "$ countersign receipt",
        "operations::exit_codes",
    ),
    ("docs/cli.md", "source <(", "operations::manners"),
    ("docs/doctor.md", "countersign doctor", "kubernetes::doctor"),
    (
        "docs/injection.md",
        "kubectl label",
        "kubernetes::from_empty",
    ),
    (
        "docs/injection.md",
        "countersign controller policy",
        "kubernetes::injection_policy",
    ),
    (
        "docs/performance.md",
        "bench/compare",
        "takes 15 minutes on a quiet machine",
    ),
    (
        "docs/triage.md",
        "$ ",
        "operations::triage and operations::hindsight",
    ),
    ("docs/trust.md", "kubectl label", "kubernetes::from_empty"),
    (
        "docs/trust.md",
        "countersign ca rotate",
        "kubernetes::trust::rotation",
    ),
];

fn is_shell(block: &Block) -> bool {
    ["sh", "bash", "console"].contains(&&*block.language)
}

#[test]
fn of_every_block_of_commands_it_is_known_who_types_it() {
    let mut unknown = Vec::new();
    for page in pages() {
        let name = page.display().to_string();
        if WALKS.contains(&&*name) {
            continue;
        }
        for block in blocks(&read(&page)).iter().filter(|block| is_shell(block)) {
            let known = OTHERS
                .iter()
                .any(|(page, begins, _)| *page == name && block.text.starts_with(begins));
            if !known {
                unknown.push(format!("{name}:{}: {}", block.line, block.text));
            }
        }
    }
    assert_eq!(unknown, Vec::<String>::new());
}

#[test]
fn who_types_a_block_is_there() {
    let words = OTHERS.iter().flat_map(|(_, _, who)| who.split(' '));
    for module in words.filter(|word| word.contains("::")) {
        let path = tests_directory()
            .join("e2e")
            .join(module.replace("::", "/"));
        assert!(
            path.is_dir() || path.with_extension("rs").is_file(),
            "{module}"
        );
    }
}

/// Writes a block that is a file, if it begins with its name.
fn write_file(folder: &Path, block: &Block, change: impl Fn(&str) -> String) -> anyhow::Result<()> {
    let first = block.text.lines().next().unwrap_or_default();
    let Some(name) = first
        .strip_prefix("# ")
        .filter(|name| Path::new(name).extension().is_some_and(|it| it == "yaml"))
    else {
        return Ok(());
    };
    let path = folder.join(name);
    fs::create_dir_all(path.parent().context("it is in the folder")?)?;
    Ok(fs::write(path, change(&block.text))?)
}

/// What stands between the outputs of two blocks.
const NEXT: &str = "--- the next block ---";

#[tokio::test(flavor = "multi_thread")]
async fn the_first_gateway_does_what_its_page_prints() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let folder = tempfile::tempdir()?;
    let mut ports = Vec::new();
    for _ in 0..2 {
        ports.push(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port());
    }
    // The ports of the page may be in use here.
    let moved = |text: &str| {
        let text = text.replace("127.0.0.1:3128", &format!("127.0.0.1:{}", ports[0]));
        text.replace("127.0.0.1:9901", &format!("127.0.0.1:{}", ports[1]))
    };
    // Slack is a stand-in.
    let config = fs::read_to_string(env.gateway_yaml())?;
    let (_, upstream) = config.split_once("  upstream:\n").context("it has one")?;
    let (upstream, _) = upstream
        .split_once("  observe:\n")
        .context("it is in the middle")?;
    let placed = |text: &str| {
        let upstream = format!("spec:\n  upstream:\n{upstream}");
        let is_gateway = text.contains("kind: Gateway");
        let text = moved(text);
        if is_gateway {
            text.replacen("spec:\n", &upstream, 1)
        } else {
            text
        }
    };
    let all = blocks(&read(WALKS[0].as_ref()));
    // A gateway that is left would hold the outputs open.
    let mut script = "set -eum; trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n".to_owned();
    for block in &all {
        if is_shell(block) {
            let next = format!("\necho '{NEXT}'\n");
            script.extend([moved(&block.text), next]);
        } else if block.language == "yaml" {
            write_file(folder.path(), block, placed)?;
        }
    }
    let binary = process::binary()?;
    let programs = binary
        .parent()
        .context("it is in a folder")?
        .display()
        .to_string();
    let path = format!("{programs}:{}", std::env::var("PATH")?);
    let typed = Command::new("timeout")
        .args(["120", "bash", "-c", &script])
        .env("PATH", path)
        .env("SLACK_TOKEN", env.slack.bot_token())
        .current_dir(folder.path())
        .output()?;
    let (said, told) = (
        String::from_utf8_lossy(&typed.stdout).into_owned(),
        String::from_utf8_lossy(&typed.stderr).into_owned(),
    );
    let outputs: Vec<_> = said.split(NEXT).collect();
    compare(&all, &outputs).with_context(|| format!("{said}\n{told}"))?;
    ensure!(typed.status.success(), "{said}\n{told}");
    ensure!(
        !said.contains(&env.slack.bot_token()),
        "a secret was printed"
    );
    Ok(())
}

/// Each line of a text below some commands is in what they printed, in that order.
fn compare(blocks: &[Block], outputs: &[&str]) -> anyhow::Result<()> {
    let mut outputs = outputs.iter();
    let mut output = "";
    for block in blocks {
        if is_shell(block) {
            output = outputs.next().context("a block was not reached")?;
        } else if block.language == "text" {
            for line in block.text.lines() {
                let at = output.find(line);
                let at =
                    at.with_context(|| format!("line {}: {line} is not in {output}", block.line))?;
                output = &output[at + line.len()..];
            }
        }
    }
    Ok(())
}
