//! A cluster as far as the example needs one: the stand-in for the API server, and what kubelets and Kubernetes' own
//! controllers do, played here. Each pod has a loopback address.

mod controllers;
mod job;
mod kubelet;

use std::{
    collections::HashSet,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use countersign_tests::{
    environment::Environment,
    netns,
    process::{self, Program},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    process::Command,
    time::{Instant, sleep, timeout},
};

use crate::harness::{chosen, tests_directory};

const PATIENCE: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_millis(50);

/// The namespace of the installation, as the README has it.
const OWN: &str = "countersign";
const NODES: [&str; 2] = ["node-1", "node-2"];

/// Where pods find the API server.
const API_SERVER: &str = "127.0.0.77";

pub(super) struct Cluster {
    /// Before the directory: what runs in it ends first.
    programs: Vec<(String, Program)>,
    env: Environment,
    directory: TempDir,
    helm: PathBuf,
    kubectl: PathBuf,
    /// The uids of what was started.
    started: HashSet<String>,
    /// When the nodes' leases were renewed.
    renewed: Option<Instant>,
}

/// What a command printed, and how it ended.
pub(super) struct Typed {
    pub(super) printed: String,
    pub(super) code: i32,
}

impl Cluster {
    /// `None`, said loudly, if it cannot run here.
    pub(super) async fn start() -> anyhow::Result<Option<Self>> {
        // Only root may change the root directory of a process.
        if !netns::available() {
            return Ok(None);
        }
        let usual = tests_directory().join(".venv/bin/helm");
        let Some(helm) = chosen("COUNTERSIGN_TEST_HELM", &usual) else {
            return Ok(None);
        };
        let usual = Path::new("/usr/bin/kubectl");
        let Some(kubectl) = chosen("COUNTERSIGN_TEST_KUBECTL", usual) else {
            return Ok(None);
        };
        let env = Environment::start().await?;
        let directory = tempfile::Builder::new()
            .prefix("countersign-cluster-")
            .tempdir()?;
        // Containers run as other users.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let cluster = Self {
            programs: Vec::new(),
            env,
            directory,
            helm,
            kubectl,
            started: HashSet::new(),
            renewed: None,
        };
        cluster.serve_pods().await?;
        cluster.prepare()?;
        cluster.build_image()?;
        Ok(Some(cluster))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The folder in which the commands are typed, and what kubectl knows of the cluster.
    fn prepare(&self) -> anyhow::Result<()> {
        let here = self.at("here");
        fs::create_dir_all(here.join("bin"))?;
        for name in ["deploy", "examples"] {
            let from = tests_directory().join("..").join(name).canonicalize()?;
            std::os::unix::fs::symlink(from, here.join(name))?;
        }
        for (name, program) in [
            ("countersign", process::binary()?),
            ("helm", self.helm.clone()),
            ("kubectl", self.kubectl.clone()),
        ] {
            std::os::unix::fs::symlink(std::path::absolute(program)?, here.join("bin").join(name))?;
        }
        fs::write(here.join("slack-token.txt"), self.env.slack.bot_token())?;
        fs::write(here.join("qase-token.txt"), self.env.qase.token())?;
        fs::write(self.at("ca.pem"), self.env.api_server.ca_pem())?;
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": self.env.api_server.url(), "certificate-authority": self.at("ca.pem"),
            }}],
            "users": [{"name": "test", "user": {"token": self.env.api_server.admin()}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        fs::write(self.at("kubeconfig"), config.to_string())?;
        for node in NODES {
            self.env.api_server.set_object(&json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": node},
                "spec": {"podCIDRs": ["10.244.0.0/24"]},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            }));
        }
        Ok(())
    }

    /// The API server as pods reach it. There is one such cluster on a machine at a time.
    async fn serve_pods(&self) -> anyhow::Result<()> {
        let listener = timeout(2 * PATIENCE, async {
            loop {
                match TcpListener::bind((API_SERVER, 443)).await {
                    Ok(listener) => return listener,
                    Err(_) => sleep(LOOK).await,
                }
            }
        });
        let listener = listener.await?;
        let server = self.env.api_server.address();
        tokio::spawn(async move {
            while let Ok((mut pod, _)) = listener.accept().await {
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(server).await {
                        // A pod may close as it likes.
                        drop(copy_bidirectional(&mut pod, &mut server).await);
                    }
                });
            }
        });
        Ok(())
    }

    fn command(&self, line: &str) -> Command {
        let here = self.at("here");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command
            .args(["-c", line])
            .current_dir(&here)
            .env("PATH", format!("{}:{path}", here.join("bin").display()))
            .env("HOME", &here)
            .env("KUBECONFIG", self.at("kubeconfig"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Types a command; meanwhile the cluster does its work. Whoever types the next waits until pods are ready.
    pub(super) async fn typed(&mut self, line: &str) -> anyhow::Result<Typed> {
        let running = self.command(line).spawn()?.wait_with_output();
        let mut running = std::pin::pin!(running);
        let output = loop {
            tokio::select! {
                output = &mut running => break output?,
                () = sleep(LOOK) => self.work().await?,
            }
        };
        let typed = Typed {
            printed: String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
            code: output.status.code().unwrap_or(-1),
        };
        if typed.code == 0 {
            self.settled().await?;
        }
        Ok(typed)
    }

    /// Waits until the controller has published the roots in a namespace.
    pub(super) async fn published(&self, namespace: &str) -> anyhow::Result<()> {
        let server = &self.env.api_server;
        let there = timeout(PATIENCE, async {
            for name in ["countersign-ca", "countersign-gateway-ca"] {
                while server.object("v1", "configmaps", namespace, name).is_none() {
                    sleep(LOOK).await;
                }
            }
        });
        there
            .await
            .map_err(|_| anyhow::anyhow!("no roots in {namespace}:\n{}", self.printed()))
    }

    /// Waits until the policies of a namespace are in force.
    pub(super) async fn in_force(&self, namespace: &str) -> anyhow::Result<()> {
        let policies = || {
            let server = &self.env.api_server;
            server.objects("countersign.dev/v1alpha1", "accesspolicies", namespace)
        };
        let is_ready = |policy: &Value| {
            let mut conditions = policy["status"]["conditions"]
                .as_array()
                .into_iter()
                .flatten();
            conditions.any(|it| it["type"] == "Ready" && it["status"] == "True")
        };
        let ready = timeout(PATIENCE, async {
            while !policies().iter().all(is_ready) {
                sleep(LOOK).await;
            }
        });
        let ready = ready.await;
        ready.map_err(|_| anyhow::anyhow!("{:?}\n{}", policies(), self.printed()))
    }

    /// What all processes printed last, for a test that fails.
    pub(super) fn printed(&self) -> String {
        let of = |(name, program): &(String, Program)| {
            let printed = program.printed();
            let lines: Vec<_> = printed.lines().rev().take(15).collect();
            let lines: Vec<_> = lines.into_iter().rev().collect();
            format!("--- {name}\n{}", lines.join("\n"))
        };
        self.programs.iter().map(of).collect::<Vec<_>>().join("\n")
    }
}

/// Whether an admin endpoint answers with success.
async fn answers(address: SocketAddr, path: &str) -> bool {
    let answer = process::admin(address, path).await;
    answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
