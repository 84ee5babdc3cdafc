//! Which addresses may be dialled.
//!
//! An API has a public address. If a name resolves to anything else (the node's metadata service, a
//! database in the cluster, this machine), that is an attack or a mistake, unless the operator allowed the
//! range. IPv6 has several ways to write an IPv4 address; those that a translator would turn into IPv4
//! traffic are all refused, since what they reach depends on an unknown translator.
//!
//! The ranges are those of IANA's special-purpose address registries (RFC 6890 and its updates)
//! that are not globally reachable, and the metadata addresses of the large clouds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Why an address must not be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// A cloud's instance metadata service.
    #[error("a metadata service's")]
    Metadata,
    /// `0.0.0.0/8`, `::`.
    #[error("unspecified")]
    Unspecified,
    /// `127.0.0.0/8`, `::1`.
    #[error("a loopback address")]
    Loopback,
    /// RFC 1918.
    #[error("private")]
    Private,
    /// RFC 6598, `100.64.0.0/10`: behind a carrier's (or a cluster's) NAT.
    #[error("in the shared range 100.64.0.0/10")]
    Shared,
    /// `169.254.0.0/16`, `fe80::/10`.
    #[error("link-local")]
    LinkLocal,
    /// RFC 4193, `fc00::/7`.
    #[error("unique local")]
    UniqueLocal,
    /// RFC 3879, `fec0::/10`.
    #[error("site-local")]
    SiteLocal,
    /// `224.0.0.0/4`, `ff00::/8`.
    #[error("multicast")]
    Multicast,
    /// `255.255.255.255`.
    #[error("broadcast")]
    Broadcast,
    /// `198.18.0.0/15`, `2001:2::/48`.
    #[error("for benchmarks only")]
    Benchmarking,
    /// RFC 5737, RFC 3849, RFC 9637.
    #[error("for documentation only")]
    Documentation,
    /// `192.0.0.0/24`, `192.88.99.0/24`, `240.0.0.0/4`, and what IPv6 has outside `2000::/3`.
    #[error("reserved")]
    Reserved,
    /// RFC 6666, `100::/64`.
    #[error("for discarding only")]
    Discard,
    /// RFC 4843, RFC 7343: identifiers, not addresses.
    #[error("an ORCHID, not an address")]
    Orchid,
    /// `::ffff:0:0/96`.
    #[error("an IPv4 address mapped into IPv6")]
    V4Mapped,
    /// `::/96`.
    #[error("an IPv4-compatible IPv6 address")]
    V4Compatible,
    /// RFC 6052, RFC 8215: `64:ff9b::/96`, `64:ff9b:1::/48`.
    #[error("translated by NAT64")]
    Nat64,
    /// RFC 3056, `2002::/16`.
    #[error("relayed by 6to4")]
    SixToFour,
    /// RFC 4380, `2001::/32`.
    #[error("relayed by Teredo")]
    Teredo,
}

/// Whether `address` is an ordinary public one.
pub fn classify(address: IpAddr) -> Result<(), Forbidden> {
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => classify_v6(address),
    }
}

/// Whether `address` may be dialled: it is public, or the operator allowed its range.
///
/// A v4-mapped address is never dialled: the kernel would turn it into IPv4, so a range as wide as `::/0`
/// would allow what `allowed` does not name.
pub(super) fn check(address: IpAddr, allowed: &[IpNet]) -> Result<(), Forbidden> {
    classify(address).or_else(|forbidden| {
        let opened = allowed.iter().any(|range| range.contains(&address));
        if opened && forbidden != Forbidden::V4Mapped {
            Ok(())
        } else {
            Err(forbidden)
        }
    })
}

fn classify_v4(address: Ipv4Addr) -> Result<(), Forbidden> {
    let [a, b, c, _] = address.octets();
    let forbidden = match (a, b, c) {
        _ if address == Ipv4Addr::new(169, 254, 169, 254)
            || address == Ipv4Addr::new(169, 254, 170, 2)
            || address == Ipv4Addr::new(100, 100, 100, 200) =>
        {
            Forbidden::Metadata
        }
        (0, _, _) => Forbidden::Unspecified,
        (127, _, _) => Forbidden::Loopback,
        (10, _, _) | (172, 16..=31, _) | (192, 168, _) => Forbidden::Private,
        (100, 64..=127, _) => Forbidden::Shared,
        (169, 254, _) => Forbidden::LinkLocal,
        (255, 255, 255) if address.is_broadcast() => Forbidden::Broadcast,
        (192, 0, 0) | (192, 88, 99) | (240..=255, _, _) => Forbidden::Reserved,
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => Forbidden::Documentation,
        (198, 18..=19, _) => Forbidden::Benchmarking,
        (224..=239, _, _) => Forbidden::Multicast,
        _ => return Ok(()),
    };
    Err(forbidden)
}

