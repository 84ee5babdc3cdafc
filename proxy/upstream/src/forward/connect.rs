//! From an authority to a connection: resolve, check, dial, TLS handshake.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use countersign_config::{host::Host, model};
use countersign_core::destination::Authority;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{
    corporate, dial,
    dialled::Dialled,
    error::{ForwardError, SetupError},
    resolve::{Addresses, Resolver},
    served::Served,
    tls::{Protocol, Tls},
};

/// A verified TLS connection to an upstream.
pub(super) struct Connected {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) protocol: Protocol,
    pub(super) address: SocketAddr,
}

/// Makes connections. Nothing else in this program dials an upstream.
pub(super) struct Connector {
    resolver: Resolver,
    tls: Tls,
    proxy: Option<model::UpstreamProxy>,
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
            proxy: upstream.proxy.clone(),
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
    pub(super) async fn connect(&self, authority: &Authority) -> Result<Connected, ForwardError> {
        let (stream, address) = self.tcp(authority).await?;
        self.remember(address, authority);
        let (stream, protocol) = self.tls.connect(authority.host(), stream).await?;
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
    ) -> Result<Connected, ForwardError> {
        let (stream, address) = self.tcp(authority).await?;
        self.remember(address, authority);
        let stream = self.tls.connect_http1(authority.host(), stream).await?;
        Ok(Connected {
            stream,
            protocol: Protocol::Http1,
            address,
        })
    }

    /// The address of a corporate proxy belongs to no upstream host.
    fn remember(&self, address: SocketAddr, authority: &Authority) {
        if self.proxy.is_none() || self.resolver.overridden(authority).is_some() {
            self.served.note(address, authority.host());
        }
    }

    /// A plain connection: the base of those above, and a tunnel's upstream side. The address is the
    /// corporate proxy's if there is one.
    pub(super) async fn tcp(
        &self,
        authority: &Authority,
    ) -> Result<(TcpStream, SocketAddr), ForwardError> {
        match &self.proxy {
            Some(proxy) if self.resolver.overridden(authority).is_none() => {
                self.through(proxy, authority).await
            }
            Some(_) | None => self.dial(&self.resolver.resolve(authority).await?).await,
        }
    }

    async fn through(
        &self,
        proxy: &model::UpstreamProxy,
        authority: &Authority,
    ) -> Result<(TcpStream, SocketAddr), ForwardError> {
        if let Host::Ip(address) = authority.host() {
            self.resolver.check(*address)?;
            self.refuse_own(SocketAddr::new(*address, authority.port()))?;
        }
        let addresses = self.resolver.resolve_proxy(proxy).await?;
        let (mut stream, address) = self.dial(&addresses).await?;
        corporate::open_tunnel(&mut stream, address, authority).await?;
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
