//! `Gateway`: configures one gateway, with a default for everything but `resources`.

mod console;
mod governance;
pub(super) mod here;
mod identity;
mod issued;
mod limits;
mod mode;
mod sinks;
mod source;
mod store;
mod traces;
mod upstream;

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use super::{
    fields::{duration, each, non_blank},
    head::Parsed,
};
use crate::{
    model::{
        Audit, ClientTrust, Cluster, Gateway, Listener, ListenerMode, Observe, ServiceName,
        Unmatched,
    },
    resource::{AuditSpec, GatewaySpec, ListenerSpec, ObserveSpec, ServiceSpec, UnmatchedSpec},
    yaml::{Findings, Location},
};

const LISTENER: ([u8; 4], u16) = ([127, 0, 0, 1], 3128);
const ADMIN: ([u8; 4], u16) = ([127, 0, 0, 1], 9901);

pub(super) fn gateway(written: &Parsed<'_, GatewaySpec>, findings: &Findings) -> Option<Gateway> {
    let spec = &written.spec;
    let location = written.location();
    let listeners = listeners(
        spec.listeners.as_deref(),
        &location.key("listeners"),
        findings,
    );
    let identity = identity::identity(spec.identity.as_ref(), &location.key("identity"), findings);
    let upstream = upstream::upstream(spec.upstream.as_ref(), &location.key("upstream"), findings);
    let observe = observe(spec.observe.as_ref(), &location.key("observe"), findings);
    let limits = limits::limits(spec.limits.as_ref(), &location.key("limits"), findings);
    let interception = spec.interception.as_ref();
    let ca = issued::interception(interception, &location.key("interception"), findings);
    let state = store::state(spec, &location.key("state"), findings);
    let vault = match &spec.vault {
        Some(vault) => store::vault(vault, &location.key("vault"), findings).map(Some),
        None => Some(None),
    };
    let kubernetes = match &spec.kubernetes {
        Some(cluster) => identity::cluster(cluster, &location.key("kubernetes"), findings),
        None => Some(Cluster::in_cluster()),
    };
    let governance = match &spec.governance {
        Some(spec) => governance::governance(spec, &location.key("governance"), findings).map(Some),
        None => Some(None),
    };
    let service = match &spec.service {
        Some(service) => service_name(service, &location.key("service"), findings).map(Some),
        None => Some(None),
    };
    let identity = identity?;
    let kubernetes = kubernetes?;
    let resources = source::resources(
        &spec.resources,
        &identity.issuers,
        &kubernetes,
        &location.key("resources"),
        findings,
    );
    let listeners = listeners?;
    let observe = observe?;
    own_ports(spec, &listeners, &observe, &location, findings)?;
    has_trust_domain(&listeners, &identity, &location.key("listeners"), findings)?;
    Some(Gateway {
        name: written.name.name().to_owned(),
        listeners,
        issuers: identity.issuers,
        trust_domains: identity.trust_domains,
        resources: resources?,
        ca: ca?,
        state: state?,
        kubernetes,
        service: service?,
        vault: vault?,
        unmatched: match spec.unmatched {
            None | Some(UnmatchedSpec::Deny) => Unmatched::Deny,
            Some(UnmatchedSpec::Tunnel) => Unmatched::Tunnel,
        },
        upstream: upstream?,
        observe,
        limits: limits?,
        continues_earlier_runs: true,
        governance: governance?,
    })
}

