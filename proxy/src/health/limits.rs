//! What an API's 429 asked for: for how long which requests need not be tried.

use std::{
    collections::HashMap,
    fmt::Display,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use countersign_config::model::RateLimitScope;
use http::{HeaderMap, HeaderValue, header::RETRY_AFTER};
use jiff::Timestamp;
use tokio::time::Instant;

/// The longest that one answer can keep a credential's requests back.
pub const LONGEST_LIMIT: Duration = Duration::from_hours(1);

/// The most limits that are remembered for one credential; the one that ends first makes room.
const MOST: usize = 256;

/// The limits of one credential, over all the workloads that use it.
#[derive(Debug, Default)]
pub struct Limits {
    any: AtomicBool,
    /// Until when, by what the API limits: a host and path, or nothing for the whole credential.
    ends: Mutex<HashMap<Box<str>, Instant>>,
}

impl Limits {
    /// How much longer a request of this kind would meet a 429.
    pub fn left(&self, scope: RateLimitScope, host: impl Display, path: &str) -> Option<Duration> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let now = Instant::now();
        let mut ends = self.ends();
        ends.retain(|_, end| *end > now);
        if ends.is_empty() {
            self.any.store(false, Ordering::Release);
            return None;
        }
        let end = ends.get(&*key(scope, host, path))?;
        Some(end.duration_since(now))
    }

    /// Notes what a 429 said; returns for how long, or `None` if it said nothing usable.
    pub fn note(
        &self,
        scope: RateLimitScope,
        host: impl Display,
        path: &str,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Option<Duration> {
        let wait = retry_after(headers.get(RETRY_AFTER)?, now)?;
        let until = Instant::now() + wait;
        let mut ends = self.ends();
        if ends.len() >= MOST {
            let first = ends.iter().min_by_key(|(_, end)| **end);
            if let Some(first) = first.map(|(key, _)| key.clone()) {
                ends.remove(&first);
            }
        }
        let end = ends.entry(key(scope, host, path)).or_insert(until);
        *end = until.max(*end);
        self.any.store(true, Ordering::Release);
        Some(wait)
    }

    /// What is limited now, and for how much longer; the empty text is the whole credential.
    pub fn all(&self) -> Vec<(Box<str>, Duration)> {
        let now = Instant::now();
        let mut all: Vec<_> = self
            .ends()
            .iter()
            .filter(|(_, end)| **end > now)
            .map(|(key, end)| (key.clone(), end.duration_since(now)))
            .collect();
        all.sort();
        all
    }

    fn ends(&self) -> MutexGuard<'_, HashMap<Box<str>, Instant>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(scope: RateLimitScope, host: impl Display, path: &str) -> Box<str> {
    match scope {
        RateLimitScope::Credential => Box::default(),
        RateLimitScope::Path => format!("{host}{path}").into(),
    }
}

/// Seconds, or a date (RFC 9110, section 10.2.3); bounded. `None` for what is neither, or is over.
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
