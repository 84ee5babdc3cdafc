//! An installation as the doctor finds it, on the stand-in for the API server: the objects of the chart, as
//! Kubernetes' own controllers would leave them, and the webhook itself.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context as _;
use countersign_controller::{
    admission::{
        Settings,
        certificate::ServingCertificate,
        events::Events,
        metrics::Metrics,
        namespaces::Namespaces,
        server::{Parts, Service},
        webhooks,
    },
    crd,
    doctor::rights::{RIGHTS, Scope, Who},
};
use countersign_core::clock::Clock;
use countersign_tests::{
    environment::Environment,
    fake::{ApiServer, Authority},
    process,
};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::{net::TcpListener, process::Command, task::AbortHandle};

use crate::harness::tests_directory;

const SETTINGS: &str = "gateways: [\"countersign.countersign.svc:3128\"]";

pub(super) struct Installed {
    env: Environment,
    webhook: AbortHandle,
    /// How far the clock of each node is ahead.
    nodes: Mutex<BTreeMap<&'static str, SignedDuration>>,
}

/// How often kubelets renew their Leases here.
const RENEWAL: Duration = Duration::from_secs(1);

/// What a command printed, and its exit code.
pub(super) struct Told {
    pub(super) text: String,
    pub(super) code: i32,
}

