//! Opens a connection to one address of a gateway: TCP, TLS, and HTTP/2 or 1.1 by ALPN.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use countersign_core::{chain, files, pem, tls_error};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;

use super::{
    fault::{CaSource, DIAL_TIMEOUT, Fault, bounded},
    proof::{Fingerprint, Proof},
    tls_stream::GatewayStream,
};

/// A dead peer is detected after about a minute, also by connections that only receive.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);

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
    pub(super) stream: GatewayStream,
    /// The client certificate that was sent, if any.
    pub(super) shown: Option<Fingerprint>,
}

impl Dialled {
    /// Whether the gateway chose HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.stream.is_http2()
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
    pub(super) async fn new(gateway_ca: Option<PathBuf>, proof: Proof) -> Result<Self, Fault> {
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
    ) -> Result<Dialled, Fault> {
        let (config, shown) = self.config().await?;
        let deadline = Instant::now() + DIAL_TIMEOUT;
        let tcp = timeout_at(deadline, tcp(address))
            .await
            .map_err(|_| Fault::Unanswered)??;
        let handshake = TlsConnector::from(Arc::new(config)).connect(name.clone(), tcp);
        let stream = timeout_at(deadline, handshake)
            .await
            .map_err(|_| Fault::TlsUnanswered)?
            .map_err(|error| Fault::of_handshake(&error, &self.ca()))?;
        Ok(Dialled {
            stream: GatewayStream::new(stream),
            shown,
        })
    }

    fn ca(&self) -> CaSource {
        match &self.roots {
            Roots::File(path) => CaSource::File(path.clone()),
            Roots::System(_) => CaSource::System,
        }
    }

    async fn config(&self) -> Result<(ClientConfig, Option<Fingerprint>), Fault> {
        let roots = match &self.roots {
            Roots::File(path) => Arc::new(read_roots(path).await?),
            Roots::System(roots) => Arc::clone(roots),
        };
        let tls = |error: rustls::Error| Fault::Tls(bounded(&tls_error::sentence(&error)));
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

async fn tcp(address: SocketAddr) -> std::io::Result<TcpStream> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY);
    SockRef::from(&tcp).set_tcp_keepalive(&keepalive)?;
    Ok(tcp)
}

async fn read_roots(path: &Path) -> Result<RootCertStore, Fault> {
    let unusable = |reason: String| Fault::Roots {
        path: path.to_owned(),
        reason,
    };
    let pem = files::read(path)
        .await
        .map_err(|error| unusable(format!("cannot be read ({})", files::reason(&error))))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| unusable(pem::sentence(&error)))?;
        roots.add(certificate).map_err(|error| {
            let what = tls_error::sentence(&error);
            unusable(format!("holds a certificate that cannot be used ({what})"))
        })?;
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
