//! What a cluster's objects and pods cost a gateway and its API server: time to ready, memory, and requests to the API
//! server at rest and while things change.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use clap::Args;
use countersign_tests::{
    environment::{DASHBOARD, DASHBOARD_FILE, Environment, Options},
    fake::{Grant, TokenRequest},
    process::Process,
    shown,
};
use serde_json::{Value, json};
use tokio::{process::Command, time::Instant};

/// A cluster of this size.
#[derive(Debug, Args)]
pub(crate) struct Cluster {
    /// Workload objects.
    #[arg(long, default_value_t = 1_000)]
    workloads: usize,
    /// AccessPolicy objects.
    #[arg(long, default_value_t = 3_000)]
    policies: usize,
    /// Pods of one namespace.
    #[arg(long, default_value_t = 10_000)]
    pods: usize,
    /// How long each phase is watched, in seconds.
    #[arg(long, default_value_t = 60)]
    phase: u64,
}

/// The longest that anything may take.
const PATIENCE: Duration = Duration::from_mins(10);

/// How often something changes.
const TICK: Duration = Duration::from_millis(100);

const NAMESPACES: usize = 50;

impl Cluster {
    /// Measures and prints.
    pub(crate) async fn run(&self, gateway: &Path, machine: &[String]) -> anyhow::Result<()> {
        let env = self.environment().await?;
        let alone = start(&env, gateway).await?;
        let without = alone.status("VmRSS")?;
        drop(alone);
        let requests = self.fill(&env)?;
        let before = env.api_server.received().count();
        let began = Instant::now();
        let process = start(&env, gateway).await?;
        let listening = began.elapsed();
        ready(&process).await?;
        let is_ready = began.elapsed();
        let to_ready = env.api_server.received().count() - before;
        self.last_pod_is_known(&env, &process, &requests).await?;
        let known = began.elapsed();
        let memory = process.status("VmRSS")?;
        shown(&machine.join("\n"));
        shown(&format!(
            "{} Workloads, {} AccessPolicies, {} pods: listening after {listening:?}, ready after {is_ready:?} with \
             {to_ready} requests, last pod known after {known:?}; VmRSS {without} KiB without them, {memory} KiB with them",
            self.workloads, self.policies, self.pods
        ));
        self.statuses_are_written(&env).await?;
        shown(&format!(
            "all statuses written after {:?}; VmRSS {} KiB",
            began.elapsed(),
            process.status("VmRSS")?
        ));
        let phase = Duration::from_secs(self.phase);
        let at_rest = counted(&env, || tokio::time::sleep(phase)).await;
        shown(&format!(
            "at rest: {} requests a minute",
            per_minute(at_rest, phase)
        ));
        self.churn(&env, &process, requests, phase).await
    }

    async fn environment(&self) -> anyhow::Result<Environment> {
        let options = Options {
            token_review: true,
            ..Options::default()
        };
        let env = Environment::with(options).await?;
        let root = env.directory().display().to_string();
        env.edit_gateway(
            "        tokenReview:",
            "        podFacts: true\n        tokenReview:",
        )?;
        env.edit_gateway(
            "  interception:",
            "    - kubernetes: { operatorNamespace: platform }\n  interception:",
        )?;
        env.extend_gateway(&format!(
            "  service: {{ namespace: platform, name: countersign }}\n  kubernetes: {{ url: \"{}\", caFile: {root}/upstream-roots.pem, \
             tokenFile: {root}/secrets/gateway-token }}",
            env.api_server.url()
        ))?;
        env.edit_policy(DASHBOARD_FILE, |policy| {
            policy.workload(DASHBOARD)["match"][0]["podLabels"] = json!({ "app": "nightly" });
        })?;
        let server = &env.api_server;
        for resource in [
            "pods",
            "jobs.batch",
            "namespaces",
            "endpointslices.discovery.k8s.io",
        ] {
            server.grant(Grant::on(resource, "", &["list", "watch"]));
        }
        for kind in [
            "workloads",
            "credentials",
            "accesspolicies",
            "targetservices",
        ] {
            let resource = format!("{kind}.countersign.dev");
            server.grant(Grant::on(&resource, "", &["list", "watch"]));
            let status = format!("{kind}/status.countersign.dev");
            server.grant(Grant::on(&status, "", &["patch"]));
        }
        let leases = Grant::on(
            "leases.coordination.k8s.io",
            "platform",
            &["get", "create", "update"],
        );
        server.grant(leases);
        for definition in countersign_tests::definitions() {
            server.set_object(&definition);
        }
        Ok(env)
    }

    /// Everything that is there before the gateway starts.
    fn fill(&self, env: &Environment) -> anyhow::Result<Vec<TokenRequest>> {
        let server = &env.api_server;
        for number in 0..self.workloads {
            let spec = json!({ "owner": "team", "match": [{ "serviceAccount": format!("account-{number}") }] });
            server.set_object(&object("Workload", number, number, &spec));
        }
        for number in 0..self.policies {
            // A policy is in the namespace of its workload.
            let workload = number % self.workloads.max(1);
            server.set_object(&object(
                "AccessPolicy",
                workload,
                number,
                &policy(workload, 1),
            ));
        }
        for namespace in 0..NAMESPACES {
            let spec = json!({
                "target": "qase",
                "static": { "token": { "kubernetesSecret": { "name": "qase", "key": "token" } } },
            });
            server.set_object(&object("Credential", namespace, namespace, &spec));
        }
        let requests: Vec<_> = (0..self.pods)
            .map(|_| TokenRequest::new("qa", "nightly-dashboard"))
            .collect();
        for request in &requests {
            server.set_object(&pod(request));
        }
        anyhow::ensure!(!requests.is_empty(), "at least one pod is needed");
        Ok(requests)
    }

