//! The processes of one attack, and their files.

use std::{
    fmt, fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use countersign_core::clock::Clock;
use countersign_tests::fake::{Authority, Issuer, TokenRequest};
use serde_json::json;

use super::{Attack, cgroup::Cgroup, chains, honest::WORKLOADS, seen};
use crate::{
    affinity::Cores,
    client::Route,
    files::{self, Addresses, Files},
    process::Process,
    scenario::{admin, free_address, progress, ready},
};

/// What the attacker's process is told.
pub(super) const PLAN: &str = "attack.json";

/// The last part of the attacker's address in 127.0.0.0/8. Each honest workload has one that follows: connections
/// from one address take turns with each other.
pub(super) const ATTACKER: u8 = 2;

/// How often the admin endpoint is asked, as the kubelet does, and how long it waits.
const PROBE_EVERY: Duration = Duration::from_millis(250);
const PROBE_PATIENCE: Duration = Duration::from_secs(1);

/// How many probes were made, and answered in time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Probes {
    asked: u64,
    answered: u64,
}

impl fmt::Display for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.answered, self.asked)
    }
}

#[derive(Debug, Default)]
struct Counts {
    asked: AtomicU64,
    answered: AtomicU64,
    over: AtomicBool,
}

/// The gateway, its stand-in API, and whoever asks whether it lives.
pub(super) struct World {
    files: Files,
    tokens: Vec<String>,
    addresses: Addresses,
    gateway: Process,
    probes: Arc<Counts>,
    cgroup: Option<Cgroup>,
    _upstream: Process,
}

/// An attacker's process; ended when it is dropped.
pub(super) struct Attacker {
    child: Child,
    /// Dropped after the process was waited for.
    _cgroup: Option<Cgroup>,
}

impl Drop for Attacker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl World {
    /// Starts them, with the gateway in a cgroup of its own.
    pub(super) async fn start(
        binary: &Path,
        cores: &Cores,
        attack: Attack,
        mebibytes: u64,
    ) -> anyhow::Result<Self> {
        let files = Files::new().await?;
        chains::write(files.directory())?;
        let (upstream, address) = Process::upstream(&files)?;
        let addresses = Addresses {
            upstream: address,
            proxy: free_address()?,
            admin: free_address()?,
        };
        let (evil, tls) = (free_address()?, free_address()?);
        let tokens = tokens(files.directory()).await?;
        let slow = attack == Attack::SlowCollector;
        let config = write_gateway(files.directory(), &addresses, evil, tls, slow)?;
        write_plan(files.directory(), &addresses, evil, tls, &tokens)?;
        let cgroup = cgroup("gateway", Some(mebibytes))?;
        let mut command = inside(cgroup.as_ref(), binary);
        command.arg("run").arg("--config").arg(config);
        let mut gateway = Process::attacked(command, &files, cores, slow)?;
        if let Err(error) = ready(&mut gateway, addresses).await {
            let log = fs::read_to_string(files.process_log()).unwrap_or_default();
            return Err(error.context(format!("the gateway does not start:\n{log}")));
        }
        let probes = Arc::new(Counts::default());
        tokio::spawn(probe(addresses, Arc::clone(&probes)));
        Ok(Self {
            files,
            tokens,
            addresses,
            gateway,
            probes,
            cgroup,
            _upstream: upstream,
        })
    }

    /// A route for each honest workload.
    pub(super) fn honest(&self) -> anyhow::Result<Vec<Route>> {
        let roots = self.files.gateway_roots();
        let honest = (ATTACKER + 1..).zip(self.tokens.iter().take(WORKLOADS));
        honest
            .map(|(pod, token)| {
                let route = Route::gateway(self.addresses.proxy, &roots, token)?;
                Ok(route.coming_from(Ipv4Addr::new(127, 0, 0, pod).into()))
            })
            .collect()
    }

