//! A client that goes direct, or through the gateway by CONNECT.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, client::Resumption};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{attacks::Endless, files::HOST};

/// How the load reaches the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the API, holding its credential.
    Direct,
    /// Through the gateway, holding a service account's token and a dummy.
    Gateway,
}

/// What is spoken inside TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1
    H1,
    /// HTTP/2
    H2,
}

/// Everything needed to open connections one way.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) way: Way,
    address: SocketAddr,
    /// Where its connections come from, if that matters.
    source: Option<IpAddr>,
    /// The name that is asked for.
    host: Arc<str>,
    /// The service account's token, for the way through the gateway.
    token: Arc<str>,
    h1: TlsConnector,
    h2: TlsConnector,
    authorization: HeaderValue,
}

impl Route {
    /// Straight to the API at `address`, whose certificate `roots` vouch for.
    pub(crate) fn direct(
        address: SocketAddr,
        roots: &Path,
        credential: &str,
    ) -> anyhow::Result<Self> {
        Self::new(Way::Direct, address, "", roots, credential)
    }

    /// Through the gateway at `address`, whose certificates `roots` vouch for.
    pub(crate) fn gateway(address: SocketAddr, roots: &Path, token: &str) -> anyhow::Result<Self> {
        Self::new(Way::Gateway, address, token, roots, "dummy")
    }

    /// The same to another name of the API.
    pub(crate) fn named(&self, host: &str) -> Self {
        Self {
            host: host.into(),
            ..self.clone()
        }
    }

    fn new(
        way: Way,
        address: SocketAddr,
        token: &str,
        roots: &Path,
        credential: &str,
    ) -> anyhow::Result<Self> {
        let mut authorization: HeaderValue = format!("Bearer {credential}").parse()?;
        authorization.set_sensitive(true);
        Ok(Self {
            way,
            address,
            source: None,
            host: HOST.into(),
            token: token.into(),
            h1: connector(roots, b"http/1.1")?,
            h2: connector(roots, b"h2")?,
            authorization,
        })
    }

    /// The same, with connections from an address of their own, as a pod has one.
    pub(crate) fn coming_from(self, source: IpAddr) -> Self {
        let source = Some(source);
        Self { source, ..self }
    }

    async fn dial(&self) -> io::Result<TcpStream> {
        let socket = match self.address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        if let Some(source) = self.source {
            socket.bind((source, 0).into())?;
        }
        socket.connect(self.address).await
    }

    /// A new connection, ready for requests.
    pub(crate) async fn open(&self, protocol: Protocol) -> anyhow::Result<Connection> {
        let mut stream = self.dial().await?;
        stream.set_nodelay(true)?;
        if self.way == Way::Gateway {
            let host = &self.host;
            let connect = format!(
                "CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\
                 Proxy-Authorization: Bearer {}\r\n\r\n",
                self.token
            );
            stream.write_all(connect.as_bytes()).await?;
            read_connect_answer(&mut stream).await?;
        }
        let connector = match protocol {
            Protocol::H1 => &self.h1,
            Protocol::H2 => &self.h2,
        };
        let name = ServerName::try_from(self.host.to_string())?;
        let stream = connector.connect(name, stream).await.context("TLS")?;
        Connection::greet(stream, protocol, self).await
    }
}

/// Reads the answer to CONNECT, byte by byte at its end so that nothing behind it is taken.
async fn read_connect_answer(stream: &mut TcpStream) -> anyhow::Result<()> {
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < 8192, "the answer to CONNECT is too long");
        head.push(stream.read_u8().await.context("the answer to CONNECT")?);
    }
    let status = String::from_utf8_lossy(&head);
    let status = status.lines().next().unwrap_or_default();
    ensure!(
        status.split(' ').nth(1) == Some("200"),
        "CONNECT was answered {status:?}"
    );
    Ok(())
}

type RequestBody = Either<Full<Bytes>, Either<Repeated, Endless>>;

/// An open connection to the API, in clear as far as its user sees.
pub(crate) struct Connection {
    sender: Sender,
    host: Arc<str>,
    authorization: HeaderValue,
}

enum Sender {
    H1(http1::SendRequest<RequestBody>),
    H2(http2::SendRequest<RequestBody>),
}

