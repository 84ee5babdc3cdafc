//! Hosts and host patterns, in one canonical spelling.

use std::{fmt, net::IpAddr, sync::Arc};

/// A host in its one spelling: lower case, A-labels, no trailing dot; or an IP address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A DNS name.
    Name(Arc<str>),
    /// An address; v4-mapped IPv6 stays IPv6 (and is refused later).
    Ip(IpAddr),
}

/// Why a text is no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a host name or address: {0}")]
pub struct HostError(pub &'static str);

impl Host {
    /// Parses a host as it stands in an authority, a `Host` header or SNI: without port, IPv6 in
    /// brackets or bare. Upper case and one trailing dot are folded; a U-label, a wildcard,
    /// userinfo, an empty label, a label over 63 or a name over 253 bytes is an error, and so is
    /// anything that some resolvers read as an IPv4 address though it is not written as one
    /// (`127.1`, `0x7f000001`, `2130706433`).
    pub fn parse(_text: &str) -> Result<Self, HostError> {
        unimplemented!()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// An exact host, or one `*` within the leftmost label (`wss*.slack.com`, `*.example.com`); the
/// `*` stands for one or more characters other than a dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPattern(());

impl HostPattern {
    /// Parses a pattern as operators write it. U-labels are turned into A-labels.
    pub fn parse(_text: &str) -> Result<Self, HostError> {
        unimplemented!()
    }

    /// Whether `host` is meant.
    pub fn matches(&self, _host: &Host) -> bool {
        unimplemented!()
    }

    /// The host, if the pattern means exactly one.
    pub fn exact(&self) -> Option<&Host> {
        unimplemented!()
    }

    /// What is right of the wildcard label, without a leading dot; `None` for an exact host.
    pub fn suffix(&self) -> Option<&str> {
        unimplemented!()
    }

    /// Whether some host matches both.
    pub fn overlaps(&self, _other: &Self) -> bool {
        unimplemented!()
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        unimplemented!()
    }
}
