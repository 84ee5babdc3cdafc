//! A listener's own certificate, reloaded when its files change, and whether it asks for those of
//! its clients.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use countersign_config::model::{ClientTrust, ListenerTls};
use countersign_core::{certificate::Validity, files, tls_error};
use countersign_identity::TrustDomains;
use jiff::Timestamp;
use rustls::{ServerConfig, server::danger::ClientCertVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use zeroize::Zeroizing;

/// Why a listener's certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
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
    files: ListenerTls,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    loaded: ArcSwap<Loaded>,
    /// Why the files' content is not in force.
    refused: ArcSwapOption<String>,
}

/// What a listener shows, and when that is valid.
#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    validity: Validity,
}

impl ListenerCertificate {
    /// Loads certificate and key. If the listener asks for client certificates, they are those of
    /// `trusted`.
    ///
    /// # Errors
    /// When either cannot be read or they do not belong together.
    pub fn load(files: &ListenerTls, trusted: &Arc<TrustDomains>) -> Result<Self, TlsError> {
        let clients = match files.client_trust {
            ClientTrust::None => None,
            ClientTrust::Spiffe => Some(trusted.verifier()),
        };
        Ok(Self {
            loaded: ArcSwap::from_pointee(read(files, clients.clone())?),
            refused: ArcSwapOption::empty(),
            files: files.clone(),
            clients,
        })
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded.load().config)
    }

    /// When the certificate in force is valid.
    pub fn validity(&self) -> Validity {
        self.loaded.load().validity
    }

    /// Why the files' content is not in force, if it is not.
    pub fn refused(&self) -> Option<Arc<String>> {
        self.refused.load_full()
    }

    /// The files it was loaded from.
    pub fn files(&self) -> [&Path; 2] {
        [&self.files.certificate, &self.files.key]
    }

    /// Loads the files again. The old certificate stays in force if they cannot be used, or if it is valid now and
    /// the new one is not: every client would refuse that.
    ///
    /// # Errors
    /// As for [`Self::load`], and when the new certificate is not valid.
    pub fn reload(&self, now: Timestamp) -> Result<(), TlsError> {
        let result = self.take(now);
        let refused = result
            .as_ref()
            .err()
            .map(|error| Arc::new(error.to_string()));
        self.refused.store(refused);
        result
    }

    fn take(&self, now: Timestamp) -> Result<(), TlsError> {
        let loaded = read(&self.files, self.clients.clone())?;
        let is_valid = |validity: Validity| validity.standing(now).is_valid();
        if is_valid(self.validity()) && !is_valid(loaded.validity) {
            return Err(TlsError::NotValid {
                path: self.files.certificate.clone(),
                stands: loaded.validity.sentence(now),
            });
        }
        self.loaded.store(Arc::new(loaded));
        Ok(())
    }

    /// Why a client ended the handshake, if the certificate of this listener is the cause: the client says so, or the
    /// certificate is not valid now.
    pub(super) fn is_blamed_by(&self, error: &io::Error, now: Timestamp) -> Option<String> {
        let said = match tls_error::find(error) {
            Some(rustls::Error::AlertReceived(alert))
                if tls_error::is_about_certificate(*alert) =>
            {
                format!(" says that {}", tls_error::alert(*alert))
            }
            Some(_) => return None,
            None if self.validity().standing(now).is_valid() => return None,
            None => " left within the TLS handshake".to_owned(),
        };
        let file = self.files.certificate.display();
        let stands = self.validity().sentence(now);
        Some(format!(
            "the client{said}; this listener's certificate in {file} {stands}; a client needs the CA that issued it (of a relay, --gateway-ca), and a name in it"
        ))
    }
}

/// Checks that a listener's files can be used: they can be read, and certificate and key belong together.
///
/// # Errors
/// When they cannot.
pub fn check(files: &ListenerTls) -> Result<Validity, TlsError> {
    Ok(read(files, None)?.validity)
}

/// Kubernetes' pod certificates come as one file with key and chain. It is read once: between two
/// readings it might be replaced.
fn read(
    files: &ListenerTls,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<Loaded, TlsError> {
    let certificate = Zeroizing::new(bytes(&files.certificate)?);
    let key = if files.key == files.certificate {
        Zeroizing::clone(&certificate)
    } else {
        Zeroizing::new(bytes(&files.key)?)
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&certificate)
        .collect::<Result<_, _>>()
        .map_err(|_| pem(&files.certificate, "certificate chain"))?;
    if chain.is_empty() {
        return Err(pem(&files.certificate, "certificate chain"));
    }
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| pem(&files.key, "private key"))?;
    let validity = Validity::of_chain(&chain);
    let validity = validity.ok_or_else(|| TlsError::Damaged(files.certificate.clone()))?;
    let pair = |source| TlsError::Pair {
        path: files.certificate.clone(),
        key: files.key.clone(),
        source,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(pair)?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(clients),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Loaded {
        config: Arc::new(config),
        validity,
    })
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
