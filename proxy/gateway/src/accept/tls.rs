//! A listener's own certificate, reloaded when its files change, and whether it asks for those of
//! its clients.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwapOption;
use countersign_config::model::{CertificateSource, ClientTrust, ListenerTls};
use countersign_core::{certificate::Validity, files, tls_error};
use countersign_identity::TrustDomains;
use countersign_pki::CaKey;
use jiff::Timestamp;
use rustls::{ServerConfig, server::danger::ClientCertVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use zeroize::Zeroizing;

/// Why a listener's certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {}", path.display(), files::reason(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} holds no PEM {what}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// Certificate and key do not belong together, or are of a kind that is not accepted.
    #[error(
        "the certificate in {} and its key in {} cannot be used: {}",
        path.display(), key.display(), tls_error::sentence(source)
    )]
    Pair {
        /// The certificate's file.
        path: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// The TLS library's reason.
        source: rustls::Error,
    },
    /// What a signer sent is not this listener's, or not valid.
    #[error("the signer {signer} sent a certificate that cannot be used: {reason}")]
    Signed {
        /// Its name.
        signer: String,
        /// What is wrong.
        reason: String,
    },
    /// A certificate cannot be parsed.
    #[error("a certificate in {} cannot be parsed", .0.display())]
    Damaged(PathBuf),
    /// The new certificate is not valid now, and the one in force is.
    #[error("the new certificate in {} {stands}", path.display())]
    NotValid {
        /// The certificate's file.
        path: PathBuf,
        /// Its validity, as a sentence.
        stands: String,
    },
}

/// A listener's certificate and key in force.
#[derive(Debug)]
pub struct ListenerCertificate {
    source: CertificateSource,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    /// `None` until a signer has signed one.
    loaded: ArcSwapOption<Loaded>,
    /// Why the newest one is not in force.
    refused: ArcSwapOption<String>,
}

/// What a listener shows, and when that is valid.
#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    validity: Validity,
}

impl ListenerCertificate {
    /// Loads certificate and key, if they are in files; else there is none until a signer has signed it. If the listener
    /// asks for client certificates, they are those of `trusted`.
    ///
    /// # Errors
    /// When either cannot be read or they do not belong together.
    pub fn load(tls: &ListenerTls, trusted: &Arc<TrustDomains>) -> Result<Self, TlsError> {
        let clients = match tls.client_trust {
            ClientTrust::None => None,
            ClientTrust::Spiffe => Some(trusted.verifier()),
        };
        let (loaded, refused) = match &tls.source {
            CertificateSource::Files { certificate, key } => {
                (Some(read(certificate, key, clients.clone())?), None)
            }
            CertificateSource::Signer { signer, .. } => {
                (None, Some(format!("{signer} has not signed it yet")))
            }
        };
        Ok(Self {
            loaded: ArcSwapOption::from_pointee(loaded),
            refused: ArcSwapOption::from_pointee(refused),
            source: tls.source.clone(),
            clients,
        })
    }

    /// The configuration in force; `None` until a signer has signed the certificate.
    pub fn config(&self) -> Option<Arc<ServerConfig>> {
        Some(Arc::clone(&self.loaded.load().as_ref()?.config))
    }

    /// When the certificate in force is valid.
    pub fn validity(&self) -> Option<Validity> {
        Some(self.loaded.load().as_ref()?.validity)
    }

    /// Why the newest certificate is not in force, if it is not.
    pub fn refused(&self) -> Option<Arc<String>> {
        self.refused.load_full()
    }

    /// Where the certificate comes from, for people: its file or its signer.
    pub fn place(&self) -> String {
        match &self.source {
            CertificateSource::Files { certificate, .. } => certificate.display().to_string(),
            CertificateSource::Signer { signer, .. } => signer.clone(),
        }
    }

