//! Why a relay is not ready: the cause and its remedy are in `/readyz` and in its log at the first failure.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use anyhow::Context as _;
use countersign_tests::{
    environment::Environment,
    fake::TokenRequest,
    listener_files::ListenerFiles,
    process::{Program, admin, binary},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa};
use rstest::rstest;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    process::Command,
};
use tokio_rustls::TlsAcceptor;

use super::support::{StubGateway, TlsGateway};
use crate::harness::until;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A relay as a process of its own, whose log can be read.
struct RelayProcess {
    program: Program,
    health: SocketAddr,
}

impl RelayProcess {
    async fn start(gateway: &str, ca: &Path, token: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(binary()?);
        command
            .args(["relay", "--log", "json", "--gateway", gateway])
            .args(["--http", "127.0.0.1:0", "--redirected", "127.0.0.1:0"])
            .args(["--health", "127.0.0.1:0", "--gateway-ca"])
            .arg(ca)
            .arg("--token-file")
            .arg(token)
            .env_remove("RUST_LOG");
        let mut program = Program::start(command)?;
        let health = program.said(|printed| {
            let listening = event(printed, "listening")?;
            let addresses = listening["addresses"].as_str()?.trim_matches(['[', ']']);
            addresses.rsplit(", ").next()?.parse().ok()
        });
        let health = health.await?;
        Ok(Self { program, health })
    }

    async fn readiness(&self) -> String {
        admin(self.health, "/readyz").await.unwrap_or_default()
    }

    /// The cause in its log, and the sentence, which `/readyz` has too.
    async fn fault(&mut self) -> anyhow::Result<(String, String)> {
        let told = |printed: &str| {
            let event = event(printed, "the gateway fails")
                .or_else(|| event(printed, "the gateway has no address"))?;
            let text = |name: &str| event[name].as_str().map(str::to_owned);
            Some((text("cause")?, text("error")?))
        };
        let (cause, sentence) = self.program.said(told).await?;
        let readiness = self.readiness().await;
        anyhow::ensure!(readiness.starts_with("HTTP/1.1 503"), "{readiness}");
        anyhow::ensure!(readiness.contains(&sentence), "{sentence}: {readiness}");
        Ok((cause, sentence))
    }
}

fn event(printed: &str, message: &str) -> Option<Value> {
    let events = printed
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.into_iter().find(|event| event["message"] == message)
}

/// What stands where a gateway should be.
#[derive(Debug, Clone, Copy)]
enum Stand {
    Nobody,
    Silent,
    Leaves,
    Http,
    WantsCertificate,
    Certified(fn(&mut CertificateParams, &mut CertificateParams)),
    /// Its CA was made anew with the same name.
    Remade,
}

fn another_ca(ca: &mut CertificateParams, _: &mut CertificateParams) {
    ca.distinguished_name.push(DnType::CommonName, "another CA");
}

fn another_name(_: &mut CertificateParams, leaf: &mut CertificateParams) {
    *leaf = CertificateParams::new(vec!["gateway.example".to_owned()]).expect("a name");
}

fn expired(_: &mut CertificateParams, leaf: &mut CertificateParams) {
    leaf.not_after = rcgen::date_time_ymd(2020, 1, 1);
}

fn early(_: &mut CertificateParams, leaf: &mut CertificateParams) {
    leaf.not_before = rcgen::date_time_ymd(2090, 1, 1);
}

fn of_a_ca(_: &mut CertificateParams, leaf: &mut CertificateParams) {
    leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
}

#[rstest]
#[case::refused(Stand::Nobody, "connection-refused", "check that a gateway runs")]
#[case::silent(Stand::Silent, "tls-timeout", "listener with `tls`")]
#[case::cut(Stand::Leaves, "tls-cut", "listener with `tls`")]
#[case::clear(Stand::Http, "not-tls", "name a port whose listener has `tls`")]
#[case::client_certificate(
    Stand::WantsCertificate,
    "client-certificate-required",
    "give --certificate"
)]
#[case::ca(Stand::Certified(another_ca), "ca-unknown", "give --gateway-ca the CA")]
#[case::remade(Stand::Remade, "ca-replaced", "the CA was replaced")]
#[case::name(
    Stand::Certified(another_name),
    "certificate-name",
    "is for gateway.example, not for 127.0.0.1"
)]
#[case::expired(
    Stand::Certified(expired),
    "certificate-expired",
    "renew the gateway's listener certificate"
)]
#[case::early(
    Stand::Certified(early),
    "certificate-not-yet-valid",
    "compare the clocks"
)]
#[case::of_ca(
    Stand::Certified(of_a_ca),
    "certificate-of-ca",
    "issue a server certificate"
)]
#[tokio::test]
async fn readyz_and_the_log_say_why_a_gateway_does_not_serve(
    #[case] stand: Stand,
    #[case] cause: &str,
    #[case] remedy: &str,
) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let trusted = ListenerFiles::write(directory.path(), &[LOCALHOST])?;
    let theirs = tempfile::tempdir()?;
    let mut ca = trusted.ca.clone();
    let gateway = match stand {
        Stand::Nobody => TcpListener::bind((LOCALHOST, 0))
            .await?
            .local_addr()?
            .to_string(),
        Stand::Silent => {
            stands(|stream| async move {
                let _held = stream;
                std::future::pending::<()>().await;
            })
            .await?
        }
        Stand::Leaves => stands(|stream| async move { drop(stream) }).await?,
        Stand::Http => {
            stands(|mut stream| async move {
                // The client leaves after it.
                let _sent = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
                let _read = stream.read_to_end(&mut Vec::new()).await;
            })
            .await?
        }
        Stand::WantsCertificate => wants_certificate(&trusted).await?,
        Stand::Certified(change) => {
            let files = ListenerFiles::write_changed(theirs.path(), &[LOCALHOST], change)?;
            // Only the authority is another one.
            if cause != "ca-unknown" {
                ca.clone_from(&files.ca);
            }
            StubGateway::certified(files).await.name().to_string()
        }
        Stand::Remade => {
            let files = ListenerFiles::write(theirs.path(), &[LOCALHOST])?;
            StubGateway::certified(files).await.name().to_string()
        }
    };
    let token = directory.path().join("token");
    fs::write(&token, "a.b.c")?;
    let mut relay = RelayProcess::start(&gateway, &ca, &token).await?;
    let (told, sentence) = relay.fault().await?;
    assert_eq!(told, cause, "{sentence}");
    assert!(sentence.contains(remedy), "{sentence}");
    Ok(())
}

