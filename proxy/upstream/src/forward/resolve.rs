//! Resolves a name to addresses that may be dialled.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use countersign_config::{host::Host, model};
use countersign_core::destination::Authority;
use hickory_resolver::{TokioResolver, config::LookupIpStrategy, net::NetError};
use ipnet::IpNet;
use smallvec::SmallVec;

use super::{
    address,
    error::ForwardError,
    names::{NameError, Names},
};

/// The most addresses of one name that are tried.
const MOST_ADDRESSES: usize = 8;

/// A wrong result for a name is not cached longer than this.
const LONGEST_NEGATIVE: Duration = Duration::from_secs(10);

/// The addresses of one host, in the order to try them; never empty.
pub(super) type Addresses = SmallVec<[SocketAddr; 4]>;

/// Resolves names and drops the addresses that must not be dialled.
pub(super) struct Resolver {
    names: Result<Arc<Names>, String>,
    overrides: BTreeMap<(Host, u16), SocketAddr>,
    allowed: Vec<IpNet>,
    /// How long a name may take: less than a whole connection, so that it is known what was slow.
    patience: Duration,
}

impl Resolver {
    /// Reads the system's resolver configuration. Without one, names cannot be resolved, but
    /// addresses and overrides still work. A name may take most of `connect_timeout`.
    pub(super) fn new(upstream: &model::Upstream, connect_timeout: Duration) -> Self {
        let names = system_resolver()
            .map(Names::new)
            .map_err(|error| error.to_string());
        if let Err(error) = &names {
            tracing::warn!(%error, "no system resolver: no name can be resolved");
        }
        Self {
            names,
            overrides: upstream.resolve.clone(),
            allowed: upstream.allow_addresses.clone(),
            patience: connect_timeout.mul_f32(0.9),
        }
    }

    /// The operator's override for this authority, dialled whatever it is.
    pub(super) fn overridden(&self, authority: &Authority) -> Option<SocketAddr> {
        if self.overrides.is_empty() {
            return None;
        }
        self.overrides
            .get(&(authority.host().clone(), authority.port()))
            .copied()
    }

    /// The addresses of `authority` that may be dialled. Exactly these are then dialled, so that no second
    /// response of the name service can come between check and use.
    pub(super) async fn resolve(&self, authority: &Authority) -> Result<Addresses, ForwardError> {
        if let Some(address) = self.overridden(authority) {
            return Ok(SmallVec::from_elem(address, 1));
        }
        let addresses = self.lookup(authority.host()).await?;
        self.permitted(addresses, authority.port())
    }

    /// Checks an authority that is an address.
    pub(super) fn check(&self, address: IpAddr) -> Result<(), ForwardError> {
        address::check(address, &self.allowed)
            .map_err(|reason| ForwardError::AddressForbidden { address, reason })
    }

    /// The addresses of the corporate proxy, which the operator named.
    pub(super) async fn resolve_proxy(&self, proxy: &Authority) -> Result<Addresses, ForwardError> {
        let addresses = self.lookup(proxy.host()).await?;
        Ok(in_turn(addresses, proxy.port()))
    }

    async fn lookup(&self, host: &Host) -> Result<SmallVec<[IpAddr; 8]>, ForwardError> {
        let name = match host {
            Host::Ip(address) => return Ok(SmallVec::from_elem(*address, 1)),
            Host::Name(name) => name,
        };
        let failed = |reason: String| ForwardError::ResolverDown {
            name: name.to_string(),
            reason,
        };
        let resolver = self.names.as_ref().map_err(|error| failed(error.clone()))?;
        // With the final dot no search domain is tried: `slack.com` means just that, and the cluster's own
        // domains are not asked first.
        let name_and_dot = format!("{name}.");
        let looked = tokio::time::timeout(self.patience, resolver.lookup(&name_and_dot)).await;
        let found = looked.map_err(|_| failed("the name servers do not answer in time".into()))?;
        found.map_err(|error| match error {
            NameError::NoAddress => ForwardError::NoAddress {
                name: name.to_string(),
            },
            NameError::Unknown => ForwardError::Resolve {
                name: name.to_string(),
                reason: "the name servers say that there is no such name".into(),
            },
            NameError::Failed(reason) => failed(reason.to_string()),
        })
    }

