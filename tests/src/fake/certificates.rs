//! The certificates that a stand-in shows: the right one, or a wrong one when it misbehaves.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{Authority, Crowd, Misbehaviour};

/// The right certificate and the wrong ones.
pub(super) struct Certificates {
    names: Vec<String>,
    name_required: bool,
    right: Arc<CertifiedKey>,
    other_name: Arc<CertifiedKey>,
    other_authority: Arc<CertifiedKey>,
    expired: Arc<CertifiedKey>,
}

impl Certificates {
    pub(super) fn new(authority: &Authority, names: &[&str], name_required: bool) -> Self {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        Self {
            right: authority.certify(&names),
            other_name: authority.certify(&["another-name.example".to_owned()]),
            other_authority: Authority::new("Nobody's Root").certify(&names),
            expired: authority.certify_expired(&names),
            names,
            name_required,
        }
    }

    pub(super) fn config(&self, how: Option<Misbehaviour>, http2: bool) -> Arc<ServerConfig> {
        let crowded;
        let certificate = match how {
            Some(Misbehaviour::Crowded(crowd)) => {
                crowded = self.crowded(crowd);
                &crowded
            }
            Some(Misbehaviour::WrongName) => &self.other_name,
            Some(Misbehaviour::UntrustedAuthority) => &self.other_authority,
            Some(Misbehaviour::ExpiredCertificate) => &self.expired,
            Some(_) | None => &self.right,
        };
        let names = Names {
            known: self.names.clone(),
            name_required: self.name_required,
            certificate: Arc::clone(certificate),
        };
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("the provider has the default protocol versions")
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(names));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if http2 {
            config.alpn_protocols.insert(0, b"h2".to_vec());
        }
        Arc::new(config)
    }
}

impl Certificates {
    fn crowded(&self, crowd: Crowd) -> Arc<CertifiedKey> {
        let others = crowd.certificates();
        let others = others.iter().map(|other| other.der().clone());
        Arc::new(CertifiedKey {
            cert: self.right.cert.iter().cloned().chain(others).collect(),
            key: Arc::clone(&self.right.key),
            ocsp: None,
        })
    }
}

/// Shows the certificate; a greeting for a name that is not ours gets none.
#[derive(Debug)]
struct Names {
    known: Vec<String>,
    name_required: bool,
    certificate: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let known = match hello.server_name() {
            Some(name) => self.known.iter().any(|known| known == name),
            None => !self.name_required,
        };
        known.then(|| Arc::clone(&self.certificate))
    }
}
