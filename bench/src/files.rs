//! The files of one run: the stand-in's certificate, and the gateway's configuration.

use std::{
    fs,
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use countersign_core::clock::Clock;
use countersign_tests::fake::{Authority, Issuer, TokenRequest};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;

/// The API's name.
pub(crate) const HOST: &str = "api.bench.test";

/// Names that nothing has seen before, as many as there are numbers.
pub(crate) fn name(number: usize) -> String {
    format!("n{number}.bench.test")
}

/// How many of them the stand-in answers to.
pub(crate) const NAMES: usize = 250;

/// The port that its name implies.
pub(crate) const OWN_PORT: u16 = 443;

/// The stand-in's certificate chain, PEM.
pub(crate) const CERTIFICATE: &str = "upstream.pem";
/// The key of that.
pub(crate) const KEY: &str = "upstream.key";
/// The real credential, in a file that the gateway and the stand-in read.
pub(crate) const CREDENTIAL: &str = "credential";
/// Its value. The load through the gateway never sends it.
pub(crate) const REAL: &str = "the-real-credential-of-this-bench";

const ROOTS: &str = "roots.pem";

/// The certificate authority of an intercepting peer, PEM.
pub(crate) const AUTHORITY: &str = "peer-ca.pem";
/// The key of that.
pub(crate) const AUTHORITY_KEY: &str = "peer-ca.key";

/// The files of one run, deleted at its end.
pub(crate) struct Files {
    directory: TempDir,
    /// The service account's token, which the load through the gateway holds.
    pub(crate) token: String,
}

/// The gateway's addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    /// Where the stand-in listens.
    pub(crate) upstream: SocketAddr,
    /// Where the gateway is to listen.
    pub(crate) proxy: SocketAddr,
    /// Where its admin endpoint is to listen.
    pub(crate) admin: SocketAddr,
}

impl Files {
    /// Writes what the stand-in needs, and a token issuer's keys.
    pub(crate) async fn new() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("countersign-bench-")
            .tempdir()?;
        let path = directory.path();
        let issuer = Issuer::start(&Authority::new("Bench Issuer Root"), Clock::system()).await?;
        issuer.write_jwks(&path.join("jwks.json"))?;
        fs::write(path.join("issuer"), issuer.url())?;
        fs::write(path.join(CREDENTIAL), REAL)?;
        certify(path)?;
        Ok(Self {
            token: issuer.mint(&TokenRequest::new("bench", "load")),
            directory,
        })
    }

    /// The directory of all of them.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What vouches for the stand-in.
    pub(crate) fn upstream_roots(&self) -> PathBuf {
        self.directory().join(ROOTS)
    }

    /// What vouches for the gateway's leaf certificates, once it has started.
    pub(crate) fn gateway_roots(&self) -> PathBuf {
        self.directory().join("ca").join("root.pem")
    }

    /// The gateway's process log.
    pub(crate) fn process_log(&self) -> PathBuf {
        self.directory().join("gateway.log")
    }

    /// Writes the gateway's configuration and gives its path.
    pub(crate) fn write_gateway(&self, addresses: &Addresses) -> anyhow::Result<PathBuf> {
        let issuer = fs::read_to_string(self.directory().join("issuer"))?;
        let resolve = |name: &str| format!("      \"{name}:443\": \"{}\"\n", addresses.upstream);
        let mut resolved = resolve(HOST);
        resolved.extend((0..NAMES).map(|number| resolve(&name(number))));
        let fill = |text: &str| {
            text.replace("{resolved}", resolved.trim_end())
                .replace("{root}", &self.directory().display().to_string())
                .replace("{issuer}", &issuer)
                .replace("{proxy}", &addresses.proxy.to_string())
                .replace("{admin}", &addresses.admin.to_string())
        };
        let policy = self.directory().join("policy");
        fs::create_dir_all(&policy)?;
        fs::write(policy.join("bench.yaml"), fill(RESOURCES))?;
        let gateway = self.directory().join("gateway.yaml");
        fs::write(&gateway, fill(GATEWAY))?;
        Ok(gateway)
    }

    /// Adds so many policies, three for each workload, none of which is the load's; a `change` makes
    /// their texts differ.
    pub(crate) fn write_many(&self, policies: usize, change: usize) -> io::Result<()> {
        let mut text = String::new();
        for number in 0..policies {
            if number % 3 == 0 {
                text += &MANY_WORKLOAD.replace("{number}", &number.to_string());
            }
            text += &MANY_POLICY
                .replace("{workload}", &(number / 3 * 3).to_string())
                .replace("{number}", &number.to_string())
                .replace("{change}", &change.to_string());
        }
        // As an editor does, so that no half of it is ever read.
        let new = self.directory().join("many.new");
        fs::write(&new, text)?;
        fs::rename(new, self.directory().join("policy").join("many.yaml"))
    }
}

