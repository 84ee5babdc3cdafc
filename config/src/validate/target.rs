//! `TargetService`: the API. The operator's replace the catalog's of the same name, or extend one.

mod answer;
mod claims;
mod domains;
mod probe;
mod route;
mod unread;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::{
    fields::{each, host_pattern},
    head::{self, Head, Parsed},
    table::ResourceTable,
};
use crate::{
    host::HostPattern,
    model::{RateLimitScope, ResourceName, SlotName, Slots, Target, TransportFaults},
    path::EncodedSlash,
    resource::{
        EncodedSlashSpec, Kind, RateLimitPer, SlotsSpec, TargetServiceSpec, TransportFaultsSpec,
    },
    yaml::{Findings, Location, read::did_you_mean},
};
pub(super) use claims::Claims;
use route::RouteChecks;

const DEFAULT_PORT: u16 = 443;
/// More than any API has. Routes and policies are compared with each of them.
const MOST_HOSTS: usize = 1024;
const MOST_SLOTS: usize = 256;
const MOST_PORTS: usize = 256;

/// The targets that others may extend.
pub(super) type Base = BTreeMap<ResourceName, Target>;

/// All targets: the catalog's, except those that the operator replaced, and the operator's. And the whole catalog.
pub(super) fn all(heads: &[Head<'_>], findings: &Findings) -> (ResourceTable<Target>, Base) {
    let (catalog, own): (Vec<_>, Vec<_>) = heads
        .iter()
        .filter(|head| head.kind == Kind::TargetService)
        .partition(|head| head.document.source.catalog);
    let mut base = Base::new();
    // In their order, so that a later one may extend an earlier one.
    for head in catalog {
        if let (Some(name), Some(target)) = (&head.name, one(head, &base, findings)) {
            base.insert(name.clone(), target);
        }
    }

    let mut table = ResourceTable::new(Kind::TargetService);
    for (name, target) in &base {
        table.put(name.clone(), Some(target.clone()));
    }
    let mut written = Vec::new();
    for head in own {
        let target = one(head, &base, findings);
        if let (Some(name), false) = (&head.name, head.duplicate) {
            table.put(name.clone(), target);
            written.push((name, head));
        }
    }
    // Those of the catalog that are not replaced come first. Of two of the operator's with the same
    // name, the later one is reported.
    let replaced: HashSet<_> = written.iter().map(|(name, _)| *name).collect();
    let mut claims = Claims::default();
    for target in table
        .values()
        .filter(|target| !replaced.contains(&target.name))
    {
        claims.add(target);
    }
    for (name, head) in &written {
        if let Some(target) = table.get(name) {
            claims.check(target, head, findings);
            claims.add(target);
        }
    }
    (table, base)
}

/// One target, which may extend one of the catalog.
pub(super) fn one(head: &Head<'_>, base: &Base, findings: &Findings) -> Option<Target> {
    let spec = head::spec::<TargetServiceSpec>(head, findings)?;
    let written = Parsed {
        name: head.name.clone()?,
        document: head.document,
        spec,
    };
    let before = findings.errors();
    let domains = &written.spec.domains;
    let location = written.location().key("domains");
    let base = match &written.spec.extends {
        Some(extends) => {
            let base = extended(extends, &written, base, findings)?;
            Some(domains::under_domains(base, domains, &location, findings)?)
        }
        None if domains.is_empty() => None,
        None => {
            findings.error(
                &written.location().key_name("domains"),
                "missing-key",
                "`domains` needs a target to extend",
                "name the target with `extends`, or write the hosts themselves",
            );
            return None;
        }
    };
    let base: Option<&Target> = base.as_ref().map(Cow::as_ref);
    let target = target(&written, base, findings)?;
    (findings.errors() == before).then_some(target)
}

fn extended<'b>(
    extends: &str,
    written: &Parsed<'_, TargetServiceSpec>,
    base: &'b Base,
    findings: &Findings,
) -> Option<&'b Target> {
    let found = base.get(&ResourceName::cluster_wide(extends));
    if found.is_none() {
        findings.error(
            &written.location().key("extends"),
            "dangling-reference",
            format!("the catalog has no target `{extends}`"),
            did_you_mean(extends, base.keys().map(ResourceName::name)),
        );
    }
    found
}

fn encoded_slash(spec: &TargetServiceSpec, base: Option<&Target>) -> EncodedSlash {
    match spec.encoded_slash {
        Some(EncodedSlashSpec::Refuse) => EncodedSlash::Refuse,
        Some(EncodedSlashSpec::Keep) => EncodedSlash::Keep,
        None => base.map_or_else(EncodedSlash::default, |base| base.encoded_slash),
    }
}

