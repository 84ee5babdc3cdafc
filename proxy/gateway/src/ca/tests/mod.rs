//! The CA against verifiers that are not ours: webpki, OpenSSL, Python.

mod chain;
mod files;
mod life;
mod resumption;
mod signed;
mod tools;

use std::{path::Path, sync::Arc, time::Duration};

use countersign_config::host::{Host, HostPattern};
use jiff::Timestamp;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection,
    time_provider::TimeProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use tempfile::TempDir;

use super::*;

/// The start of the tests' time.
fn start() -> Timestamp {
    "2026-11-23T05:10:00Z".parse().unwrap()
}

fn host(text: &str) -> Host {
    Host::parse(text).unwrap()
}

fn constrain(ca: &Ca, hosts: &[&str]) -> Result<(), CaError> {
    let patterns: Vec<_> = hosts
        .iter()
        .map(|text| HostPattern::parse(text).unwrap())
        .collect();
    ca.constrain(patterns.iter())
}

/// A CA in a directory of its own, with a clock that stands still.
struct Fixture {
    directory: TempDir,
    clock: Clock,
    ca: Arc<Ca>,
}

impl Fixture {
    fn new(hosts: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::manual(start());
        let ca = Ca::open_or_create(directory.path(), clock.clone(), 100).unwrap();
        let ca = Arc::new(ca);
        constrain(&ca, hosts).unwrap();
        Self {
            directory,
            clock,
            ca,
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn forward(&self, by: SignedDuration) {
        self.clock.set(self.clock.now() + by);
    }

    /// A client that trusts our root alone and lives in our time.
    fn client(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.ca.root_pem().as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let time = Arc::new(ClockTime(self.clock.clone()));
        let mut config = ClientConfig::builder_with_details(provider, time)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    /// Shakes hands with whatever answers for `host`, asking for the same.
    fn greet(&self, name: &str) -> Result<Session, rustls::Error> {
        let server = self.ca.leaf(&host(name)).unwrap();
        handshake(self.client().into(), server, name)
    }
}

#[derive(Debug)]
struct ClockTime(Clock);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = self.0.now().as_second().try_into().unwrap();
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// What a client knows after a handshake that it accepted.
#[derive(Debug)]
struct Session {
    chain: Vec<CertificateDer<'static>>,
    kind: HandshakeKind,
    alpn: Option<Vec<u8>>,
}

/// A TLS handshake in memory; the error is the client's, if it has one.
fn handshake(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: &str,
) -> Result<Session, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    while client.is_handshaking() || server.is_handshaking() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(Session {
        chain: client
            .peer_certificates()
            .unwrap()
            .iter()
            .cloned()
            .map(CertificateDer::into_owned)
            .collect(),
        kind: client.handshake_kind().unwrap(),
        alpn: client.alpn_protocol().map(<[u8]>::to_vec),
    })
}