impl Installed {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let env = Environment::start().await?;
        let server = &env.api_server;
        for definition in crd::all() {
            let mut definition = definition;
            definition["status"] =
                json!({"conditions": [{"type": "Established", "status": "True"}]});
            server.set_object(&definition);
        }
        for object in components() {
            server.set_object(&object);
        }
        for object in rights() {
            server.set_object(&object);
        }
        for object in namespace(&env.authority) {
            server.set_object(&object);
        }
        let webhook = webhook(&env).await?;
        let nodes = Mutex::new(BTreeMap::from(
            ["node-1", "node-2"].map(|node| (node, SignedDuration::ZERO)),
        ));
        let installed = Self {
            env,
            webhook,
            nodes,
        };
        installed.gateway_file("in-cluster");
        Ok(installed)
    }

    pub(super) fn server(&self) -> &ApiServer {
        &self.env.api_server
    }

    pub(super) fn stop_webhook(&self) {
        self.webhook.abort();
        self.server().set_service(
            "countersign",
            "countersign-controller",
            ([127, 0, 0, 1], 1).into(),
        );
    }

    /// Changes an object as somebody with all rights would.
    pub(super) fn change(
        &self,
        api_version: &str,
        resource: &str,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) {
        let found = self.server().object(api_version, resource, namespace, name);
        let mut object = found.expect("it is there");
        change(&mut object);
        self.server().set_object(&object);
    }

    pub(super) fn gateway_file(&self, issuer: &str) {
        let file = format!(
            "spec:\n  identity: {{ issuers: [{{ name: in-cluster, issuer: \"{issuer}\", podFacts: true }}] }}\n  \
             interception: {{ issuer: {{ signer: countersign.dev/interception }} }}\n  \
             resources: [{{ kubernetes: {{}} }}]\n"
        );
        self.server().set_object(&json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "countersign-0123456789", "namespace": "countersign"},
            "data": {"gateway.yaml": file},
        }));
    }

    pub(super) fn set_ahead(&self, node: &'static str, ahead: SignedDuration) {
        self.nodes
            .lock()
            .expect("no test panics with it")
            .insert(node, ahead);
    }

    /// As kubelets do it, also if the doctor takes its time.
    async fn renew_leases(&self) -> Infallible {
        loop {
            for (node, ahead) in &*self.nodes.lock().expect("no test panics with it") {
                self.lease(node, Clock::system().now() + *ahead);
            }
            tokio::time::sleep(RENEWAL).await;
        }
    }

    fn lease(&self, node: &str, renewed: jiff::Timestamp) {
        self.server().set_object(&json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": node},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }));
        self.server().set_object(&json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": node, "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": renewed.to_string()},
        }));
    }

    pub(super) async fn doctor(&self, arguments: &[&str]) -> anyhow::Result<Told> {
        self.doctor_as(self.server().admin(), arguments).await
    }

    pub(super) async fn doctor_as(&self, token: &str, arguments: &[&str]) -> anyhow::Result<Told> {
        let line = self.line(token, arguments)?;
        tokio::select! {
            biased;
            never = self.renew_leases() => match never {},
            told = run(&line) => told,
        }
    }

    fn line(&self, token: &str, arguments: &[&str]) -> anyhow::Result<Vec<String>> {
        let directory = self.env.directory();
        let roots = directory.join("api-server.pem");
        fs::write(&roots, self.server().ca_pem())?;
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": self.server().url(), "certificate-authority": roots,
            }}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        let file = directory.join("kubeconfig");
        fs::write(&file, config.to_string())?;
        let mut line = vec![
            "doctor".to_owned(),
            format!("--kubeconfig={}", file.display()),
        ];
        line.extend(arguments.iter().map(|&it| it.to_owned()));
        Ok(line)
    }

    pub(super) fn pods(&self, namespace: &str) -> Vec<Value> {
        self.server().objects("v1", "pods", namespace)
    }

    /// Runs the doctor with a probe, and plays the kubelet for it.
    pub(super) async fn probed(&self, namespace: &str, reached: &Value) -> anyhow::Result<Told> {
        let line = self.line(self.server().admin(), &["-n", namespace, "--probe"])?;
        let played = async {
            loop {
                let probe = self.pods(namespace).into_iter().find(|pod| {
                    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
                    name.starts_with("countersign-doctor-")
                });
                if let Some(mut pod) = probe {
                    pod["status"] = json!({"phase": "Succeeded", "containerStatuses": [{
                        "name": "probe", "state": {"terminated": {"exitCode": 0, "message": reached.to_string()}},
                    }]});
                    self.server().set_object(&pod);
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            biased;
            never = self.renew_leases() => match never {},
            told = run(&line) => told,
            () = played => anyhow::bail!("the kubelet never ends"),
        }
    }
}

/// Runs the real program.
pub(super) async fn run(line: &[String]) -> anyhow::Result<Told> {
    let output = Command::new(process::binary()?)
        .args(line)
        .env_remove("KUBECONFIG")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .await?;
    let text = [output.stdout, output.stderr].concat();
    Ok(Told {
        text: String::from_utf8(text)?,
        code: output.status.code().context("it was killed")?,
    })
}

fn components() -> Vec<Value> {
    let mut objects = Vec::new();
    for (component, name, config) in [
        (
            "gateway",
            "countersign",
            ("gateway", "countersign-0123456789"),
        ),
        (
            "controller",
            "countersign-controller",
            ("injection", "countersign-injection"),
        ),
    ] {
        let labels = json!({
            "app.kubernetes.io/component": component, "app.kubernetes.io/part-of": "countersign",
        });
        let arguments = match component {
            "gateway" => json!(["run"]),
            _ => json!(["controller", "--trust", "/etc/countersign/trust.yaml"]),
        };
        objects.push(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": "countersign", "labels": labels},
            "spec": {"replicas": 2, "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "serviceAccountName": name,
                    "containers": [{"name": component, "image": "countersign:0.1.0", "args": arguments}],
                    "volumes": [{"name": config.0, "configMap": {"name": config.1}}],
                },
            }},
            "status": {"replicas": 2, "readyReplicas": 2},
        }));
        let endpoint = |uid: &str| {
            json!({
                "addresses": ["10.0.0.1"], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "uid": uid},
            })
        };
        objects.push(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{name}-1"), "namespace": "countersign",
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": "IPv4", "endpoints": [endpoint("1"), endpoint("2")],
        }));
    }
    objects.push(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "countersign-injection", "namespace": "countersign"},
        "data": {"injection.yaml": SETTINGS},
    }));
    objects.push(policy(
        "countersign",
        "countersign",
        "Ingress",
        &json!({
            "app.kubernetes.io/component": "gateway",
        }),
    ));
    objects.push(policy(
        "countersign-clients",
        "qa",
        "Egress",
        &json!({"countersign.dev/client": "true"}),
    ));
    objects
}

fn policy(name: &str, namespace: &str, direction: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {"matchLabels": labels}, "policyTypes": [direction]},
    })
}

