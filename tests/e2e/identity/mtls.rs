//! Clients that prove themselves by certificate: on a TLS listener, with X.509-SVIDs.

mod agent;
mod clients;
mod refused;
mod rotation;

use std::{fs, io, net::SocketAddr, path::PathBuf, sync::Arc};

use bytes::Bytes;
use countersign_config::{
    model::{self, BundleSource, ClientTrust, ListenerTls},
    spiffe::TrustDomainName,
};
use countersign_core::clock::Clock;
use countersign_tests::{
    environment::{DASHBOARD, DASHBOARD_FILE, Environment},
    fake::{Pair, TrustDomain},
};
use http::{Request, StatusCode, header::PROXY_AUTHORIZATION};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jiff::SignedDuration;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::harness::TestBed;

const DOMAIN: &str = "prod.example.com";
pub(crate) const PATH: &str = "/ns/qa/sa/nightly-dashboard";
const ID: &str = "spiffe://prod.example.com/ns/qa/sa/nightly-dashboard";

/// A gateway that listens by TLS and knows one trust domain.
pub(crate) struct Mesh {
    pub(crate) bed: TestBed,
    pub(crate) domain: TrustDomain,
    /// Who vouches for the gateway's own certificate.
    servers: TrustDomain,
}

impl Mesh {
    pub(crate) async fn start() -> Self {
        Self::at(Clock::system()).await
    }

    async fn at(clock: Clock) -> Self {
        Self::with(clock, |_| {}).await
    }

    async fn with(clock: Clock, change: impl FnOnce(&mut model::Gateway)) -> Self {
        let domain = TrustDomain::new(DOMAIN, clock.clone());
        // Clients check it by the machine's clock.
        let servers = TrustDomain::new("servers.example.com", Clock::system());
        let bed = TestBed::builder().clock(&clock).prepare(|env, gateway| {
            let file = |name: &str| env.directory().join(name);
            fs::write(file("servers.pem"), servers.pem())?;
            fs::write(file("tls.pem"), servers.server().credential_bundle())?;
            publish(env, "1", &domain.bundle());
            env.edit_policy(DASHBOARD_FILE, |policy| {
                policy.workload(DASHBOARD)["match"] = json!([
                    {"spiffeId": ID},
                    {"cluster": "prod-eu", "serviceAccount": DASHBOARD},
                ]);
            })?;
            gateway.listeners[0].tls = Some(ListenerTls::of_files(
                file("tls.pem"),
                file("tls.pem"),
                ClientTrust::Spiffe,
            ));
            gateway.trust_domains = vec![model::TrustDomain {
                name: TrustDomainName::parse(DOMAIN).expect("a name"),
                bundle: BundleSource::File(file("bundle/bundle")),
            }];
            change(gateway);
            Ok(())
        });
        Self {
            bed: bed.start().await.expect("the gateway starts"),
            domain,
            servers,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.bed.env.directory().join(name)
    }

    pub(crate) fn client(&self, pair: Option<&Pair>) -> Client {
        Client::new(self.bed.gateway.address(), &self.servers.pem(), pair)
    }
}

/// Writes the bundle as Kubernetes mounts a `ConfigMap`: a new directory, then a link swapped.
fn publish(env: &Environment, generation: &str, bundle: &str) {
    let mount = env.directory().join("bundle");
    let data = mount.join(format!("..{generation}"));
    fs::create_dir_all(&data).expect("created");
    fs::write(data.join("bundle"), bundle).expect("written");
    let link = |to: &str, at: &str| {
        std::os::unix::fs::symlink(to, mount.join("..new")).expect("linked");
        fs::rename(mount.join("..new"), mount.join(at)).expect("swapped");
    };
    link(&format!("..{generation}"), "..data");
    if !mount.join("bundle").exists() {
        link("..data/bundle", "bundle");
    }
}

/// A client of the proxy's TLS listener, with or without a certificate.
#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Client {
    fn new(address: SocketAddr, roots: &str, pair: Option<&Pair>) -> Self {
        let mut trusted = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
            trusted.add(root.expect("PEM")).expect("a root");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_root_certificates(trusted);
        let tls = match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes());
                let chain = chain.collect::<Result<_, _>>().expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        Self {
            address,
            tls: Arc::new(tls),
        }
    }

    pub(crate) async fn tls(&self) -> io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.address).await?;
        let name = ServerName::from(self.address.ip());
        TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, tcp)
            .await
    }

    pub(crate) async fn open(&self) -> anyhow::Result<Connection> {
        let (sender, connection) = http1::handshake(TokioIo::new(self.tls().await?)).await?;
        tokio::spawn(connection);
        Ok(Connection(sender))
    }

    pub(crate) async fn ask(&self, token: Option<&str>) -> anyhow::Result<(StatusCode, String)> {
        self.open().await?.ask(token).await
    }
}

