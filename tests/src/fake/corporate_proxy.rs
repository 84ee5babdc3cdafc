//! A company's way out: an HTTP proxy that tunnels by CONNECT, over TLS or in clear, for those who show a user
//! name and a password, and to the hosts that it allows. It refuses whatever is not exactly that.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
};
use tokio_rustls::TlsAcceptor;

use super::Authority;

/// The page of a refusal, as such proxies write it.
const FORBIDDEN: &str = "<!DOCTYPE html>\n<html><head><title>Access Denied</title>\n\
    <style type=\"text/css\">body { font-family: sans-serif; color: #333 }</style></head>\n\
    <body><h1>Access Denied</h1><p>Category: Web API. Ask <b>netops@corp.example</b>.</p></body></html>\n";

/// A running proxy; it stops when it is dropped.
pub struct CorporateProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

#[derive(Default)]
struct Shared {
    allowed: Mutex<HashMap<String, SocketAddr>>,
    /// `Basic ...`, if it wants that.
    wanted: Mutex<Option<String>>,
    opened: AtomicUsize,
    cut: watch::Sender<()>,
}

impl CorporateProxy {
    /// Starts one that speaks TLS, as 127.0.0.1.
    pub async fn start(authority: &Authority) -> io::Result<Self> {
        let (certificate, key) = authority.issue(&["127.0.0.1"]);
        let pem = |error| io::Error::other(format!("{error}"));
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(pem)?];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(pem)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self::launch(Some(Arc::new(config).into())).await
    }

    /// Starts one that is spoken to in clear.
    pub async fn start_in_clear() -> io::Result<Self> {
        Self::launch(None).await
    }

    async fn launch(tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, tls) = (Arc::clone(&serving), tls.clone());
                tokio::spawn(async move {
                    // A client that does not believe it, or leaves, is none of its business.
                    if let Some(tls) = tls {
                        if let Ok(stream) = tls.accept(stream).await {
                            drop(shared.serve(stream).await);
                        }
                    } else {
                        drop(shared.serve(stream).await);
                    }
                });
            }
        });
        Ok(Self {
            address,
            shared,
            accepting: accepting.abort_handle(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Allows `host:port`, which is at this address.
    pub fn allow(&self, authority: &str, address: SocketAddr) {
        lock(&self.shared.allowed).insert(authority.to_owned(), address);
    }

    /// From now on it wants this user name and password.
    pub fn require(&self, username: &str, password: &str) {
        let pair = BASE64_STANDARD.encode(format!("{username}:{password}"));
        *lock(&self.shared.wanted) = Some(format!("Basic {pair}"));
    }

    /// Closes all its tunnels.
    pub fn cut(&self) {
        self.shared.cut.send_replace(());
    }

    /// How many tunnels it has opened.
    pub fn opened(&self) -> usize {
        self.shared.opened.load(Ordering::Relaxed)
    }
}

impl Drop for CorporateProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    async fn serve<IO>(&self, mut client: IO) -> io::Result<()>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let mut cut = self.cut.subscribe();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await?);
            if !head[0].is_ascii_uppercase() {
                let answer = answer("400 Bad Request", "", "this is not HTTP");
                client.write_all(answer.as_bytes()).await?;
                return client.shutdown().await;
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let to = match self.judge(&head) {
            Ok(to) => to,
            Err(answer) => {
                client.write_all(answer.as_bytes()).await?;
                return client.shutdown().await;
            }
        };
        let mut upstream = match TcpStream::connect(to).await {
            Ok(upstream) => upstream,
            Err(error) => {
                let text = format!("cannot connect: {error}");
                client
                    .write_all(answer("502 Bad Gateway", "", &text).as_bytes())
                    .await?;
                return client.shutdown().await;
            }
        };
        client
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            .await?;
        self.opened.fetch_add(1, Ordering::Relaxed);
        tokio::select! {
            copied = copy_bidirectional(&mut client, &mut upstream) => copied.map(drop),
            _ = cut.changed() => Ok(()),
        }
    }

    /// Where a request goes, or what it is answered with.
    fn judge(&self, head: &str) -> Result<SocketAddr, String> {
        let mut lines = head.trim_end().split("\r\n");
        let line = lines.next().unwrap_or_default();
        let fields: HashMap<_, _> = lines.filter_map(|line| line.split_once(": ")).collect();
        let authority = line
            .strip_prefix("CONNECT ")
            .and_then(|rest| rest.strip_suffix(" HTTP/1.1"))
            .filter(|authority| fields.get("Host") == Some(authority))
            .ok_or_else(|| answer("400 Bad Request", "", "this is no CONNECT"))?;
        let shown = fields.get("Proxy-Authorization").copied();
        if let Some(wanted) = &*lock(&self.wanted)
            && shown != Some(wanted)
        {
            let challenge = "Proxy-Authenticate: Basic realm=\"corp\"\r\n";
            // Some repeat what they were sent.
            let text = format!(
                "<p>Cache Access Denied. You sent: {}</p>",
                shown.unwrap_or("nothing")
            );
            return Err(answer(
                "407 Proxy Authentication Required",
                challenge,
                &text,
            ));
        }
        let allowed = lock(&self.allowed);
        let refused = || answer("403 Forbidden", "Content-Type: text/html\r\n", FORBIDDEN);
        allowed.get(authority).copied().ok_or_else(refused)
    }
}

fn answer(status: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "400")]
    #[case("CONNECT a.test:443 HTTP/1.1\r\nHost: b.test:443\r\n\r\n", "400")]
    #[case("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n", "407")]
    #[case(
        "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nProxy-Authorization: Basic dTp3cm9uZw==\r\n\r\n",
        "407"
    )]
    #[case(
        "CONNECT b.test:443 HTTP/1.1\r\nHost: b.test:443\r\nProxy-Authorization: Basic dTpw\r\n\r\n",
        "403"
    )]
    #[case(
        "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nProxy-Authorization: Basic dTpw\r\n\r\n",
        "502"
    )]
    #[tokio::test]
    async fn it_refuses_all_but_a_tunnel_that_it_allows(
        #[case] request: &str,
        #[case] status: &str,
    ) {
        let proxy = CorporateProxy::start_in_clear().await.unwrap();
        proxy.require("u", "p");
        // Nobody listens there any more.
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        proxy.allow("a.test:443", closed.local_addr().unwrap());
        drop(closed);
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert_eq!(proxy.opened(), 0);
    }
}
