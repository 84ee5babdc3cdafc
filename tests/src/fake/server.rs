//! The TLS server under every stand-in: HTTP/1.1 and HTTP/2 by ALPN, on a free loopback port.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use http::{Request, Response, StatusCode, header::HOST, request::Parts};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use super::{
    Authority, Body, Memory, Misbehaviour, Received,
    body::{self, Then},
    certificates::Certificates,
    wire::{Cut, Wire},
};

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// The connection that a request came on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Counted from 1, for each server.
    pub number: u64,
    /// What ALPN chose.
    pub protocol: Protocol,
    /// The name in the TLS greeting.
    pub server_name: Option<String>,
    /// Where it comes from.
    pub peer: SocketAddr,
}

/// What a server answers with.
pub trait Api: Send + Sync + 'static {
    /// Answers one request.
    fn answer(&self, exchange: Exchange) -> impl Future<Output = Response<Body>> + Send;
}

/// A request that was not read yet.
pub struct Exchange {
    /// Its head.
    pub head: Parts,
    /// Its body.
    pub body: Incoming,
    /// The host it names, without a port; the same as in the TLS greeting.
    pub host: String,
    /// The connection it came on.
    pub connection: Connection,
    memory: Arc<Memory>,
}

impl Exchange {
    /// Reads it to its end and remembers it.
    pub async fn read(self) -> Arc<Received> {
        self.memory
            .read(self.head, self.body, self.host, self.connection)
            .await
    }

    /// What becomes the raw connection once the answer said 101.
    pub fn upgrade(&mut self) -> Option<OnUpgrade> {
        self.head.extensions.remove::<OnUpgrade>()
    }
}

/// A running server; it stops when it is dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    accept: Box<dyn Fn(TcpListener) -> AbortHandle + Send + Sync>,
    accepting: Mutex<Vec<AbortHandle>>,
}

struct Shared {
    certificates: Certificates,
    /// The usual configurations, kept so that clients can resume sessions.
    with_http2: Arc<ServerConfig>,
    only_http1: Arc<ServerConfig>,
    memory: Arc<Memory>,
    misbehaviour: Mutex<Option<Misbehaviour>>,
    http2_offered: AtomicBool,
    held: watch::Sender<bool>,
    accepted: AtomicU64,
    open: Arc<AtomicUsize>,
}

impl Server {
    /// Starts a server that answers to these names, and refuses every other.
    pub async fn start<A: Api>(
        authority: &Authority,
        names: &[&str],
        api: Arc<A>,
    ) -> io::Result<Self> {
        Self::launch(authority, names, true, api).await
    }

    /// Starts a server that is also spoken to by address, without a name in the TLS greeting.
    pub async fn start_nameless<A: Api>(
        authority: &Authority,
        names: &[&str],
        api: Arc<A>,
    ) -> io::Result<Self> {
        Self::launch(authority, names, false, api).await
    }

    async fn launch<A: Api>(
        authority: &Authority,
        names: &[&str],
        name_required: bool,
        api: Arc<A>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let certificates = Certificates::new(authority, names, name_required);
        let shared = Arc::new(Shared {
            with_http2: certificates.config(None, true),
            only_http1: certificates.config(None, false),
            certificates,
            memory: Arc::default(),
            misbehaviour: Mutex::default(),
            http2_offered: AtomicBool::new(true),
            held: watch::Sender::new(false),
            accepted: AtomicU64::new(0),
            open: Arc::default(),
        });
        let accepted = Arc::clone(&shared);
        let server = Self {
            address,
            shared,
            accept: Box::new(move |listener| {
                tokio::spawn(accept(listener, Arc::clone(&accepted), Arc::clone(&api)))
                    .abort_handle()
            }),
            accepting: Mutex::default(),
        };
        server.listen_also(listener);
        Ok(server)
    }

