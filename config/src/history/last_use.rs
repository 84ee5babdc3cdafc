//! When each grant was last used, as it is kept beside the revisions.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The file below the state directory.
pub const FILE: &str = "last-use.json";

/// The name and version of the document.
const SCHEMA: &str = "countersign.last-use/v1";

/// The most grants that are remembered; beyond them, those that were not used for longest are forgotten.
const MOST_GRANTS: usize = 20_000;

/// The most credentials that are remembered.
const MOST_CREDENTIALS: usize = 2_000;

/// When grants and credentials were used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastUse {
    /// `countersign.last-use/v1`.
    pub schema: String,
    /// Since when uses are counted; `None` if none ever was.
    pub from: Option<Timestamp>,
    /// Until when.
    pub to: Option<Timestamp>,
    /// The rules of policies, as far as workloads used them.
    pub grants: Vec<GrantUse>,
    /// The credentials.
    pub credentials: Vec<CredentialUse>,
}

/// A rule that a workload used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantUse {
    /// The workload.
    pub workload: String,
    /// The policy.
    pub policy: String,
    /// The index of the rule; `None` if a policy on trial let it pass.
    pub rule: Option<u64>,
    /// How often, and when.
    #[serde(flatten)]
    pub used: Used,
}

/// A credential that was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialUse {
    /// The credential.
    pub name: String,
    /// How often, and when.
    #[serde(flatten)]
    pub used: Used,
    /// The scopes that it has, as its API says; empty if the API does not say.
    #[serde(default)]
    pub scopes_held: Vec<String>,
    /// Those of which some request needed one.
    #[serde(default)]
    pub scopes_used: Vec<String>,
}

/// How often something was used, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// How often.
    pub count: u64,
    /// The first time.
    pub first: Timestamp,
    /// The last time.
    pub last: Timestamp,
    /// The id of the last record.
    pub last_id: String,
}

impl Default for LastUse {
    fn default() -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            from: None,
            to: None,
            grants: Vec::new(),
            credentials: Vec::new(),
        }
    }
}

impl Used {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.first = self.first.min(other.first);
        if other.last >= self.last {
            self.last = other.last;
            self.last_id.clone_from(&other.last_id);
        }
    }
}

impl LastUse {
    /// Reads what was kept; `None` if it is no document of this version.
    pub fn read(text: &[u8]) -> Option<Self> {
        let kept: Self = serde_json::from_slice(text).ok()?;
        (kept.schema == SCHEMA).then_some(kept)
    }

    /// Adds what was used since.
    pub fn add(&mut self, since: &Self) {
        self.from = earlier(self.from, since.from);
        self.to = self.to.max(since.to);
        let mut grants: BTreeMap<_, _> = std::mem::take(&mut self.grants)
            .into_iter()
            .map(|grant| (grant.key(), grant))
            .collect();
        for grant in &since.grants {
            match grants.get_mut(&grant.key()) {
                Some(known) => known.used.add(&grant.used),
                None => drop(grants.insert(grant.key(), grant.clone())),
            }
        }
        self.grants = latest(grants.into_values().collect(), MOST_GRANTS, |grant| {
            grant.used.last
        });
        let mut credentials: BTreeMap<_, _> = std::mem::take(&mut self.credentials)
            .into_iter()
            .map(|credential| (credential.name.clone(), credential))
            .collect();
        for credential in &since.credentials {
            match credentials.get_mut(&credential.name) {
                Some(known) => known.add(credential),
                None => drop(credentials.insert(credential.name.clone(), credential.clone())),
            }
        }
        let credentials = credentials.into_values().collect();
        self.credentials = latest(credentials, MOST_CREDENTIALS, |credential| {
            credential.used.last
        });
    }
}

impl GrantUse {
    fn key(&self) -> (String, String, Option<u64>) {
        (self.workload.clone(), self.policy.clone(), self.rule)
    }
}

impl CredentialUse {
    fn add(&mut self, since: &Self) {
        self.used.add(&since.used);
        if !since.scopes_held.is_empty() {
            self.scopes_held.clone_from(&since.scopes_held);
        }
        self.scopes_used.extend(since.scopes_used.iter().cloned());
        self.scopes_used.sort();
        self.scopes_used.dedup();
        // What it no longer has was used by another one.
        let held = &self.scopes_held;
        self.scopes_used.retain(|scope| held.contains(scope));
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// At most so many, those that were used last.
fn latest<T>(mut all: Vec<T>, most: usize, last: impl Fn(&T) -> Timestamp) -> Vec<T> {
    if all.len() > most {
        all.sort_by_key(|one| std::cmp::Reverse(last(one)));
        all.truncate(most);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(count: u64, second: i64) -> Used {
        let at = Timestamp::from_second(second).expect("a time");
        Used {
            count,
            first: at,
            last: at,
            last_id: second.to_string(),
        }
    }

    fn of(policy: &str, count: u64, second: i64) -> LastUse {
        let at = Timestamp::from_second(second).ok();
        LastUse {
            from: at,
            to: at,
            grants: vec![GrantUse {
                workload: "qa/w".into(),
                policy: policy.into(),
                rule: Some(0),
                used: used(count, second),
            }],
            credentials: vec![CredentialUse {
                name: "qa/c".into(),
                used: used(count, second),
                scopes_held: vec!["a".into(), "b".into()],
                scopes_used: vec![policy.into()],
            }],
            ..LastUse::default()
        }
    }

    #[test]
    fn what_was_used_since_is_added() {
        let mut kept = LastUse::default();
        for since in [
            of("a", 2, 10),
            of("b", 1, 20),
            of("a", 3, 30),
            of("gone", 1, 5),
        ] {
            kept.add(&since);
        }
        let text = serde_json::to_vec(&kept).expect("it can be written");
        assert_eq!(LastUse::read(&text).as_ref(), Some(&kept));
        let a = &kept.grants[0];
        assert_eq!((&*a.policy, a.used.count, &*a.used.last_id), ("a", 5, "30"));
        assert_eq!((a.used.first.as_second(), kept.grants.len()), (10, 3));
        let credential = &kept.credentials[0];
        assert_eq!(credential.used.count, 7);
        assert_eq!(credential.scopes_used, ["a", "b"]);
        assert_eq!(kept.from.map(Timestamp::as_second), Some(5));
    }

    #[test]
    fn it_is_bounded_and_keeps_what_was_used_last() {
        let mut many = LastUse::default();
        for number in 0..i64::try_from(MOST_GRANTS).expect("a bound") + 10 {
            many.grants
                .extend(of(&number.to_string(), 1, number).grants);
        }
        let mut kept = LastUse::default();
        kept.add(&many);
        assert_eq!(kept.grants.len(), MOST_GRANTS);
        assert!(
            kept.grants
                .iter()
                .all(|grant| grant.used.last.as_second() >= 10)
        );
    }

    #[test]
    fn what_is_no_document_of_this_version_is_not_read() {
        for text in [
            r#"{"schema":"countersign.last-use/v2","grants":[],"credentials":[]}"#,
            "{",
        ] {
            assert_eq!(LastUse::read(text.as_bytes()), None);
        }
    }
}
