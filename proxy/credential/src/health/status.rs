//! The reported health of credentials: never their values.

use std::collections::BTreeMap;

use countersign_config::host::Host;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Finding, Health, HostHealth, LeastPrivilege, ProbeReport};

/// The most workloads that are reported.
const MOST_HELD_BACK: usize = 20;

/// The health of a credential at its API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthStatus {
    /// Why the API rejects the current value, and when it is tried again.
    pub rejected: Option<String>,
    /// The last rejection, also when it is over.
    #[serde(default)]
    pub last_rejection: Option<LastRejectionStatus>,
    /// The same for workloads that are held back alone, by workload and host.
    #[serde(default)]
    pub held_back: BTreeMap<String, String>,
    /// Why no probe is made, if one is needed.
    #[serde(default)]
    pub not_probed: Option<String>,
    /// The result of the newest probe; `None` before the first, and if there is no probe.
    pub probe: Option<ProbeStatus>,
    /// Its scopes and those that were needed; `None` if the API does not report them.
    pub scopes: Option<ScopesStatus>,
    /// Seconds for which the API wants no requests, by host and path; the empty text is the whole
    /// credential.
    pub limited: BTreeMap<String, u64>,
}

/// The last time that the API rejected the credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRejectionStatus {
    /// Where.
    pub host: String,
    /// The workload whose request met it; `None` is a probe.
    pub workload: Option<String>,
    /// The generation that was rejected.
    pub generation: u64,
    /// The API's error, if it gave one.
    pub said: Option<String>,
    /// Seconds since then.
    pub ago_s: u64,
    /// Seconds since the API accepted this value, or a newer one; `None` if it has not since.
    pub accepted_s: Option<u64>,
}

/// The result of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeStatus {
    /// `works`, `rejected`, `insufficient` or `unknown`.
    pub finding: String,
    /// The API's error, or why there is no result.
    pub detail: Option<String>,
    /// The generation that was probed.
    pub generation: u64,
    /// When it was made.
    pub at: Timestamp,
    /// Whose credential it is, by the target's `shows`.
    pub shows: BTreeMap<String, String>,
    /// Whether the API has rejected this value since it found that it works.
    #[serde(default)]
    pub outdated: bool,
}

/// The scopes of a credential, and those that it could do without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopesStatus {
    /// The scopes that it has.
    pub granted: Vec<String>,
    /// Those that no request since the gateway started could have needed.
    pub unused: Vec<String>,
    /// Scopes that requests would have needed; if any one is enough, separated by commas.
    pub lacking: Vec<String>,
}

impl From<LeastPrivilege> for ScopesStatus {
    fn from(report: LeastPrivilege) -> Self {
        let LeastPrivilege {
            granted,
            unused,
            lacking,
        } = report;
        Self {
            granted,
            unused,
            lacking,
        }
    }
}

impl Health {
    /// Its current health. `generation` is that of the current value.
    pub fn status(&self, generation: Option<u64>) -> HealthStatus {
        let places = self.places.all();
        let mut status = HealthStatus {
            scopes: self.scopes.report().map(ScopesStatus::from),
            limited: self
                .limits
                .all()
                .into_iter()
                .map(|(what, left)| (what.into(), left.as_secs() + 1))
                .collect(),
            ..HealthStatus::default()
        };
        let probed = places.iter().filter_map(|(_, place)| {
            let report = place.probed.newest()?;
            Some((report.at, ProbeStatus::of(&report, place)))
        });
        status.probe = probed.max_by_key(|(at, _)| *at).map(|(_, probe)| probe);
        status.last_rejection = places
            .iter()
            .filter_map(|(host, place)| LastRejectionStatus::at(host, place))
            .min_by_key(|last| last.ago_s);
        for (host, place) in places.iter() {
            for rejected in place.breaker.rejected() {
                if generation.is_some_and(|held| held != rejected.generation) {
                    continue;
                }
                match &rejected.workload {
                    None => status.rejected = Some(format!("at {host} {rejected}")),
                    Some(workload) if status.held_back.len() < MOST_HELD_BACK => {
                        let key = format!("{workload} at {host}");
                        status.held_back.insert(key, rejected.to_string());
                    }
                    Some(_) => {}
                }
            }
            if let Some(why) = place.probed.forbidden() {
                status.not_probed = Some(String::clone(&why));
            }
        }
        status
    }
}

impl HealthStatus {
    /// Why the credential cannot be used: all its requests are held back, or those of some workloads and
    /// it has worked for nobody since.
    pub(crate) fn fault(&self) -> Option<(String, u64)> {
        let last = self.last_rejection.as_ref()?;
        let is_over = last.accepted_s.is_some();
        let is_held = self.rejected.is_some() || (!self.held_back.is_empty() && !is_over);
        let said = last.said.as_deref();
        let said = said.map(|said| format!(": `{said}`")).unwrap_or_default();
        is_held.then(|| {
            let text = format!(
                "the API at {} rejected generation {}{said}",
                last.host, last.generation
            );
            (text, last.ago_s)
        })
    }
}

impl LastRejectionStatus {
    fn at(host: &Host, place: &HostHealth) -> Option<Self> {
        let last = place.breaker.last_rejection()?;
        Some(Self {
            host: host.to_string(),
            workload: last.workload.map(|workload| workload.to_string()),
            generation: last.generation,
            said: last.said.map(|said| said.to_string()),
            ago_s: last.at.elapsed().as_secs(),
            accepted_s: last.works_since.map(|since| since.elapsed().as_secs()),
        })
    }
}

impl ProbeStatus {
    fn of(report: &ProbeReport, place: &HostHealth) -> Self {
        let last = place.breaker.last_rejection();
        let since =
            last.filter(|last| last.works_since.is_none() && report.finding == Finding::Works);
        Self {
            finding: report.finding.as_str().to_owned(),
            detail: report.finding.detail().map(str::to_owned),
            generation: report.generation,
            at: report.at,
            shows: report.shows.iter().cloned().collect(),
            outdated: since.is_some_and(|last| last.generation >= report.generation),
        }
    }
}