    /// Answers at another address too, such as one of another network namespace.
    pub fn listen_also(&self, listener: TcpListener) {
        let accepting = (self.accept)(listener);
        let mut all = self
            .accepting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.push(accepting);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it received.
    pub fn memory(&self) -> &Memory {
        &self.shared.memory
    }

    /// Makes it misbehave from now on, or behave again. Only new connections meet what happens
    /// before or within the TLS handshake.
    pub fn misbehave(&self, how: Option<Misbehaviour>) {
        *self.shared.misbehaviour_slot() = how;
    }

    /// Offers only HTTP/1.1 to new connections, or HTTP/2 as well.
    pub fn set_only_http1(&self, only: bool) {
        self.shared.http2_offered.store(!only, Ordering::Release);
    }

    /// Holds every answer back, though its request was received, or lets all of them go.
    pub fn hold(&self, held: bool) {
        self.shared.held.send_replace(held);
    }

    /// The connections that are open now.
    pub fn open_connections(&self) -> usize {
        self.shared.open.load(Ordering::Acquire)
    }

    /// The connections that were ever accepted.
    pub fn accepted_connections(&self) -> u64 {
        self.shared.accepted.load(Ordering::Acquire)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let all = self.accepting.get_mut();
        for accepting in all.unwrap_or_else(PoisonError::into_inner) {
            accepting.abort();
        }
    }
}

impl Shared {
    fn misbehaviour(&self) -> Option<Misbehaviour> {
        *self.misbehaviour_slot()
    }

    fn misbehaviour_slot(&self) -> MutexGuard<'_, Option<Misbehaviour>> {
        self.misbehaviour
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn tls(&self) -> Arc<ServerConfig> {
        let http2 = self.http2_offered.load(Ordering::Acquire);
        match (self.misbehaviour(), http2) {
            (None, true) => Arc::clone(&self.with_http2),
            (None, false) => Arc::clone(&self.only_http1),
            // Made afresh: a resumed session would not show the wrong certificate.
            (how, http2) => self.certificates.config(how, http2),
        }
    }
}

async fn accept<A: Api>(listener: TcpListener, shared: Arc<Shared>, api: Arc<A>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((tcp, peer)) => {
                    let (shared, api) = (Arc::clone(&shared), Arc::clone(&api));
                    connections.spawn(connection(tcp, peer, shared, api));
                }
                // Too many open files, or a peer that is gone already: give others a turn.
                Err(_busy) => tokio::task::yield_now().await,
            },
            Some(_ended) = connections.join_next() => {}
        }
    }
}

async fn connection<A: Api>(tcp: TcpStream, peer: SocketAddr, shared: Arc<Shared>, api: Arc<A>) {
    let number = shared.accepted.fetch_add(1, Ordering::AcqRel) + 1;
    let cut = Arc::new(Cut::default());
    // An error here and below means that the peer is gone; nobody is left to be told.
    let Ok(mut wire) = Wire::new(tcp, Arc::clone(&cut), Arc::clone(&shared.open)) else {
        return;
    };
    match shared.misbehaviour() {
        Some(Misbehaviour::ResetOnAccept) => return cut.cut(),
        Some(Misbehaviour::StallBeforeTls) => std::future::pending().await,
        Some(Misbehaviour::NoTls) => {
            let _gone = wire.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            let _gone = wire.shutdown().await;
            return;
        }
        _ => {}
    }
    let Ok(mut stream) = TlsAcceptor::from(shared.tls()).accept(wire).await else {
        return;
    };
    if shared.misbehaviour() == Some(Misbehaviour::Garbage) {
        let _gone = stream.write_all(b"\x00\x01garbage\xff\xfe\r\n\r\n").await;
        let _gone = stream.shutdown().await;
        return;
    }
    let tls = stream.get_ref().1;
    let connection = Connection {
        number,
        protocol: match tls.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            Some(_) | None => Protocol::Http1,
        },
        server_name: tls.server_name().map(str::to_owned),
        peer,
    };
    let protocol = connection.protocol;
    let severed = Arc::clone(&cut);
    let service = service_fn(move |request| {
        let (connection, shared) = (connection.clone(), Arc::clone(&shared));
        let (api, cut) = (Arc::clone(&api), Arc::clone(&cut));
        async move { exchange(request, connection, &shared, &*api, &cut).await }
    });
    let io = TokioIo::new(stream);
    let serve = async {
        match protocol {
            Protocol::Http1 => {
                let _gone = http1::Builder::new()
                    .serve_connection(io, service)
                    .with_upgrades()
                    .await;
            }
            Protocol::Http2 => {
                let _gone = http2::Builder::new(TokioExecutor::new())
                    .serve_connection(io, service)
                    .await;
            }
        }
    };
    tokio::select! {
        () = serve => {}
        () = severed.wait() => {}
    }
}

