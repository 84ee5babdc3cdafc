//! What changed, and when: revisions, values of credentials, deploys, restarts.

use std::collections::{BTreeMap, HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::record::{Decision, Event, Happened, Outcome};

/// The most changes of a kind that are kept: the latest.
const MOST: usize = 4096;

/// The most workloads or credentials that are followed.
const FOLLOWED: usize = 20_000;

/// Something that changed before a failure began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// When it was, or was first seen.
    pub at: Timestamp,
    /// `revision`, `reload_rejected`, `credential`, `expiry`, `deploy`, `restart` or `version`.
    pub kind: &'static str,
    /// What, for people.
    pub what: String,
    /// The revision in effect afterwards, for `revision`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The resources that changed, as `KIND NAME`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct Changes {
    events: VecDeque<Change>,
    /// The latest revision of each gateway, to tell a revision that several load once.
    revisions: HashMap<String, Timestamp>,
    versions: HashMap<String, String>,
    credentials: BTreeMap<String, Values>,
    deploys: BTreeMap<String, Deploys>,
    stopped: HashMap<String, bool>,
}

/// The values of a credential.
#[derive(Debug, Default)]
struct Values {
    /// By gateway: they count each for themselves.
    latest: HashMap<String, u64>,
    obtained: VecDeque<Timestamp>,
    expires: VecDeque<(Timestamp, Timestamp)>,
}

/// The generations of a Deployment's pods.
#[derive(Debug, Default)]
struct Deploys {
    latest: Option<String>,
    seen: VecDeque<(Timestamp, String)>,
}

impl Changes {
    pub(super) fn event(&mut self, event: &Event<'_>, source: &str) {
        let change = |kind, what: String| Change {
            at: event.time,
            kind,
            what,
            revision: None,
            resources: Vec::new(),
        };
        match event.event {
            Happened::Reloaded => self.reloaded(event),
            Happened::ReloadRejected => {
                let detail = event.detail.as_deref().unwrap_or("no detail");
                self.push(change(
                    "reload_rejected",
                    format!("{source} rejected new resources: {detail}"),
                ));
            }
            Happened::Started => {
                let killed = self.stopped.insert(source.to_owned(), false) == Some(false);
                let how = if killed {
                    "after it was killed or crashed"
                } else {
                    ""
                };
                self.push(change(
                    "restart",
                    format!("{source} started {how}").trim_end().to_owned(),
                ));
                let version = event.version.as_deref().unwrap_or_default();
                let before = self.versions.insert(source.to_owned(), version.to_owned());
                if let Some(before) = before.filter(|before| before != version) {
                    self.push(change(
                        "version",
                        format!("{source} went from version {before} to {version}"),
                    ));
                }
            }
            Happened::Stopped => {
                self.stopped.insert(source.to_owned(), true);
            }
            Happened::Draining | Happened::Other => {}
        }
    }

    fn reloaded(&mut self, event: &Event<'_>) {
        let revision = event.revision.as_deref().unwrap_or_default();
        // Each gateway tells of the same revision.
        let known = self.revisions.insert(revision.to_owned(), event.time);
        if known.is_some_and(|at| event.time.duration_since(at) < SignedDuration::from_hours(1)) {
            return;
        }
        let named = event.changes.iter();
        let resources: Vec<_> = named
            .map(|one| format!("{} {}", one.kind, one.name))
            .collect();
        let said = event
            .changes
            .iter()
            .map(|one| format!("{} {} {}", one.change, one.kind, one.name));
        let mut said: Vec<_> = said.take(3).collect();
        let rest = event.changed.saturating_sub(said.len() as u64);
        if rest > 0 {
            said.push(format!("and {rest} more"));
        }
        self.push(Change {
            at: event.time,
            kind: "revision",
            what: format!("revision {revision}: {}", said.join(", ")),
            revision: Some(revision.to_owned()),
            resources,
        });
    }

    fn push(&mut self, change: Change) {
        if self.events.len() == MOST {
            self.events.pop_front();
        }
        self.events.push_back(change);
    }

    pub(super) fn decision(&mut self, decision: &Decision<'_>, who: &str, source: &str) {
        if let Some(credential) = &decision.credential {
            self.credential(credential, source, decision);
        }
        let pod = decision
            .caller
            .as_ref()
            .and_then(|caller| caller.pod.as_deref());
        if let Some(template) = pod.and_then(template) {
            if !self.deploys.contains_key(who) {
                if self.deploys.len() >= FOLLOWED {
                    return;
                }
                self.deploys.insert(who.to_owned(), Deploys::default());
            }
            let Some(deploys) = self.deploys.get_mut(who) else {
                return;
            };
            let known = deploys.latest.as_deref() == Some(template)
                || deploys.seen.iter().any(|(_, seen)| seen == template);
            if !known {
                if deploys.latest.is_some() {
                    keep(&mut deploys.seen, (decision.time, template.to_owned()), 64);
                }
                deploys.latest = Some(template.to_owned());
            }
        }
    }

