//! The namespaces and the links between them.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use tempfile::TempDir;

use super::{
    internet::{ADDRESSES, NAMES},
    namespace::Namespace,
};

/// One side of a link to the internet, in both families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link(u8);

/// The pod's own link.
pub const POD: Link = Link(1);
/// The gateways' links.
pub const GATEWAYS: [Link; 2] = [Link(2), Link(3)];

impl Link {
    /// Its IPv4 address.
    pub fn v4(self) -> IpAddr {
        Ipv4Addr::new(10, 71, self.0, 2).into()
    }

    /// Its IPv6 address.
    pub fn v6(self) -> IpAddr {
        Ipv6Addr::new(0xfd71, 0, 0, self.0.into(), 0, 0, 0, 2).into()
    }

    /// Whether this is one of its addresses.
    pub fn has(self, address: IpAddr) -> bool {
        address == self.v4() || address == self.v6()
    }

    fn connect(self, internet: &Namespace, other: &Namespace) -> anyhow::Result<()> {
        let (n, id) = (self.0, other.id());
        internet.ip(&format!(
            "link add to{n} type veth peer name eth0 netns {id}
             addr add 10.71.{n}.1/24 dev to{n}
             addr add fd71:0:0:{n}::1/64 dev to{n} nodad
             link set to{n} up"
        ))?;
        other.ip(&format!(
            "addr add 10.71.{n}.2/24 dev eth0
             addr add fd71:0:0:{n}::2/64 dev eth0 nodad
             link set eth0 up
             route add default via 10.71.{n}.1
             route add ::/0 via fd71:0:0:{n}::1"
        ))
    }
}

/// A pod, two gateways and the internet between them, with nothing in them yet.
#[derive(Debug)]
pub struct Network {
    /// Where the app and the relay are.
    pub pod: Namespace,
    /// Where gateways are.
    pub gateways: [Namespace; 2],
    /// Where everything else is; it knows the way to all.
    pub internet: Namespace,
    _resolv_conf: TempDir,
}

impl Network {
    /// Makes the namespaces and the links.
    pub fn new() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("countersign-").tempdir()?;
        let resolv_conf = directory.path().join("resolv.conf");
        fs::write(&resolv_conf, format!("nameserver {NAMES}\n"))?;
        let namespace = || Namespace::new(&resolv_conf);
        let network = Self {
            pod: namespace()?,
            gateways: [namespace()?, namespace()?],
            internet: namespace()?,
            _resolv_conf: directory,
        };
        for address in ADDRESSES {
            let length = if address.is_ipv4() { 32 } else { 128 };
            network
                .internet
                .ip(&format!("addr add {address}/{length} dev lo"))?;
        }
        network.internet.sysctl("ipv4/ip_forward", "1")?;
        network.internet.sysctl("ipv6/conf/all/forwarding", "1")?;
        POD.connect(&network.internet, &network.pod)?;
        for (link, namespace) in GATEWAYS.into_iter().zip(&network.gateways) {
            link.connect(&network.internet, namespace)?;
        }
        Ok(network)
    }
}
