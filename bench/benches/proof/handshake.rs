//! The gateway's side of a TLS handshake, in memory.

use std::{hint::black_box, sync::Arc};

use countersign_config::{
    model::{BundleSource, TrustDomain},
    spiffe::TrustDomainName,
};
use countersign_core::clock::Clock;
use countersign_identity::Identifier;
use countersign_tests::fake::Authority;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    server::WebPkiClientVerifier, server::danger::ClientCertVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::time::Instant;

use super::{
    chains::{self, DOMAIN, Root, Shown},
    report,
};

pub(crate) fn measure() {
    let root = Root::new();
    let directory = tempfile::tempdir().expect("a directory");
    let bundle = directory.path().join("bundle.pem");
    std::fs::write(&bundle, root.pem()).expect("a file");
    let domain = TrustDomain {
        name: TrustDomainName::parse(DOMAIN).expect("a name"),
        bundle: BundleSource::File(bundle),
    };
    let identifier = Identifier::new(&[], Clock::system()).expect("no issuer is needed");
    let identifier = identifier
        .with_trust_domains(&[domain])
        .expect("it is good");
    let ours = Server::new(identifier.trust_domains().verifier());
    ours.report("TLS handshake, no certificate", None);
    for (what, shown) in [
        ("one certificate, good", root.svid(Vec::new())),
        ("six, good, 16 KiB", root.svid(chains::fillers())),
        ("one, 1,700 names, 16 KiB", root.crowded_leaf()),
        ("six look-alikes, refused", Root::look_alikes()),
        ("201, refused", Root::crowd()),
    ] {
        ours.report(&format!("TLS handshake, {what}"), Some(&shown));
    }
    // What the library alone makes of it.
    let mut roots = RootCertStore::empty();
    let pem = root.pem();
    roots
        .add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM"))
        .expect("a root");
    let unbounded = WebPkiClientVerifier::builder(Arc::new(roots))
        .build()
        .expect("a root");
    Server::new(unbounded).report("the same without bounds, 201", Some(&Root::crowd()));

    let six = root.svid(chains::fillers());
    report(
        "certificate of a known session, six, 16 KiB",
        || (),
        |()| {
            drop(black_box(
                identifier.by_svid(&six.chain).expect("it is good"),
            ));
        },
    );
}

struct Server {
    config: Arc<ServerConfig>,
    roots: Arc<RootCertStore>,
}

impl Server {
    fn new(clients: Arc<dyn ClientCertVerifier>) -> Self {
        let authority = Authority::new("Bench Root");
        let (certificate, key) = authority.issue(&["proxy.example"]);
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("PEM");
        roots.add(root).expect("a root");
        let config = ServerConfig::builder()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate], key);
        Self {
            config: Arc::new(config.expect("a pair")),
            roots: Arc::new(roots),
        }
    }

    fn report(&self, what: &str, shown: Option<&Shown>) {
        let builder = ClientConfig::builder().with_root_certificates(Arc::clone(&self.roots));
        let mut client = match shown {
            None => builder.with_no_client_auth(),
            Some(shown) => builder
                .with_client_auth_cert(shown.chain.clone(), shown.key.clone_key())
                .expect("a pair"),
        };
        client.resumption = rustls::client::Resumption::disabled();
        let client = Arc::new(client);
        // The client's part is taken out of the time by doing it beforehand, message by message.
        let mut taken = Vec::new();
        let begin = Instant::now();
        while taken.len() < 3 || begin.elapsed() < super::TRIED {
            taken.push(self.handshake(&client));
        }
        taken.sort();
        let median = taken[taken.len() / 2];
        super::print(what, median);
    }

    /// The time that the server's side takes, whether it accepts or refuses.
    fn handshake(&self, client: &Arc<ClientConfig>) -> std::time::Duration {
        let name = ServerName::try_from("proxy.example").expect("a name");
        let mut client = ClientConnection::new(Arc::clone(client), name).expect("a client");
        let start = Instant::now();
        let mut server = ServerConnection::new(Arc::clone(&self.config)).expect("a server");
        let mut taken = start.elapsed();
        let mut wire = Vec::new();
        loop {
            wire.clear();
            while client.wants_write() {
                client.write_tls(&mut wire).expect("a vector takes all");
            }
            if wire.is_empty() {
                return taken;
            }
            let start = Instant::now();
            let accepted = receive(&mut server, &wire);
            let mut answer = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut answer).expect("a vector takes all");
            }
            taken += start.elapsed();
            let mut unread = &answer[..];
            while !unread.is_empty() {
                client.read_tls(&mut unread).expect("a slice is read");
                if client.process_new_packets().is_err() {
                    return taken;
                }
            }
            if !accepted {
                return taken;
            }
        }
    }
}

fn receive(server: &mut ServerConnection, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        server.read_tls(&mut bytes).expect("a slice is read");
        if server.process_new_packets().is_err() {
            return false;
        }
    }
    true
}
