//! Failures of one cause: by episode, with whom they concern and what the first of them says.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{causes::Meaning, timeline::Timeline};
use crate::record::Decision;

/// The most workloads that an episode names.
pub(super) const AFFECTED: usize = 256;

/// The most episodes of one cause that are kept.
const EPISODES: usize = 32;

/// Failures of one cause that are further apart, with a success between, are two episodes.
const APART: SignedDuration = SignedDuration::from_mins(30);

/// Failures that have their cause in common.
#[derive(Debug)]
pub(super) struct Cause {
    pub(super) meaning: &'static Meaning,
    /// What worked if the cause is gone: a key of [`Collected::worked`].
    pub(super) cured_by: String,
    pub(super) episodes: Vec<Episode>,
    /// Episodes that are no longer kept.
    pub(super) forgotten: u64,
}

/// Failures of one cause without a success between.
#[derive(Debug, Clone)]
pub(super) struct Episode {
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) count: u64,
    pub(super) affected: BTreeMap<String, Affected>,
    pub(super) others: u64,
    pub(super) sources: BTreeSet<String>,
    pub(super) reasons: BTreeMap<String, u64>,
    pub(super) sample: Sample,
    pub(super) ids: Vec<String>,
    pub(super) last_id: String,
}

/// One workload in an episode.
#[derive(Debug, Clone)]
pub(super) struct Affected {
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) count: u64,
    pub(super) request: String,
    pub(super) series: String,
}

/// What the first record of an episode says.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample {
    pub(super) workload: Option<String>,
    pub(super) target: Option<String>,
    pub(super) authority: Option<String>,
    pub(super) method: Option<String>,
    pub(super) path: Option<String>,
    pub(super) policy: Option<String>,
    pub(super) credential: Option<String>,
    pub(super) api_error: Option<String>,
    pub(super) status: Option<u16>,
    pub(super) mismatches: Vec<(String, String, String)>,
    pub(super) detail: Option<String>,
}

/// One failed request.
pub(super) struct Failure<'a> {
    pub(super) time: Timestamp,
    pub(super) id: &'a str,
    pub(super) whom: &'a str,
    pub(super) source: &'a str,
    pub(super) series: String,
}

impl Cause {
    pub(super) fn add(
        &mut self,
        failure: Failure<'_>,
        reason: &str,
        sample: Sample,
        cured: Option<&Timeline>,
    ) {
        let time = failure.time;
        let joins = self.episodes.last().is_some_and(|episode| {
            let quiet = time.duration_since(episode.last) > APART;
            let cured = || {
                cured
                    .and_then(Timeline::last)
                    .is_some_and(|last| last > episode.last)
            };
            !(quiet && cured())
        });
        if !joins {
            if self.episodes.len() == EPISODES {
                self.episodes.remove(0);
                self.forgotten += 1;
            }
            self.episodes.push(Episode::begin(time, sample));
        }
        let episode = self.episodes.last_mut().expect("one was just begun");
        episode.add(failure, reason);
    }
}

impl Episode {
    fn begin(time: Timestamp, sample: Sample) -> Self {
        Self {
            first: time,
            last: time,
            count: 0,
            affected: BTreeMap::new(),
            others: 0,
            sources: BTreeSet::new(),
            reasons: BTreeMap::new(),
            sample,
            ids: Vec::new(),
            last_id: String::new(),
        }
    }

    fn add(&mut self, failure: Failure<'_>, reason: &str) {
        self.count += 1;
        self.first = self.first.min(failure.time);
        if failure.time >= self.last || self.last_id.is_empty() {
            self.last = self.last.max(failure.time);
            failure.id.clone_into(&mut self.last_id);
        }
        if self.ids.len() < 3 {
            self.ids.push(failure.id.to_owned());
        }
        *self.reasons.entry(reason.to_owned()).or_default() += 1;
        if self.sources.len() < AFFECTED && !self.sources.contains(failure.source) {
            self.sources.insert(failure.source.to_owned());
        }
        if let Some(affected) = self.affected.get_mut(failure.whom) {
            affected.count += 1;
            affected.first = affected.first.min(failure.time);
            affected.last = affected.last.max(failure.time);
        } else if self.affected.len() < AFFECTED {
            let affected = Affected {
                first: failure.time,
                last: failure.time,
                count: 1,
                request: request(&failure.series),
                series: failure.series,
            };
            self.affected.insert(failure.whom.to_owned(), affected);
        } else {
            self.others += 1;
        }
    }
}

impl Sample {
    pub(super) fn of(decision: &Decision<'_>) -> Self {
        let text = |text: &str| Some(text.to_owned());
        let target = decision.target.as_ref();
        let credential = decision.credential.as_ref();
        let upstream = decision.upstream.as_ref();
        let nearest = decision.nearest.as_ref();
        let rejected = credential.and_then(|credential| credential.rejected.as_ref());
        let said = upstream.and_then(|upstream| upstream.api_error.as_deref());
        let said = said.or_else(|| rejected.and_then(|rejected| rejected.api_error.as_deref()));
        let policy = decision.policy.as_ref();
        Self {
            workload: decision
                .workload
                .as_ref()
                .and_then(|workload| text(&workload.name)),
            target: target.and_then(|target| target.name.as_deref().and_then(text)),
            authority: target.and_then(|target| text(&target.authority)),
            method: target.and_then(|target| target.method.as_deref().and_then(text)),
            path: target.and_then(|target| target.path.as_deref().and_then(text)),
            policy: policy
                .and_then(|policy| text(&policy.name))
                .or_else(|| nearest.and_then(|nearest| text(&nearest.policy))),
            credential: credential.and_then(|credential| text(&credential.name)),
            api_error: said.and_then(text),
            status: upstream.and_then(|upstream| upstream.status),
            mismatches: nearest.map_or_else(Vec::new, |nearest| {
                let mismatches = nearest.mismatches.iter().take(4);
                mismatches
                    .map(|one| {
                        (
                            one.what.to_string(),
                            one.expected.to_string(),
                            one.actual.to_string(),
                        )
                    })
                    .collect()
            }),
            detail: decision.detail.as_deref().and_then(text),
        }
    }
}

/// `METHOD AUTHORITY PATH` of a series, for people.
fn request(series: &str) -> String {
    let mut parts = series.splitn(5, ' ').skip(2);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(authority), Some(method), Some(path)) => {
            let host = authority.strip_suffix(":443").unwrap_or(authority);
            format!("{method} {host}{path}")
        }
        _ => String::new(),
    }
}