    fn credential(
        &mut self,
        credential: &crate::record::Credential<'_>,
        source: &str,
        decision: &Decision<'_>,
    ) {
        if !self.credentials.contains_key(&*credential.name) {
            if self.credentials.len() >= FOLLOWED {
                return;
            }
            self.credentials
                .insert(credential.name.to_string(), Values::default());
        }
        let Some(values) = self.credentials.get_mut(&*credential.name) else {
            return;
        };
        let time = decision.time;
        let generation = credential.generation.unwrap_or_default();
        let known = values.latest.get(source).copied();
        if known != Some(generation) {
            values.latest.insert(source.to_owned(), generation);
            let age = i64::try_from(credential.age_s.unwrap_or_default()).unwrap_or_default();
            let obtained = time
                .saturating_sub(SignedDuration::from_secs(age))
                .unwrap_or(time);
            if known.is_some() {
                keep(&mut values.obtained, obtained, 256);
            }
        }
        if let Some(left) = credential.expires_in_s
            && matches!(decision.outcome, Outcome::Permitted | Outcome::Tunnelled)
        {
            let left = SignedDuration::from_secs(i64::try_from(left).unwrap_or_default());
            let expires = time.saturating_add(left).unwrap_or(Timestamp::MAX);
            match values.expires.back_mut() {
                // The same value, seen again.
                Some((seen, at))
                    if at.duration_since(expires).abs() < SignedDuration::from_secs(5) =>
                {
                    *seen = time;
                }
                _ => keep(&mut values.expires, (time, expires), 256),
            }
        }
    }

    /// The changes of revisions from one moment to another, the latest first.
    pub(super) fn revisions(
        &self,
        from: Option<Timestamp>,
        to: Timestamp,
    ) -> impl Iterator<Item = &Change> {
        self.within(from, to)
            .filter(|change| change.kind == "revision")
    }

    /// Restarts and new versions of gateways from one moment to another, the latest first.
    pub(super) fn restarts(
        &self,
        from: Option<Timestamp>,
        to: Timestamp,
    ) -> impl Iterator<Item = &Change> {
        self.within(from, to)
            .filter(|change| matches!(change.kind, "restart" | "version"))
    }

    fn within(&self, from: Option<Timestamp>, to: Timestamp) -> impl Iterator<Item = &Change> {
        let within = self.events.iter().rev();
        within.filter(move |change| change.at <= to && from.is_none_or(|from| change.at >= from))
    }

    /// The latest value of a credential that was obtained in a time.
    pub(super) fn obtained(
        &self,
        credential: &str,
        from: Option<Timestamp>,
        to: Timestamp,
    ) -> Option<Change> {
        let values = self.credentials.get(credential)?;
        let mut times = values.obtained.iter().rev();
        let at = times.find(|at| **at <= to && from.is_none_or(|from| **at >= from))?;
        Some(Change {
            at: *at,
            kind: "credential",
            what: format!("another value of {credential} was obtained"),
            revision: None,
            resources: vec![format!("Credential {credential}")],
        })
    }

    /// When the last value that worked expired, if that was about then.
    pub(super) fn expired(&self, credential: &str, failed: Timestamp) -> Option<Change> {
        let values = self.credentials.get(credential)?;
        let (_, at) = values
            .expires
            .iter()
            .rev()
            .find(|(seen, _)| *seen <= failed)?;
        let soon = SignedDuration::from_mins(15);
        (*at <= failed.saturating_add(soon).ok()?).then(|| Change {
            at: *at,
            kind: "expiry",
            what: format!("the last value of {credential} that worked expired"),
            revision: None,
            resources: vec![format!("Credential {credential}")],
        })
    }

    /// The latest deploy of a workload in a time: its pods were made from another template.
    pub(super) fn deployed(
        &self,
        who: &str,
        from: Option<Timestamp>,
        to: Timestamp,
    ) -> Option<Change> {
        let deploys = self.deploys.get(who)?;
        let mut seen = deploys.seen.iter().rev();
        let (at, template) =
            seen.find(|(at, _)| *at <= to && from.is_none_or(|from| *at >= from))?;
        Some(Change {
            at: *at,
            kind: "deploy",
            what: format!("{who} was deployed: its pods are {template}-*"),
            revision: None,
            resources: Vec::new(),
        })
    }
}

/// The part of a Deployment's pod name that changes with its template: `web-7d9f8b6c5d` of `web-7d9f8b6c5d-x8k2p`.
/// A Job's pod has none: `nightly-29341-x8k2p`.
fn template(pod: &str) -> Option<&str> {
    let (template, suffix) = pod.rsplit_once('-')?;
    let (_, hash) = template.rsplit_once('-')?;
    let letters = hash.bytes().any(|byte| byte.is_ascii_lowercase());
    let fits =
        (8..=10).contains(&hash.len()) && hash.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (suffix.len() == 5 && letters && fits).then_some(template)
}

fn keep<T>(kept: &mut VecDeque<T>, value: T, most: usize) {
    if kept.len() == most {
        kept.pop_front();
    }
    kept.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_s_pod_has_a_template_and_a_job_s_has_none() {
        assert_eq!(template("web-7d9f8b6c5d-x8k2p"), Some("web-7d9f8b6c5d"));
        assert_eq!(template("nightly-dashboard-29341880-x8k2p"), None);
        assert_eq!(template("gateway-0"), None);
    }
}
