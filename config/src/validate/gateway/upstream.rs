//! How upstreams are reached.

mod proxy;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use http::Uri;
use ipnet::IpNet;

use super::super::fields::each;
use crate::{
    host::Host,
    model::{TrustRoots, Upstream},
    resource::UpstreamSpec,
    yaml::{Findings, Location},
};

pub(super) fn upstream(
    spec: Option<&UpstreamSpec>,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Upstream> {
    let Some(spec) = spec else {
        return Some(Upstream {
            roots: TrustRoots::System,
            allow_addresses: Vec::new(),
            resolve: BTreeMap::new(),
            proxy: None,
        });
    };
    let allow_addresses = each(
        &spec.allow_addresses,
        &location.key("allowAddresses"),
        |text, location| range(text, location, findings),
    );
    let resolve = resolve(&spec.resolve, &location.key("resolve"), findings);
    let proxy = match &spec.proxy {
        Some(text) => proxy::proxy(text, spec, location, findings).map(Some),
        None => proxy::is_not_spoken_of(spec, location, findings).then_some(None),
    };
    Some(Upstream {
        roots: roots(spec.roots.as_deref()),
        allow_addresses: allow_addresses?,
        resolve: resolve?,
        proxy: proxy?,
    })
}

fn roots(written: Option<&str>) -> TrustRoots {
    match written {
        None | Some("system") => TrustRoots::System,
        Some(file) => TrustRoots::SystemAnd(PathBuf::from(file)),
    }
}

/// An absolute `http` or `https` URL.
pub(super) fn http_url(text: &str, location: &Location<'_>, findings: &Findings) -> Option<()> {
    let valid = Uri::from_str(text).is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some()
    });
    if !valid {
        findings.error(
            location,
            "bad-url",
            "this is not an http or https URL",
            "write a complete URL, such as `http://otel-collector:4317`",
        );
    }
    valid.then_some(())
}

/// A CIDR, or one address. A range that covers everything is hardly intended.
fn range(text: &str, location: &Location<'_>, findings: &Findings) -> Option<IpNet> {
    let parsed = IpNet::from_str(text)
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    match parsed {
        Some(range) if range.prefix_len() == 0 => {
            findings.error(
                location,
                "bad-address",
                "this would allow every address, including the cloud's metadata service",
                "name only the private ranges that are needed",
            );
            None
        }
        Some(range) => Some(range),
        None => {
            findings.error(
                location,
                "bad-address",
                "this is not a range of addresses",
                "write a CIDR such as `10.1.0.0/16`",
            );
            None
        }
    }
}

fn resolve(
    entries: &BTreeMap<String, String>,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<BTreeMap<(Host, u16), SocketAddr>> {
    let mut resolved = BTreeMap::new();
    let mut sound = true;
    for (authority, address) in entries {
        let key = host_and_port(authority);
        if key.is_none() {
            sound = false;
            findings.error(
                &location.key_name(authority),
                "bad-host",
                "this is not a host with a port",
                "write both, such as `\"slack.com:443\"`",
            );
        }
        let Ok(address) = SocketAddr::from_str(address) else {
            sound = false;
            findings.error(
                &location.key(authority),
                "bad-address",
                "this is not an IP address with a port",
                "write both, such as `\"127.0.0.1:8443\"`",
            );
            continue;
        };
        if let Some(key) = key
            && resolved.insert(key, address).is_some()
        {
            sound = false;
            findings.error(
                &location.key_name(authority),
                "duplicate-key",
                "another entry has the same host and port",
                "keep one of them",
            );
        }
    }
    sound.then_some(resolved)
}

fn host_and_port(text: &str) -> Option<(Host, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    Some((Host::parse(host).ok()?, port))
}
