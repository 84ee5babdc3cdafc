//! A real `OpenBao` server, for what no stand-in of ours should be trusted to tell: versions,
//! check-and-set, tokens that end, leases, a seal.
//!
//! It keeps its data in a directory, so that it can be killed and started again on the same port.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{
    client::{Answer, Client, Failure},
    fake::{Authority, Issuer},
    random,
};

/// The longest that the server may take to be up.
const PATIENCE: Duration = Duration::from_mins(1);

/// How often it is asked whether it is up: it tells nobody.
const LOOK: Duration = Duration::from_millis(50);

/// A server, unsealed and ready; killed when this is dropped.
pub struct OpenBao {
    child: Option<Child>,
    binary: PathBuf,
    address: SocketAddr,
    root_token: String,
    unseal_key: String,
    ca_pem: String,
    directory: TempDir,
}

impl OpenBao {
    /// Starts one with TLS on a free loopback port, with KV v2 mounted at `secret`. `None` if the
    /// machine has no `OpenBao`, which was then said loudly.
    pub async fn start(authority: &Authority) -> anyhow::Result<Option<Self>> {
        let Some(binary) = binary() else {
            crate::skipped("no OpenBao: tests/run installs it (COUNTERSIGN_TEST_BAO)");
            return Ok(None);
        };
        let directory = tempfile::Builder::new().prefix("openbao-").tempdir()?;
        let (address, cluster) = (free_port()?, free_port()?);
        let (certificate, key) = authority.issue(&["127.0.0.1", "localhost"]);
        fs::write(directory.path().join("tls.crt"), certificate)?;
        fs::write(directory.path().join("tls.key"), key)?;
        fs::create_dir(directory.path().join("data"))?;
        let configuration = CONFIGURATION
            .replace("{root}", &directory.path().display().to_string())
            .replace("{address}", &address.to_string())
            .replace("{cluster}", &cluster.to_string());
        fs::write(directory.path().join("bao.hcl"), configuration)?;
        let mut server = Self {
            child: None,
            binary,
            address,
            root_token: String::new(),
            unseal_key: String::new(),
            ca_pem: authority.pem(),
            directory,
        };
        server.launch().await?;
        server.initialise().await?;
        server.unseal().await?;
        let kv = json!({"type": "kv", "options": {"version": "2"}});
        server.write("sys/mounts/secret", kv).await?;
        server.until_kv2("secret").await?;
        Ok(Some(server))
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The root of its certificate, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The token that may do everything.
    pub fn root_token(&self) -> &str {
        &self.root_token
    }

    /// Kills it (SIGKILL); what it was answering is cut off.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// Starts it again on the same port, with the data from before, still sealed.
    pub async fn start_sealed(&mut self) -> anyhow::Result<()> {
        self.launch().await
    }

    /// Starts it again on the same port, with the data from before.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.launch().await?;
        self.unseal().await
    }

    /// Seals it: it answers, and gives nothing.
    pub async fn seal(&self) -> anyhow::Result<()> {
        self.write("sys/seal", json!({})).await.map(drop)
    }

    /// Unseals it, and waits until it is active.
    pub async fn unseal(&self) -> anyhow::Result<()> {
        let key = json!({"key": self.unseal_key});
        self.write("sys/unseal", key).await?;
        self.until("sys/health", |answer| answer.status == StatusCode::OK)
            .await
    }

