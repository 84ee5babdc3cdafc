//! A target's probe: where it may be made, and whose credential it carries there.

use std::str::FromStr;

use http::{Uri, uri::PathAndQuery};

use super::{
    super::{
        fields::{duration, method},
        reach::sample_host,
    },
    DEFAULT_PORT,
};
use crate::{
    host::{Host, HostPattern},
    model::{Probe, Route, SlotName, Target},
    path::CanonicalPath,
    resource::ProbeSpec,
    yaml::{Findings, Location},
};

/// What a probe is checked against; `None` if it was already reported.
pub(super) struct Checks<'a> {
    pub(super) hosts: Option<&'a [HostPattern]>,
    pub(super) ports: Option<&'a [u16]>,
    pub(super) routes: Option<&'a [Route]>,
    pub(super) findings: &'a Findings,
}

/// Where a probe goes.
struct Place {
    hosts: Vec<HostPattern>,
    port: Option<u16>,
    path: CanonicalPath,
}

impl Checks<'_> {
    pub(super) fn probe(&self, spec: &ProbeSpec, location: &Location<'_>) -> Option<Probe> {
        let method = method(&spec.method, &location.key("method"), self.findings);
        let every = match &spec.every {
            Some(text) => duration(text, &location.key("every"), self.findings),
            None => Some(Probe::DEFAULT_EVERY),
        };
        let place = match (&spec.url, &spec.path) {
            (Some(url), None) => self.at_url(url, &location.key("url")),
            (None, Some(path)) => self.at_path(path, &location.key("path")),
            (None, None) | (Some(_), Some(_)) => {
                self.findings.error(
                    location,
                    "conflicting-keys",
                    "a probe goes to one URL, or to one path at the host of the request that waits for it",
                    "give one of `url` and `path`",
                );
                None
            }
        }?;
        let slot = slot_at(&place.hosts, &place.path, self.routes?);
        if slot.is_none() {
            self.findings.error(
                location,
                "probe-without-credential",
                "the probe would have no credential: its route denies it, attaches none, or has `inspectBody: false`",
                "name a path of a route with `attach`",
            );
        }
        Some(Probe {
            method: method?,
            hosts: place.hosts,
            port: place.port,
            path: place.path,
            slot: slot?,
            every: every?,
            shows: spec.shows.clone(),
        })
    }

    fn at_url(&self, url: &str, location: &Location<'_>) -> Option<Place> {
        let uri = Uri::from_str(url).ok();
        let uri = uri.as_ref().filter(|uri| uri.scheme_str() == Some("https"));
        let host = uri
            .and_then(Uri::host)
            .and_then(|host| Host::parse(host).ok());
        let path = uri
            .and_then(Uri::path_and_query)
            .and_then(|path| CanonicalPath::check(path).ok());
        let (Some(host), Some(path)) = (host, path) else {
            self.findings.error(
                location,
                "bad-url",
                "this is not an https URL with a canonical path",
                "write a complete URL, such as `https://slack.com/api/auth.test`",
            );
            return None;
        };
        let port = uri.and_then(Uri::port_u16).unwrap_or(DEFAULT_PORT);
        let of_target = self.hosts?.iter().any(|own| own.matches(&host));
        if !of_target || !self.ports?.contains(&port) {
            self.findings.error(
                location,
                "host-not-of-target",
                "the probe would send the credential to a host or port that is not the target's",
                "use a host of `hosts`, and one of `ports`",
            );
            return None;
        }
        Some(Place {
            hosts: vec![host.into()],
            port: Some(port),
            path,
        })
    }

    fn at_path(&self, path: &str, location: &Location<'_>) -> Option<Place> {
        let parsed = PathAndQuery::from_str(path).ok();
        let path = parsed.and_then(|path| CanonicalPath::check(&path).ok());
        if path.is_none() {
            self.findings.error(
                location,
                "bad-path",
                "this is not a canonical path",
                "write path and query, such as `/v1/project?limit=1`",
            );
        }
        Some(Place {
            hosts: self.hosts?.to_vec(),
            port: None,
            path: path?,
        })
    }
}

/// The base's probe, which may match another route here; if that route denies its path, there is no
/// probe.
pub(super) fn inherited(
    base: Option<&Target>,
    hosts: Option<&[HostPattern]>,
    routes: Option<&[Route]>,
) -> Option<Probe> {
    let probe = base?.probe.as_ref()?;
    // A probe at the waiting request's host also applies to the hosts that are new here.
    let hosts = match probe.port {
        Some(_) => probe.hosts.clone(),
        None => hosts?.to_vec(),
    };
    let slot = slot_at(&hosts, &probe.path, routes?)?;
    Some(Probe {
        hosts,
        slot,
        ..probe.clone()
    })
}

/// The slot whose credential a probe carries, as for any request to the same place: that of the first
/// host that has one.
fn slot_at(hosts: &[HostPattern], path: &CanonicalPath, routes: &[Route]) -> Option<SlotName> {
    let at = |host: Host| {
        let route = routes.iter().find(|route| route.is_for(&host, path))?;
        route.probed_slot().cloned()
    };
    hosts.iter().filter_map(sample_host).find_map(at)
}
