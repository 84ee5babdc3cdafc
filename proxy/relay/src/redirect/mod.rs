//! Redirection: the firewall rules that redirect a pod's connections to the relay (or to a sidecar
//! gateway) without any setting in the apps.
//!
//! [`Redirection`] defines what is redirected; it is written as an nftables ruleset or as input for
//! iptables-restore. An excluded process reaches everything directly, so only one owner is excluded, uid
//! and gid together, which no app may have.

pub mod apply;
pub mod check;
pub mod iptables;
pub mod nft;

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

/// The port of QUIC, which would bypass the relay.
const QUIC: u16 = 443;

/// Why these options are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedirectError {
    /// Too many processes run as root.
    #[error("{0} 0 must not be excluded: every process of root would pass the relay by")]
    Root(&'static str),
    /// Nothing can listen on port 0.
    #[error("port 0 is no port")]
    PortZero,
    /// Everything is excluded.
    #[error("nothing is redirected: every chosen port is excluded")]
    Nothing,
    /// Everything is excluded.
    #[error("nothing is redirected: {0} covers every address")]
    Everywhere(IpNet),
}

/// The options, not checked yet.
#[derive(Debug, Clone, Default)]
pub struct RedirectOptions {
    /// The uid of the relay.
    pub uid: u32,
    /// The gid of the relay.
    pub gid: u32,
    /// The port that connections are redirected to.
    pub port: u16,
    /// Destination ports that are not redirected.
    pub exclude_ports: Vec<u16>,
    /// Destinations that are not redirected.
    pub exclude_networks: Vec<IpNet>,
    /// The only destination ports that are redirected; empty is all.
    pub only_ports: Vec<u16>,
}

/// Which connections are redirected, and to which port. Made from checked options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirection {
    uid: u32,
    gid: u32,
    port: u16,
    exclude_ports: BTreeSet<u16>,
    exclude_networks: BTreeSet<IpNet>,
    only_ports: BTreeSet<u16>,
}

impl Redirection {
    /// Checks the options.
    ///
    /// # Errors
    /// When they would exclude root, or redirect nothing.
    pub fn new(options: RedirectOptions) -> Result<Self, RedirectError> {
        if options.uid == 0 {
            return Err(RedirectError::Root("uid"));
        }
        if options.gid == 0 {
            return Err(RedirectError::Root("gid"));
        }
        let all = options.exclude_ports.iter().chain(&options.only_ports);
        if all.chain([&options.port]).any(|port| *port == 0) {
            return Err(RedirectError::PortZero);
        }
        let everywhere = options
            .exclude_networks
            .iter()
            .find(|net| net.prefix_len() == 0);
        if let Some(everywhere) = everywhere {
            return Err(RedirectError::Everywhere(*everywhere));
        }
        let exclude_ports = BTreeSet::from_iter(options.exclude_ports);
        let only_ports: BTreeSet<u16> = options.only_ports.iter().copied().collect();
        if !only_ports.is_empty() && only_ports.is_subset(&exclude_ports) {
            return Err(RedirectError::Nothing);
        }
        Ok(Self {
            uid: options.uid,
            gid: options.gid,
            port: options.port,
            only_ports: only_ports.difference(&exclude_ports).copied().collect(),
            exclude_ports,
            exclude_networks: options.exclude_networks.iter().map(IpNet::trunc).collect(),
        })
    }

    /// The port that connections are redirected to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether TCP connections to `port` are redirected.
    fn redirects(&self, port: u16) -> bool {
        !self.exclude_ports.contains(&port)
            && (self.only_ports.is_empty() || self.only_ports.contains(&port))
    }

    /// Whether UDP to port 443 is rejected: only if TCP to it is redirected, because QUIC then falls
    /// back to TCP.
    fn rejects_quic(&self) -> bool {
        self.redirects(QUIC)
    }

    fn excludes(&self, address: IpAddr) -> bool {
        self.exclude_networks
            .iter()
            .any(|network| network.contains(&address))
    }

    fn networks(&self, family: Family) -> impl Iterator<Item = &IpNet> {
        self.exclude_networks
            .iter()
            .filter(move |network| family.has(network))
    }
}

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    fn has(self, network: &IpNet) -> bool {
        match self {
            Self::V4 => matches!(network, IpNet::V4(_)),
            Self::V6 => matches!(network, IpNet::V6(_)),
        }
    }
}

#[cfg(test)]
mod tests;
