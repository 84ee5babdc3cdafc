//! Upstreams to test against: well-behaved ones on hyper, and scripted ones on raw TLS.

use std::{
    convert::Infallible,
    future::Future,
    io::Write,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use countersign_config::{
    host::Host,
    model::{Limits, ResourceName, TrustRoots, Upstream},
};
use countersign_core::destination::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::super::{Forwarder, Outbound, RequestBody, Sent};

pub(super) type Body = BoxBody<Bytes, Infallible>;

/// A CA of the test's own.
pub(super) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(super) file: tempfile::NamedTempFile,
}

impl Ca {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(certificate.pem().as_bytes()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            file,
        }
    }

    pub(super) fn acceptor(&self, name: &str, alpn: &[&str]) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &self.issuer)
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config).into()
    }
}

/// What an upstream received.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub(super) connection: usize,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
    pub(super) body: usize,
}

/// An upstream on hyper.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Speaks what `alpn` says (`h2` or `http/1.1`) as `name`. It answers `/hello`, `/echo`,
    /// `/empty` (204), `/close`, `/large` (8 MiB in pieces), and `/early` (8 MiB before it has
    /// read the request).
    pub(super) async fn start(ca: &Ca, name: &str, alpn: &[&str]) -> Self {
        Self::with_streams(ca, name, alpn, 100).await
    }

    pub(super) async fn with_streams(ca: &Ca, name: &str, alpn: &[&str], streams: u32) -> Self {
        let acceptor = ca.acceptor(name, alpn);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            received: Arc::default(),
            connections: Arc::default(),
        };
        let (received, connections) = (server.received.clone(), server.connections.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, received) = (acceptor.clone(), received.clone());
                let connections = connections.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let connection = connections.fetch_add(1, Ordering::SeqCst);
                    serve(stream, connection, received, streams).await;
                });
            }
        });
        server
    }

    pub(super) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(
    stream: TlsStream<TcpStream>,
    connection: usize,
    received: Arc<Mutex<Vec<Received>>>,
    streams: u32,
) {
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request: Request<Incoming>| {
        let received = received.clone();
        async move { Ok::<_, Infallible>(answer(request, connection, &received).await) }
    });
    let io = TokioIo::new(stream);
    // How the connection ends is the test's business.
    let _ended = if h2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(streams)
            .serve_connection(io, service)
            .await
    } else {
        hyper::server::conn::http1::Builder::new()
            .serve_connection(io, service)
            .await
    };
}

async fn answer(
    request: Request<Incoming>,
    connection: usize,
    received: &Mutex<Vec<Received>>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let note = |body: usize| {
        received.lock().unwrap().push(Received {
            connection,
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            version: parts.version,
            headers: parts.headers.clone(),
            body,
        });
    };
    match parts.uri.path() {
        "/early" => {
            note(0);
            // Reads on beside its answer, as a server that streams both ways does.
            tokio::spawn(body.collect());
            Response::new(pieces(128))
        }
        "/large" => {
            note(0);
            Response::new(pieces(128))
        }
        path => {
            let Ok(collected) = body.collect().await else {
                return Response::new(Empty::new().boxed());
            };
            let trailers = collected.trailers().cloned();
            let bytes = collected.to_bytes();
            note(bytes.len());
            let mut response = Response::new(match path {
                "/echo" => echo(bytes, trailers),
                "/empty" => Empty::new().boxed(),
                _ => Full::new(Bytes::from_static(b"hello")).boxed(),
            });
            if path == "/empty" {
                *response.status_mut() = StatusCode::NO_CONTENT;
            }
            if path == "/close" {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert("connection", close);
            }
            if path == "/echo" {
                let names = HeaderValue::from_static("x-checksum, authorization");
                response.headers_mut().insert("trailer", names);
            }
            response
        }
    }
}

fn pieces(count: usize) -> Body {
    let piece = Bytes::from(vec![b'x'; 64 * 1024]);
    let frames = (0..count).map(move |_| Ok(Frame::data(piece.clone())));
    StreamBody::new(futures_util::stream::iter(frames)).boxed()
}