#[tokio::test]
async fn readyz_and_the_log_say_that_a_name_cannot_be_resolved() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let files = ListenerFiles::write(directory.path(), &[LOCALHOST])?;
    let token = directory.path().join("token");
    fs::write(&token, "a.b.c")?;
    let mut relay = RelayProcess::start("gateway.invalid:3129", &files.ca, &token).await?;
    let (cause, sentence) = relay.fault().await?;
    // A machine without any name server is told after a timeout.
    assert!(cause.starts_with("name-"), "{cause}");
    assert!(sentence.contains("the pod's DNS"), "{sentence}");
    let readiness = relay.readiness().await;
    assert!(readiness.contains("gateway.invalid:3129"), "{readiness}");
    Ok(())
}

#[tokio::test]
async fn a_pod_that_the_gateway_refuses_is_not_ready_and_learns_why_and_recovers()
-> anyhow::Result<()> {
    let env = Environment::start().await?;
    let mut gateway = TlsGateway::start(&env).await;
    let token = env.directory().join("pods-token");
    let mut other = TokenRequest::new("qa", "nightly-dashboard");
    other.audiences = vec!["another".to_owned()];
    fs::write(&token, env.issuer.mint(&other))?;
    let name = gateway.name().to_string();
    let mut relay = RelayProcess::start(&name, &gateway.ca, &token).await?;
    let (cause, sentence) = relay.fault().await?;
    assert_eq!(cause, "identity_audience", "{sentence}");
    assert!(sentence.starts_with("refuses this pod: 407"), "{sentence}");
    assert!(
        sentence.contains("Project the token with the audience"),
        "{sentence}"
    );
    let record = gateway.gateway.decisions().next().await;
    let id = record["id"].as_str().context("a record has an id")?;
    assert!(sentence.contains(id), "{sentence} without {id}");
    // Neither printed nor told.
    let secret = fs::read_to_string(&token)?;
    assert!(!relay.program.printed().contains(&secret));

    fs::write(&token, env.token("qa", "nightly-dashboard"))?;
    until("the relay to be ready", async || {
        relay.readiness().await.starts_with("HTTP/1.1 200")
    })
    .await
}

#[tokio::test]
async fn a_token_that_is_missing_is_told_with_what_else_is_wrong() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let files = ListenerFiles::write(directory.path(), &[LOCALHOST])?;
    let nobody = TcpListener::bind((LOCALHOST, 0)).await?.local_addr()?;
    let token = directory.path().join("token");
    let mut relay = RelayProcess::start(&nobody.to_string(), &files.ca, &token).await?;
    relay.fault().await?;
    let unproven = relay
        .program
        .said(|printed| event(printed, "cannot show who this pod is"));
    let unproven = unproven.await?;
    assert_eq!(unproven["reason"], "relay-token-unusable", "{unproven}");
    let readiness = relay.readiness().await;
    for line in [
        "does not exist: mount the pod's projected token",
        "connection was refused",
    ] {
        assert!(readiness.contains(line), "{line}: {readiness}");
    }
    Ok(())
}

async fn stands<F>(serve: fn(tokio::net::TcpStream) -> F) -> anyhow::Result<String>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((LOCALHOST, 0)).await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    Ok(address)
}

/// A TLS server that takes nobody without a certificate of its own authority.
async fn wants_certificate(files: &ListenerFiles) -> anyhow::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.ca)?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients.build()?)
        .with_single_cert(
            vec![CertificateDer::from_pem_file(&files.certificate)?],
            PrivateKeyDer::from_pem_file(&files.key)?,
        )?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((LOCALHOST, 0)).await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // It fails for want of a certificate.
            drop(acceptor.accept(stream).await);
        }
    });
    Ok(address)
}