/// Roles that grant what the table says, and no more.
fn rights() -> Vec<Value> {
    let mut objects = Vec::new();
    for (who, account) in [
        (Who::Gateway, "countersign"),
        (Who::Controller, "countersign-controller"),
    ] {
        for (scope, kind, namespace) in [
            (Scope::Cluster, "ClusterRole", ""),
            (Scope::Own, "Role", "countersign"),
        ] {
            let rights = RIGHTS.iter().filter(|right| {
                right.who == who && (right.scope == Scope::Own) == (scope == Scope::Own)
            });
            let rules: Vec<Value> = rights
                .map(|right| match right.resource.strip_prefix('/') {
                    Some(_) => json!({"nonResourceURLs": [right.resource], "verbs": right.verbs}),
                    None => json!({
                        "apiGroups": [right.group], "resources": [right.resource],
                        "verbs": right.verbs, "resourceNames": right.names,
                    }),
                })
                .collect();
            let name = format!("countersign-{}", who.as_str());
            let metadata = json!({"name": name, "namespace": namespace});
            objects.push(json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata, "rules": rules,
            }));
            objects.push(json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": format!("{kind}Binding"), "metadata": metadata,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "countersign"}],
            }));
        }
    }
    objects
}

/// The namespace of the dashboard, with the roots that the controller publishes, the job, and our objects.
fn namespace(authority: &Authority) -> Vec<Value> {
    let mut objects = vec![json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "qa", "labels": {
            "kubernetes.io/metadata.name": "qa",
            "countersign.dev/inject": "enabled",
            "pod-security.kubernetes.io/enforce": "restricted",
        }},
    })];
    let root = authority.pem();
    let published = Clock::system().now() - SignedDuration::from_hours(2);
    for namespace in ["qa", "countersign"] {
        for (name, data) in [
            (
                "countersign-ca",
                json!({"root.pem": root, "bundle.pem": root}),
            ),
            ("countersign-gateway-ca", json!({"ca.crt": root})),
        ] {
            objects.push(json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": name, "namespace": namespace, "annotations": {
                    "countersign.dev/published-at": published.to_string(),
                }},
                "data": data,
            }));
        }
    }
    let directory = tests_directory().join("../examples/nightly-dashboard/policy");
    for file in ["workload", "credentials", "access"] {
        let text = fs::read_to_string(directory.join(format!("{file}.yaml"))).expect("the example");
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).expect("it is YAML");
        objects.extend(documents.into_iter().filter(Value::is_object).map(accepted));
    }
    objects.push(json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": "nightly-dashboard", "namespace": "qa"},
        "spec": {"schedule": "0 6 * * MON-FRI", "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "Never", "serviceAccountName": "nightly-dashboard",
            "containers": [{"name": "dashboard", "image": "ghcr.io/acme/dashboard:1.4.2"}],
        }}}}},
    }));
    objects
}

/// As a gateway has read it.
fn accepted(mut object: Value) -> Value {
    let condition =
        |name: &str| json!({"type": name, "status": "True", "reason": name, "message": ""});
    object["status"] = json!({"conditions": [condition("Accepted"), condition("Ready")]});
    object
}

/// The webhook itself, on loopback.
async fn webhook(env: &Environment) -> anyhow::Result<AbortHandle> {
    let (certificate, key) = env
        .authority
        .issue(&["countersign-controller.countersign.svc"]);
    let at = |name: &str| env.directory().join(name);
    fs::write(at("webhook.crt"), certificate)?;
    fs::write(at("webhook.key"), key)?;
    let certificate = Arc::new(ServingCertificate::new(
        at("webhook.crt"),
        at("webhook.key"),
    ));
    let clock = Clock::system();
    certificate.read(&clock).await;
    let mut config = kube::Config::new(env.api_server.url().parse()?);
    fs::write(at("api-server.pem"), env.api_server.ca_pem())?;
    fs::write(at("admin-token"), env.api_server.admin())?;
    config.root_cert_file = Some(at("api-server.pem"));
    config.auth_info.token_file = Some(at("admin-token").display().to_string());
    let client = countersign_controller::connect(config)?;
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = Metrics::register(&mut registry);
    let (namespaces, watching) = Namespaces::watch(client.clone());
    let (events, writing) = Events::written(client, metrics.clone());
    let settings = Settings::parse(SETTINGS)?;
    for configuration in
        webhooks::configurations(&settings, "countersign-controller", &env.authority.pem())
    {
        env.api_server.set_object(&configuration);
    }
    let parts = Parts {
        settings,
        certificate: Some(certificate),
        namespaces,
        events,
        metrics,
        registry,
        checks: Vec::new(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    env.api_server.set_service(
        "countersign",
        "countersign-controller",
        listener.local_addr()?,
    );
    let service = Arc::new(Service::new(parts, &clock));
    let serving = tokio::spawn(async move {
        tokio::select! {
            () = watching => {}
            () = writing => {}
            () = service.serve_webhook(listener) => {}
        }
    });
    Ok(serving.abort_handle())
}