    /// Starts an attacker that stops by itself.
    pub(super) fn attack(&self, attack: Attack, stretch: Duration) -> anyhow::Result<Attacker> {
        let cgroup = cgroup("attacker", None)?;
        let child = inside(cgroup.as_ref(), &std::env::current_exe()?)
            .arg("attacker")
            .arg(attack.name())
            .arg(self.files.directory())
            .arg(stretch.as_secs_f64().to_string())
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start the attacker")?;
        Ok(Attacker {
            child,
            _cgroup: cgroup,
        })
    }

    pub(super) fn forget_peak(&self) -> anyhow::Result<()> {
        self.gateway.forget_peak()
    }

    /// The most resident memory, in bytes; 0 if the process is gone.
    pub(super) fn peak(&self) -> u64 {
        self.gateway.peak().unwrap_or_default()
    }

    pub(super) fn killed(&mut self) -> bool {
        let by_kernel = self.cgroup.as_ref().is_some_and(Cgroup::has_killed);
        by_kernel || self.gateway.still_runs().is_err()
    }

    pub(super) fn probes(&self) -> Probes {
        Probes {
            asked: self.probes.asked.load(Ordering::Relaxed),
            answered: self.probes.answered.load(Ordering::Relaxed),
        }
    }

    pub(super) fn process_log(&self) -> String {
        let log = fs::read_to_string(self.files.process_log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(20);
        format!(
            "{} lines of log, the last:\n{}",
            lines.len(),
            lines[from..].join("\n")
        )
    }

    /// What was shed, evicted, dropped or refused, by reason; honest workloads' own refusals apart.
    pub(super) async fn metrics(&self) -> Vec<String> {
        let Ok((_, text)) = admin(self.addresses, "/metrics").await else {
            return vec!["no metrics".into()];
        };
        seen::shed(&text)
    }

    /// How many of so many answered honest requests have no record.
    pub(super) async fn records(&self, answered: u64) -> u64 {
        let mut missing = answered;
        for _ in 0..200 {
            missing = answered.saturating_sub(self.recorded());
            if missing == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        missing
    }

    fn recorded(&self) -> u64 {
        let Ok(entries) = fs::read_dir(self.files.directory()) else {
            return 0;
        };
        entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with("decisions")
            })
            .map(|path| seen::honest_records(&path))
            .sum()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.probes.over.store(true, Ordering::Relaxed);
    }
}

/// A cgroup, if it can be had.
fn cgroup(name: &str, mebibytes: Option<u64>) -> anyhow::Result<Option<Cgroup>> {
    match Cgroup::new(name, mebibytes) {
        Ok(cgroup) => Ok(Some(cgroup)),
        Err(error) => {
            progress(&format!(
                "SKIPPED: the limits of the {name} (no cgroup: {error})"
            ))?;
            Ok(None)
        }
    }
}

fn inside(cgroup: Option<&Cgroup>, program: &Path) -> Command {
    match cgroup {
        Some(cgroup) => cgroup.command(program),
        None => Command::new(program),
    }
}

