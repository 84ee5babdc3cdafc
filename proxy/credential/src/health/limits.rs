//! The API's rate limits (429): which requests need not be tried, and for how long.

use std::{
    collections::HashMap,
    fmt::Display,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use countersign_config::model::{RateLimitScope, ResourceName};
use http::{HeaderMap, HeaderValue, header::RETRY_AFTER};
use jiff::Timestamp;
use tokio::time::Instant;

/// The longest time for which one response can hold back a credential's requests.
pub const LONGEST_LIMIT: Duration = Duration::from_hours(1);

/// The same for other workloads, if only one has met the limit: it may concern only that workload's
/// requests.
pub const LONGEST_LIMIT_ALONE: Duration = Duration::from_mins(1);

/// The longest path for which a limit is remembered, in bytes.
const LONGEST_PATH: usize = 1024;

/// The most limits that are remembered for one credential; the one that ends first is evicted.
const MOST: usize = 256;

/// The limits of one credential, for all workloads that use it.
#[derive(Debug, Default)]
pub struct Limits {
    any: AtomicBool,
    /// The end of each limit, by what is limited: a host and path, or empty for the whole credential.
    ends: Mutex<HashMap<Box<str>, End>>,
}

/// The end of one limit.
#[derive(Debug, Clone)]
struct End {
    /// The only workload that met it, and its end for that workload.
    alone: Option<(ResourceName, Instant)>,
    /// The end for all.
    all: Instant,
}

impl End {
    fn of(&self, workload: Option<&ResourceName>) -> Instant {
        let own = self.alone.as_ref().filter(|(own, _)| Some(own) == workload);
        own.map_or(self.all, |(_, until)| self.all.max(*until))
    }

    fn last(&self) -> Instant {
        self.alone
            .as_ref()
            .map_or(self.all, |(_, until)| self.all.max(*until))
    }
}

impl Limits {
    /// For how much longer such a request would meet a 429; without a workload it is the gateway's own.
    pub fn left(
        &self,
        workload: Option<&ResourceName>,
        scope: RateLimitScope,
        host: impl Display,
        path: &str,
    ) -> Option<Duration> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let now = Instant::now();
        let mut ends = self.ends();
        ends.retain(|_, end| end.last() > now);
        if ends.is_empty() {
            self.any.store(false, Ordering::Release);
            return None;
        }
        let end = ends.get(&*key(scope, host, path))?.of(workload);
        (end > now).then(|| end.duration_since(now))
    }

    /// Records a 429 and who met it; returns for how long it applies, or `None` if it has no usable
    /// `Retry-After`.
    pub fn note(
        &self,
        workload: Option<&ResourceName>,
        scope: RateLimitScope,
        host: impl Display,
        path: &str,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Option<Duration> {
        let wait = retry_after(headers.get(RETRY_AFTER)?, now)?;
        if path.len() > LONGEST_PATH {
            return None;
        }
        let (at, key) = (Instant::now(), key(scope, host, path));
        let mut ends = self.ends();
        if ends.len() >= MOST && !ends.contains_key(&key) {
            let first = ends.iter().min_by_key(|(_, end)| end.last());
            if let Some(first) = first.map(|(key, _)| key.clone()) {
                ends.remove(&first);
            }
        }
        let known = ends.get(&key).filter(|end| end.last() > at);
        // A second workload, or the gateway itself, shows that it does not concern one workload only.
        let alone = workload.filter(|workload| {
            known.is_none_or(|end| end.alone.as_ref().is_some_and(|(own, _)| own == *workload))
        });
        let for_all = match alone {
            Some(_) => wait.min(LONGEST_LIMIT_ALONE),
            None => wait,
        };
        let all = known.map_or(at, |end| end.all).max(at + for_all);
        let own = known.and_then(|end| end.alone.as_ref().map(|(_, until)| *until));
        let own = own.unwrap_or(at).max(at + wait);
        let alone = alone.map(|workload| (workload.clone(), own));
        ends.insert(key, End { alone, all });
        self.any.store(true, Ordering::Release);
        Some(wait)
    }

    /// What is limited now, and for how much longer; the empty text is the whole credential.
    pub fn all(&self) -> Vec<(Box<str>, Duration)> {
        let now = Instant::now();
        let mut all: Vec<_> = self
            .ends()
            .iter()
            .filter(|(_, end)| end.last() > now)
            .map(|(key, end)| (key.clone(), end.last().duration_since(now)))
            .collect();
        all.sort();
        all
    }

    fn ends(&self) -> MutexGuard<'_, HashMap<Box<str>, End>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(scope: RateLimitScope, host: impl Display, path: &str) -> Box<str> {
    match scope {
        RateLimitScope::Credential => Box::default(),
        RateLimitScope::Path => format!("{host}{path}").into(),
    }
}

/// Seconds, or a date (RFC 9110, section 10.2.3); bounded. `None` if it is neither, or has passed.
pub(super) fn retry_after(value: &HeaderValue, now: Timestamp) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        let at = Timestamp::try_from(date).ok()?;
        Duration::try_from(at.duration_since(now)).ok()?
    };
    (!wait.is_zero()).then_some(wait.min(LONGEST_LIMIT))
}