fn service_name(
    spec: &ServiceSpec,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<ServiceName> {
    let namespace = non_blank(&spec.namespace, &location.key("namespace"), findings);
    let name = non_blank(&spec.name, &location.key("name"), findings);
    Some(ServiceName {
        namespace: namespace?,
        name: name?,
    })
}

fn listeners(
    specs: Option<&[ListenerSpec]>,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Vec<Listener>> {
    let Some(specs) = specs else {
        return Some(vec![Listener {
            name: "proxy".to_owned(),
            address: LISTENER.into(),
            mode: ListenerMode::Explicit,
            tls: None,
            own_token_file: None,
        }]);
    };
    if specs.is_empty() {
        findings.error(
            location,
            "empty-list",
            "the gateway would have no listener",
            "add a listener, or remove the key to use 127.0.0.1:3128",
        );
        return None;
    }
    let listeners = each(specs, location, |spec, location| {
        listener(spec, location, findings)
    })?;
    let mut sound = true;
    for (index, listener) in listeners.iter().enumerate() {
        let clash = listeners[..index]
            .iter()
            .find(|other| other.name == listener.name || overlap(other.address, listener.address));
        if let Some(other) = clash {
            sound = false;
            let key = if other.name == listener.name {
                "name"
            } else {
                "address"
            };
            findings.error(
                &location.index(index).key(key),
                "duplicate-listener",
                format!("another listener has this {key}"),
                format!("give each listener a {key} of its own"),
            );
        }
    }
    sound.then_some(listeners)
}

/// Reports an admin endpoint whose port a listener has.
fn own_ports(
    spec: &GatewaySpec,
    listeners: &[Listener],
    observe: &Observe,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<()> {
    let Some(admin) = observe.admin else {
        return Some(());
    };
    let Some(index) = listeners
        .iter()
        .position(|listener| overlap(listener.address, admin))
    else {
        return Some(());
    };
    let written = spec
        .observe
        .as_ref()
        .and_then(|observe| observe.admin.as_ref());
    let place = match written {
        Some(_) => location.key("observe").key("admin"),
        None => location.key("listeners").index(index).key("address"),
    };
    findings.error(
        &place,
        "duplicate-listener",
        format!(
            "a listener and the admin endpoint (`observe.admin`) have the same port at {admin}"
        ),
        "give each a port of its own; without the key the admin endpoint is at 127.0.0.1:9901",
    );
    None
}

/// Whether only one of two sockets could be bound to these addresses.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    let same = one.ip() == other.ip() || (any && one.is_ipv4() == other.is_ipv4());
    same && one.port() == other.port() && one.port() != 0
}

/// A listener that asks for SVIDs but has no trust domain would refuse every client.
fn has_trust_domain(
    listeners: &[Listener],
    identity: &identity::Identity,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<()> {
    let asks = |listener: &Listener| {
        let tls = listener.tls.as_ref();
        tls.is_some_and(|tls| tls.client_trust == ClientTrust::Spiffe)
    };
    let Some(index) = listeners.iter().position(asks) else {
        return Some(());
    };
    if identity.trust_domains.is_empty() {
        findings.error(
            &location.index(index).key("tls").key("clientTrust"),
            "no-trust-domain",
            "no trust domain is configured, so every client certificate would be refused",
            "add `identity.trustDomains`, or remove `clientTrust`",
        );
        return None;
    }
    Some(())
}

fn listener(spec: &ListenerSpec, location: &Location<'_>, findings: &Findings) -> Option<Listener> {
    let name = non_blank(&spec.name, &location.key("name"), findings);
    let address = address(&spec.address, &location.key("address"), findings);
    let mode = mode::mode(spec, address, location, findings);
    let tls = match &spec.tls {
        None => Some(None),
        Some(tls) => issued::tls(tls, &location.key("tls"), findings).map(Some),
    };
    if let Some(address) = address
        && mode == Some(ListenerMode::Explicit)
        && !address.ip().is_loopback()
        && spec.tls.is_none()
        && spec.plaintext.is_none()
    {
        findings.error(
            &location.key("address"),
            "plaintext-listener",
            "without TLS, tokens would cross the network in clear text",
            "add `tls:`, listen on 127.0.0.1, or confirm with `plaintext: allowed`",
        );
        return None;
    }
    Some(Listener {
        name: name?,
        address: address?,
        mode: mode?,
        tls: tls?,
        own_token_file: spec
            .identity
            .as_ref()
            .map(|identity| PathBuf::from(&identity.token_file)),
    })
}

fn address(text: &str, location: &Location<'_>, findings: &Findings) -> Option<SocketAddr> {
    SocketAddr::from_str(text)
        .inspect_err(|_| {
            findings.error(
                location,
                "bad-address",
                "this is not an IP address with a port",
                "write both, such as `127.0.0.1:3128` or `[::1]:3128`",
            );
        })
        .ok()
}

/// The shortest and the longest time between two signatures of the decision log.
const CHECKPOINT_EVERY: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_hours(24);

fn audit(spec: &AuditSpec, location: &Location<'_>, findings: &Findings) -> Option<Audit> {
    let directory = non_blank(&spec.directory, &location.key("directory"), findings);
    let every = match &spec.checkpoint_every {
        None => Some(Duration::from_mins(1)),
        Some(text) => {
            let location = location.key("checkpointEvery");
            let every = duration(text, &location, findings)?;
            if !CHECKPOINT_EVERY.contains(&every) {
                findings.error(
                    &location,
                    "bad-duration",
                    "the decision log is signed every second at most, and once a day at least",
                    "write `1s` to `24h`; `1m` is the default",
                );
                return None;
            }
            Some(every)
        }
    };
    Some(Audit {
        directory: PathBuf::from(directory?),
        checkpoint_every: every?,
    })
}

fn observe(
    spec: Option<&ObserveSpec>,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Observe> {
    let decisions = sinks::sinks(spec, location, findings);
    let admin = match spec.and_then(|spec| spec.admin.as_deref()) {
        None => Some(Some(ADMIN.into())),
        Some("none") => Some(None),
        Some(text) => address(text, &location.key("admin"), findings).map(Some),
    };
    let audit = match spec.and_then(|spec| spec.audit.as_ref()) {
        None => Some(None),
        Some(audit) => self::audit(audit, &location.key("audit"), findings).map(Some),
    };
    let traces = match spec.and_then(|spec| spec.traces.as_ref()) {
        None => Some(None),
        Some(traces) => traces::traces(traces, &location.key("traces"), findings).map(Some),
    };
    let console = spec.and_then(|spec| spec.console.as_ref());
    let console = console::console(console, &location.key("console"), findings);
    let (decisions, audit) = (decisions?, audit?);
    sinks::check_audit(audit.as_ref(), &decisions, location, findings);
    Some(Observe {
        decisions,
        audit,
        admin: admin?,
        traces: traces?,
        console: console?,
    })
}