async fn probe(addresses: Addresses, counts: Arc<Counts>) {
    while !counts.over.load(Ordering::Relaxed) {
        counts.asked.fetch_add(1, Ordering::Relaxed);
        let answer = tokio::time::timeout(PROBE_PATIENCE, admin(addresses, "/healthz")).await;
        if matches!(answer, Ok(Ok((200, _)))) {
            counts.answered.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

/// Tokens of the honest workloads, then of two pods of the attacker's workload.
async fn tokens(directory: &Path) -> anyhow::Result<Vec<String>> {
    let issuer = Issuer::start(&Authority::new("Bench Issuer Root"), Clock::system()).await?;
    issuer.write_jwks(&directory.join("jwks.json"))?;
    fs::write(directory.join("issuer"), issuer.url())?;
    let mut names: Vec<String> = (0..WORKLOADS).map(|it| format!("honest{it}")).collect();
    names.extend(["attacker".to_owned(), "attacker".to_owned()]);
    let mint = |name: &String| issuer.mint(&TokenRequest::new("bench", name));
    Ok(names.iter().map(mint).collect())
}

fn write_plan(
    directory: &Path,
    addresses: &Addresses,
    evil: SocketAddr,
    tls: SocketAddr,
    tokens: &[String],
) -> anyhow::Result<()> {
    let plan = json!({
        "proxy": addresses.proxy.to_string(),
        "admin": addresses.admin.to_string(),
        "tls": tls.to_string(),
        "evil": evil.to_string(),
        "token": tokens[WORKLOADS],
    });
    Ok(fs::write(directory.join(PLAN), plan.to_string())?)
}

fn write_gateway(
    directory: &Path,
    addresses: &Addresses,
    evil: SocketAddr,
    tls: SocketAddr,
    slow: bool,
) -> anyhow::Result<PathBuf> {
    let issuer = fs::read_to_string(directory.join("issuer"))?;
    let root = directory.display().to_string();
    let decisions = if slow {
        "{ stdout: json }".to_owned()
    } else {
        format!("{{ file: \"{root}/decisions.jsonl\" }}")
    };
    let fill = |text: &str| {
        text.replace("{root}", &root)
            .replace("{issuer}", &issuer)
            .replace("{proxy}", &addresses.proxy.to_string())
            .replace("{admin}", &addresses.admin.to_string())
            .replace("{upstream}", &addresses.upstream.to_string())
            .replace("{evil}", &evil.to_string())
            .replace("{tls}", &tls.to_string())
            .replace("{decisions}", &decisions)
            .replace("{api}", files::HOST)
    };
    let policy = directory.join("policy");
    fs::create_dir_all(&policy)?;
    let mut resources = fill(RESOURCES);
    for number in 0..WORKLOADS {
        resources += &WORKLOAD.replace("{name}", &format!("honest{number}"));
    }
    resources += &WORKLOAD.replace("{name}", "attacker");
    fs::write(policy.join("attacks.yaml"), resources)?;
    let gateway = directory.join("gateway.yaml");
    fs::write(&gateway, fill(GATEWAY))?;
    Ok(gateway)
}

const GATEWAY: &str = r#"apiVersion: countersign.dev/v1alpha1
kind: Gateway
metadata: { name: attacked }
spec:
  listeners:
    - { name: proxy, address: "{proxy}" }
    - { name: tls, address: "{tls}", tls: { certificate: "{root}/upstream.pem", key: "{root}/upstream.key", clientTrust: spiffe } }
  identity:
    issuers:
      - name: bench
        issuer: "{issuer}"
        audience: countersign
        jwks: { file: "{root}/jwks.json" }
    trustDomains:
      - { name: attacked.test, bundle: { file: "{root}/bundle.pem" } }
  resources:
    - directory: "{root}/policy"
  interception:
    ca: { directory: "{root}/ca" }
  state: { directory: "{root}/state" }
  unmatched: tunnel
  upstream:
    roots: "{root}/roots.pem"
    resolve:
      "{api}:443": "{upstream}"
      "evil.test:443": "{evil}"
  observe:
    decisions: {decisions}
    admin: "{admin}"
"#;

const RESOURCES: &str = r#"apiVersion: countersign.dev/v1alpha1
kind: TargetService
metadata: { name: bench }
spec:
  hosts: ["{api}"]
  slots: { default: token, names: [token] }
  routes:
    - paths: [/upload]
      attach: { slot: token, header: Authorization, value: "Bearer {token}" }
      strip: { formFields: [token] }
    - attach: { slot: token, header: Authorization, value: "Bearer {token}" }
  authFailure:
    - { status: [401], then: refreshAndReplay }
---
apiVersion: countersign.dev/v1alpha1
kind: Credential
metadata: { name: token, namespace: bench }
spec:
  target: bench
  static:
    token: { file: "{root}/credential" }
"#;

const WORKLOAD: &str = r#"---
apiVersion: countersign.dev/v1alpha1
kind: Workload
metadata: { name: "{name}", namespace: bench }
spec:
  owner: bench@example.com
  purpose: Makes the load
  match:
    - { cluster: bench, serviceAccount: "{name}" }
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: "{name}", namespace: bench }
spec:
  owner: bench@example.com
  workloads: ["{name}"]
  target: bench
  credential: token
  allow:
    - methods: [GET]
      paths: [/small, /rejected, "/download/*"]
    - methods: [POST]
      paths: [/upload, /json]
"#;
