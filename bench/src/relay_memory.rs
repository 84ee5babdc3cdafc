//! What the relay costs a pod: the size of its binary, and its memory at rest and with many open
//! connections.
//!
//! The gateway is a stand-in that opens every tunnel and sends back what comes, since only the relay is
//! measured.

use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use bytes::Bytes;
use countersign_tests::client::read_head;
use http::{Method, Request, Response};
use http_body_util::Empty;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    affinity::Cores,
    files::{self, Addresses, Files},
    load::as_float,
    process::Process,
    scenario::{free_address, ready},
};

/// How long it rests before its memory is read.
const REST: Duration = Duration::from_secs(3);

/// How many connections are opened at a time.
const AT_A_TIME: usize = 50;

/// Tunnels at once on a connection, as the gateway allows.
const STREAMS: u32 = 128;

/// What is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct RelayMemory {
    /// The relay's binary, as it is shipped.
    #[arg(long, value_name = "FILE")]
    relay: PathBuf,
    /// How many connections are open at the end.
    #[arg(long, default_value_t = 1000)]
    open: usize,
}

/// Measures and prints a table.
pub(crate) async fn run(
    options: &RelayMemory,
    cores: &Cores,
    machine: &[String],
) -> anyhow::Result<()> {
    let files = Files::new().await?;
    let ca = files.directory().join("gateway-ca.pem");
    let gateway = gateway(&ca).await?;
    let addresses = Addresses {
        upstream: gateway,
        proxy: free_address()?,
        admin: free_address()?,
    };
    let mut relay = start(&options.relay, &files, &ca, addresses, cores)?;
    ready(&mut relay, addresses).await?;
    tokio::time::sleep(REST).await;
    let rest = Memory::of(&relay)?;
    let open = open(addresses.proxy, options.open).await?;
    tokio::time::sleep(REST).await;
    let busy = Memory::of(&relay)?;
    drop(open);
    files::say(&format!("{}\n\n", machine.join("\n\n")))?;
    files::say(&table(options, rest, busy)?).context("nobody reads the table")
}

/// Resident memory, in bytes.
#[derive(Clone, Copy)]
struct Memory {
    all: u64,
    /// What is no page of the binary's file.
    own: u64,
}

impl Memory {
    fn of(relay: &Process) -> anyhow::Result<Self> {
        Ok(Self {
            all: relay.resident()?,
            own: relay.anonymous()?,
        })
    }

    fn told(self) -> String {
        let mib = |bytes| as_float(bytes) / 1024.0 / 1024.0;
        format!(
            "{:.1} MiB, of it {:.1} its own",
            mib(self.all),
            mib(self.own)
        )
    }
}

fn table(options: &RelayMemory, rest: Memory, busy: Memory) -> anyhow::Result<String> {
    let size = as_float(fs::metadata(&options.relay)?.len()) / 1e6;
    let grown = as_float(busy.all.saturating_sub(rest.all)) / 1024.0;
    let each = grown / as_float(u64::try_from(options.open)?);
    Ok(format!(
        "| | |\n|---|---|\n\
         | the binary | {size:.1} MB |\n\
         | resident at rest, one gateway connected | {} |\n\
         | resident with {} open connections | {}; {each:.1} KiB for each |\n",
        rest.told(),
        options.open,
        busy.told(),
    ))
}

fn start(
    binary: &Path,
    files: &Files,
    ca: &Path,
    addresses: Addresses,
    cores: &Cores,
) -> anyhow::Result<Process> {
    let token = files.directory().join("token");
    fs::write(&token, &files.token)?;
    let mut command = Command::new(binary);
    command
        .args([
            "--log",
            "json",
            "--gateway",
            &addresses.upstream.to_string(),
        ])
        .args(["--http", &addresses.proxy.to_string()])
        .args(["--redirected", &free_address()?.to_string()])
        .args(["--health", &addresses.admin.to_string()])
        .arg("--gateway-ca")
        .arg(ca)
        .arg("--token-file")
        .arg(token)
        .env_remove("RUST_LOG");
    Process::pinned(command, &files.process_log(), cores)
}

/// Opens connections through the relay, each of which is heard back on.
async fn open(proxy: SocketAddr, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let mut open = Vec::with_capacity(count);
    while open.len() < count {
        let mut opening = JoinSet::new();
        for _ in 0..AT_A_TIME.min(count - open.len()) {
            opening.spawn(open_one(proxy));
        }
        while let Some(opened) = opening.join_next().await {
            let number = open.len();
            open.push(opened?.with_context(|| format!("connection {number}"))?);
        }
    }
    Ok(open)
}

async fn open_one(proxy: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(proxy).await?;
    let authority = format!("{}:443", files::HOST);
    let head = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let answer = read_head(&mut stream).await?;
    ensure!(answer.split(' ').nth(1) == Some("200"), "{answer}");
    stream.write_all(b"ping").await?;
    let mut heard = [0; 4];
    stream.read_exact(&mut heard).await?;
    ensure!(&heard == b"ping", "another came back");
    Ok(stream)
}

/// Starts the stand-in gateway and writes what its certificate is checked against.
async fn gateway(ca: &Path) -> anyhow::Result<SocketAddr> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()])?.self_signed(&key)?;
    fs::write(ca, certificate.pem())?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut tls = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            // What a relay does not get, it says.
            tokio::spawn(async move { drop(serve(stream, acceptor).await) });
        }
    });
    Ok(address)
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor) -> anyhow::Result<()> {
    let stream = acceptor.accept(stream).await?;
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await?;
    Ok(())
}

/// Opens a tunnel in which everything comes back.
async fn answer(mut request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    if request.method() == Method::CONNECT {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgrade.await?));
            tokio::io::copy(&mut reader, &mut writer).await?;
            anyhow::Ok(())
        });
    }
    Ok(Response::new(Empty::new()))
}
