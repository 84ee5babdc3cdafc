//! A real `kube-apiserver` with its `etcd`, where the machine has them: `KUBEBUILDER_ASSETS` names
//! the directory, as controller-runtime's tests have it. No package registry carries them.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::Context as _;
use http::{Method, Request, StatusCode, header::AUTHORIZATION};
use http_body_util::Full;
use rcgen::KeyPair;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{client::Client, fake::Authority, random};

/// The longest that it may take to be up.
const PATIENCE: Duration = Duration::from_mins(1);

/// How often it is asked whether it is up: it tells nobody.
const LOOK: Duration = Duration::from_millis(100);

/// The API server's program.
const SERVER: &str = "kube-apiserver";

/// How much of what a program said last is told when it fails, in bytes.
const LAST_WORDS: usize = 4 * 1024;

/// A running API server; killed when this is dropped.
pub struct KubeApiServer {
    etcd: Child,
    server: Child,
    address: SocketAddr,
    token: String,
    nobody: String,
    ca_pem: String,
    directory: TempDir,
}

impl KubeApiServer {
    /// Starts one on a free loopback port. `None` if the machine has none, which was then said
    /// loudly.
    pub async fn start(authority: &Authority) -> anyhow::Result<Option<Self>> {
        let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) else {
            crate::skipped("no kube-apiserver: KUBEBUILDER_ASSETS is not set");
            return Ok(None);
        };
        Self::start_from(&assets, authority).await.map(Some)
    }

    /// Starts the programs in a directory.
    async fn start_from(assets: &Path, authority: &Authority) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("apiserver-").tempdir()?;
        let (clients, peers, address) = (free()?, free()?, free()?);
        let (token, nobody) = (random::alphanumeric(40), random::alphanumeric(40));
        prepare(directory.path(), authority, &token, &nobody)?;
        let etcd = etcd(assets, directory.path(), clients, peers)?;
        let server = server(assets, directory.path(), clients, address)?;
        let mut started = Self {
            etcd,
            server,
            address,
            token,
            nobody,
            ca_pem: authority.pem(),
            directory,
        };
        let up = tokio::time::timeout(PATIENCE, started.until_ready()).await;
        let up = up.unwrap_or_else(|_| Err(anyhow::anyhow!("it does not get ready")));
        up.with_context(|| started.last_words())?;
        Ok(started)
    }

    async fn until_ready(&mut self) -> anyhow::Result<()> {
        while !self.is_ready().await {
            for (name, child) in [("etcd", &mut self.etcd), (SERVER, &mut self.server)] {
                if let Some(status) = child.try_wait()? {
                    anyhow::bail!("{name} ended with {status}");
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// The ends of what both have written to their standard error.
    fn last_words(&self) -> String {
        let of = |name| {
            let said = fs::read(log(self.directory.path(), name)).unwrap_or_default();
            let end = &said[said.len().saturating_sub(LAST_WORDS)..];
            format!("{name} said last:\n{}", String::from_utf8_lossy(end))
        };
        format!("{}\n{}", of("etcd"), of(SERVER))
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The root of its certificate, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A token that may do everything.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// A token of `nobody`, to whom nothing is granted.
    pub fn nobody(&self) -> &str {
        &self.nobody
    }

    /// Makes a namespace.
    pub async fn create_namespace(&self, name: &str) -> anyhow::Result<()> {
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let status = self
            .send(Method::POST, "/api/v1/namespaces", &body.to_string())
            .await?;
        anyhow::ensure!(status == StatusCode::CREATED, "no namespace: {status}");
        Ok(())
    }

    async fn is_ready(&self) -> bool {
        let asked = self.send(Method::GET, "/readyz", "").await;
        asked.is_ok_and(|status| status == StatusCode::OK)
    }

    async fn send(&self, method: Method, path: &str, body: &str) -> anyhow::Result<StatusCode> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url()))
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(Full::new(body.to_owned().into()))?;
        let client = Client::direct(self.address, &self.ca_pem);
        Ok(client.send(request).await?.status)
    }
}

/// Writes the certificates, the keys of service accounts, and the tokens. The server checks
/// tokens with a public key or a certificate only: `PublicKeysFromFile` of client-go's keyutil takes
/// no private key in PKCS#8 unless it is RSA.
fn prepare(
    directory: &Path,
    authority: &Authority,
    token: &str,
    nobody: &str,
) -> anyhow::Result<()> {
    let (certificate, key) = authority.issue(&["127.0.0.1", "localhost"]);
    fs::write(directory.join("tls.crt"), certificate)?;
    fs::write(directory.join("tls.key"), &key)?;
    let public = KeyPair::from_pem(&key)?.public_key_pem();
    fs::write(directory.join("accounts.pub"), public)?;
    fs::write(directory.join("accounts.key"), key)?;
    let lines = format!("{token},tester,1,\"system:masters\"\n{nobody},nobody,2\n");
    Ok(fs::write(directory.join("tokens.csv"), lines)?)
}

fn etcd(
    assets: &Path,
    directory: &Path,
    clients: SocketAddr,
    peers: SocketAddr,
) -> anyhow::Result<Child> {
    let (clients, peers) = (format!("http://{clients}"), format!("http://{peers}"));
    let mut command = logged(assets, "etcd", directory)?;
    command
        .arg("--data-dir")
        .arg(directory.join("etcd"))
        .args(["--listen-client-urls", &clients])
        .args(["--advertise-client-urls", &clients])
        .args(["--listen-peer-urls", &peers])
        .args(["--initial-advertise-peer-urls", &peers])
        .args(["--initial-cluster", &format!("default={peers}")]);
    Ok(command.spawn()?)
}

fn server(
    assets: &Path,
    directory: &Path,
    clients: SocketAddr,
    address: SocketAddr,
) -> anyhow::Result<Child> {
    let file = |name: &str| directory.join(name).display().to_string();
    let mut command = logged(assets, SERVER, directory)?;
    command
        .arg(format!("--etcd-servers=http://{clients}"))
        .arg(format!("--bind-address={}", address.ip()))
        .arg(format!("--secure-port={}", address.port()))
        // Without a default route it finds none by itself.
        .arg(format!("--advertise-address={}", address.ip()))
        .arg(format!("--cert-dir={}", file("generated")))
        .arg(format!("--tls-cert-file={}", file("tls.crt")))
        .arg(format!("--tls-private-key-file={}", file("tls.key")))
        .arg(format!("--token-auth-file={}", file("tokens.csv")))
        .arg("--service-account-issuer=https://127.0.0.1")
        .arg(format!(
            "--service-account-key-file={}",
            file("accounts.pub")
        ))
        .arg(format!(
            "--service-account-signing-key-file={}",
            file("accounts.key")
        ))
        .arg("--service-cluster-ip-range=10.0.0.0/24")
        .arg("--disable-admission-plugins=ServiceAccount")
        .arg("--authorization-mode=RBAC");
    Ok(command.spawn()?)
}

fn logged(assets: &Path, name: &str, directory: &Path) -> std::io::Result<Command> {
    let log = File::create(log(directory, name))?;
    let mut command = Command::new(assets.join(name));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true);
    Ok(command)
}

/// What a program writes to its standard error.
fn log(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.log"))
}

/// An address that is free now.
fn free() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

#[cfg(test)]
mod tests;
