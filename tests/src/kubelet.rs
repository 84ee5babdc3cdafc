//! A kubelet for one pod: podman runs its containers in Kubernetes' order, in the network of a test bed's pod.
//!
//! Init containers run one after the other. A native sidecar stays, and the next container waits for its startup
//! probe. When the app has ended, sidecars get SIGTERM, the last first.
//! <https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/>

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

use crate::{netns::Namespace, process};

/// The longest that anything may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// What podman needs on machines that may not raise limits, or whose cgroups crun refuses.
const CONTAINERS_CONF: &str = "[containers]
default_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]
[engine]
cgroup_manager = \"cgroupfs\"
runtime = \"runc\"
";

/// Whether containers can run here; says so if they cannot.
///
/// # Panics
/// When root lacks a tool: it has only to be installed, which `tests/run` does.
pub fn available() -> bool {
    if !crate::netns::available() {
        return false;
    }
    for tool in ["podman", "buildah", "runc", "conmon"] {
        let places = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&places).any(|place| place.join(tool).is_file());
        assert!(found, "{tool} is not installed; run tests/run");
    }
    true
}

/// A kubelet with what a pod refers to: images and volumes, by their names.
#[derive(Debug)]
pub struct Kubelet<'a> {
    network: &'a Namespace,
    directory: TempDir,
    volumes: BTreeMap<String, PathBuf>,
    /// The image that stands for this machine's own files, changed by nobody.
    machine: String,
    prefix: String,
}

/// What became of a pod.
#[derive(Debug, Default)]
pub struct Ended {
    /// `Succeeded` or `Failed`.
    pub phase: &'static str,
    /// What happened, in order: `started NAME`, `ready NAME`, `ended NAME CODE`.
    pub order: Vec<String>,
    /// What the app's containers printed, by name.
    pub printed: BTreeMap<String, String>,
    /// What all containers wrote to their standard error.
    pub complaints: String,
}

