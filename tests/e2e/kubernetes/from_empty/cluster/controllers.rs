//! What Kubernetes' own controllers do: Jobs run to their end, Deployments get pods, and Services their endpoints.

use std::{net::SocketAddr, time::Duration};

use anyhow::{bail, ensure};
use countersign_core::clock::Clock;
use countersign_tests::process::Program;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::{Cluster, LOOK, OWN, PATIENCE, answers, text};

const GATEWAYS: [&str; 2] = ["127.0.0.21", "127.0.0.22"];
const CONTROLLERS: [&str; 2] = ["127.0.0.11", "127.0.0.12"];
const JOB: &str = "127.0.0.31";

/// A kubelet renews its lease every ten seconds.
const RENEWED: Duration = Duration::from_secs(10);

impl Cluster {
    /// Does what there is to do.
    pub(super) async fn work(&mut self) -> anyhow::Result<()> {
        if self.renewed.is_none_or(|last| last.elapsed() >= RENEWED) {
            self.renew_leases();
        }
        for job in self.env.api_server.objects("batch/v1", "jobs", OWN) {
            if self.started.insert(text(&job["metadata"]["uid"])) {
                self.run_job(&job).await?;
            }
        }
        for deployment in self.env.api_server.objects("apps/v1", "deployments", OWN) {
            if self.started.insert(text(&deployment["metadata"]["uid"])) {
                self.deploy(&deployment)?;
            }
        }
        Ok(())
    }

    fn renew_leases(&mut self) {
        for node in super::NODES {
            self.env.api_server.set_object(&json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": node, "namespace": "kube-node-lease"},
                "spec": {
                    "holderIdentity": node, "leaseDurationSeconds": 40,
                    "renewTime": Clock::system().now().to_string(),
                },
            }));
        }
        self.renewed = Some(Instant::now());
    }

    async fn run_job(&self, job: &Value) -> anyhow::Result<()> {
        let name = format!("{}-abcde", text(&job["metadata"]["name"]));
        let pod = self.pod(&name, &job["spec"]["template"], JOB);
        let container = &pod["spec"]["containers"][0];
        let output = self.contained(&pod, container, JOB)?.output().await?;
        ensure!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let mut job = job.clone();
        let now = Clock::system().now().to_string();
        job["status"] = json!({
            "succeeded": 1, "startTime": now, "completionTime": now,
            "conditions": [
                {"type": "SuccessCriteriaMet", "status": "True"},
                {"type": "Complete", "status": "True"},
            ],
        });
        self.env.api_server.set_object(&job);
        self.env.api_server.delete_object("v1", "pods", OWN, &name);
        Ok(())
    }

    /// A pod of the installation, as it is kept.
    fn pod(&self, name: &str, template: &Value, address: &str) -> Value {
        self.env.api_server.set_object(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": OWN, "labels": template["metadata"]["labels"],
            },
            "spec": template["spec"],
            "status": {"phase": "Running", "podIP": address},
        }));
        let pod = self.env.api_server.object("v1", "pods", OWN, name);
        pod.unwrap_or_default()
    }

    fn deploy(&mut self, deployment: &Value) -> anyhow::Result<()> {
        let name = text(&deployment["metadata"]["name"]);
        let component = component(deployment);
        for (number, address) in addresses(&component).iter().enumerate() {
            let template = &deployment["spec"]["template"];
            let pod = self.pod(&format!("{name}-{number}"), template, address);
            let mut command = self.contained(&pod, &pod["spec"]["containers"][0], address)?;
            if component == "controller" {
                // All pods have this machine's addresses, so none may take all of them.
                command.arg(format!("--webhook={address}:9443"));
                command.arg(format!("--admin={address}:9901"));
            }
            let program = Program::start(command)?;
            self.programs
                .push((format!("{component}-{number}"), program));
        }
        Ok(())
    }

    /// Waits until all that was started is ready, and says so in the API.
    pub(super) async fn settled(&mut self) -> anyhow::Result<()> {
        self.work().await?;
        for mut deployment in self.env.api_server.objects("apps/v1", "deployments", OWN) {
            let component = component(&deployment);
            let name = text(&deployment["metadata"]["name"]);
            let addresses = addresses(&component);
            for address in addresses {
                let admin = SocketAddr::new(address.parse()?, 9901);
                let ready = timeout(PATIENCE, async {
                    while !answers(admin, "/readyz").await {
                        sleep(LOOK).await;
                    }
                });
                if ready.await.is_err() {
                    bail!(
                        "{component} at {address} does not get ready:\n{}",
                        self.printed()
                    );
                }
            }
            if component == "controller" {
                let webhook = SocketAddr::new(addresses[0].parse()?, 9443);
                self.env.api_server.set_service(OWN, &name, webhook);
            }
            deployment["status"] = json!({
                "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2,
            });
            self.env.api_server.set_object(&deployment);
            for service in self.env.api_server.objects("v1", "services", OWN) {
                if service["spec"]["selector"]["app.kubernetes.io/component"] == *component {
                    let service = text(&service["metadata"]["name"]);
                    self.set_endpoints(&service, &name, addresses);
                }
            }
        }
        Ok(())
    }

    fn set_endpoints(&self, service: &str, deployment: &str, addresses: [&str; 2]) {
        let pods = ["0", "1"].map(|number| format!("{deployment}-{number}"));
        let endpoint = |(pod, address): (&String, &str)| {
            let kept = self.env.api_server.object("v1", "pods", OWN, pod);
            json!({
                "addresses": [address],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "targetRef": {
                    "kind": "Pod", "name": pod, "namespace": OWN,
                    "uid": kept.unwrap_or_default()["metadata"]["uid"],
                },
            })
        };
        let endpoints: Vec<Value> = pods.iter().zip(addresses).map(endpoint).collect();
        self.env.api_server.set_object(&json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{service}-1"), "namespace": OWN,
                "labels": {"kubernetes.io/service-name": service},
            },
            "addressType": "IPv4", "endpoints": endpoints,
        }));
    }

    /// The names that DNS would know.
    pub(super) fn names() -> Vec<(&'static str, String)> {
        let names = ["countersign", "countersign-headless"];
        let of = |address| names.map(|name| (address, format!("{name}.{OWN}.svc")));
        GATEWAYS.into_iter().flat_map(of).collect()
    }
}

fn component(deployment: &Value) -> String {
    text(&deployment["metadata"]["labels"]["app.kubernetes.io/component"])
}

fn addresses(component: &str) -> [&'static str; 2] {
    match component {
        "gateway" => GATEWAYS,
        _ => CONTROLLERS,
    }
}
