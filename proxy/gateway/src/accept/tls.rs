//! A listener's own certificate, reloaded when its files change, and whether it asks for those of
//! its clients.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use countersign_config::model::{ClientTrust, ListenerTls};
use countersign_core::files;
use countersign_identity::TrustDomains;
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
    #[error("the certificate {} and its key cannot be used: {source}", path.display())]
    Pair {
        /// The certificate's file.
        path: PathBuf,
        /// The TLS library's reason.
        source: rustls::Error,
    },
}

/// A listener's certificate and key in force.
#[derive(Debug)]
pub struct ListenerCertificate {
    files: ListenerTls,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    config: ArcSwap<ServerConfig>,
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
            config: ArcSwap::from_pointee(read(files, clients.clone())?),
            files: files.clone(),
            clients,
        })
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// The files it was loaded from.
    pub fn files(&self) -> [&Path; 2] {
        [&self.files.certificate, &self.files.key]
    }

    /// Loads the files again; the old certificate stays in force if they cannot be used.
    ///
    /// # Errors
    /// As for [`Self::load`].
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = read(&self.files, self.clients.clone())?;
        self.config.store(Arc::new(config));
        Ok(())
    }
}

/// Kubernetes' pod certificates come as one file with key and chain. It is read once: between two
/// readings it might be replaced.
fn read(
    files: &ListenerTls,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, TlsError> {
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
    let pair = |source| TlsError::Pair {
        path: files.certificate.clone(),
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