    /// Reads a path beneath `/v1/` as root.
    pub async fn read(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::GET, path, None).await
    }

    /// Writes a path beneath `/v1/` as root.
    pub async fn write(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        self.ask(Method::POST, path, Some(&body)).await
    }

    /// Deletes a path beneath `/v1/` as root.
    pub async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::DELETE, path, None).await
    }

    /// Writes a secret at the mount `secret`; gives its version.
    pub async fn write_secret(&self, path: &str, fields: Value) -> anyhow::Result<u64> {
        let body = json!({"data": fields});
        let written = self.write(&format!("secret/data/{path}"), body).await?;
        written["data"]["version"].as_u64().context("no version")
    }

    /// Makes a token with one policy, of this text, besides `default`.
    pub async fn token(&self, policy: &str, ttl: &str) -> anyhow::Result<String> {
        let name = random::alphanumeric(12);
        self.write_policy(&name, policy).await?;
        let wanted = json!({"policies": [name], "ttl": ttl});
        let made = self.write("auth/token/create", wanted).await?;
        let token = made["auth"]["client_token"].as_str();
        token.map(str::to_owned).context("no token")
    }

    /// Writes a policy.
    pub async fn write_policy(&self, name: &str, policy: &str) -> anyhow::Result<()> {
        let path = format!("sys/policies/acl/{name}");
        self.write(&path, json!({"policy": policy})).await.map(drop)
    }

    /// Lets the pods' issuer's tokens log in at `auth/kubernetes`, as the role `countersign`, with
    /// these policies. What comes back has one like Vault's method for Kubernetes: a role and a JWT.
    pub async fn trust_issuer(
        &self,
        issuer: &Issuer,
        policies: &[&str],
        token: Value,
    ) -> anyhow::Result<()> {
        self.write("sys/auth/kubernetes", json!({"type": "jwt"}))
            .await?;
        self.write(
            "auth/kubernetes/config",
            json!({"jwks_url": issuer.jwks_url(), "jwks_ca_pem": issuer.ca_pem()}),
        )
        .await?;
        let mut role = json!({
            "role_type": "jwt",
            "bound_audiences": ["countersign", "vault"],
            "user_claim": "sub",
            "token_policies": policies,
        });
        if let (Some(role), Some(token)) = (role.as_object_mut(), token.as_object()) {
            role.extend(token.clone());
        }
        self.write("auth/kubernetes/role/countersign", role)
            .await
            .map(drop)
    }

    /// One request beneath `/v1/` with any token, of which any answer is one.
    pub async fn request(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/v1/{path}", self.url()))
            .header("x-vault-token", token)
            .body(Full::from(body))
            .map_err(io::Error::other)?;
        Client::direct(self.address, &self.ca_pem)
            .send(request)
            .await
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let asked = self.request(&self.root_token, method, path, body).await;
        let answer = asked.with_context(|| format!("asking {path}"))?;
        if !answer.status.is_success() {
            bail!("{path}: {} {}", answer.status, answer.text());
        }
        Ok(answer.json())
    }

    async fn launch(&mut self) -> anyhow::Result<()> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())?;
        let child = Command::new(&self.binary)
            .arg("server")
            .arg(format!(
                "-config={}",
                self.directory.path().join("bao.hcl").display()
            ))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        self.child = Some(child);
        // Any answer shows that it listens.
        self.until("sys/seal-status", |_| true).await
    }

    async fn initialise(&mut self) -> anyhow::Result<()> {
        let wanted = json!({"secret_shares": 1, "secret_threshold": 1});
        let made = self.write("sys/init", wanted).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        self.root_token = text(&made["root_token"]).context("no root token")?;
        self.unseal_key = text(&made["keys"][0]).context("no key")?;
        Ok(())
    }

    /// A new KV v2 mount refuses everything while it is set up.
    pub async fn until_kv2(&self, mount: &str) -> anyhow::Result<()> {
        let path = format!("{mount}/data/nothing");
        self.until(&path, |answer| answer.status == StatusCode::NOT_FOUND)
            .await
    }

    async fn until(&self, path: &str, wanted: impl Fn(&Answer) -> bool) -> anyhow::Result<()> {
        let waiting = tokio::time::timeout(PATIENCE, async {
            loop {
                let answer = self
                    .request(&self.root_token, Method::GET, path, None)
                    .await;
                if answer.is_ok_and(|answer| wanted(&answer)) {
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        waiting.await.with_context(|| {
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            format!("OpenBao is not ready at {path}: {log}")
        })
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("bao.log")
    }
}

/// The program: `COUNTERSIGN_TEST_BAO`, or what `tests/run` has installed.
pub fn binary() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("COUNTERSIGN_TEST_BAO") {
        return Some(given.into());
    }
    let venv = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/bao"));
    venv.exists().then(|| venv.to_owned())
}

/// A port that is free now.
fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

const CONFIGURATION: &str = r#"
storage "raft" {
  path = "{root}/data"
  node_id = "one"
}
listener "tcp" {
  address = "{address}"
  tls_cert_file = "{root}/tls.crt"
  tls_key_file = "{root}/tls.key"
}
api_addr = "https://{address}"
cluster_addr = "https://{cluster}"
"#;