impl<'a> Kubelet<'a> {
    /// The kubelet of a pod in this network. Containers of the image `machine` see this machine's files.
    pub fn new(network: &'a Namespace, machine: &str) -> anyhow::Result<Self> {
        static PODS: AtomicU32 = AtomicU32::new(0);
        let directory = tempfile::Builder::new().prefix("countersign-").tempdir()?;
        fs::write(directory.path().join("containers.conf"), CONTAINERS_CONF)?;
        let resolv_conf = network.file("etc/resolv.conf");
        fs::copy(resolv_conf, directory.path().join("resolv.conf"))?;
        let number = PODS.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            network,
            directory,
            volumes: BTreeMap::new(),
            machine: machine.to_owned(),
            prefix: format!("countersign-{}-{number}", std::process::id()),
        })
    }

    /// A volume of the pod, with these files.
    pub fn volume(&mut self, name: &str, files: &[(&str, &str)]) -> anyhow::Result<()> {
        let folder = self.directory.path().join("volumes").join(name);
        fs::create_dir_all(&folder)?;
        for (file, content) in files {
            fs::write(folder.join(file), content)?;
        }
        self.volumes.insert(name.to_owned(), folder);
        Ok(())
    }

    /// Runs a pod to its end.
    pub async fn run(&self, pod: &Value) -> anyhow::Result<Ended> {
        let mut ended = Ended::default();
        let result = timeout(PATIENCE, self.play(pod, &mut ended)).await;
        let all = self.names(pod);
        for name in &all {
            ended.complaints.push_str(&self.complaints(name).await);
        }
        self.podman(["rm", "--force", "--time", "0"])
            .args(&all)
            .output()
            .await?;
        match result {
            Ok(Ok(())) => Ok(ended),
            Ok(Err(error)) => {
                Err(error.context(format!("{:?}\n{}", ended.order, ended.complaints)))
            }
            Err(_) => bail!(
                "the pod does not end: {:?}\n{}",
                ended.order,
                ended.complaints
            ),
        }
    }

    async fn play(&self, pod: &Value, ended: &mut Ended) -> anyhow::Result<()> {
        let spec = &pod["spec"];
        let mut sidecars = Vec::new();
        for container in spec["initContainers"].as_array().into_iter().flatten() {
            let name = text(&container["name"]);
            self.start(spec, container).await?;
            ended.order.push(format!("started {name}"));
            if container["restartPolicy"] == "Always" {
                self.wait_until_started(container).await?;
                ended.order.push(format!("ready {name}"));
                sidecars.push(name);
                continue;
            }
            let code = self.wait(name).await?;
            ended.order.push(format!("ended {name} {code}"));
            ensure!(code == 0, "the init container {name} failed");
        }
        ended.phase = "Succeeded";
        for container in spec["containers"].as_array().into_iter().flatten() {
            let name = text(&container["name"]);
            self.start(spec, container).await?;
            ended.order.push(format!("started {name}"));
            let code = self.wait(name).await?;
            ended.order.push(format!("ended {name} {code}"));
            if code != 0 {
                ended.phase = "Failed";
            }
            let logs = self.podman(["logs"]).arg(self.name(name)).output().await?;
            let printed = String::from_utf8_lossy(&logs.stdout).into_owned();
            ended.printed.insert(name.to_owned(), printed);
        }
        let grace = spec["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
        for name in sidecars.into_iter().rev() {
            let grace = grace.to_string();
            let stopping = self
                .podman(["stop", "--time", &grace])
                .arg(self.name(name))
                .output();
            ensure!(stopping.await?.status.success(), "{name} cannot be stopped");
            let code = self.wait(name).await?;
            ended.order.push(format!("ended {name} {code}"));
        }
        Ok(())
    }

    async fn start(&self, spec: &Value, container: &Value) -> anyhow::Result<()> {
        let name = text(&container["name"]);
        let mut command = self.podman(["run", "--detach", "--pull", "never"]);
        command
            .arg("--name")
            .arg(self.name(name))
            .arg(format!(
                "--network=ns:{}",
                self.network.proc("ns/net").display()
            ))
            .arg(Self::mount(
                &self.directory.path().join("resolv.conf"),
                "/etc/resolv.conf",
            ));
        secure(&mut command, spec, container);
        for entry in container["env"].as_array().into_iter().flatten() {
            let (name, value) = (text(&entry["name"]), text(&entry["value"]));
            command.arg(format!("--env={name}={value}"));
        }
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            let volume = text(&mount["name"]);
            let folder = self.volumes.get(volume);
            let folder = folder.with_context(|| format!("there is no volume {volume}"))?;
            command.arg(Self::mount(folder, text(&mount["mountPath"])));
        }
        let line = container["command"]
            .as_array()
            .into_iter()
            .flatten()
            .map(text);
        let line: Vec<_> = line.collect();
        let image = text(&container["image"]);
        if image == self.machine {
            // An overlay over this machine's files: what is written is gone with the container.
            command.args(["--rootfs", "/:O"]);
        } else {
            if let Some(program) = line.first() {
                command.arg(format!("--entrypoint={program}"));
            }
            command.arg(image);
        }
        let rest = line.iter().skip(usize::from(image != self.machine));
        command.args(rest);
        command.args(container["args"].as_array().into_iter().flatten().map(text));
        let output = command.output().await.context("podman")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name} cannot be started: {said}");
        Ok(())
    }

    /// As the kubelet probes: over HTTP, at the pod's address.
    async fn wait_until_started(&self, container: &Value) -> anyhow::Result<()> {
        let get = &container["startupProbe"]["httpGet"];
        let port = get["port"]
            .as_u64()
            .context("a sidecar has a startup probe")?;
        let port = u16::try_from(port)?;
        loop {
            let ready = self.network.inside(|| probe(port, text(&get["path"])))?;
            if ready.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn wait(&self, name: &str) -> anyhow::Result<i64> {
        let output = self.podman(["wait"]).arg(self.name(name)).output().await?;
        let code = String::from_utf8_lossy(&output.stdout);
        code.trim()
            .parse()
            .with_context(|| format!("{name} has no exit code"))
    }

    async fn complaints(&self, container: &str) -> String {
        let logs = self.podman(["logs"]).arg(container).output().await;
        let logs = logs.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
        format!("--- {container}\n{}", logs.unwrap_or_default())
    }

    fn names(&self, pod: &Value) -> Vec<String> {
        let lists = ["initContainers", "containers"].into_iter();
        let all = lists.flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
        all.map(|container| self.name(text(&container["name"])))
            .collect()
    }

    fn name(&self, container: &str) -> String {
        format!("{}-{container}", self.prefix)
    }

    fn mount(from: &Path, to: &str) -> String {
        format!("--volume={}:{to}:ro", from.display())
    }

    fn podman<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = Command::new("podman");
        command
            .env(
                "CONTAINERS_CONF",
                self.directory.path().join("containers.conf"),
            )
            .stdin(Stdio::null())
            .args(arguments);
        command
    }
}

/// Who a container runs as, and what it may do, its pod's settings behind its own.
fn secure(command: &mut Command, spec: &Value, container: &Value) {
    let own = &container["securityContext"];
    let of = |key: &str| {
        let value = &own[key];
        let value = if value.is_null() {
            &spec["securityContext"][key]
        } else {
            value
        };
        value.as_i64()
    };
    if let Some(uid) = of("runAsUser") {
        command.arg(format!("--user={uid}:{}", of("runAsGroup").unwrap_or(0)));
    }
    for (flag, key) in [("--cap-drop", "drop"), ("--cap-add", "add")] {
        for capability in own["capabilities"][key].as_array().into_iter().flatten() {
            command.arg(format!("{flag}={}", text(capability)));
        }
    }
    if own["readOnlyRootFilesystem"] == true {
        command.arg("--read-only");
    }
    if own["allowPrivilegeEscalation"] == false {
        command.arg("--security-opt=no-new-privileges");
    }
}

fn probe(port: u16, path: &str) -> std::io::Result<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: pod\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Builds the images of relay and redirection from the binaries under test, once; what they are called.
///
/// # Errors
/// When `deploy/build-images` fails.
pub fn images() -> anyhow::Result<[String; 2]> {
    static BUILT: std::sync::OnceLock<Result<(), String>> = std::sync::OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)?;
    Ok(["relay", "redirect"].map(|name| format!("localhost/test/countersign-{name}:test")))
}

fn build() -> anyhow::Result<()> {
    let folder = process::binary()?;
    let folder = folder.parent().context("it is in a folder")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/build-images");
    let output = std::process::Command::new(script)
        .args([
            "--tool",
            "buildah",
            "--tag",
            "test",
            "--prefix",
            "localhost/test/",
        ])
        .args(["--only", "relay", "--only", "redirect", "--binaries"])
        .arg(folder)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    Ok(())
}