fn target(
    written: &Parsed<'_, TargetServiceSpec>,
    base: Option<&Target>,
    findings: &Findings,
) -> Option<Target> {
    let spec = &written.spec;
    let location = written.location();
    let hosts = hosts(spec, base, &location, findings);
    let ports = ports(spec, base, &location, findings);
    let slots = slots(spec.slots.as_ref(), base, &location.key("slots"), findings);
    let encoded_slash = encoded_slash(spec, base);
    let checks = RouteChecks {
        hosts: hosts.as_deref(),
        slots: slots.as_ref(),
        encoded_slash,
        findings,
    };
    if spec.intercept == Some(false) {
        return unread::target(written, hosts?, ports?, findings);
    }
    let mut routes = each(&spec.routes, &location.key("routes"), |route, location| {
        checks.route(route, location)
    });
    if let Some(routes) = &mut routes {
        route::complete(routes, base, spec.traceparent);
    }
    if routes.as_ref().is_some_and(Vec::is_empty) {
        findings.error(
            &location.key("routes"),
            "empty-list",
            "the target has no routes, so every request would be refused",
            "add one, such as `- attach: { header: Authorization, value: \"Bearer {token}\" }`",
        );
    }
    let auth_failure = each(
        &spec.auth_failure,
        &location.key("authFailure"),
        |failure, location| answer::auth_failure(failure, location, findings),
    );
    let refusal = match &spec.refusal {
        Some(refusal) => answer::refusal(refusal, &location.key("refusal"), &checks).map(Some),
        None => Some(base.and_then(|base| base.refusal.clone())),
    };
    let probe = match &spec.probe {
        Some(probe) => {
            let checks = probe::Checks {
                hosts: hosts.as_deref(),
                ports: ports.as_deref(),
                routes: routes.as_deref(),
                findings,
            };
            checks.probe(probe, &location.key("probe")).map(Some)
        }
        None => Some(probe::inherited(base, hosts.as_deref(), routes.as_deref())),
    };
    let mut auth_failure = auth_failure?;
    auth_failure.extend(
        base.iter()
            .flat_map(|base| base.auth_failure.iter().cloned()),
    );
    Some(Target {
        name: written.name.clone(),
        hosts: hosts?,
        ports: ports?,
        intercept: true,
        slots: slots?,
        routes: routes?,
        auth_failure,
        encoded_slash,
        refusal: refusal?,
        transport_faults: transport_faults(spec, base),
        probe: probe?,
        rate_limit: rate_limit(spec, base),
    })
}

fn transport_faults(spec: &TargetServiceSpec, base: Option<&Target>) -> TransportFaults {
    match (spec.transport_faults, base) {
        (Some(TransportFaultsSpec::Status), _) | (None, None) => TransportFaults::Status,
        (Some(TransportFaultsSpec::Close), _) => TransportFaults::Close,
        (None, Some(base)) => base.transport_faults,
    }
}

fn rate_limit(spec: &TargetServiceSpec, base: Option<&Target>) -> RateLimitScope {
    match (&spec.rate_limit, base) {
        (Some(written), _) => match written.per {
            RateLimitPer::Credential => RateLimitScope::Credential,
            RateLimitPer::Path => RateLimitScope::Path,
        },
        (None, Some(base)) => base.rate_limit,
        (None, None) => RateLimitScope::Credential,
    }
}

fn hosts(
    spec: &TargetServiceSpec,
    base: Option<&Target>,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Vec<HostPattern>> {
    let location = location.key("hosts");
    bounded(spec.hosts.len(), MOST_HOSTS, "hosts", &location, findings)?;
    let mut hosts = each(&spec.hosts, &location, |host, location| {
        host_pattern(host, location, findings)
    })?;
    for inherited in base.iter().flat_map(|base| &base.hosts) {
        if !hosts.contains(inherited) {
            hosts.push(inherited.clone());
        }
    }
    if hosts.is_empty() {
        findings.error(
            &location,
            "empty-list",
            "the target has no hosts",
            "add `hosts: [api.example.com]`",
        );
        return None;
    }
    Some(hosts)
}

fn ports(
    spec: &TargetServiceSpec,
    base: Option<&Target>,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Vec<u16>> {
    let Some(ports) = &spec.ports else {
        return Some(base.map_or_else(|| vec![DEFAULT_PORT], |base| base.ports.clone()));
    };
    bounded(
        ports.len(),
        MOST_PORTS,
        "ports",
        &location.key("ports"),
        findings,
    )?;
    if ports.is_empty() || ports.contains(&0) {
        findings.error(
            &location.key("ports"),
            "bad-port",
            "these are not ports",
            "write ports from 1 to 65535, or remove the key to use 443",
        );
        return None;
    }
    Some(ports.clone())
}

fn slots(
    spec: Option<&SlotsSpec>,
    base: Option<&Target>,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Slots> {
    let Some(spec) = spec else {
        return Some(base.map_or_else(
            || Slots {
                default: "default".into(),
                names: vec!["default".into()],
            },
            |base| base.slots.clone(),
        ));
    };
    bounded(
        spec.names.len(),
        MOST_SLOTS,
        "slots",
        &location.key("names"),
        findings,
    )?;
    let mut names: Vec<SlotName> = Vec::new();
    let inherited = base
        .iter()
        .flat_map(|base| base.slots.names.iter().cloned());
    let own = spec.names.iter().map(|name| SlotName::from(name.as_str()));
    let mut seen = HashSet::new();
    for name in own.chain(inherited) {
        if seen.insert(Arc::clone(&name)) {
            names.push(name);
        }
    }
    let Some(default) = names.iter().find(|name| ***name == *spec.default).cloned() else {
        findings.error(
            &location.key("default"),
            "unknown-slot",
            format!("`{}` is not among the slots", spec.default),
            did_you_mean(&spec.default, names.iter().map(|name| &**name)),
        );
        return None;
    };
    Some(Slots { default, names })
}

/// Reports a list that is longer than any API needs.
fn bounded(
    length: usize,
    most: usize,
    what: &str,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<()> {
    if length <= most {
        return Some(());
    }
    findings.error(
        location,
        "long-list",
        format!("a target can have at most {most} {what}; this one has {length}"),
        "write several targets",
    );
    None
}
