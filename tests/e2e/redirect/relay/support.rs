//! A pod with a relay, and gateways for it.

#![allow(
    clippy::unwrap_used,
    reason = "what a test stands on is there, or the test fails at that place"
)]

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use countersign_config::model::{ClientTrust, ListenerTls};
use countersign_relay::{CONNECTIONS, GatewayName, Proof, Relay, Settings};
use countersign_tests::{
    client::Client, environment::Environment, gateway::Gateway, listener_files::ListenerFiles,
};
use http::{Method, Request, Response, StatusCode, header::PROXY_AUTHORIZATION};
use http_body_util::Empty;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A gateway whose listener has TLS.
pub(crate) struct TlsGateway {
    pub(crate) gateway: Gateway,
    pub(crate) ca: PathBuf,
}

impl TlsGateway {
    pub(crate) async fn start(env: &Environment) -> Self {
        Self::start_trusting(env, ClientTrust::None).await
    }

    /// One whose clients identify themselves like this.
    pub(crate) async fn start_trusting(env: &Environment, client_trust: ClientTrust) -> Self {
        // One authority for all gateways of an environment.
        let files = ListenerFiles {
            ca: env.directory().join("listener-ca.pem"),
            certificate: env.directory().join("listener.pem"),
            key: env.directory().join("listener-key.pem"),
        };
        if !files.ca.exists() {
            ListenerFiles::write(env.directory(), &[LOCALHOST]).unwrap();
        }
        let tls = ListenerTls::of_files(files.certificate, files.key, client_trust);
        let gateway = Gateway::start_with(env, |gateway| {
            gateway.listeners[0].tls = Some(tls);
        });
        Self {
            gateway: gateway.await.unwrap(),
            ca: files.ca,
        }
    }

    pub(crate) fn name(&self) -> GatewayName {
        self.gateway.address().to_string().parse().unwrap()
    }
}

/// A pod with a relay and a projected token.
pub(crate) struct Pod {
    pub(crate) http: SocketAddr,
    pub(crate) token_file: PathBuf,
    health: SocketAddr,
    clock: countersign_core::clock::Clock,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
    directory: TempDir,
}

impl Pod {
    /// A pod that is ready.
    pub(crate) async fn start(env: &Environment, gateways: &[&TlsGateway]) -> Self {
        let names = gateways.iter().map(|gateway| gateway.name()).collect();
        Self::start_with(env, names, &gateways[0].ca).await
    }

    /// The same with gateways of other kinds.
    pub(crate) async fn start_with(
        env: &Environment,
        gateways: Vec<GatewayName>,
        ca: &Path,
    ) -> Self {
        let pod = Self::start_not_ready(env, gateways, ca).await;
        let ready = async {
            while pod.readiness().await.0 != StatusCode::OK {
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(10), ready)
            .await
            .is_err()
        {
            panic!("the relay does not get ready: {:?}", pod.readiness().await);
        }
        pod
    }

    /// A pod whose relay was started just now.
    pub(crate) async fn start_not_ready(
        env: &Environment,
        gateways: Vec<GatewayName>,
        ca: &Path,
    ) -> Self {
        Self::start_bounded(env, gateways, ca, CONNECTIONS).await
    }

    /// The same, which carries so many connections at most.
    pub(crate) async fn start_bounded(
        env: &Environment,
        gateways: Vec<GatewayName>,
        ca: &Path,
        connections: usize,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let token_file = directory.path().join("token");
        std::fs::write(&token_file, env.token("qa", "nightly-dashboard")).unwrap();
        let any = SocketAddr::new(LOCALHOST, 0);
        let settings = Settings {
            gateways,
            gateway_ca: Some(ca.to_owned()),
            proof: Proof::Token(token_file.clone()),
            http: vec![any],
            redirected: Vec::new(),
            health: Some(any),
            drain: Duration::from_secs(20),
            connections,
        };
        let relay = Relay::bind(settings, env.clock.clone()).await.unwrap();
        let [http, health] = *relay.addresses() else {
            panic!("there are two listeners: {:?}", relay.addresses())
        };
        let (stop, stopped) = oneshot::channel();
        Self {
            http,
            token_file,
            health,
            clock: env.clock.clone(),
            stop,
            running: tokio::spawn(relay.run(async move { drop(stopped.await) })),
            directory,
        }
    }

    /// A client that has proxy variables and nothing else.
    pub(crate) fn client(&self, gateway: &TlsGateway) -> Client {
        Client::through(self.http, gateway.gateway.roots()).at(self.clock.clone())
    }

    /// What the relay's HTTP proxy port answers to these bytes, until it closes.
    pub(crate) async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.http).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    pub(crate) async fn readiness(&self) -> (StatusCode, String) {
        let mut stream = TcpStream::connect(self.health).await.unwrap();
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: relay\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }

