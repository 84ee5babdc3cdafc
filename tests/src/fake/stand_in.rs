//! What every stand-in is: an API, and the server that answers for it.

use std::{io, net::SocketAddr, ops::Deref, sync::Arc};

use super::{Api, Authority, Memory, Misbehaviour, Protocol, Server};

/// A running stand-in, on a free loopback port. It stops when it is dropped.
///
/// What is special about the API is reached through it, as through an `Arc`.
pub struct StandIn<A> {
    server: Server,
    api: Arc<A>,
    hosts: &'static [&'static str],
    ca_pem: String,
}

impl<A: Api> StandIn<A> {
    /// Starts it; it answers to these hosts, and refuses every other.
    pub async fn serve(
        authority: &Authority,
        hosts: &'static [&'static str],
        api: A,
    ) -> io::Result<Self> {
        let api = Arc::new(api);
        let server = Server::start(authority, hosts, Arc::clone(&api)).await?;
        Ok(Self::of(server, api, hosts, authority))
    }

    /// Starts it; it is also spoken to by address, without a name in the TLS greeting.
    pub async fn serve_nameless(
        authority: &Authority,
        hosts: &'static [&'static str],
        api: A,
    ) -> io::Result<Self> {
        let api = Arc::new(api);
        let server = Server::start_nameless(authority, hosts, Arc::clone(&api)).await?;
        Ok(Self::of(server, api, hosts, authority))
    }

    fn of(
        server: Server,
        api: Arc<A>,
        hosts: &'static [&'static str],
        authority: &Authority,
    ) -> Self {
        Self {
            server,
            api,
            hosts,
            ca_pem: authority.pem(),
        }
    }
}

impl<A> StandIn<A> {
    /// Where it listens, for all its hosts.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The hosts that it answers to, each on port 443.
    pub fn hosts(&self) -> &'static [&'static str] {
        self.hosts
    }

    /// The root that its certificate chains to, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The server beneath: connections and listeners.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// What it received.
    pub fn received(&self) -> &Memory {
        self.server.memory()
    }

    /// Makes it misbehave from now on, or behave again.
    pub fn misbehave(&self, how: Option<Misbehaviour>) {
        self.server.misbehave(how);
    }

    /// Offers no other protocol than this to new connections, where it is HTTP/1.1.
    pub fn speak(&self, protocol: Protocol) {
        self.server.set_only_http1(protocol == Protocol::Http1);
    }
}

impl<A> Deref for StandIn<A> {
    type Target = A;

    fn deref(&self) -> &A {
        &self.api
    }
}
