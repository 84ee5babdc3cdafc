//! What can be told of how credentials fare: never their values.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Health, LeastPrivilege, ProbeReport};

/// The most workloads that are told of.
const MOST_HELD_BACK: usize = 20;

/// How a credential fares at its API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthStatus {
    /// Why the API rejects the value that is held, and when it is tried again.
    pub rejected: Option<String>,
    /// The same of workloads whose own requests alone are held back, by workload and host.
    #[serde(default)]
    pub held_back: BTreeMap<String, String>,
    /// Why no probe is made, where one would be.
    #[serde(default)]
    pub not_probed: Option<String>,
    /// What the newest probe has shown; `None` before the first, and where there is none.
    pub probe: Option<ProbeStatus>,
    /// What it may do against what was of use; `None` where the API does not tell.
    pub scopes: Option<ScopesStatus>,
    /// Seconds for which the API wants to be left alone: by host and path, or all of it (the empty
    /// text).
    pub limited: BTreeMap<String, u64>,
}

/// What a probe has shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeStatus {
    /// `works`, `rejected`, `insufficient` or `unknown`.
    pub finding: String,
    /// What the API said, or why nothing was found out.
    pub detail: Option<String>,
    /// The generation that was probed.
    pub generation: u64,
    /// When.
    pub at: Timestamp,
    /// Whose credential it is, by the target's `shows`.
    pub shows: BTreeMap<String, String>,
}

/// Which scopes a credential has, and which it could do without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopesStatus {
    /// Those that it has.
    pub granted: Vec<String>,
    /// Those that no request since the gateway started could have needed.
    pub unused: Vec<String>,
    /// What requests would have needed; where any would do, separated by commas.
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
    /// How it fares now. `generation` is of the value that is held.
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
