//! The settings of a relay: flags and environment, parsed once. A pod needs no file for them.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use countersign_core::destination::{Authority, AuthorityError};
use countersign_types::host::Host;
use rustls_pki_types::ServerName;

use super::proof::Proof;

/// The default number of client connections that are tunnelled at once.
pub const CONNECTIONS: usize = 4096;

/// The settings of a relay.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The gateways; each name may stand for several addresses.
    pub gateways: Vec<GatewayName>,
    /// The CA of the gateways' certificates, PEM; `None` is the system's roots. Read again for every
    /// connection.
    pub gateway_ca: Option<PathBuf>,
    /// How the pod identifies itself.
    pub proof: Proof,
    /// Where the local HTTP proxy listens; loopback only.
    pub http: Vec<SocketAddr>,
    /// Where the relay listens for redirected connections; loopback only.
    pub redirected: Vec<SocketAddr>,
    /// Where it serves readiness.
    pub health: Option<SocketAddr>,
    /// How long open connections may continue after SIGTERM.
    pub drain: Duration,
    /// The most client connections that are tunnelled at once, and as many that are not tunnelled yet.
    pub connections: usize,
}

/// A gateway as the operator gives it: `host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayName {
    authority: Authority,
    certified: ServerName<'static>,
}

impl GatewayName {
    /// The name that its certificate must have.
    pub(super) fn certified(&self) -> &ServerName<'static> {
        &self.certified
    }

    /// The host to look up, or its address.
    pub(super) fn host(&self) -> &Host {
        self.authority.host()
    }

    /// The port.
    pub(super) fn port(&self) -> u16 {
        self.authority.port()
    }
}

impl FromStr for GatewayName {
    type Err = AuthorityError;

    fn from_str(text: &str) -> Result<Self, AuthorityError> {
        let authority = Authority::with_port(text)?;
        let certified = match authority.host() {
            Host::Ip(address) => ServerName::IpAddress((*address).into()),
            Host::Name(name) => ServerName::try_from(name.to_string())
                .map_err(|_| AuthorityError("no certificate can be for such a name"))?,
        };
        Ok(Self {
            authority,
            certified,
        })
    }
}

impl fmt::Display for GatewayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.authority.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("gateway.countersign.svc:3129", "gateway.countersign.svc:3129")]
    #[case("Gateway.:3129", "gateway:3129")]
    #[case("192.0.2.1:443", "192.0.2.1:443")]
    #[case("[2001:db8::1]:443", "[2001:db8::1]:443")]
    fn a_gateway_has_a_host_and_a_port(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(text.parse::<GatewayName>().unwrap().to_string(), expected);
    }

    #[rstest]
    #[case("gateway")]
    #[case("https://gateway:3129")]
    #[case("user@gateway:3129")]
    #[case("gateway:0")]
    fn anything_else_is_none(#[case] text: &str) {
        text.parse::<GatewayName>().unwrap_err();
    }
}