    async fn last_pod_is_known(
        &self,
        env: &Environment,
        process: &Process,
        requests: &[TokenRequest],
    ) -> anyhow::Result<()> {
        let last = requests.last().context("there are pods")?;
        let token = env.issuer.mint(last);
        until(async || {
            let request = http::Request::get("https://api.qase.io/v1/run/DEMO?limit=1")
                .body(http_body_util::Full::default());
            match request {
                Ok(request) => process
                    .client()
                    .bearer(&token)
                    .send(request)
                    .await
                    .is_ok_and(|it| it.status == http::StatusCode::OK),
                Err(_) => false,
            }
        })
        .await
    }

    async fn statuses_are_written(&self, env: &Environment) -> anyhow::Result<()> {
        until(async || {
            (0..self.policies).all(|number| {
                let namespace = namespace(number % self.workloads.max(1));
                let name = format!("object-{number}");
                let found = env.api_server.object(
                    "countersign.dev/v1alpha1",
                    "accesspolicies",
                    &namespace,
                    &name,
                );
                found.is_some_and(|object| object["status"]["conditions"].is_array())
            })
        })
        .await
    }

    /// A hundred pods a second go and as many come, and ten policies a second change.
    async fn churn(
        &self,
        env: &Environment,
        process: &Process,
        mut requests: Vec<TokenRequest>,
        phase: Duration,
    ) -> anyhow::Result<()> {
        let server = &env.api_server;
        let (mut replaced, mut changed) = (0, 0);
        let count = counted(env, async || {
            let began = Instant::now();
            while began.elapsed() < phase {
                for _ in 0..10 {
                    let place = replaced % requests.len();
                    server.delete_pod(&requests[place]);
                    requests[place] = TokenRequest::new("qa", "nightly-dashboard");
                    server.set_object(&pod(&requests[place]));
                    replaced += 1;
                }
                let number = changed % self.policies.max(1);
                let workload = number % self.workloads.max(1);
                let mut newer = object(
                    "AccessPolicy",
                    workload,
                    number,
                    &policy(workload, 2 + changed),
                );
                newer["metadata"]["generation"] = json!(2 + changed);
                server.set_object(&newer);
                changed += 1;
                tokio::time::sleep(TICK).await;
            }
        })
        .await;
        let right_after = process.status("VmRSS")?;
        tokio::time::sleep(Duration::from_secs(20)).await;
        shown(&format!(
            "churn: {replaced} pods replaced and {changed} policies changed in {phase:?}: {} requests a minute; VmRSS \
             {right_after} KiB at its end, {} KiB 20 s later",
            per_minute(count, phase),
            process.status("VmRSS")?
        ));
        Ok(())
    }
}

async fn start(env: &Environment, gateway: &Path) -> anyhow::Result<Process> {
    let mut command = Command::new(gateway);
    command
        .args(["run", "--log", "json", "--config"])
        .arg(env.gateway_yaml());
    Process::launch(command, env).await
}

async fn ready(process: &Process) -> anyhow::Result<()> {
    until(async || {
        let answer = process.admin("/readyz").await;
        answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    })
    .await
}

async fn until(mut holds: impl AsyncFnMut() -> bool) -> anyhow::Result<()> {
    let looking = async {
        while !holds().await {
            tokio::time::sleep(TICK).await;
        }
    };
    Ok(tokio::time::timeout(PATIENCE, looking).await?)
}

/// How many requests the API server gets meanwhile.
async fn counted(env: &Environment, meanwhile: impl AsyncFnOnce()) -> usize {
    let before = env.api_server.received().count();
    meanwhile().await;
    env.api_server.received().count() - before
}

fn per_minute(count: usize, phase: Duration) -> u64 {
    count as u64 * 60 / phase.as_secs().max(1)
}

fn namespace(number: usize) -> String {
    format!("team-{}", number % NAMESPACES)
}

fn object(kind: &str, place: usize, number: usize, spec: &Value) -> Value {
    json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": kind,
        "metadata": { "name": format!("object-{number}"), "namespace": namespace(place), "generation": 1 },
        "spec": spec,
    })
}

fn policy(workload: usize, limit: usize) -> Value {
    json!({
        "owner": "team@example.com",
        "workloads": [format!("object-{workload}")],
        "target": "qase",
        "credential": format!("object-{}", workload % NAMESPACES),
        "allow": [{ "methods": ["GET"], "paths": ["/v1/run/*", "/v1/result/*", format!("/v1/defect/{limit}")] }],
        "conditions": { "notAfter": "2099-06-30T00:00:00Z", "rate": "60/m" },
    })
}

fn pod(request: &TokenRequest) -> Value {
    let (name, uid) = request.pod.clone().unwrap_or_default();
    let image = "ghcr.io/acme/dashboard@sha256:9f2c1a7b9f2c1a7b9f2c1a7b9f2c1a7b9f2c1a7b9f2c1a7b9f2c1a7b9f2c1a7b";
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "qa", "uid": uid,
            "labels": { "app": "nightly", "team": "qa", "batch.kubernetes.io/job-name": "nightly-1" },
        },
        "spec": {
            "nodeName": "node-7", "serviceAccountName": "nightly-dashboard",
            "containers": [{ "name": "app", "image": image }],
        },
        "status": { "phase": "Running" },
    })
}
