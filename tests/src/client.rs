//! A small HTTP client for tests: it hides nothing, retries nothing, follows nothing.
//!
//! Directly or through a proxy's CONNECT, over HTTP/1.1 or HTTP/2, with one connection a
//! [`Session`].

mod ledger;
mod tunnel;

pub use ledger::Ledger;
pub use tunnel::{Ask, converse, read_head};

use ledger::Account;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use countersign_core::clock::Clock;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{HOST, PROXY_AUTHORIZATION},
};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::{
    body::{Body, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::UnixTime, time_provider::TimeProvider};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::fake::Protocol;

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The protocol version.
    pub version: Version,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The trailers.
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    async fn read(response: Response<Incoming>) -> Result<Self, hyper::Error> {
        let (head, body) = response.into_parts();
        let collected = body.collect().await?;
        let trailers = collected.trailers().cloned();
        Ok(Self {
            status: head.status,
            version: head.version,
            headers: head.headers,
            body: collected.to_bytes(),
            trailers,
        })
    }

    /// The value of a header that is there exactly once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            (Some(_), Some(_)) | (None, _) => None,
        }
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// TCP or TLS failed.
    Connect(io::Error),
    /// The proxy answered CONNECT with something other than success.
    Refused(Box<Answer>),
    /// The connection broke during the exchange.
    Exchange(hyper::Error),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "connecting failed: {error}"),
            Self::Refused(answer) => write!(f, "the proxy refused: {}", answer.status),
            Self::Exchange(error) => write!(f, "the exchange failed: {error}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Connect(error)
    }
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        Self::Exchange(error)
    }
}

#[derive(Debug)]
struct ClockTime(Clock);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let since_epoch = Duration::try_from(self.0.now().as_duration()).ok()?;
        Some(UnixTime::since_unix_epoch(since_epoch))
    }
}

/// Where and how to connect.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    proxied: bool,
    proxy_authorization: Option<HeaderValue>,
    tls: ClientConfig,
    ledger: Ledger,
}

impl Client {
    /// Speaks to `address` itself, whatever the host of a request; trusts the roots in
    /// `roots_pem` only.
    ///
    /// # Panics
    /// If `roots_pem` holds no certificates.
    pub fn direct(address: SocketAddr, roots_pem: &str) -> Self {
        let tls = tunnel::config(roots_pem, rustls::DEFAULT_VERSIONS);
        Self {
            address,
            proxied: false,
            proxy_authorization: None,
            tls,
            ledger: Ledger::default(),
        }
        .over(Protocol::Http1)
    }

    /// Speaks through the HTTP proxy at `address`.
    pub fn through(address: SocketAddr, roots_pem: &str) -> Self {
        Self {
            proxied: true,
            ..Self::direct(address, roots_pem)
        }
    }

    /// Counts the requests of its sessions in `ledger`.
    #[must_use]
    pub fn counted_in(mut self, ledger: &Ledger) -> Self {
        self.ledger = ledger.clone();
        self
    }

    /// Shows the proxy a token, as `Bearer`.
    ///
    /// # Panics
    /// If the token holds a control character.
    #[must_use]
    pub fn bearer(mut self, token: &str) -> Self {
        let value = format!("Bearer {token}");
        self.proxy_authorization = Some(value.parse().expect("a token is a header value"));
        self
    }

    /// Shows the proxy a token, as the password of `Basic`.
    #[must_use]
    pub fn basic(mut self, token: &str) -> Self {
        let value = format!("Basic {}", BASE64_STANDARD.encode(format!("x:{token}")));
        self.proxy_authorization = value.parse().ok();
        self
    }

    /// Checks certificates by this clock instead of the machine's.
    #[must_use]
    pub fn at(mut self, clock: Clock) -> Self {
        self.tls.time_provider = Arc::new(ClockTime(clock));
        self
    }

    /// The one protocol to offer by ALPN.
    #[must_use]
    pub fn over(mut self, protocol: Protocol) -> Self {
        self.tls.alpn_protocols = match protocol {
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Http2 => vec![b"h2".to_vec()],
        };
        self
    }

    /// Connects to `host`, on port 443, or to `host:port`.
    pub async fn open(&self, authority: &str) -> Result<Session, Failure> {
        let (stream, local) = self.reach(authority).await?;
        let mut session = Session::over(stream).await?;
        session.account = Some(self.ledger.account(local));
        Ok(session)
    }

