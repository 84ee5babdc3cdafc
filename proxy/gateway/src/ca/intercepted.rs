//! The hosts that may be intercepted, and what X.509 can say of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use countersign_config::host::{Host, HostPattern};
use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints};

/// A set of host patterns, in one order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Intercepted(Vec<HostPattern>);

impl Intercepted {
    /// The set of these.
    pub(super) fn new<'a>(hosts: impl Iterator<Item = &'a HostPattern>) -> Self {
        let mut hosts: Vec<_> = hosts.cloned().collect();
        hosts.sort_by_cached_key(ToString::to_string);
        hosts.dedup();
        Self(hosts)
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `host` matches one of the patterns.
    pub(super) fn contains(&self, host: &Host) -> bool {
        self.0.iter().any(|pattern| pattern.matches(host))
    }

    /// The tightest name constraints that permit them all (RFC 5280, 4.2.1.10).
    ///
    /// A kind of name that no constraint speaks of is not constrained at all. So each kind that
    /// a TLS server can be known by, and that is not among the hosts, is excluded wholly.
    ///
    /// Both families of addresses are one kind: one permitted address shuts out all others. To
    /// exclude the absent family besides would be idle, and Java stumbles over it: it compares
    /// addresses of one family with masks of the other.
    pub(super) fn name_constraints(&self) -> NameConstraints {
        let mut permitted: Vec<_> = self.0.iter().map(subtree).collect();
        permitted.dedup();
        let mut excluded = Vec::new();
        if !permitted.iter().any(is_name) {
            // The empty name is a suffix of every name.
            excluded.push(GeneralSubtree::DnsName(String::new()));
        }
        if permitted.iter().all(is_name) {
            excluded.push(addresses(Ipv4Addr::UNSPECIFIED.into(), 0));
            excluded.push(addresses(Ipv6Addr::UNSPECIFIED.into(), 0));
        }
        NameConstraints {
            permitted_subtrees: permitted,
            excluded_subtrees: excluded,
        }
    }
}

fn subtree(pattern: &HostPattern) -> GeneralSubtree {
    match (pattern.exact(), pattern.suffix()) {
        (Some(Host::Ip(ip @ IpAddr::V4(_))), _) => addresses(*ip, 32),
        (Some(Host::Ip(ip @ IpAddr::V6(_))), _) => addresses(*ip, 128),
        (Some(Host::Name(name)), _) => GeneralSubtree::DnsName(name.to_string()),
        (None, Some(suffix)) => GeneralSubtree::DnsName(suffix.to_owned()),
        (None, None) => unreachable!("a pattern is either exact or has a suffix"),
    }
}

fn addresses(network: IpAddr, prefix: u8) -> GeneralSubtree {
    GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(network, prefix))
}

fn is_name(subtree: &GeneralSubtree) -> bool {
    matches!(subtree, GeneralSubtree::DnsName(_))
}
