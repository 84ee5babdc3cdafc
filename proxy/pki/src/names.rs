//! The names that an intermediate may issue for, and what X.509 can say of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints, SanType};
use x509_parser::extensions::GeneralName;

/// A name that X.509 can permit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subtree {
    /// One address.
    Ip(IpAddr),
    /// A DNS name and all below it: X.509 knows no other.
    Dns(String),
}

/// A set of names, in one order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(Vec<Subtree>);

impl Names {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Subtree> {
        self.0.iter()
    }

    /// The tightest name constraints that permit them all (RFC 5280, 4.2.1.10).
    ///
    /// A kind of name that no constraint speaks of is not constrained at all. So each kind that
    /// a TLS server can be known by, and that is not among the names, is excluded wholly.
    ///
    /// Both families of addresses are one kind: one permitted address shuts out all others. To
    /// exclude the absent family besides would be idle, and Java stumbles over it: it compares
    /// addresses of one family with masks of the other.
    pub fn constraints(&self) -> NameConstraints {
        let permitted: Vec<_> = self.0.iter().map(subtree).collect();
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

    /// The same names as a request for a certificate lists them.
    ///
    /// # Errors
    /// When one is not ASCII.
    pub fn alternative_names(&self) -> Result<Vec<SanType>, rcgen::Error> {
        let each = self.0.iter().map(|name| {
            Ok(match name {
                Subtree::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
                Subtree::Ip(ip) => SanType::IpAddress(*ip),
            })
        });
        each.collect()
    }
}

impl FromIterator<Subtree> for Names {
    fn from_iter<T: IntoIterator<Item = Subtree>>(names: T) -> Self {
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort();
        names.dedup();
        Self(names)
    }
}

fn subtree(name: &Subtree) -> GeneralSubtree {
    match name {
        Subtree::Ip(ip @ IpAddr::V4(_)) => addresses(*ip, 32),
        Subtree::Ip(ip @ IpAddr::V6(_)) => addresses(*ip, 128),
        Subtree::Dns(name) => GeneralSubtree::DnsName(name.clone()),
    }
}

fn addresses(network: IpAddr, prefix: u8) -> GeneralSubtree {
    GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(network, prefix))
}

fn is_name(subtree: &GeneralSubtree) -> bool {
    matches!(subtree, GeneralSubtree::DnsName(_))
}

/// Whether a certificate has exactly these names.
pub fn has_names(certificate: &[u8], names: &Names) -> bool {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
        return false;
    };
    let Ok(Some(listed)) = parsed.subject_alternative_name() else {
        return false;
    };
    let found = listed.value.general_names.iter().map(|name| match name {
        GeneralName::DNSName(name) => Some(Subtree::Dns((*name).to_owned())),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let ip = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            ip.ok().map(Subtree::Ip)
        }
        _ => None,
    });
    found.collect::<Option<Names>>().as_ref() == Some(names)
}