    /// The files it was loaded from.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let files = match &self.source {
            CertificateSource::Files { certificate, key } => Some([&**certificate, &**key]),
            CertificateSource::Signer { .. } => None,
        };
        files.into_iter().flatten()
    }

    /// Puts a certificate into force that was signed for `key`: the chain, PEM, with the root last.
    ///
    /// # Errors
    /// When it is not the key's, or not valid now. What was in force stays so.
    pub(crate) fn take_signed(
        &self,
        chain: &[u8],
        key: &CaKey,
        now: Timestamp,
    ) -> Result<Validity, TlsError> {
        let unusable = |reason: String| TlsError::Signed {
            signer: self.place(),
            reason,
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let mut chain = chain.map_err(|_| unusable("it is no PEM".to_owned()))?;
        // Clients have the root.
        if chain.len() > 1 {
            chain.pop();
        }
        let validity = Validity::of_chain(&chain);
        let validity = validity.ok_or_else(|| unusable("it cannot be parsed".to_owned()))?;
        if !validity.standing(now).is_valid() {
            return Err(unusable(format!("it {}", validity.sentence(now))));
        }
        let config = server_config(chain, key.to_der(), self.clients.clone())
            .map_err(|error| unusable(tls_error::sentence(&error)))?;
        let config = Arc::new(config);
        self.loaded
            .store(Some(Arc::new(Loaded { config, validity })));
        self.refused.store(None);
        Ok(validity)
    }

    /// Says why a signer has not signed another.
    pub(crate) fn not_signed_because(&self, why: &str) {
        self.refused.store(Some(Arc::new(why.to_owned())));
    }

    /// Loads the files again. The old certificate stays in force if they cannot be used, or if it is valid now and
    /// the new one is not: every client would refuse that.
    ///
    /// # Errors
    /// As for [`Self::load`], and when the new certificate is not valid.
    pub fn reload(&self, now: Timestamp) -> Result<(), TlsError> {
        let CertificateSource::Files { certificate, key } = &self.source else {
            return Ok(());
        };
        let result = self.take(certificate, key, now);
        let refused = result
            .as_ref()
            .err()
            .map(|error| Arc::new(error.to_string()));
        self.refused.store(refused);
        result
    }

    fn take(&self, certificate: &Path, key: &Path, now: Timestamp) -> Result<(), TlsError> {
        let loaded = read(certificate, key, self.clients.clone())?;
        let is_valid = |validity: Validity| validity.standing(now).is_valid();
        if self.validity().is_some_and(is_valid) && !is_valid(loaded.validity) {
            return Err(TlsError::NotValid {
                path: certificate.to_owned(),
                stands: loaded.validity.sentence(now),
            });
        }
        self.loaded.store(Some(Arc::new(loaded)));
        Ok(())
    }

    /// Why a client ended the handshake, if the certificate of this listener is the cause: the client says so, or the
    /// certificate is not valid now.
    pub(super) fn is_blamed_by(&self, error: &io::Error, now: Timestamp) -> Option<String> {
        let validity = self.validity()?;
        let said = match tls_error::find(error) {
            Some(rustls::Error::AlertReceived(alert))
                if tls_error::is_about_certificate(*alert) =>
            {
                format!(" says that {}", tls_error::alert(*alert))
            }
            Some(_) => return None,
            None if validity.standing(now).is_valid() => return None,
            None => " left within the TLS handshake".to_owned(),
        };
        let file = self.place();
        let stands = validity.sentence(now);
        Some(format!(
            "the client{said}; this listener's certificate in {file} {stands}; a client needs the CA that issued it (of a relay, --gateway-ca), and a name in it"
        ))
    }
}

/// Checks that a listener's files can be used: they can be read, and certificate and key belong together.
///
/// # Errors
/// When they cannot.
pub fn check(certificate: &Path, key: &Path) -> Result<Validity, TlsError> {
    Ok(read(certificate, key, None)?.validity)
}

/// Kubernetes' pod certificates come as one file with key and chain. It is read once: between two
/// readings it might be replaced.
fn read(
    path: &Path,
    key_path: &Path,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<Loaded, TlsError> {
    let certificate = Zeroizing::new(bytes(path)?);
    let key = if key_path == path {
        Zeroizing::clone(&certificate)
    } else {
        Zeroizing::new(bytes(key_path)?)
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&certificate)
        .collect::<Result<_, _>>()
        .map_err(|_| pem(path, "certificate chain"))?;
    if chain.is_empty() {
        return Err(pem(path, "certificate chain"));
    }
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| pem(key_path, "private key"))?;
    let validity = Validity::of_chain(&chain);
    let validity = validity.ok_or_else(|| TlsError::Damaged(path.to_owned()))?;
    let config = server_config(chain, key, clients).map_err(|source| TlsError::Pair {
        path: path.to_owned(),
        key: key_path.to_owned(),
        source,
    })?;
    Ok(Loaded {
        config: Arc::new(config),
        validity,
    })
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(clients),
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn bytes(path: &Path) -> Result<Vec<u8>, TlsError> {
    files::read_now(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn pem(path: &Path, what: &'static str) -> TlsError {
    TlsError::Pem {
        path: path.to_owned(),
        what,
    }
}
