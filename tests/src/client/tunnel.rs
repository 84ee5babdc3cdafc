//! The many ways to ask a proxy for a tunnel, and to speak within one.

use std::{io, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response, header::PROXY_AUTHORIZATION};
use http_body_util::{Empty, Full};
use hyper::{
    body::{Body, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Answer, Client, Failure, Sender, Session, Stream};

/// How a tunnel is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// `CONNECT ... HTTP/1.1`, with `Host`.
    Http11,
    /// `CONNECT ... HTTP/1.0`, without `Host`, as Python 3.11 does.
    Http10,
    /// An HTTP/2 stream; the proxy must speak TLS.
    Http2,
}

impl Client {
    /// Offers exactly these protocols by ALPN; none at all if there are none.
    #[must_use]
    pub fn offering(mut self, protocols: &[&str]) -> Self {
        self.tls.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().into())
            .collect();
        self
    }

    /// Speaks TLS 1.2 and nothing newer, trusting `roots_pem`.
    #[must_use]
    pub fn only_tls12(mut self, roots_pem: &str) -> Self {
        let mut tls = config(roots_pem, &[&rustls::version::TLS12]);
        tls.alpn_protocols.clone_from(&self.tls.alpn_protocols);
        tls.time_provider = Arc::clone(&self.tls.time_provider);
        self.tls = tls;
        self
    }

    /// A connection to the proxy, over TLS if `proxy_roots` says what its certificate chains to.
    pub async fn to_proxy(&self, proxy_roots: Option<&str>, alpn: &str) -> Result<Stream, Failure> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let Some(roots) = proxy_roots else {
            return Ok(Box::new(tcp));
        };
        let mut tls = config(roots, rustls::DEFAULT_VERSIONS);
        tls.alpn_protocols = vec![alpn.into()];
        let name = ServerName::from(self.address.ip());
        let connector = TlsConnector::from(Arc::new(tls));
        Ok(Box::new(connector.connect(name, tcp).await?))
    }

    /// A tunnel to `authority` (`host:port`), asked for in this way.
    pub async fn tunnel(
        &self,
        ask: Ask,
        authority: &str,
        proxy_roots: Option<&str>,
    ) -> Result<Stream, Failure> {
        match ask {
            Ask::Http2 => {
                let proxy = self.to_proxy(proxy_roots, "h2").await?;
                self.connect_http2(proxy, authority).await
            }
            Ask::Http11 | Ask::Http10 => {
                let mut proxy = self.to_proxy(proxy_roots, "http/1.1").await?;
                let version = if ask == Ask::Http10 { "1.0" } else { "1.1" };
                let host = match ask {
                    Ask::Http11 => format!("Host: {authority}\r\n"),
                    Ask::Http10 | Ask::Http2 => String::new(),
                };
                let mut head = format!("CONNECT {authority} HTTP/{version}\r\n{host}");
                if let Some(token) = &self.proxy_authorization {
                    let token = String::from_utf8_lossy(token.as_bytes());
                    head.extend(["Proxy-Authorization: ", &*token, "\r\n"]);
                }
                head.push_str("\r\n");
                proxy.write_all(head.as_bytes()).await?;
                let answer = read_head(&mut proxy).await?;
                if answer.split(' ').nth(1) == Some("200") {
                    Ok(proxy)
                } else {
                    Err(Failure::Connect(io::Error::other(answer)))
                }
            }
        }
    }

    async fn connect_http2(&self, proxy: Stream, authority: &str) -> Result<Stream, Failure> {
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(proxy)).await?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(Method::CONNECT).uri(authority);
        if let Some(value) = &self.proxy_authorization {
            request = request.header(PROXY_AUTHORIZATION, value);
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let response = sender.send_request(request).await?;
        if !response.status().is_success() {
            return Err(Failure::Refused(Box::new(Answer::read(response).await?)));
        }
        Ok(Box::new(TokioIo::new(hyper::upgrade::on(response).await?)))
    }

    /// TLS with `host` within a tunnel.
    pub async fn greet(&self, tunnel: Stream, host: &str) -> Result<TlsStream<Stream>, Failure> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let connector = TlsConnector::from(Arc::new(self.tls.clone()));
        Ok(connector.connect(name, tunnel).await?)
    }

    /// Sends a request in absolute form to the proxy itself, with the proof of who it is.
    pub async fn send_absolute(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Answer, Failure> {
        let tcp = self.to_proxy(None, "http/1.1").await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await?;
        tokio::spawn(connection);
        if let Some(value) = &self.proxy_authorization {
            let headers = request.headers_mut();
            headers.insert(PROXY_AUTHORIZATION, value.clone());
        }
        Ok(Answer::read(sender.send_request(request).await?).await?)
    }
}

impl<B> Session<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// HTTP, of the version that was negotiated, over a TLS connection.
    pub async fn over(stream: TlsStream<Stream>) -> Result<Self, Failure> {
        let tls = stream.get_ref().1;
        let issuer = tls.peer_certificates().and_then(|chain| chain.get(1));
        let issuer = issuer.map(|issuer| issuer.to_vec());
        let sender = if tls.alpn_protocol() == Some(b"h2") {
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection.with_upgrades());
            Sender::Http1(sender)
        };
        Ok(Self {
            sender,
            issuer,
            account: None,
        })
    }
}

impl Answer {
    /// Reads the rest of an answer whose head has come.
    pub async fn of(response: Response<Incoming>) -> Result<Self, Failure> {
        Ok(Self::read(response).await?)
    }
}

/// Reads a head of HTTP/1 to its end and nothing beyond it.
pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Writes bytes and reads all that comes until the other side closes. A reset counts as its end.
pub async fn converse(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    bytes: &[u8],
) -> io::Result<String> {
    stream.write_all(bytes).await?;
    // TLS keeps what the socket has no room for.
    stream.flush().await?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer).await {
        Ok(_) => {}
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof
            ) => {}
        Err(error) => return Err(error),
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Trusts the roots in `roots_pem` only.
///
/// # Panics
/// If there are none.
pub(super) fn config(
    roots_pem: &str,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(roots_pem.as_bytes()) {
        roots
            .add(certificate.expect("the roots are PEM"))
            .expect("a root is a certificate");
    }
    assert!(!roots.is_empty(), "the PEM text holds no certificate");
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .expect("the provider has the protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
