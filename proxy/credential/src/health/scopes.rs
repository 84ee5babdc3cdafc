//! Which scopes a credential has, and which were needed: what it could do without.
//!
//! Slack and GitHub report both in response headers: `x-oauth-scopes` are the token's scopes,
//! `x-accepted-oauth-scopes` those of which any one is enough for this request.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue};

const GRANTED: HeaderName = HeaderName::from_static("x-oauth-scopes");
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-oauth-scopes");

/// The most different headers that are remembered for one credential.
const MOST: usize = 256;

/// The longest header that is read, in bytes.
const LONGEST: usize = 4 * 1024;

/// The most scopes of each kind that are remembered.
const MOST_SCOPES: usize = 512;

/// The scopes of one credential, from its API's responses.
#[derive(Debug, Default)]
pub struct Scopes {
    /// The headers that were already processed: nearly every response has one of these.
    seen: ArcSwap<Vec<(HeaderValue, HeaderValue)>>,
    told: Mutex<ReportedScopes>,
}

#[derive(Debug, Default)]
struct ReportedScopes {
    granted: BTreeSet<String>,
    accepted: BTreeSet<String>,
    lacking: BTreeSet<String>,
}

/// The scopes of a credential, compared with those that were needed since the gateway started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeastPrivilege {
    /// The scopes that it has.
    pub granted: Vec<String>,
    /// Those that no request so far could have needed.
    pub unused: Vec<String>,
    /// Scopes that requests would have needed and that it lacks: `a` or, if any one is enough, `a,b`.
    pub lacking: Vec<String>,
}

impl Scopes {
    /// Processes a response head. One that has nothing new costs a comparison.
    pub fn note(&self, headers: &HeaderMap) {
        let (Some(granted), Some(accepted)) = (headers.get(GRANTED), headers.get(ACCEPTED)) else {
            return;
        };
        if granted.len().max(accepted.len()) > LONGEST {
            return;
        }
        let seen = self.seen.load();
        let known = |pair: &(HeaderValue, HeaderValue)| pair.0 == *granted && pair.1 == *accepted;
        if seen.len() >= MOST || seen.iter().any(known) {
            return;
        }
        let mut told = self.reported();
        told.granted = scopes(granted).collect();
        let any: Vec<_> = scopes(accepted).collect();
        let lacks = !any.is_empty() && !any.iter().any(|scope| told.granted.contains(scope));
        if lacks && told.lacking.len() < MOST_SCOPES {
            told.lacking.insert(any.join(","));
        }
        let room = MOST_SCOPES.saturating_sub(told.accepted.len());
        told.accepted.extend(any.into_iter().take(room));
        self.seen.rcu(|seen| {
            let mut seen = Vec::clone(seen);
            seen.push((granted.clone(), accepted.clone()));
            seen
        });
    }

    /// The result so far; `None` if no response reported scopes.
    pub fn report(&self) -> Option<LeastPrivilege> {
        let told = self.reported();
        if told.granted.is_empty() {
            return None;
        }
        Some(LeastPrivilege {
            granted: told.granted.iter().cloned().collect(),
            unused: told.granted.difference(&told.accepted).cloned().collect(),
            lacking: told.lacking.iter().cloned().collect(),
        })
    }

    fn reported(&self) -> MutexGuard<'_, ReportedScopes> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The scopes in a header: visible words, separated by commas.
fn scopes(header: &HeaderValue) -> impl Iterator<Item = String> {
    let text = header.to_str().unwrap_or_default();
    text.split(',')
        .map(str::trim)
        .filter(|scope| !scope.is_empty() && scope.len() <= 64)
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(granted: &'static str, accepted: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(GRANTED, HeaderValue::from_static(granted));
        headers.insert(ACCEPTED, HeaderValue::from_static(accepted));
        headers
    }

    #[test]
    fn what_was_never_of_use_could_be_taken_away() {
        let scopes = Scopes::default();
        assert_eq!(scopes.report(), None);
        scopes.note(&HeaderMap::new());
        let granted = "chat:write, channels:history,files:read";
        for _ in 0..3 {
            scopes.note(&head(granted, "chat:write"));
        }
        scopes.note(&head(granted, ""));
        scopes.note(&head(granted, "users:read,users:read.email"));
        let report = scopes.report().unwrap();
        assert_eq!(
            report,
            LeastPrivilege {
                granted: vec![
                    "channels:history".into(),
                    "chat:write".into(),
                    "files:read".into()
                ],
                unused: vec!["channels:history".into(), "files:read".into()],
                lacking: vec!["users:read,users:read.email".into()],
            }
        );
        // The app was reinstalled with the missing scope.
        scopes.note(&head("chat:write,users:read", "users:read"));
        assert_eq!(scopes.report().unwrap().unused, [""; 0]);
    }

    /// A response can contain anything, any number of times.
    #[test]
    fn what_is_remembered_is_bounded() {
        let scopes = Scopes::default();
        for number in 0..10_000 {
            let accepted = (0..20).map(|n| format!("scope:{number}:{n}"));
            let accepted: Vec<_> = accepted.collect();
            let mut headers = HeaderMap::new();
            headers.insert(GRANTED, HeaderValue::from_static("chat:write"));
            headers.insert(ACCEPTED, accepted.join(",").parse().unwrap());
            scopes.note(&headers);
        }
        let long: HeaderValue = "x,".repeat(LONGEST).parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(GRANTED, long.clone());
        headers.insert(ACCEPTED, long);
        scopes.note(&headers);
        let told = scopes.reported();
        assert!(scopes.seen.load().len() <= MOST);
        assert!(told.accepted.len() <= MOST_SCOPES && told.lacking.len() <= MOST_SCOPES);
        assert_eq!(told.granted.len(), 1);
    }
}