impl Connection {
    async fn greet(
        stream: TlsStream<TcpStream>,
        protocol: Protocol,
        route: &Route,
    ) -> anyhow::Result<Self> {
        let stream = TokioIo::new(stream);
        // An error of the connection shows as an error of its requests.
        let sender = match protocol {
            Protocol::H1 => {
                let (sender, connection) = http1::handshake(stream).await?;
                tokio::spawn(connection);
                Sender::H1(sender)
            }
            Protocol::H2 => {
                let executor = TokioExecutor::new();
                let (sender, connection) = http2::Builder::new(executor)
                    .initial_stream_window_size(1024 * 1024)
                    .initial_connection_window_size(4 * 1024 * 1024)
                    .handshake(stream)
                    .await?;
                tokio::spawn(connection);
                Sender::H2(sender)
            }
        };
        Ok(Self {
            sender,
            host: Arc::clone(&route.host),
            authorization: route.authorization.clone(),
        })
    }

    /// Another handle to the same connection; only HTTP/2 has several requests at a time.
    pub(crate) fn share(&self) -> anyhow::Result<Self> {
        let sender = match &self.sender {
            Sender::H1(_) => bail!("an HTTP/1.1 connection cannot be shared"),
            Sender::H2(sender) => Sender::H2(sender.clone()),
        };
        Ok(Self {
            sender,
            host: Arc::clone(&self.host),
            authorization: self.authorization.clone(),
        })
    }

    /// Sends a request without a body.
    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<Response<Incoming>> {
        let body = Either::Left(Full::default());
        self.send(Method::GET, path, body).await
    }

    /// Sends a request with a body of `bytes`.
    pub(crate) async fn post(
        &mut self,
        path: &str,
        bytes: u64,
    ) -> anyhow::Result<Response<Incoming>> {
        let body = Either::Right(Either::Left(Repeated::new(bytes)));
        self.send(Method::POST, path, body).await
    }

    /// Sends a request without a body and takes any answer.
    pub(crate) async fn ask(&mut self, path: &str) -> anyhow::Result<Response<Incoming>> {
        let body = Either::Left(Full::default());
        self.exchange(Method::GET, path, None, body).await
    }

    /// Sends a request whose body does not end and takes any answer.
    pub(crate) async fn endless(
        &mut self,
        path: &str,
        content_type: &'static str,
        body: Endless,
    ) -> anyhow::Result<Response<Incoming>> {
        let body = Either::Right(Either::Right(body));
        self.exchange(Method::POST, path, Some(content_type), body)
            .await
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: RequestBody,
    ) -> anyhow::Result<Response<Incoming>> {
        let response = self.exchange(method, path, None, body).await?;
        match response.status() {
            StatusCode::OK => Ok(response),
            other => bail!("{path} was answered {other}"),
        }
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: RequestBody,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .header(header::AUTHORIZATION, self.authorization.clone())
            .header(header::USER_AGENT, "countersign-bench");
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let response = match &mut self.sender {
            Sender::H1(sender) => {
                let request = request
                    .uri(path)
                    .header(header::HOST, &*self.host)
                    .body(body)?;
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::H2(sender) => {
                let uri: Uri = format!("https://{}{path}", self.host).parse()?;
                sender.ready().await?;
                sender.send_request(request.uri(uri).body(body)?).await?
            }
        };
        Ok(response)
    }
}

/// The roots in a PEM file.
pub(crate) fn roots(file: &Path) -> anyhow::Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    let read = || format!("the roots in {}", file.display());
    for certificate in CertificateDer::pem_file_iter(file).with_context(read)? {
        store.add(certificate.with_context(read)?)?;
    }
    Ok(store)
}

fn connector(file: &Path, alpn: &[u8]) -> anyhow::Result<TlsConnector> {
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots(file)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    // Every new connection pays for a whole handshake, as that of a new process does.
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

static PIECE: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// A body of so many bytes, made of one piece over and over.
pub(crate) struct Repeated {
    left: u64,
    piece: Bytes,
}

impl Repeated {
    pub(crate) fn new(bytes: u64) -> Self {
        Self {
            left: bytes,
            piece: Bytes::from_static(&PIECE),
        }
    }
}

impl Body for Repeated {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = usize::try_from(self.left).map_or(PIECE.len(), |left| left.min(PIECE.len()));
        if length == 0 {
            return Poll::Ready(None);
        }
        self.left -= u64::try_from(length).unwrap_or(self.left);
        Poll::Ready(Some(Ok(Frame::data(self.piece.slice(..length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
