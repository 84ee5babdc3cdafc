//! The credentials in metrics: how each stands and when it ends, as the gateway shows them elsewhere too.

use prometheus_client::{
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{
    Metrics,
    labels::{CredentialNameLabel, CredentialStateLabels},
};

/// One credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CredentialStanding<'c> {
    /// Its name.
    pub name: &'c str,
    /// How it stands, as one word.
    pub state: &'static str,
    /// When its value ends, as Unix time; `None` if that is not known.
    pub ends: Option<i64>,
}

impl Metrics {
    /// Shows these credentials, and none that were shown before.
    pub fn credentials<'c>(&self, all: impl IntoIterator<Item = CredentialStanding<'c>>) {
        let Standings { states, ends } = &self.0.standings;
        states.clear();
        ends.clear();
        for one in all {
            let labels = CredentialStateLabels {
                credential: one.name.to_owned(),
                state: one.state,
            };
            states.get_or_create(&labels).set(1);
            if let Some(at) = one.ends {
                let credential = one.name.to_owned();
                let gauge = ends.get_or_create(&CredentialNameLabel { credential });
                gauge.set(at);
            }
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Standings {
    states: Family<CredentialStateLabels, Gauge>,
    ends: Family<CredentialNameLabel, Gauge>,
}

impl Standings {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "credential_state",
            "How a credential stands: unused, good, stale, failed or idle",
            self.states.clone(),
        );
        registry.register_with_unit(
            "credential_expires_timestamp",
            "When a credential's value ends, as Unix time, if it does",
            Unit::Seconds,
            self.ends.clone(),
        );
    }
}