async fn exchange<A: Api>(
    request: Request<Incoming>,
    connection: Connection,
    shared: &Shared,
    api: &A,
    cut: &Cut,
) -> Result<Response<Body>, io::Error> {
    let (head, body) = request.into_parts();
    let Some(host) = host(&head, &connection) else {
        return Ok(body::text(StatusCode::BAD_REQUEST, "no usable host\n"));
    };
    let misdirected = connection
        .server_name
        .as_ref()
        .is_some_and(|name| *name != host);
    let exchange = Exchange {
        head,
        body,
        host,
        connection,
        memory: Arc::clone(&shared.memory),
    };
    if misdirected {
        exchange.read().await;
        return Ok(body::text(StatusCode::MISDIRECTED_REQUEST, "misdirected\n"));
    }
    match shared.misbehaviour() {
        Some(Misbehaviour::ResetAfterRequest) => {
            exchange.read().await;
            cut.cut();
            std::future::pending().await
        }
        Some(Misbehaviour::Stall) => {
            exchange.read().await;
            std::future::pending().await
        }
        Some(Misbehaviour::StallBeforeBody) => {
            // Dropping it would be an answer over HTTP/2.
            let _unread = exchange;
            std::future::pending().await
        }
        Some(Misbehaviour::ResetInBody) => {
            exchange.read().await;
            Ok(Response::new(body::broken(Then::Fail)))
        }
        Some(Misbehaviour::StallInBody) => {
            exchange.read().await;
            Ok(Response::new(body::broken(Then::Stall)))
        }
        Some(Misbehaviour::Echo) => {
            let received = exchange.read().await;
            Ok(echo(&received))
        }
        _ => {
            let answer = api.answer(exchange).await;
            let mut held = shared.held.subscribe();
            // An error would be that the server is gone, and then nobody holds anything back.
            drop(held.wait_for(|held| !held).await);
            Ok(answer)
        }
    }
}

/// The request's one host: exactly one, on the port of `https`.
fn host(head: &Parts, connection: &Connection) -> Option<String> {
    let mut headers = head.headers.get_all(HOST).iter();
    let named = match (headers.next(), headers.next(), connection.protocol) {
        (Some(host), None, Protocol::Http1) => host.to_str().ok()?.to_owned(),
        (None, None, Protocol::Http2) => head.uri.authority()?.as_str().to_owned(),
        _ => return None,
    };
    // Without a name in the greeting the caller dialled an address, and its port is any.
    if connection.server_name.is_none() {
        return Some(named);
    }
    match named.split_once(':') {
        None | Some((_, "443")) => Some(named.trim_end_matches(":443").to_owned()),
        Some(_) => None,
    }
}

/// The request's head as the answer.
fn echo(received: &Received) -> Response<Body> {
    let mut text = format!("{} {}", received.method, received.path);
    let mut response = Response::new(body::full(""));
    for (name, value) in &received.headers {
        text.push('\n');
        text.push_str(name.as_str());
        text.push_str(": ");
        text.push_str(&String::from_utf8_lossy(value.as_bytes()));
        if let Ok(name) = http::HeaderName::try_from(format!("x-echo-{name}")) {
            response.headers_mut().append(name, value.clone());
        }
    }
    *response.body_mut() = body::full(text);
    response
}

#[cfg(test)]
mod tests;