fn echo(bytes: Bytes, trailers: Option<HeaderMap>) -> Body {
    let mut trailers = trailers.unwrap_or_default();
    trailers.insert("x-checksum", HeaderValue::from_static("7"));
    let frames = [Frame::data(bytes), Frame::trailers(trailers)];
    StreamBody::new(futures_util::stream::iter(frames.map(Ok))).boxed()
}

/// An upstream that speaks HTTP/1.1 by a script of its own, one run a connection.
pub(super) async fn scripted<F, R>(ca: &Ca, name: &str, script: F) -> SocketAddr
where
    F: Fn(usize, TlsStream<TcpStream>) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let acceptor = ca.acceptor(name, &["http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for connection in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(stream) = acceptor.accept(stream).await {
                tokio::spawn(script(connection, stream));
            }
        }
    });
    address
}

/// Reads up to the end of a request head.
pub(super) async fn read_head(stream: &mut TlsStream<TcpStream>) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Writes an answer, whole or not, and waits until it is sent.
pub(super) async fn write(stream: &mut TlsStream<TcpStream>, answer: &str) {
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
}

/// A request body as hyper hands it to a server, of `length` announced bytes, and the client's
/// end to write it to.
pub(super) async fn client_body(length: usize) -> (Incoming, DuplexStream) {
    incoming(&format!("Content-Length: {length}")).await
}

/// The same in chunked coding.
pub(super) async fn chunked_body() -> (Incoming, DuplexStream) {
    incoming("Transfer-Encoding: chunked\r\nTrailer: authorization").await
}

async fn incoming(framing: &str) -> (Incoming, DuplexStream) {
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let head = format!("POST / HTTP/1.1\r\nHost: proxy\r\n{framing}\r\n\r\n");
    send(&mut client, head.as_bytes()).await;
    let (give, take) = oneshot::channel();
    let give = Mutex::new(Some(give));
    let service = service_fn(move |request: Request<Incoming>| {
        let give = give.lock().unwrap().take().unwrap();
        give.send(request.into_body()).unwrap();
        std::future::pending::<Result<Response<Body>, Infallible>>()
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service);
    tokio::spawn(connection);
    (take.await.unwrap(), client)
}

/// Sends as the client.
pub(super) async fn send(client: &mut DuplexStream, bytes: &[u8]) {
    client.write_all(bytes).await.unwrap();
}

pub(super) const HOST: &str = "api.test";

pub(super) fn authority(port: u16) -> Authority {
    Authority::new(Host::parse(HOST).unwrap(), port)
}

/// The key that most tests use.
pub(super) fn key() -> Outbound {
    Outbound {
        authority: authority(443),
        workload: ResourceName::namespaced("qa", "dashboard"),
        credential: Some(ResourceName::namespaced("qa", "slack")),
        caller: None,
    }
}

/// An upstream configuration by which `api.test:443` is at `address`.
pub(super) fn upstream(ca: &Ca, address: SocketAddr) -> Upstream {
    Upstream {
        roots: TrustRoots::SystemAnd(ca.file.path().to_owned()),
        allow_addresses: Vec::new(),
        resolve: [((Host::parse(HOST).unwrap(), 443), address)].into(),
        proxy: None,
    }
}

pub(super) fn forwarder(ca: &Ca, address: SocketAddr) -> Forwarder {
    with_limits(ca, address, &Limits::default())
}

pub(super) fn with_limits(ca: &Ca, address: SocketAddr, limits: &Limits) -> Forwarder {
    Forwarder::new(&upstream(ca, address), limits, Vec::new()).unwrap()
}

pub(super) fn get(path: &str) -> Request<RequestBody> {
    Request::get(format!("https://{HOST}{path}"))
        .body(RequestBody::empty())
        .unwrap()
}

pub(super) fn post(path: &str, body: RequestBody) -> Request<RequestBody> {
    Request::post(format!("https://{HOST}{path}"))
        .body(body)
        .unwrap()
}

/// Reads a response to its end.
pub(super) async fn read(sent: Sent) -> Bytes {
    sent.response
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes()
}

/// Fails a test that hangs.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what)
        .await
        .expect("nothing came")
}