/// Writes to standard output.
pub(crate) fn say(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// A certificate authority for a peer that intercepts, and its key.
pub(crate) fn write_authority(directory: &Path) -> anyhow::Result<()> {
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    root.distinguished_name
        .push(DnType::CommonName, "Bench Peer Root");
    let key = KeyPair::generate()?;
    let certificate = root.self_signed(&key)?;
    fs::write(directory.join(AUTHORITY), certificate.pem())?;
    fs::write(directory.join(AUTHORITY_KEY), key.serialize_pem())?;
    Ok(())
}

/// A root and the stand-in's certificate.
fn certify(directory: &Path) -> anyhow::Result<()> {
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    root.distinguished_name
        .push(DnType::CommonName, "Bench Root");
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new([HOST.to_owned(), "*.bench.test".to_owned()])?;
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = leaf.signed_by(&key, &root)?;
    fs::write(directory.join(ROOTS), root.pem())?;
    fs::write(directory.join(CERTIFICATE), leaf.pem())?;
    fs::write(directory.join(KEY), key.serialize_pem())?;
    Ok(())
}

const GATEWAY: &str = r#"apiVersion: countersign.dev/v1alpha1
kind: Gateway
metadata: { name: bench }
spec:
  listeners:
    - { name: proxy, address: "{proxy}", mode: explicit }
  identity:
    issuers:
      - name: bench
        issuer: "{issuer}"
        audience: countersign
        jwks: { file: "{root}/jwks.json" }
  resources:
    - directory: "{root}/policy"
  interception:
    ca: { directory: "{root}/ca" }
  state: { directory: "{root}/state" }
  upstream:
    roots: "{root}/roots.pem"
    resolve:
{resolved}
  observe:
    decisions: { file: "{root}/decisions.jsonl" }
    admin: "{admin}"
"#;

const RESOURCES: &str = r#"apiVersion: countersign.dev/v1alpha1
kind: TargetService
metadata: { name: bench }
spec:
  hosts: [api.bench.test, "n*.bench.test"]
  slots: { default: token, names: [token] }
  routes:
    - host: api.bench.test
      attach: { slot: token, header: Authorization, value: "Bearer {token}" }
    - host: "n*.bench.test"
      attach: { slot: token, header: Authorization, value: "Bearer {token}" }
---
apiVersion: countersign.dev/v1alpha1
kind: Workload
metadata: { name: load, namespace: bench }
spec:
  owner: bench@example.com
  purpose: Makes the load
  match:
    - { cluster: bench, serviceAccount: load }
---
apiVersion: countersign.dev/v1alpha1
kind: Credential
metadata: { name: token, namespace: bench }
spec:
  target: bench
  static:
    token: { file: "{root}/credential" }
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: load, namespace: bench }
spec:
  owner: bench@example.com
  workloads: [load]
  target: bench
  credential: token
  allow:
    - methods: [GET]
      paths: [/small, "/download/*"]
    - methods: [POST]
      paths: [/upload]
  conditions:
    schedule: { cron: "0 0 * * *", duration: 24h, timeZone: Europe/Berlin }
    rate: 1000000/s
"#;

const MANY_WORKLOAD: &str = r"---
apiVersion: countersign.dev/v1alpha1
kind: Workload
metadata: { name: w{number}, namespace: bench }
spec:
  owner: bench@example.com
  purpose: One of many
  match:
    - { cluster: bench, serviceAccount: w{number} }
";

const MANY_POLICY: &str = r#"---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: p{number}, namespace: bench }
spec:
  owner: bench@example.com
  workloads: [w{workload}]
  target: bench
  credential: token
  allow:
    - methods: [GET]
      paths: ["/p{number}/{change}/*"]
"#;

#[cfg(test)]
mod tests {
    use countersign_config::load;

    use super::*;

    #[tokio::test]
    async fn the_gateway_can_load_what_is_written() {
        // The process has one provider; another test may have installed it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let files = Files::new().await.unwrap();
        let addresses = Addresses {
            upstream: "127.0.0.1:1".parse().unwrap(),
            proxy: "127.0.0.1:2".parse().unwrap(),
            admin: "127.0.0.1:3".parse().unwrap(),
        };
        let gateway = files.write_gateway(&addresses).unwrap();
        let (gateway, _) = load::gateway(&gateway).unwrap();
        assert_eq!(gateway.listeners[0].address, addresses.proxy);
        let loaded = load::resources(&[files.directory().join("policy")]).unwrap();
        assert_eq!(loaded.policies.policies().len(), 1);
        files.write_many(7, 0).unwrap();
        let loaded = load::resources(&[files.directory().join("policy")]).unwrap();
        assert_eq!(loaded.policies.policies().len(), 8);
    }
}
