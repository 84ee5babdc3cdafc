//! A target that extends another one under other domains.

use std::{borrow::Cow, collections::BTreeMap};

use crate::{
    host::{Host, HostPattern},
    model::{Probe, RefusalAt, RefusalShapes, Route, Target},
    yaml::{Findings, Location},
};

/// The base with its hosts, and those of its routes and probe, moved to the given domains.
pub(super) fn under_domains<'b>(
    base: &'b Target,
    domains: &BTreeMap<String, String>,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Cow<'b, Target>> {
    if domains.is_empty() {
        return Some(Cow::Borrowed(base));
    }
    let mut sound = true;
    for (from, to) in domains {
        if !base.hosts.iter().any(|host| is_under(host, from)) {
            sound = false;
            findings.error(
                &location.key_name(from),
                "unknown-domain",
                format!("no host of the target `{}` is under this domain", base.name),
                "name a domain of its hosts, such as `slack.com`",
            );
        }
        if Host::parse(to)
            .ok()
            .and_then(|host| host.name().map(drop))
            .is_none()
        {
            sound = false;
            findings.error(
                &location.key(from),
                "bad-host",
                "this is not a domain",
                "write the new domain, such as `slack-gov.com`",
            );
        }
    }
    let all = |hosts: &[HostPattern]| -> Option<Vec<HostPattern>> {
        hosts.iter().map(|host| under(host, domains)).collect()
    };
    let hosts = all(&base.hosts).filter(|_| sound)?;
    let route = |route: &Route| {
        let host = match &route.host {
            Some(host) => Some(under(host, domains)?),
            None => None,
        };
        Some(Route {
            host,
            ..route.clone()
        })
    };
    let routes = base.routes.iter().map(route).collect::<Option<_>>()?;
    let refusal = match &base.refusal {
        Some(refusal) => Some(refusal_under(refusal, domains)?),
        None => None,
    };
    let probe = match &base.probe {
        Some(probe) => Some(Probe {
            hosts: all(&probe.hosts)?,
            ..probe.clone()
        }),
        None => None,
    };
    Some(Cow::Owned(Target {
        hosts,
        routes,
        refusal,
        probe,
        ..base.clone()
    }))
}

fn refusal_under(
    refusal: &RefusalShapes,
    domains: &BTreeMap<String, String>,
) -> Option<RefusalShapes> {
    let at = |at: &RefusalAt| {
        let host = match &at.host {
            Some(host) => Some(under(host, domains)?),
            None => None,
        };
        Some(RefusalAt { host, ..at.clone() })
    };
    Some(RefusalShapes {
        at: refusal.at.iter().map(at).collect::<Option<_>>()?,
        usual: refusal.usual.clone(),
    })
}

fn is_under(host: &HostPattern, domain: &str) -> bool {
    before(&host.to_string(), domain).is_some()
}

/// The part before the domain, with its dot.
fn before<'h>(host: &'h str, domain: &str) -> Option<&'h str> {
    let before = host.strip_suffix(domain)?;
    (before.is_empty() || before.ends_with('.')).then_some(before)
}

fn under(host: &HostPattern, domains: &BTreeMap<String, String>) -> Option<HostPattern> {
    let text = host.to_string();
    let found = domains
        .iter()
        .find_map(|(from, to)| Some((before(&text, from)?, to)));
    match found {
        Some((before, to)) => HostPattern::parse(&format!("{before}{to}")).ok(),
        None => Some(host.clone()),
    }
}
