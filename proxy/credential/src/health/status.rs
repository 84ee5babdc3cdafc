//! The reported health of credentials: never their values.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Health, LeastPrivilege, ProbeReport};

/// The most workloads that are reported.
const MOST_HELD_BACK: usize = 20;

/// The health of a credential at its API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthStatus {
    /// Why the API rejects the current value, and when it is tried again.
    pub rejected: Option<String>,
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
        let reports = places.iter().filter_map(|(_, place)| place.probed.newest());
        let newest = reports.max_by_key(|report| report.at);
        status.probe = newest.map(|report| ProbeStatus::of(&report));
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

impl ProbeStatus {
    fn of(report: &ProbeReport) -> Self {
        Self {
            finding: report.finding.as_str().to_owned(),
            detail: report.finding.detail().map(str::to_owned),
            generation: report.generation,
            at: report.at,
            shows: report.shows.iter().cloned().collect(),
        }
    }
}
