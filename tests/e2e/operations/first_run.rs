//! A gateway that cannot start: it says what is missing, and leaves nothing behind that was not there.

use std::{
    collections::BTreeSet,
    fs, io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use countersign_tests::{environment::Environment, process, skipped};
use rstest::rstest;

/// Where Kubernetes puts a pod's own token.
const IN_POD: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

fn run(config: &Path) -> anyhow::Result<Output> {
    let mut command = Command::new(process::binary()?);
    let command = command.args(["run", "--config"]).arg(config);
    Ok(command
        .stdin(Stdio::null())
        .env_remove("RUST_LOG")
        .output()?)
}

/// Everything below a directory.
fn everything(directory: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() && !path.is_symlink() {
                open.push(path.clone());
            }
            found.insert(path);
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_of_a_cluster_the_smallest_gateway_says_what_to_set() -> anyhow::Result<()> {
    if Path::new(IN_POD).exists() {
        skipped("this is a pod in Kubernetes");
        return Ok(());
    }
    let env = Environment::start().await?;
    let at = |name: &str| env.directory().join(name).display().to_string();
    let config = env.directory().join("smallest.yaml");
    let text = format!(
        "apiVersion: countersign.dev/v1alpha1\nkind: Gateway\nmetadata: {{ name: main }}\nspec:\n  resources: [{{ \
         directory: {} }}]\n  interception: {{ ca: {{ directory: {} }} }}\n  state: {{ directory: {} }}\n  observe: {{ \
         decisions: {{ file: {} }} }}\n",
        env.policy_directory().display(),
        at("new/ca"),
        at("new/state"),
        at("new/decisions.jsonl"),
    );
    fs::write(&config, text)?;
    let before = everything(env.directory())?;
    let ended = run(&config)?;
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(
        last.contains("not in Kubernetes? set `identity.issuers`"),
        "{said}"
    );
    assert_eq!(everything(env.directory())?, before);
    Ok(())
}

/// A port that is in use while it is held.
fn taken() -> io::Result<(TcpListener, String)> {
    let socket = TcpListener::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?.to_string();
    Ok((socket, address))
}

#[derive(Clone, Copy)]
enum Missing {
    Roots,
    Policy,
    Port,
    AdminPort,
    Certificate,
}

#[rstest]
#[case::roots(Missing::Roots, "roots")]
#[case::policy(Missing::Policy, "unknown")]
#[case::port(Missing::Port, "in use")]
#[case::admin_port(Missing::AdminPort, "in use")]
#[case::certificate(Missing::Certificate, "gone.crt")]
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_cannot_start_leaves_nothing(
    #[case] missing: Missing,
    #[case] expected: &str,
) -> anyhow::Result<()> {
    let env = Environment::start().await?;
    let (_held, address) = taken()?;
    let config = fs::read_to_string(env.gateway_yaml())?;
    let config = match missing {
        Missing::Roots => {
            let line = config.lines().find(|line| line.contains("roots:"));
            config.replace(line.unwrap_or_default(), "    roots: /gone/roots.pem")
        }
        Missing::Policy => {
            env.write_yaml("broken.yaml", "apiVersion: x\nkind: unknown\n")?;
            config
        }
        Missing::Port => config.replacen("127.0.0.1:0", &address, 1),
        Missing::AdminPort => {
            let at = config.rfind("127.0.0.1:0").unwrap_or_default();
            let (before, after) = config.split_at(at);
            format!("{before}{}", after.replacen("127.0.0.1:0", &address, 1))
        }
        Missing::Certificate => config.replacen(
            "mode: explicit",
            "mode: explicit, tls: { certificate: /gone.crt, key: /gone.key }",
            1,
        ),
    };
    fs::write(env.gateway_yaml(), config)?;
    let before = everything(env.directory())?;
    let ended = run(&env.gateway_yaml())?;
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert!(said.contains(expected), "{said}");
    assert_eq!(everything(env.directory())?, before, "{said}");
    Ok(())
}