    /// As SIGTERM does; gives the address of the HTTP proxy port, the run's end, and the token's
    /// directory.
    pub(crate) fn terminate(self) -> (SocketAddr, JoinHandle<()>, TempDir) {
        self.stop.send(()).expect("the relay runs");
        (self.http, self.running, self.directory)
    }
}

/// A tunnel through a proxy.
pub(crate) async fn connect(proxy: SocketAddr, target: &str) -> TcpStream {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    stream
}

/// A gateway that opens every tunnel and sends back what comes through it, or has no place.
pub(crate) struct StubGateway {
    pub(crate) ca: PathBuf,
    files: ListenerFiles,
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    tokens: Arc<Mutex<Vec<String>>>,
}

impl StubGateway {
    /// One that speaks these protocols.
    pub(crate) async fn start(directory: &Path, alpn: &[&[u8]]) -> Self {
        let files = ListenerFiles::write(directory, &[LOCALHOST]).unwrap();
        Self::with(files, alpn, StatusCode::OK).await
    }

    /// One that answers 503.
    pub(crate) async fn full(directory: &Path) -> Self {
        let files = ListenerFiles::write(directory, &[LOCALHOST]).unwrap();
        Self::with(files, &[b"h2"], StatusCode::SERVICE_UNAVAILABLE).await
    }

    /// One with the certificate of another.
    pub(crate) async fn start_beside(other: &Self, alpn: &[&[u8]]) -> Self {
        Self::with(other.files.clone(), alpn, StatusCode::OK).await
    }

    /// One with this certificate.
    pub(crate) async fn certified(files: ListenerFiles) -> Self {
        Self::with(files, &[b"h2"], StatusCode::OK).await
    }

    async fn with(files: ListenerFiles, alpn: &[&[u8]], status: StatusCode) -> Self {
        let socket = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
        let stub = Self {
            ca: files.ca.clone(),
            address: socket.local_addr().unwrap(),
            connections: Arc::default(),
            tokens: Arc::default(),
            files,
        };
        let acceptor = TlsAcceptor::from(Arc::new(stub.tls(alpn)));
        let (connections, tokens) = (Arc::clone(&stub.connections), Arc::clone(&stub.tokens));
        tokio::spawn(async move {
            loop {
                let (stream, _) = socket.accept().await.unwrap();
                // A client that does not believe us leaves within the handshake.
                let Ok(stream) = acceptor.accept(stream).await else {
                    continue;
                };
                connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, status, Arc::clone(&tokens)));
            }
        });
        stub
    }

    pub(crate) fn name(&self) -> GatewayName {
        self.address.to_string().parse().unwrap()
    }

    /// The connections it ever had.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// What it was shown as proof.
    pub(crate) fn tokens(&self) -> Vec<String> {
        self.tokens.lock().unwrap().clone()
    }

    fn tls(&self, alpn: &[&[u8]]) -> ServerConfig {
        let chain = CertificateDer::pem_file_iter(&self.files.certificate)
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let key = PrivateKeyDer::from_pem_file(&self.files.key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config
    }
}

async fn serve(
    stream: tokio_rustls::server::TlsStream<TcpStream>,
    status: StatusCode,
    tokens: Arc<Mutex<Vec<String>>>,
) {
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |mut request: Request<Incoming>| {
        let shown = request.headers().get(PROXY_AUTHORIZATION);
        let shown = shown
            .expect("a proof is shown")
            .to_str()
            .unwrap()
            .to_owned();
        tokens.lock().unwrap().push(shown);
        let upgrade = hyper::upgrade::on(&mut request);
        if status.is_success() && request.method() == Method::CONNECT {
            tokio::spawn(async move {
                let stream = TokioIo::new(upgrade.await.unwrap());
                let (mut reader, mut writer) = tokio::io::split(stream);
                // The client hangs up when it is done.
                drop(tokio::io::copy(&mut reader, &mut writer).await);
                drop(writer.shutdown().await);
            });
        }
        let response = Response::builder()
            .status(status)
            .body(Empty::<Bytes>::new());
        async move { Ok::<_, Infallible>(response.unwrap()) }
    });
    let stream = TokioIo::new(stream);
    // The client hangs up when it is done.
    if http2 {
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        drop(connection.serve_connection(stream, service).await);
    } else {
        let connection = hyper::server::conn::http1::Builder::new();
        drop(
            connection
                .serve_connection(stream, service)
                .with_upgrades()
                .await,
        );
    }
}
