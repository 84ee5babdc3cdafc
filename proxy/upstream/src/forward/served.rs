//! The hosts to which requests were recently sent at an address, to recognise a tunnel to the same address
//! that names no host.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use countersign_config::host::Host;
use moka::sync::Cache;

/// How long an address is remembered after the last connection to it.
const REMEMBERED: Duration = Duration::from_hours(1);

/// The most addresses that are remembered, and hosts per address.
const MOST: u64 = 16 * 1024;
const MOST_HOSTS: usize = 8;

/// Addresses and their hosts.
pub(super) struct Served(Cache<SocketAddr, Arc<[Host]>>);

impl Default for Served {
    fn default() -> Self {
        Self(
            Cache::builder()
                .max_capacity(MOST)
                .time_to_live(REMEMBERED)
                .build(),
        )
    }
}

impl Served {
    /// Remembers that `host` is at this address.
    pub(super) fn note(&self, address: SocketAddr, host: &Host) {
        let address = canonical(address);
        let known = self.hosts_at(address);
        let others = known.iter().filter(|other| *other != host);
        let hosts = std::iter::once(host).chain(others).take(MOST_HOSTS);
        self.0.insert(address, hosts.cloned().collect());
    }

    /// The hosts known at this address, the latest first.
    pub(super) fn hosts_at(&self, address: SocketAddr) -> Arc<[Host]> {
        self.0.get(&canonical(address)).unwrap_or_default()
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hosts_at_an_address_are_known() {
        let served = Served::default();
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let host = |number: usize| Host::parse(&format!("h{number}.example.test")).unwrap();
        assert!(served.hosts_at(at("192.0.2.1:443")).is_empty());
        for number in 0..9 {
            served.note(at("[::ffff:192.0.2.1]:443"), &host(number));
        }
        served.note(at("192.0.2.1:443"), &host(5));
        let known = served.hosts_at(at("192.0.2.1:443"));
        assert_eq!(known.len(), MOST_HOSTS);
        assert_eq!(known[0], host(5));
        assert!(!known.contains(&host(0)));
        assert!(served.hosts_at(at("192.0.2.1:8443")).is_empty());
    }
}