    fn permitted(
        &self,
        mut addresses: SmallVec<[IpAddr; 8]>,
        port: u16,
    ) -> Result<Addresses, ForwardError> {
        let mut first_refusal = None;
        addresses.retain(|address| match self.check(*address) {
            Ok(()) => true,
            Err(refusal) => {
                first_refusal.get_or_insert(refusal);
                false
            }
        });
        match first_refusal {
            Some(refusal) if addresses.is_empty() => Err(refusal),
            Some(_) | None => Ok(in_turn(addresses, port)),
        }
    }
}

/// IPv6 and IPv4 alternate (RFC 8305, section 4), so that a broken family costs one attempt.
fn in_turn(addresses: SmallVec<[IpAddr; 8]>, port: u16) -> Addresses {
    let (v6, v4): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv6);
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut turns = Addresses::new();
    while turns.len() < MOST_ADDRESSES {
        let before = turns.len();
        let next = [v6.next(), v4.next()];
        turns.extend(
            next.into_iter()
                .flatten()
                .map(|ip| SocketAddr::new(ip, port)),
        );
        if turns.len() == before {
            break;
        }
    }
    turns
}

fn system_resolver() -> Result<TokioResolver, NetError> {
    let mut builder = TokioResolver::builder_tokio()?;
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    options.cache_size = 1024;
    options.negative_max_ttl = Some(LONGEST_NEGATIVE);
    builder.build()
}

#[cfg(test)]
mod tests {
    use countersign_config::model::TrustRoots;
    use rstest::rstest;

    use super::*;

    fn resolver(allowed: &[&str]) -> Resolver {
        Resolver {
            names: Err("none in this test".into()),
            overrides: BTreeMap::new(),
            allowed: allowed.iter().map(|range| range.parse().unwrap()).collect(),
            patience: Duration::from_secs(5),
        }
    }

    fn addresses(texts: &[&str]) -> SmallVec<[IpAddr; 8]> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[rstest]
    #[case::public_only(&["10.0.0.1", "1.1.1.1"], &[], &["1.1.1.1:443"])]
    #[case::in_turn(
        &["1.1.1.1", "1.0.0.1", "2606:4700::1111"],
        &[],
        &["[2606:4700::1111]:443", "1.1.1.1:443", "1.0.0.1:443"]
    )]
    #[case::allowed(&["10.0.0.1", "127.0.0.1"], &["10.0.0.0/8"], &["10.0.0.1:443"])]
    #[case::one_family(&["1.1.1.1", "1.0.0.1"], &[], &["1.1.1.1:443", "1.0.0.1:443"])]
    fn t28_what_must_not_be_dialled_is_dropped(
        #[case] resolved: &[&str],
        #[case] allowed: &[&str],
        #[case] expected: &[&str],
    ) {
        let dialled = resolver(allowed)
            .permitted(addresses(resolved), 443)
            .unwrap();
        let expected: Vec<SocketAddr> = expected.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(dialled.as_slice(), expected);
    }

    #[test]
    fn t28_nothing_left_is_a_refusal() {
        let refused = resolver(&[]).permitted(addresses(&["127.0.0.1", "10.0.0.1"]), 443);
        assert!(matches!(
            refused,
            Err(ForwardError::AddressForbidden { address, .. }) if address.is_loopback()
        ));
    }

    #[test]
    fn a_name_with_very_many_addresses_is_tried_at_a_few() {
        let many: SmallVec<_> = (0..=255)
            .map(|last| IpAddr::from([1, 1, 1, last]))
            .collect();
        assert_eq!(in_turn(many, 443).len(), MOST_ADDRESSES);
    }

    #[tokio::test]
    async fn an_override_is_taken_at_its_word_and_for_its_port_only() {
        let to: SocketAddr = "127.0.0.1:8443".parse().unwrap();
        let host = Host::parse("api.test").unwrap();
        let upstream = model::Upstream {
            roots: TrustRoots::System,
            allow_addresses: Vec::new(),
            resolve: [((host.clone(), 443), to)].into(),
            proxy: None,
        };
        let resolver = Resolver::new(&upstream, Duration::from_secs(5));
        let authority = Authority::new(host.clone(), 443);
        let found = resolver.resolve(&authority).await.unwrap();
        assert_eq!(found.as_slice(), [to]);
        let other = Authority::new(host, 444);
        assert_eq!(resolver.overridden(&other), None);
    }
}
