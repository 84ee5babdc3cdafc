//! An API over TLS that answers by a script, byte for byte, in HTTP/1.1 or HTTP/2.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use countersign_tests::fake::{Authority, Protocol};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::frames::{self, Frame};

type Stream = TlsStream<TcpStream>;

/// What follows an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The next request.
    Next,
    /// The end of the connection, told by TLS.
    Close,
    /// The end of the connection, not told by TLS.
    Cut,
    /// What comes is sent back, as another protocol.
    Echo,
}

/// An answer; over HTTP/2 it is made for the number of its stream.
pub(super) struct Reply {
    pub(super) bytes: Box<dyn Fn(u32) -> Vec<u8> + Send>,
    pub(super) then: Then,
    /// Whether it comes before the request's body was read; HTTP/2 only.
    pub(super) early: bool,
}

/// The API; it stops when it is dropped.
pub(super) struct Scripted {
    pub(super) address: SocketAddr,
    state: Arc<State>,
    accepting: AbortHandle,
}

#[derive(Default)]
struct State {
    replies: Mutex<VecDeque<Reply>>,
    seen: Mutex<Vec<String>>,
    connections: AtomicUsize,
    open: AtomicUsize,
}

impl Scripted {
    pub(super) fn start(
        authority: &Authority,
        name: &str,
        protocol: Protocol,
    ) -> anyhow::Result<Self> {
        let acceptor = acceptor(authority, name, protocol)?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = TcpListener::from_std(listener)?;
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (state, acceptor) = (Arc::clone(&shared), acceptor.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(tcp).await else {
                        return;
                    };
                    state.connections.fetch_add(1, Ordering::SeqCst);
                    state.open.fetch_add(1, Ordering::SeqCst);
                    // How a connection ends is the gateway's business.
                    let _ended = match protocol {
                        Protocol::Http1 => http1(stream, &state).await,
                        Protocol::Http2 => http2(stream, &state).await,
                    };
                    state.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Ok(Self {
            address,
            state,
            accepting: accepting.abort_handle(),
        })
    }

    /// Answers the next request so; after the last of these, and before the first, by a plain `ok`.
    pub(super) fn answers(&self, reply: Reply) {
        lock(&self.state.replies).push_back(reply);
    }

    /// The requests since the last call, as they came: over HTTP/1.1 their bytes, over HTTP/2 their
    /// bodies.
    pub(super) fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.state.seen))
    }

    /// How many connections there ever were.
    pub(super) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// How many connections there are.
    pub(super) fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl State {
    /// The reply that comes now, if it does.
    fn reply(&self, early: bool) -> Option<Reply> {
        let mut replies = lock(&self.replies);
        if replies.front().is_some_and(|reply| reply.early == early) {
            return replies.pop_front();
        }
        None
    }

    fn saw(&self, request: &[u8]) {
        let request = String::from_utf8_lossy(request).into_owned();
        lock(&self.seen).push(request);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn http1(mut stream: Stream, state: &State) -> io::Result<()> {
    loop {
        let request = request(&mut stream).await?;
        state.saw(&request);
        let reply = state.reply(false).unwrap_or_else(|| {
            let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            plain(ok, Then::Next)
        });
        if !finish(&mut stream, reply, 0).await? {
            return Ok(());
        }
    }
}

/// Writes a reply; whether the connection goes on.
async fn finish(stream: &mut Stream, reply: Reply, id: u32) -> io::Result<bool> {
    let Reply { bytes, then, .. } = reply;
    let bytes = bytes(id);
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    match then {
        Then::Next => return Ok(true),
        Then::Close => stream.shutdown().await?,
        Then::Cut => stream.get_mut().0.shutdown().await?,
        Then::Echo => {
            let (mut read, mut write) = tokio::io::split(stream);
            tokio::io::copy(&mut read, &mut write).await?;
            write.shutdown().await?;
        }
    }
    Ok(false)
}

/// One whole request.
async fn request(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&request).to_ascii_lowercase();
    let field = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim)
    };
    if field("transfer-encoding:").is_some() {
        while !request.ends_with(b"0\r\n\r\n") {
            request.push(stream.read_u8().await?);
        }
    } else if let Some(length) = field("content-length:") {
        let length: usize = length.parse().map_err(io::Error::other)?;
        let begin = request.len();
        request.resize(begin + length, 0);
        stream.read_exact(&mut request[begin..]).await?;
    }
    Ok(request)
}

async fn http2(mut stream: Stream, state: &State) -> io::Result<()> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await?;
    stream.write_all(&frames::wide_settings()).await?;
    let mut bodies: Vec<(u32, Vec<u8>)> = Vec::new();
    loop {
        let Frame {
            kind,
            flags,
            id,
            payload,
        } = frames::read(&mut stream).await?;
        match kind {
            frames::SETTINGS if flags & frames::ACK == 0 => {
                stream.write_all(&frames::settings_ack()).await?;
            }
            frames::PING if flags & frames::ACK == 0 => {
                let pong = frames::frame(frames::PING, frames::ACK, 0, &payload);
                stream.write_all(&pong).await?;
            }
            frames::HEADERS => {
                bodies.push((id, Vec::new()));
                if let Some(reply) = state.reply(true)
                    && !finish(&mut stream, reply, id).await?
                {
                    return Ok(());
                }
            }
            frames::DATA => {
                if let Some((_, body)) = bodies.iter_mut().find(|(stream, _)| *stream == id) {
                    body.extend_from_slice(&payload);
                }
            }
            _ => {}
        }
        let ended =
            matches!(kind, frames::HEADERS | frames::DATA) && flags & frames::END_STREAM > 0;
        let at = bodies.iter().position(|(stream, _)| *stream == id);
        if let (true, Some(at)) = (ended, at) {
            state.saw(&bodies.swap_remove(at).1);
            let reply = state.reply(false).unwrap_or_else(|| {
                let ok = |id| frames::answer(id, &[(":status", "200")], b"ok");
                framed(ok, Then::Next)
            });
            if !finish(&mut stream, reply, id).await? {
                return Ok(());
            }
        }
    }
}

/// A reply of HTTP/1.1.
pub(super) fn plain(bytes: &str, then: Then) -> Reply {
    let bytes = bytes.as_bytes().to_vec();
    Reply {
        bytes: Box::new(move |_| bytes.clone()),
        then,
        early: false,
    }
}

/// A reply of HTTP/2.
pub(super) fn framed(bytes: impl Fn(u32) -> Vec<u8> + Send + 'static, then: Then) -> Reply {
    Reply {
        bytes: Box::new(bytes),
        then,
        early: false,
    }
}

fn acceptor(authority: &Authority, name: &str, protocol: Protocol) -> anyhow::Result<TlsAcceptor> {
    let (certificate, key) = authority.issue(&[name]);
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            chain.collect::<Result<_, _>>()?,
            PrivateKeyDer::from_pem_slice(key.as_bytes())?,
        )?;
    config.alpn_protocols = vec![match protocol {
        Protocol::Http1 => b"http/1.1".to_vec(),
        Protocol::Http2 => b"h2".to_vec(),
    }];
    Ok(Arc::new(config).into())
}