    /// A TLS connection to `host`, on port 443, or to `host:port`, for what is not HTTP.
    pub async fn tls_stream(&self, authority: &str) -> Result<TlsStream<Stream>, Failure> {
        Ok(self.reach(authority).await?.0)
    }

    /// The same, and this end's address.
    async fn reach(&self, authority: &str) -> Result<(TlsStream<Stream>, SocketAddr), Failure> {
        let (host, port) = authority.split_once(':').unwrap_or((authority, "443"));
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let local = tcp.local_addr()?;
        let stream: Stream = if self.proxied {
            Box::new(TokioIo::new(
                self.connect(tcp, format!("{host}:{port}")).await?,
            ))
        } else {
            Box::new(tcp)
        };
        Ok((self.greet(stream, host).await?, local))
    }

    /// Sends one request on a connection of its own, to the host and port of its URI.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
        let authority = request.uri().authority();
        let authority = authority
            .map_or("", http::uri::Authority::as_str)
            .to_owned();
        // Boxed: a handshake takes much room, and every test would carry it.
        let mut session = Box::pin(self.open(&authority)).await?;
        session.send(request).await
    }

    async fn connect(
        &self,
        tcp: TcpStream,
        authority: String,
    ) -> Result<hyper::upgrade::Upgraded, Failure> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await?;
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = Method::CONNECT;
        if let Ok(value) = HeaderValue::try_from(&authority) {
            request.headers_mut().insert(HOST, value);
        }
        *request.uri_mut() = Uri::try_from(authority)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        if let Some(value) = &self.proxy_authorization {
            request
                .headers_mut()
                .insert(PROXY_AUTHORIZATION, value.clone());
        }
        let response = sender.send_request(request).await?;
        if response.status().is_success() {
            Ok(hyper::upgrade::on(response).await?)
        } else {
            Err(Failure::Refused(Box::new(Answer::read(response).await?)))
        }
    }
}

/// What TLS runs over.
pub type Stream = Box<dyn Duplex>;

/// Both directions of a byte stream.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Duplex for T {}

/// One connection.
pub struct Session<B = Full<Bytes>> {
    sender: Sender<B>,
    issuer: Option<Vec<u8>>,
    account: Option<Account>,
}

enum Sender<B> {
    Http1(http1::SendRequest<B>),
    Http2(http2::SendRequest<B>),
}

impl<B> Session<B>
where
    B: Body + Send + 'static,
{
    /// The certificate of who issued the server's, DER: with interception, one gateway's own.
    pub fn issuer(&self) -> Option<&[u8]> {
        self.issuer.as_deref()
    }

    /// Waits until a request can be sent; false if the connection is over.
    pub async fn is_open(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Sends a request with an absolute URI and reads the whole answer.
    pub async fn send(&mut self, request: Request<B>) -> Result<Answer, Failure> {
        Ok(Answer::read(self.start(request).await?).await?)
    }

    /// A further stream of the same connection; `None` over HTTP/1.1, which has one.
    pub fn another(&self) -> Option<Self> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => Some(Self {
                sender: Sender::Http2(sender.clone()),
                issuer: self.issuer.clone(),
                account: self.account.clone(),
            }),
        }
    }

    /// Completes when the other side has closed the connection.
    pub async fn closed(&mut self) {
        let ready = async |sender: &mut Sender<B>| match sender {
            Sender::Http1(sender) => sender.ready().await,
            Sender::Http2(sender) => sender.ready().await,
        };
        // Nothing announces the end of a connection that is at rest.
        while !self.is_closed() && ready(&mut self.sender).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Sends a request with an absolute URI and returns once the answer's head is there.
    ///
    /// `Host` is added over HTTP/1.1, unless the request has one.
    pub async fn start(&mut self, request: Request<B>) -> Result<Response<Incoming>, Failure> {
        if let Some(account) = &self.account {
            account.count();
        }
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                Ok(sender.send_request(origin_form(request)).await?)
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
        }
    }
}

fn origin_form<B>(mut request: Request<B>) -> Request<B> {
    if !request.headers().contains_key(HOST)
        && let Some(authority) = request.uri().authority()
        && let Ok(value) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(HOST, value);
    }
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str);
    if let Ok(uri) = Uri::try_from(path) {
        *request.uri_mut() = uri;
    }
    request
}
