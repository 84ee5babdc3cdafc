//! Opens a connection to one address of a gateway: TCP, TLS, and HTTP/2 or 1.1 by ALPN.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use countersign_core::{chain, files};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use socket2::{SockRef, TcpKeepalive};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::proof::{Fingerprint, Proof, ProofError};

/// The timeout of TCP and TLS with a gateway, which is near. After it the next address is tried.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// A dead peer is detected after about a minute, also by connections that only receive.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);

/// Why a gateway's address cannot be reached.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum DialError {
    #[error("connecting failed: {0}")]
    Connect(io::ErrorKind),
    #[error("its certificate or ours was not accepted: {0}")]
    Tls(String),
    #[error("no answer within {DIAL_TIMEOUT:?}")]
    TimedOut,
    #[error("HTTP could not be begun: {0}")]
    Http(String),
    #[error("the gateway CA {} {reason}", path.display())]
    Roots { path: PathBuf, reason: String },
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// The roots for gateways' certificates.
#[derive(Debug, Clone)]
enum Roots {
    /// Read for each connection, which are few: a rotated CA takes effect at once.
    File(PathBuf),
    /// The system's, read once.
    System(Arc<RootCertStore>),
}

/// A TLS connection to a gateway.
pub(super) struct Dialled {
    pub(super) stream: TlsStream<TcpStream>,
    /// The client certificate that was sent, if any.
    pub(super) shown: Option<Fingerprint>,
}

impl Dialled {
    /// Whether the gateway chose HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.stream.get_ref().1.alpn_protocol() == Some(b"h2")
    }
}

/// Opens connections.
#[derive(Debug, Clone)]
pub(super) struct Dialer {
    roots: Roots,
    proof: Proof,
}

impl Dialer {
    /// Checks that there are roots, so that a mistake shows at start.
    pub(super) async fn new(gateway_ca: Option<PathBuf>, proof: Proof) -> Result<Self, DialError> {
        let roots = if let Some(path) = gateway_ca {
            read_roots(&path).await?;
            Roots::File(path)
        } else {
            Roots::System(Arc::new(system_roots()))
        };
        Ok(Self { roots, proof })
    }

    /// How the pod identifies itself.
    pub(super) fn proof(&self) -> &Proof {
        &self.proof
    }

    /// Connects to an address, whose certificate must be for `name`.
    pub(super) async fn dial(
        &self,
        name: &ServerName<'static>,
        address: SocketAddr,
    ) -> Result<Dialled, DialError> {
        let (config, shown) = self.config().await?;
        let connecting = async {
            let tcp = TcpStream::connect(address).await.map_err(connect_error)?;
            tcp.set_nodelay(true).map_err(connect_error)?;
            let keepalive = TcpKeepalive::new()
                .with_time(KEEPALIVE_AFTER)
                .with_interval(KEEPALIVE_EVERY);
            SockRef::from(&tcp)
                .set_tcp_keepalive(&keepalive)
                .map_err(connect_error)?;
            TlsConnector::from(Arc::new(config))
                .connect(name.clone(), tcp)
                .await
                .map_err(|error| DialError::Tls(error.to_string()))
        };
        let stream = timeout(DIAL_TIMEOUT, connecting)
            .await
            .map_err(|_| DialError::TimedOut)??;
        Ok(Dialled { stream, shown })
    }

    async fn config(&self) -> Result<(ClientConfig, Option<Fingerprint>), DialError> {
        let roots = match &self.roots {
            Roots::File(path) => Arc::new(read_roots(path).await?),
            Roots::System(roots) => Arc::clone(roots),
        };
        let tls = |error: rustls::Error| DialError::Tls(error.to_string());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = chain::trusting(roots, provider).map_err(tls)?;
        let (mut config, shown) = match self.proof.svid().await? {
            None => (builder.with_no_client_auth(), None),
            Some(svid) => {
                let config = builder.with_client_auth_cert(svid.chain, svid.key);
                (config.map_err(tls)?, Some(svid.fingerprint))
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok((config, shown))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn connect_error(error: io::Error) -> DialError {
    DialError::Connect(error.kind())
}

async fn read_roots(path: &Path) -> Result<RootCertStore, DialError> {
    let unusable = |reason: String| DialError::Roots {
        path: path.to_owned(),
        reason,
    };
    let pem = files::read(path)
        .await
        .map_err(|error| unusable(format!("cannot be read ({})", error.kind())))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| unusable(format!("is not PEM: {error}")))?;
        roots
            .add(certificate)
            .map_err(|error| unusable(format!("holds an unusable certificate: {error}")))?;
    }
    if roots.is_empty() {
        return Err(unusable("holds no certificate".to_owned()));
    }
    Ok(roots)
}

fn system_roots() -> RootCertStore {
    let (roots, _) = chain::system();
    if roots.is_empty() {
        tracing::warn!("the system has no root certificates and no --gateway-ca is given");
    }
    roots
}