fn classify_v6(address: Ipv6Addr) -> Result<(), Forbidden> {
    const AWS_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    const GOOGLE_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);
    let forbidden = match address.segments() {
        _ if address == AWS_METADATA || address == GOOGLE_METADATA => Forbidden::Metadata,
        _ if address.is_unspecified() => Forbidden::Unspecified,
        _ if address.is_loopback() => Forbidden::Loopback,
        [0, 0, 0, 0, 0, 0xffff, _, _] => Forbidden::V4Mapped,
        [0, 0, 0, 0, 0, 0, _, _] => Forbidden::V4Compatible,
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] | [0x64, 0xff9b, 1, ..] => Forbidden::Nat64,
        [0x100, 0, 0, 0, ..] => Forbidden::Discard,
        [0x2001, 0, ..] => Forbidden::Teredo,
        [0x2001, 2, 0, ..] => Forbidden::Benchmarking,
        [0x2001, 0x10..=0x2f, ..] => Forbidden::Orchid,
        // The rest of 2001::/23 is reserved for protocols (RFC 2928).
        [0x2001, 0x0..=0x1ff, ..] => Forbidden::Reserved,
        [0x2001, 0xdb8, ..] | [0x3fff, 0x0..=0xfff, ..] => Forbidden::Documentation,
        [0x2002, ..] => Forbidden::SixToFour,
        [0xfc00..=0xfdff, ..] => Forbidden::UniqueLocal,
        [0xfe80..=0xfebf, ..] => Forbidden::LinkLocal,
        [0xfec0..=0xfeff, ..] => Forbidden::SiteLocal,
        [0xff00..=0xffff, ..] => Forbidden::Multicast,
        // Only 2000::/3 is allocated as global unicast (RFC 4291, section 2.4).
        [0x2000..=0x3fff, ..] => return Ok(()),
        _ => Forbidden::Reserved,
    };
    Err(forbidden)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("169.254.169.254", Forbidden::Metadata)]
    #[case("169.254.170.2", Forbidden::Metadata)]
    #[case("100.100.100.200", Forbidden::Metadata)]
    #[case("fd00:ec2::254", Forbidden::Metadata)]
    #[case("fd20:ce::254", Forbidden::Metadata)]
    #[case("0.0.0.0", Forbidden::Unspecified)]
    #[case("0.1.2.3", Forbidden::Unspecified)]
    #[case("::", Forbidden::Unspecified)]
    #[case("127.0.0.1", Forbidden::Loopback)]
    #[case("127.255.255.254", Forbidden::Loopback)]
    #[case("::1", Forbidden::Loopback)]
    #[case("10.0.0.1", Forbidden::Private)]
    #[case("172.16.0.1", Forbidden::Private)]
    #[case("172.31.255.255", Forbidden::Private)]
    #[case("192.168.1.1", Forbidden::Private)]
    #[case("100.64.0.1", Forbidden::Shared)]
    #[case("100.127.255.255", Forbidden::Shared)]
    #[case("169.254.1.1", Forbidden::LinkLocal)]
    #[case("fe80::1", Forbidden::LinkLocal)]
    #[case("febf::1", Forbidden::LinkLocal)]
    #[case("192.0.0.8", Forbidden::Reserved)]
    #[case("192.88.99.1", Forbidden::Reserved)]
    #[case("192.0.2.1", Forbidden::Documentation)]
    #[case("198.51.100.1", Forbidden::Documentation)]
    #[case("203.0.113.1", Forbidden::Documentation)]
    #[case("198.18.0.1", Forbidden::Benchmarking)]
    #[case("198.19.255.255", Forbidden::Benchmarking)]
    #[case("224.0.0.1", Forbidden::Multicast)]
    #[case("239.255.255.250", Forbidden::Multicast)]
    #[case("240.0.0.1", Forbidden::Reserved)]
    #[case("255.255.255.254", Forbidden::Reserved)]
    #[case("255.255.255.255", Forbidden::Broadcast)]
    #[case("::ffff:127.0.0.1", Forbidden::V4Mapped)]
    #[case("::ffff:169.254.169.254", Forbidden::V4Mapped)]
    #[case("::ffff:8.8.8.8", Forbidden::V4Mapped)]
    #[case("::127.0.0.1", Forbidden::V4Compatible)]
    #[case("::8.8.8.8", Forbidden::V4Compatible)]
    #[case("64:ff9b::7f00:1", Forbidden::Nat64)]
    #[case("64:ff9b::808:808", Forbidden::Nat64)]
    #[case("64:ff9b:1::a00:1", Forbidden::Nat64)]
    #[case("100::1", Forbidden::Discard)]
    #[case("100:0:0:1::1", Forbidden::Reserved)]
    #[case("2001::1", Forbidden::Teredo)]
    #[case("2001:0:7f00:1::", Forbidden::Teredo)]
    #[case("2001:2::1", Forbidden::Benchmarking)]
    #[case("2001:10::1", Forbidden::Orchid)]
    #[case("2001:2f:ffff::1", Forbidden::Orchid)]
    #[case("2001:1ff::1", Forbidden::Reserved)]
    #[case("2001:db8::1", Forbidden::Documentation)]
    #[case("3fff::1", Forbidden::Documentation)]
    #[case("2002:7f00:1::", Forbidden::SixToFour)]
    #[case("2002:808:808::1", Forbidden::SixToFour)]
    #[case("fc00::1", Forbidden::UniqueLocal)]
    #[case("fd12:3456::1", Forbidden::UniqueLocal)]
    #[case("fec0::1", Forbidden::SiteLocal)]
    #[case("ff02::1", Forbidden::Multicast)]
    #[case("4000::1", Forbidden::Reserved)]
    #[case("5f00::1", Forbidden::Reserved)]
    fn t28_refuses(#[case] address: IpAddr, #[case] expected: Forbidden) {
        assert_eq!(classify(address), Err(expected));
    }

    #[rstest]
    #[case("1.1.1.1")]
    #[case("9.255.255.255")]
    #[case("11.0.0.1")]
    #[case("100.63.255.255")]
    #[case("100.128.0.1")]
    #[case("126.255.255.255")]
    #[case("128.0.0.1")]
    #[case("169.253.255.255")]
    #[case("169.255.0.1")]
    #[case("172.15.255.255")]
    #[case("172.32.0.1")]
    #[case("192.0.1.1")]
    #[case("192.167.255.255")]
    #[case("192.169.0.1")]
    #[case("198.17.255.255")]
    #[case("198.20.0.1")]
    #[case("223.255.255.255")]
    #[case("2001:200::1")]
    #[case("2001:4860:4860::8888")]
    #[case("2001:db7::1")]
    #[case("2003::1")]
    #[case("2606:4700::1111")]
    #[case("3fff:1000::1")]
    fn t28_permits_the_neighbours(#[case] address: IpAddr) {
        assert_eq!(classify(address), Ok(()));
    }

    #[rstest]
    #[case("127.0.0.1", "127.0.0.0/8", true)]
    #[case("10.1.2.3", "10.1.0.0/16", true)]
    #[case("10.2.2.3", "10.1.0.0/16", false)]
    #[case("::ffff:127.0.0.1", "127.0.0.0/8", false)]
    #[case("::ffff:127.0.0.1", "0.0.0.0/0", false)]
    #[case("::ffff:127.0.0.1", "::/0", false)]
    #[case("::ffff:127.0.0.1", "::ffff:0:0/96", false)]
    #[case("fd00::1", "fd00::/64", true)]
    #[case("fd00:ec2::254", "fd00::/64", false)]
    #[case("1.1.1.1", "10.0.0.0/8", true)]
    fn t28_an_allowed_range_opens_just_itself(
        #[case] address: IpAddr,
        #[case] range: IpNet,
        #[case] expected: bool,
    ) {
        assert_eq!(check(address, &[range]).is_ok(), expected);
    }
}