/// A connection to the proxy.
pub(crate) struct Connection(http1::SendRequest<Empty<Bytes>>);

impl Connection {
    /// Asks Slack who one is, in absolute form.
    pub(crate) async fn ask(
        &mut self,
        token: Option<&str>,
    ) -> anyhow::Result<(StatusCode, String)> {
        let mut request =
            Request::post("https://slack.com/api/auth.test").header("host", "slack.com");
        if let Some(token) = token {
            request = request.header(PROXY_AUTHORIZATION, format!("Bearer {token}"));
        }
        self.0.ready().await?;
        let response = self.0.send_request(request.body(Empty::new())?).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

fn hours(count: i64) -> SignedDuration {
    SignedDuration::from_hours(count)
}

#[tokio::test]
async fn a_certificate_alone_proves_the_caller() -> anyhow::Result<()> {
    let mut mesh = Mesh::start().await;
    let svid = mesh.domain.svid(PATH);
    let (status, body) = mesh.client(Some(&svid)).ask(None).await?;
    assert!(
        status.is_success() && body.contains("\"ok\":true"),
        "{body}"
    );
    let record = mesh.bed.record().await?;
    let caller = &record["caller"];
    assert_eq!(record["outcome"], "permitted", "{record}");
    assert_eq!(record["workload"]["name"], "qa/nightly-dashboard");
    assert_eq!(caller["proof"], "x509-svid");
    assert_eq!(caller["issuer"], DOMAIN);
    assert_eq!(caller["subject"], ID);
    let serial = caller["token_id"].as_str().unwrap_or_default();
    assert!(serial.len() >= 16, "{serial} is no serial number");
    Ok(())
}

#[tokio::test]
async fn another_workload_of_the_trust_domain_is_not_this_one() -> anyhow::Result<()> {
    let mut mesh = Mesh::start().await;
    let svid = mesh.domain.svid("/ns/qa/sa/nightly-dashboard2");
    mesh.client(Some(&svid)).ask(None).await?;
    let record = mesh.bed.record().await?;
    assert_eq!(record["reason"], "workload_unknown", "{record}");
    assert_eq!(mesh.bed.env.slack.received().count(), 0);
    Ok(())
}

#[tokio::test]
async fn token_and_certificate_must_name_the_same_workload() -> anyhow::Result<()> {
    let mut mesh = Mesh::start().await;
    let own = mesh.bed.env.token("qa", "nightly-dashboard");
    let others = mesh.bed.env.token("qa", "release-bot");
    let elsewhere = mesh.bed.env.token("prod", "nightly-dashboard");
    let same = mesh.domain.svid(PATH);
    let plain = mesh.domain.svid("/nightly-dashboard");
    for (svid, token, reason, proof) in [
        (
            Some(&same),
            Some(&*own),
            "permitted",
            "service-account-token",
        ),
        (None, Some(&own), "permitted", "service-account-token"),
        (Some(&same), None, "permitted", "x509-svid"),
        (Some(&same), Some(&others), "identity_mismatch", ""),
        (Some(&same), Some(&elsewhere), "identity_mismatch", ""),
        (Some(&plain), Some(&own), "identity_mismatch", ""),
        // One good proof does not make up for a bad one.
        (Some(&same), Some("nonsense"), "identity_malformed", ""),
        (None, None, "identity_missing", ""),
    ] {
        let (status, body) = mesh.client(svid).ask(token).await?;
        let record = mesh.bed.record().await?;
        assert_eq!(record["reason"], reason, "{record}");
        assert_eq!(
            record["caller"]["proof"].as_str().unwrap_or_default(),
            proof
        );
        // Both are proven, and it is final: in the language of Slack, with its status.
        let is_mismatch = reason == "identity_mismatch";
        let expected = if proof.is_empty() && !is_mismatch {
            407
        } else {
            200
        };
        assert_eq!(
            body.contains("\"error\":\"identity_mismatch\""),
            is_mismatch
        );
        assert_eq!(status.as_u16(), expected, "{body}");
    }
    Ok(())
}
