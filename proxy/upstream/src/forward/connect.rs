//! From an authority to a connection: resolve, check, dial, TLS handshake.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use countersign_config::{host::Host, model};
use countersign_core::{destination::Authority, tls_error};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{
    corporate::{self, Basic, ProxyError, ProxyFault},
    dial,
    dialled::Dialled,
    error::{ForwardError, SetupError},
    resolve::{Addresses, Resolver},
    served::Served,
    tls::{Protocol, ProxyTls, Tls},
    transport::Transport,
};

/// A verified TLS connection to an upstream.
pub(super) struct Connected {
    pub(super) stream: TlsStream<Transport>,
    pub(super) protocol: Protocol,
    pub(super) address: SocketAddr,
}

/// A corporate proxy.
struct Proxy {
    authority: Authority,
    tls: Option<ProxyTls>,
    authentication: Option<model::ProxyAuthentication>,
}

/// How far a connection has come, to say what it waited for.
#[derive(Debug, Default)]
pub(super) struct Stage(AtomicU8);

/// What a corporate proxy has not done when the time is over; the first is about the upstream.
const STAGES: [Option<&str>; 4] = [
    None,
    Some("accepted no connection"),
    Some("completed no TLS handshake (which it does on its TLS port only)"),
    Some("did not answer whether it opens a tunnel (it may hang, or wait for the service itself)"),
];

const UPSTREAM: u8 = 0;
const PROXY_DIAL: u8 = 1;
const PROXY_TLS: u8 = 2;
const PROXY_ANSWER: u8 = 3;

impl Stage {
    fn set(&self, stage: u8) {
        self.0.store(stage, Ordering::Relaxed);
    }
}

/// Makes connections. Nothing else in this program dials an upstream.
pub(super) struct Connector {
    resolver: Resolver,
    tls: Tls,
    proxy: Option<Proxy>,
    own: ArcSwap<Vec<SocketAddr>>,
    dialled: Dialled,
    served: Served,
}

impl Connector {
    pub(super) fn new(
        upstream: &model::Upstream,
        own: Vec<SocketAddr>,
        connect_timeout: Duration,
    ) -> Result<Self, SetupError> {
        Ok(Self {
            resolver: Resolver::new(upstream, connect_timeout),
            tls: Tls::new(&upstream.roots)?,
            proxy: upstream.proxy.as_ref().map(Proxy::new).transpose()?,
            own: ArcSwap::from_pointee(own),
            dialled: Dialled::default(),
            served: Served::default(),
        })
    }

    pub(super) fn set_own(&self, own: Vec<SocketAddr>) {
        self.own.store(Arc::new(own));
    }

    pub(super) fn own(&self) -> Vec<SocketAddr> {
        Vec::clone(&self.own.load())
    }

    pub(super) fn is_own(&self, address: SocketAddr) -> bool {
        dial::is_own(address, &self.own.load())
    }

    pub(super) fn dialled(&self) -> &Dialled {
        &self.dialled
    }

    pub(super) fn served(&self) -> &Served {
        &self.served
    }

    /// A connection with the HTTP version that the upstream prefers.
    pub(super) async fn connect(
        &self,
        authority: &Authority,
        stage: &Stage,
    ) -> Result<Connected, ForwardError> {
        let (stream, address) = self.transport(authority, stage).await?;
        self.remember(address, authority);
        let connected = self.tls.connect(authority.host(), stream).await;
        let (stream, protocol) = connected.map_err(|error| self.seen_through(authority, error))?;
        Ok(Connected {
            stream,
            protocol,
            address,
        })
    }

    /// A connection for an upgrade, which only HTTP/1.1 has.
    pub(super) async fn connect_http1(
        &self,
        authority: &Authority,
        stage: &Stage,
    ) -> Result<Connected, ForwardError> {
        let (stream, address) = self.transport(authority, stage).await?;
        self.remember(address, authority);
        let connected = self.tls.connect_http1(authority.host(), stream).await;
        let stream = connected.map_err(|error| self.seen_through(authority, error))?;
        Ok(Connected {
            stream,
            protocol: Protocol::Http1,
            address,
        })
    }

    /// Why there was no connection in time.
    pub(super) fn timed_out(&self, stage: &Stage, limit: Duration) -> ForwardError {
        let waited_for = STAGES.get(usize::from(stage.0.load(Ordering::Relaxed)));
        match (&self.proxy, waited_for.copied().flatten()) {
            (Some(proxy), Some(stage)) => proxy.error(ProxyFault::Silent { stage, limit }),
            _ => ForwardError::ConnectTimeout { limit },
        }
    }

    /// The corporate proxy for this authority.
    fn proxy_for(&self, authority: &Authority) -> Option<&Proxy> {
        let proxy = self.proxy.as_ref()?;
        self.resolver
            .overridden(authority)
            .is_none()
            .then_some(proxy)
    }

