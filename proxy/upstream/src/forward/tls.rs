//! TLS towards upstreams: always verified.

use std::{io::Cursor, path::Path, sync::Arc};

use countersign_config::{host::Host, model::TrustRoots};
use countersign_core::{chain, ciphers, files};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    error::{ForwardError, SetupError},
    transport::Transport,
};

/// The HTTP version of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// As in records: `h1`, `h2`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "h1",
            Self::Http2 => "h2",
        }
    }
}

/// Makes verified TLS connections.
#[derive(Clone)]
pub(super) struct Tls {
    any: TlsConnector,
    http1: TlsConnector,
}

impl Tls {
    /// Loads the roots. Sessions are resumed per server name; early data is not sent, since it could be
    /// replayed.
    pub(super) fn new(roots: &TrustRoots) -> Result<Self, SetupError> {
        let roots = Arc::new(load_roots(roots, "upstream.roots")?);
        let mut any = chain::trusting(roots, ciphers::provider())?.with_no_client_auth();
        any.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut http1 = any.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            any: Arc::new(any).into(),
            http1: Arc::new(http1).into(),
        })
    }

    /// Performs the handshake with `host` and learns its HTTP version. Without ALPN it is HTTP/1.1.
    pub(super) async fn connect(
        &self,
        host: &Host,
        stream: Transport,
    ) -> Result<(TlsStream<Transport>, Protocol), ForwardError> {
        let stream = handshake(&self.any, host, stream).await?;
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            Some(_) | None => Protocol::Http1,
        };
        Ok((stream, protocol))
    }

    /// Performs the handshake with `host` for HTTP/1.1 only, as upgrades need it.
    pub(super) async fn connect_http1(
        &self,
        host: &Host,
        stream: Transport,
    ) -> Result<TlsStream<Transport>, ForwardError> {
        handshake(&self.http1, host, stream).await
    }
}

/// Makes verified TLS connections to a corporate proxy.
#[derive(Clone)]
pub(super) struct ProxyTls(TlsConnector);

impl ProxyTls {
    /// Loads the roots.
    pub(super) fn new(roots: &TrustRoots) -> Result<Self, SetupError> {
        let roots = Arc::new(load_roots(roots, "upstream.proxyRoots")?);
        let mut config = chain::trusting(roots, ciphers::provider())?.with_no_client_auth();
        // Some proxies choose HTTP/2 if they may.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config).into()))
    }

    /// Performs the handshake with the proxy at `host`.
    pub(super) async fn connect(
        &self,
        host: &Host,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, ForwardError> {
        handshake(&self.0, host, stream).await
    }
}

async fn handshake<IO: AsyncRead + AsyncWrite + Unpin>(
    connector: &TlsConnector,
    host: &Host,
    stream: IO,
) -> Result<TlsStream<IO>, ForwardError> {
    let name = match host {
        Host::Name(name) => ServerName::try_from(name.to_string()),
        Host::Ip(address) => Ok(ServerName::IpAddress((*address).into())),
    }
    .map_err(|error| ForwardError::TlsHandshake {
        reason: error.to_string(),
    })?;
    connector
        .connect(name, stream)
        .await
        .map_err(|error| ForwardError::from_handshake(&error))
}

fn load_roots(roots: &TrustRoots, key: &'static str) -> Result<RootCertStore, SetupError> {
    let (mut store, file) = match roots {
        TrustRoots::System => return system(),
        // If the system has no roots, those of the file remain.
        TrustRoots::SystemAnd(file) => {
            let (store, _) = chain::system();
            if store.is_empty() {
                tracing::warn!(
                    "the system has no root certificates; those of the file are trusted"
                );
            }
            (store, file)
        }
        TrustRoots::Only(file) => (RootCertStore::empty(), file),
    };
    add_file(&mut store, file).map_err(|reason| SetupError::RootsFile {
        key,
        path: file.clone(),
        reason,
    })?;
    Ok(store)
}

fn system() -> Result<RootCertStore, SetupError> {
    let (store, errors) = chain::system();
    if store.is_empty() {
        let reasons: Vec<_> = errors.iter().map(ToString::to_string).collect();
        return Err(SetupError::NoRoots {
            reason: reasons.join("; "),
        });
    }
    Ok(store)
}

/// Adds every certificate of a PEM file; an unusable one is an error, since somebody relies on it.
fn add_file(store: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let pem = files::read_now(path).map_err(|error| files::reason(&error))?;
    let mut found = false;
    for certificate in CertificateDer::pem_reader_iter(Cursor::new(pem)) {
        let certificate = certificate.map_err(|_| "a PEM block in it cannot be read")?;
        let added = store.add(certificate);
        added.map_err(|_| "it has a certificate that is not a usable root")?;
        found = true;
    }
    if found {
        Ok(())
    } else {
        Err("there is no certificate in it".into())
    }
}
