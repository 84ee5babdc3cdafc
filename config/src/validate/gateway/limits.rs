//! The bounds of caches, queues, headers and waits.

use std::time::Duration;

use super::super::fields;
use crate::{
    memory::{self, in_binary},
    model::{Limits, Unidentified},
    resource::{LimitsSpec, UnidentifiedSpec},
    yaml::{Findings, Location},
};

/// The longest idle time of an unidentified connection.
const LONGEST_REST: Duration = Duration::from_mins(1);

pub(super) fn limits(
    spec: Option<&LimitsSpec>,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Limits> {
    let mut limits = Limits::default();
    let Some(spec) = spec else {
        return Some(limits);
    };
    let sound = counts(spec, &mut limits, location, findings);
    let sound = waits(spec, &mut limits, location, findings) && sound;
    let unidentified = unidentified(
        spec.unidentified.as_ref(),
        &location.key("unidentified"),
        findings,
    );
    limits.unidentified = unidentified?;
    let sound = sound && budget(spec, &mut limits, location, findings);
    sound.then_some(limits)
}

/// Compares the bounds with the memory budget. If `limits.memory` is not set, the budget is determined
/// at start, so bounds that do not fit the chart's container may be intended.
fn budget(
    spec: &LimitsSpec,
    limits: &mut Limits,
    location: &Location<'_>,
    findings: &Findings,
) -> bool {
    if let Some(memory) = spec.memory {
        limits.memory = Some(memory);
        if memory < memory::LEAST {
            findings.error(
                &location.key("memory"),
                "bad-limit",
                "this is too little memory to serve anyone",
                format!("write at least {}", memory::LEAST),
            );
            return false;
        }
    }
    let memory = limits.memory.unwrap_or(memory::CHART / memory::PART);
    let mut fitted = limits.clone();
    memory::fit(&mut fitted, memory);
    // Explicit bounds are not reduced.
    if spec.connections.is_some() {
        fitted.connections = limits.connections;
    }
    if spec.unidentified.is_some() {
        fitted.unidentified = limits.unidentified;
    }
    let excesses = memory::excesses(&fitted, memory);
    for excess in &excesses {
        let location = location.key(excess.key);
        let (product, room) = (in_binary(excess.product), in_binary(excess.room));
        let most = excess.most;
        if limits.memory.is_some() {
            findings.error(
                &location,
                "over-budget",
                format!("this needs {product}, but limits.memory has only {room} for it"),
                format!("write at most {most}, or raise limits.memory"),
            );
        } else {
            findings.warning(
                &location,
                "over-budget",
                format!("this needs {product}, but a container of 256Mi has only {room} for it"),
                format!(
                    "write at most {most}, or set limits.memory to half of the container's memory"
                ),
            );
        }
    }
    limits.memory.is_none() || excesses.is_empty()
}

fn counts(
    spec: &LimitsSpec,
    limits: &mut Limits,
    location: &Location<'_>,
    findings: &Findings,
) -> bool {
    let mut sound = true;
    for (key, written, limit) in [
        ("connections", spec.connections, &mut limits.connections),
        ("headBytes", spec.head_bytes, &mut limits.head_bytes),
        (
            "upstreamConnections",
            spec.upstream_connections,
            &mut limits.upstream_connections,
        ),
        ("formBytes", spec.form_bytes, &mut limits.form_bytes),
        (
            "inspectBytes",
            spec.inspect_bytes,
            &mut limits.inspect_bytes,
        ),
    ] {
        if let Some(written) = written {
            match at_least_one(written, &location.key(key), findings) {
                Some(count) => *limit = count,
                None => sound = false,
            }
        }
    }
    if let Some(leaves) = spec.leaves {
        limits.leaves = leaves;
        sound &= at_least_one(leaves, &location.key("leaves"), findings).is_some();
    }
    // 0 disables replays.
    if let Some(bytes) = spec.replay_bytes {
        limits.replay_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    }
    sound
}

fn waits(
    spec: &LimitsSpec,
    limits: &mut Limits,
    location: &Location<'_>,
    findings: &Findings,
) -> bool {
    let mut sound = true;
    for (key, written, limit) in [
        ("headTimeout", &spec.head_timeout, &mut limits.head_timeout),
        (
            "handshakeTimeout",
            &spec.handshake_timeout,
            &mut limits.handshake_timeout,
        ),
        (
            "connectTimeout",
            &spec.connect_timeout,
            &mut limits.connect_timeout,
        ),
        (
            "responseTimeout",
            &spec.response_timeout,
            &mut limits.response_timeout,
        ),
        (
            "bodyIdleTimeout",
            &spec.body_idle_timeout,
            &mut limits.body_idle_timeout,
        ),
        (
            "clientIdleTimeout",
            &spec.client_idle_timeout,
            &mut limits.client_idle_timeout,
        ),
        (
            "upstreamIdleTimeout",
            &spec.upstream_idle_timeout,
            &mut limits.upstream_idle_timeout,
        ),
        ("drain", &spec.drain, &mut limits.drain),
    ] {
        if let Some(written) = written {
            match fields::duration(written, &location.key(key), findings) {
                Some(wait) => *limit = wait,
                None => sound = false,
            }
        }
    }
    sound
}

fn unidentified(
    spec: Option<&UnidentifiedSpec>,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Unidentified> {
    let mut bounds = Unidentified::default();
    let Some(spec) = spec else {
        return Some(bounds);
    };
    let count = |written: Option<u64>, key| match written {
        None => Some(None),
        Some(written) => at_least_one(written, &location.key(key), findings).map(Some),
    };
    let connections = count(spec.connections, "connections");
    let per_source = count(spec.per_source, "perSource");
    let rest = match &spec.rest {
        None => Some(bounds.rest),
        Some(written) => rest(written, &location.key("rest"), findings),
    };
    let (connections, per_source) = (connections?, per_source?);
    bounds.rest = rest?;
    bounds.connections = connections.unwrap_or(bounds.connections);
    // By default one source can have half of them.
    bounds.per_source = per_source.unwrap_or(bounds.connections.div_ceil(2));
    if bounds.per_source > bounds.connections {
        findings.error(
            &location.key("perSource"),
            "bad-limit",
            "one source could have more connections than there are",
            "write at most the value of `connections`",
        );
        return None;
    }
    Some(bounds)
}

fn rest(written: &str, location: &Location<'_>, findings: &Findings) -> Option<Duration> {
    let rest = fields::duration(written, location, findings)?;
    if rest > LONGEST_REST {
        findings.error(
            location,
            "bad-limit",
            "unidentified clients would keep a connection too long",
            "write at most a minute",
        );
        return None;
    }
    Some(rest)
}

fn at_least_one(written: u64, location: &Location<'_>, findings: &Findings) -> Option<usize> {
    let count = usize::try_from(written).ok().filter(|count| *count > 0);
    if count.is_none() {
        findings.error(
            location,
            "bad-limit",
            "this bound is out of range",
            "write a number above zero; there is no value for unlimited",
        );
    }
    count
}