    /// The address of a corporate proxy belongs to no upstream host.
    fn remember(&self, address: SocketAddr, authority: &Authority) {
        if self.proxy_for(authority).is_none() {
            self.served.note(address, authority.host());
        }
    }

    /// A connection that ends within the handshake may have been ended by the proxy.
    fn seen_through(&self, authority: &Authority, error: ForwardError) -> ForwardError {
        match (error, self.proxy_for(authority)) {
            (ForwardError::TlsHandshake { reason }, Some(proxy)) => ForwardError::TlsHandshake {
                reason: format!("{reason} (through the proxy {})", proxy.authority),
            },
            (error, _) => error,
        }
    }

    /// A plain connection: the base of those above, and a tunnel's upstream side. The address is the
    /// corporate proxy's if there is one.
    pub(super) async fn transport(
        &self,
        authority: &Authority,
        stage: &Stage,
    ) -> Result<(Transport, SocketAddr), ForwardError> {
        if let Some(proxy) = self.proxy_for(authority) {
            // Boxed, because it is rare and large.
            return Box::pin(self.through(proxy, authority, stage)).await;
        }
        let (stream, address) = self.dial(&self.resolver.resolve(authority).await?).await?;
        Ok((Transport::Tcp(stream), address))
    }

    async fn through(
        &self,
        proxy: &Proxy,
        authority: &Authority,
        stage: &Stage,
    ) -> Result<(Transport, SocketAddr), ForwardError> {
        if let Host::Ip(address) = authority.host() {
            self.resolver.check(*address)?;
            self.refuse_own(SocketAddr::new(*address, authority.port()))?;
        }
        let fault = |fault| proxy.error(fault);
        let basic = match &proxy.authentication {
            Some(authentication) => Some(Basic::read(authentication).await.map_err(fault)?),
            None => None,
        };
        stage.set(PROXY_DIAL);
        let dialled = async {
            let addresses = self.resolver.resolve_proxy(&proxy.authority).await?;
            self.dial(&addresses).await
        };
        let (stream, address) = dialled.await.map_err(|error| proxy.unreachable(error))?;
        let mut stream = match &proxy.tls {
            None => Transport::Tcp(stream),
            Some(tls) => {
                stage.set(PROXY_TLS);
                let connected = tls.connect(proxy.authority.host(), stream).await;
                Transport::Tls(Box::new(
                    connected.map_err(|error| proxy.unreachable(error))?,
                ))
            }
        };
        stage.set(PROXY_ANSWER);
        corporate::open_tunnel(&mut stream, authority, basic.as_ref())
            .await
            .map_err(fault)?;
        stage.set(UPSTREAM);
        Ok((stream, address))
    }

    async fn dial(&self, addresses: &Addresses) -> Result<(TcpStream, SocketAddr), ForwardError> {
        for address in addresses {
            self.refuse_own(*address)?;
        }
        let (stream, address) = dial::dial(addresses).await?;
        self.dialled.note(&stream, address);
        Ok((stream, address))
    }

    fn refuse_own(&self, address: SocketAddr) -> Result<(), ForwardError> {
        if self.is_own(address) {
            return Err(ForwardError::OwnAddress { address });
        }
        Ok(())
    }
}

impl Proxy {
    fn new(proxy: &model::UpstreamProxy) -> Result<Self, SetupError> {
        Ok(Self {
            authority: Authority::new(proxy.host.clone(), proxy.port),
            tls: proxy.tls.as_ref().map(ProxyTls::new).transpose()?,
            authentication: proxy.authentication.clone(),
        })
    }

    fn error(&self, fault: ProxyFault) -> ForwardError {
        ForwardError::Proxy(Box::new(ProxyError {
            proxy: self.authority.clone(),
            fault,
        }))
    }

    /// An error on the way to the proxy itself. What is about this machine remains what it is.
    fn unreachable(&self, error: ForwardError) -> ForwardError {
        let fault = match error {
            ForwardError::OwnAddress { .. }
            | ForwardError::Unreachable { .. }
            | ForwardError::NoSocket { .. } => return error,
            ForwardError::TlsBadCertificate { reason } => ProxyFault::Certificate(reason),
            ForwardError::TlsChain(error) => ProxyFault::Certificate(error.to_string()),
            ForwardError::TlsHandshake { reason } if reason == tls_error::NOT_TLS => {
                ProxyFault::NotTls
            }
            ForwardError::TlsHandshake { reason } => {
                ProxyFault::Unreachable(format!("no TLS with it: {reason}"))
            }
            other => ProxyFault::Unreachable(other.to_string()),
        };
        self.error(fault)
    }
}
