//! A cluster with controllers and gateways as processes.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use countersign_controller::{
    admission::{Settings, webhooks},
    trust::PublicState,
};
use countersign_tests::{
    client::Client as HttpClient,
    environment::Environment,
    process::{self, Process, Program, logged_by},
};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, Config};
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::{net::TcpStream, process::Command};

use super::rights;
use crate::harness::{soon, until};

const INJECTION: &str = "gateways: [\"countersign.countersign.svc:3128\"]\n";

/// The name of the gateways' Service.
const SERVICE: &str = "countersign.countersign.svc";

/// Which certificates a gateway asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WithSigners {
    /// The intermediate alone.
    Intermediate,
    /// The certificate of a second listener, too.
    Both,
}

/// A running controller.
pub(super) struct Controller {
    pub(super) program: Program,
    admin: SocketAddr,
}

pub(super) struct TrustBed {
    pub(super) env: Environment,
    /// Somebody who may do everything.
    pub(super) client: Client,
}

impl TrustBed {
    /// A cluster with the namespaces, the roles, and one opted-in namespace.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let env = Environment::start().await?;
        let token = env.api_server.add_user(rights::CONTROLLER, &[]);
        for (name, token) in [
            ("controller-token", token.as_str()),
            ("admin-token", env.api_server.admin()),
            ("namespace", "countersign"),
        ] {
            env.write_secret(name, token)?;
        }
        let client = client(&env)?;
        let bed = Self { env, client };
        for user in ["controller", "admin"] {
            fs::write(bed.kubeconfig(user), bed.kubeconfig_of(user))?;
        }
        fs::write(bed.path("injection.yaml"), INJECTION)?;
        fs::write(bed.path("trust.yaml"), "")?;
        bed.create("/api/v1/namespaces", &namespace("countersign", false))
            .await?;
        bed.opt_in("qa").await?;
        bed.grant().await?;
        Ok(bed)
    }

    async fn grant(&self) -> anyhow::Result<()> {
        let roles = [
            (
                "controller",
                rights::CONTROLLER,
                "",
                rights::controller_cluster(),
            ),
            (
                "controller",
                rights::CONTROLLER,
                "countersign",
                rights::controller_own(),
            ),
            ("gateway", rights::GATEWAY, "", rights::gateway_cluster()),
            (
                "gateway",
                rights::GATEWAY,
                "countersign",
                rights::gateway_own(),
            ),
        ];
        let group = "/apis/rbac.authorization.k8s.io/v1";
        for (name, user, namespace, rules) in roles {
            let [role, binding] = rights::bound(name, user, namespace, &rules);
            let (roles, bindings) = if namespace.is_empty() {
                (
                    format!("{group}/clusterroles"),
                    format!("{group}/clusterrolebindings"),
                )
            } else {
                let group = format!("{group}/namespaces/{namespace}");
                (format!("{group}/roles"), format!("{group}/rolebindings"))
            };
            self.create(&roles, &role).await?;
            self.create(&bindings, &binding).await?;
        }
        Ok(())
    }

    /// Installs the webhook configurations as the chart does: without a CA.
    pub(super) async fn install_webhooks(&self) -> anyhow::Result<()> {
        let settings = Settings::parse(INJECTION)?;
        let [mutating, validating] =
            webhooks::configurations(&settings, "countersign-controller", "");
        let group = "/apis/admissionregistration.k8s.io/v1";
        self.create(&format!("{group}/mutatingwebhookconfigurations"), &mutating)
            .await?;
        let path = format!("{group}/validatingwebhookconfigurations");
        self.create(&path, &validating).await.map(drop)
    }

    /// A namespace that has opted in.
    pub(super) async fn opt_in(&self, name: &str) -> anyhow::Result<()> {
        self.create("/api/v1/namespaces", &namespace(name, true))
            .await
            .map(drop)
    }

    /// Creates any object.
    pub(super) async fn create(&self, path: &str, object: &Value) -> anyhow::Result<Value> {
        self.send("POST", path, object).await
    }

    /// Sends any object.
    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        object: &Value,
    ) -> anyhow::Result<Value> {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("Content-Type", "application/json")
            .body(serde_json::to_vec(object)?)?;
        let sent = self.client.request(request).await;
        sent.with_context(|| format!("{method} {path}"))
    }

    /// Starts a controller, with more arguments.
    pub(super) async fn controller(&self, more: &[&str]) -> anyhow::Result<Controller> {
        let mut command = Command::new(process::binary()?);
        command
            .args(["controller", "--log", "json", "--admin", "127.0.0.1:0"])
            .args(["--webhook", "127.0.0.1:0", "--kubeconfig"])
            .arg(self.kubeconfig("controller"))
            .arg("--injection")
            .arg(self.path("injection.yaml"))
            .arg("--trust")
            .arg(self.path("trust.yaml"))
            .args(more)
            .env_remove("RUST_LOG");
        let mut program = Program::start(command)?;
        let admin = program.said(|printed| logged_by(printed, "admin")).await?;
        let webhook = program
            .said(|printed| logged_by(printed, "webhook"))
            .await?;
        self.env
            .api_server
            .set_service("countersign", "countersign-controller", webhook);
        Ok(Controller { program, admin })
    }

    /// Starts a gateway whose certificates are signed in the cluster.
    pub(super) async fn gateway(&self, signers: WithSigners) -> anyhow::Result<Process> {
        self.gateway_named(signers, "gateway-1").await
    }

    pub(super) async fn gateway_named(
        &self,
        signers: WithSigners,
        pod: &str,
    ) -> anyhow::Result<Process> {
        let root = self.env.directory().display().to_string();
        let own = format!("    ca: {{ directory: {root}/ca }}");
        if fs::read_to_string(self.env.gateway_yaml())?.contains(&own) {
            self.env
                .edit_gateway(&own, "    issuer: { signer: countersign.dev/interception }")?;
            self.env.extend_gateway(&format!(
                "  kubernetes: {{ url: \"{}\", caFile: {root}/upstream-roots.pem, tokenFile: {root}/secrets/gateway-token }}",
                self.env.api_server.url()
            ))?;
            if signers == WithSigners::Both {
                let first = "    - { name: proxy, address: \"127.0.0.1:0\", mode: explicit }\n";
                let second = format!(
                    "{first}    - {{ name: mesh, address: \"127.0.0.1:0\", mode: explicit, tls: {{ issuer: {{ signer: countersign.dev/gateway, names: [{SERVICE}] }} }} }}\n"
                );
                self.env.edit_gateway(first, &second)?;
            }
            // The harness reads it; what clients trust is published in the cluster.
            fs::create_dir_all(self.env.ca_directory())?;
            fs::write(
                self.env.ca_directory().join("root.pem"),
                self.env.authority.pem(),
            )?;
        }
        let mut command = Command::new(process::binary()?);
        command
            .args(["run", "--log", "json", "--config"])
            .arg(self.env.gateway_yaml())
            .env("HOSTNAME", pod)
            .env_remove("RUST_LOG");
        Process::launch(command, &self.env).await
    }

    /// Waits until a gateway is ready.
    pub(super) async fn ready(&self, gateway: &Process) -> anyhow::Result<()> {
        let is_ready = async || {
            let answer = gateway.admin("/readyz").await.unwrap_or_default();
            answer.starts_with("HTTP/1.1 200")
        };
        let waited = until("the gateway is ready", is_ready).await;
        let readyz = gateway.admin("/readyz").await.unwrap_or_default();
        waited.with_context(|| format!("{readyz}\n{}", gateway.printed()))
    }

    /// A client of a gateway's first listener.
    pub(super) fn client_of(gateway: &Process, roots: &str) -> HttpClient {
        HttpClient::through(gateway.address(), roots)
    }

    /// Waits for a text that is published.
    pub(super) async fn published(
        &self,
        namespace: &str,
        name: &str,
        key: &str,
    ) -> anyhow::Result<String> {
        let what = format!("{name} in {namespace} has {key}");
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let found = soon(&what, async {
            loop {
                let found = api.get_opt(name).await.ok().flatten();
                let data = found.and_then(|found| found.data).unwrap_or_default();
                if let Some(text) = data.get(key) {
                    return text.clone();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        found.await
    }

    /// The public state.
    pub(super) async fn state(&self) -> anyhow::Result<PublicState> {
        let text = self
            .published("countersign", "countersign-trust", "state.json")
            .await?;
        Ok(serde_json::from_str(&text)?)
    }

    /// A Secret of the controller's namespace.
    pub(super) fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), "countersign")
    }

    /// What a TLS listener of the gateway shows, by these roots.
    pub(super) async fn serving_chain(
        &self,
        gateway: &Process,
        roots: &str,
    ) -> anyhow::Result<Vec<CertificateDer<'static>>> {
        let address = logged_by(&gateway.printed(), "mesh").context("no second listener")?;
        let roots = countersign_core::chain::of_pem(roots.as_bytes());
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots.context("no roots")?)
        .with_no_client_auth();
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(SERVICE)?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, stream).await?;
        let (_, connection) = stream.get_ref();
        let chain = connection.peer_certificates().context("no certificate")?;
        Ok(chain.iter().map(|it| it.clone().into_owned()).collect())
    }

    /// Types `countersign ca rotate`; what it printed.
    pub(super) async fn rotate(&self, words: &[&str]) -> anyhow::Result<(bool, String)> {
        let output = Command::new(process::binary()?)
            .args(["ca", "rotate"])
            .args(words)
            .arg("--kubeconfig")
            .arg(self.kubeconfig("admin"))
            .output()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        Ok((output.status.success(), text))
    }

    /// The same, which must work.
    pub(super) async fn rotates(&self, words: &[&str]) -> anyhow::Result<String> {
        let (done, text) = self.rotate(words).await?;
        ensure!(done, "countersign ca rotate {words:?}: {text}");
        Ok(text)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.env.directory().join(name)
    }

    fn kubeconfig(&self, user: &str) -> PathBuf {
        self.path(&format!("{user}.kubeconfig"))
    }

    fn kubeconfig_of(&self, user: &str) -> String {
        let root = self.env.directory().display();
        let url = self.env.api_server.url();
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": url, "certificate-authority": format!("{root}/upstream-roots.pem"),
            }}],
            "users": [{"name": "test", "user": {"tokenFile": format!("{root}/secrets/{user}-token")}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        })
        .to_string()
    }
}

impl Controller {
    pub(super) fn printed(&self) -> String {
        self.program.printed()
    }

    /// The answer of `/readyz`.
    pub(super) async fn readyz(&self) -> String {
        process::admin(self.admin, "/readyz")
            .await
            .unwrap_or_default()
    }

    /// Waits until `/readyz` says something.
    pub(super) async fn says(&self, part: &str) -> anyhow::Result<()> {
        let waited = until(part, async || self.readyz().await.contains(part)).await;
        let readyz = self.readyz().await;
        waited.with_context(|| format!("{readyz}\n{}", self.printed()))
    }
}

fn client(env: &Environment) -> anyhow::Result<Client> {
    let mut config = Config::new(env.api_server.url().parse()?);
    config.root_cert_file = Some(env.directory().join("upstream-roots.pem"));
    let token = env.secret_directory().join("admin-token");
    config.auth_info.token_file = Some(token.display().to_string());
    Ok(countersign_controller::connect(config)?)
}

fn namespace(name: &str, opted_in: bool) -> Value {
    let mut namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    if opted_in {
        namespace["metadata"]["labels"] = json!({"countersign.dev/inject": "enabled"});
    }
    namespace
}
