//! Where policy permits the probe of a credential. A probe is a request like any other, and goes only to
//! hosts that a rule names.

use std::sync::Arc;

use foldhash::HashMap;
use jiff::Timestamp;

use super::{PolicySet, RequestFacts, parts::RuleParts};
use crate::{
    host::Host,
    model::{Policy, Probe, ResourceName},
    pace::yield_core_at,
};

/// A host and port at which a policy permits a credential's probe as a request.
#[derive(Debug, Clone)]
pub(super) struct Permitted {
    host: Host,
    port: u16,
    policy: Arc<Policy>,
}

/// By credential.
pub(super) type Probes = HashMap<ResourceName, Vec<Permitted>>;

impl PolicySet {
    /// A host and port at which a policy with this credential permits its probe now, without a waiting
    /// request.
    ///
    /// `when` can depend on the caller, and a probe has none: a policy with `when` permits no probe.
    pub fn probe_place(&self, credential: &ResourceName, now: Timestamp) -> Option<(&Host, u16)> {
        let permitted = self.probes.get(credential)?.iter();
        permitted
            .filter(|permitted| holds(&permitted.policy, now))
            .map(|permitted| (&permitted.host, permitted.port))
            .next()
    }
}

fn holds(policy: &Policy, now: Timestamp) -> bool {
    let conditions = &policy.conditions;
    let open = |schedule: &crate::schedule::Schedule| schedule.is_open(now);
    conditions.schedule.as_ref().is_none_or(open)
        && conditions.not_after.is_none_or(|end| now < end)
}

pub(super) fn index(policies: &[Arc<Policy>]) -> Probes {
    let mut all = Probes::default();
    for (index, policy) in policies.iter().enumerate() {
        yield_core_at(index);
        let Some(probe) = &policy.target.probe else {
            continue;
        };
        if policy.conditions.when.is_some() {
            continue;
        }
        for (slot, credential) in &policy.credentials {
            if *slot == probe.slot {
                let places = permitted(policy, probe);
                let known: &mut Vec<_> = all.entry(credential.name.clone()).or_default();
                known.extend(places);
            }
        }
    }
    all
}

/// Only exact hosts: a wildcard does not say which hosts exist.
fn permitted(policy: &Arc<Policy>, probe: &Probe) -> impl Iterator<Item = Permitted> {
    let target = &policy.target;
    let port = probe.port.or(target.ports.first().copied());
    probe.hosts.iter().filter_map(move |pattern| {
        let (host, port) = (pattern.exact()?, port?);
        let request = RequestFacts {
            host,
            port,
            method: &probe.method,
            path: &probe.path,
        };
        let allowed = policy
            .allow
            .iter()
            .any(|rule| RuleParts::of(rule, &request).all());
        (allowed && probe.fits(target, host, port)).then(|| Permitted {
            host: host.clone(),
            port,
            policy: Arc::clone(policy),
        })
    })
}
