//! An issuer's keys: fetched when first needed, cached, and refreshed periodically and when a token
//! names an unknown key.
//!
//! The first token to be checked triggers the first fetch. From then on the keys are refreshed in the
//! background, so that withdrawing a key takes effect even without requests. If their source fails,
//! fetched keys are used for one more day.

mod source;
mod verified_key;

pub(super) use verified_key::VerifiedKey;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use countersign_config::model::{Issuer, JwksSource};
use countersign_core::{
    outage::{Outage, PROMPT},
    redact::quoted,
    single_flight::{LastTime, SharedOutcome, SingleFlight},
};
use jsonwebtoken::Algorithm;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use self::source::Source;
use super::{
    IdentifyError, SetupError,
    keys::{self, KeySet, KeySetError, SignatureError},
};

/// How long to wait after the first fetch failed.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);

/// How long a request waits for a source.
const FETCH_TIMEOUT: Duration = Duration::from_secs(6);

/// How long keys are used if their source fails: longer than an outage that somebody repairs, and not
/// longer than tokens live that were signed before it, unless `maxTokenLife` was raised.
const MAX_STALE: Duration = Duration::from_hours(24);

/// How often the log says that a source still fails.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub(super) struct Jwks {
    issuer: Arc<str>,
    source: Source,
    intervals: RefreshIntervals,
    keys: ArcSwapOption<KeySet>,
    /// Counts the changes of `keys`, incremented after each; 0 means that there was none.
    generation: AtomicU64,
    changed: watch::Sender<()>,
    fetched: LastTime,
    attempted: LastTime,
    /// When the log last said that the keys are not available.
    logged: LastTime,
    /// The error of the last attempt, if it failed.
    failure: ArcSwapOption<String>,
    outage: Outage,
    flight: SingleFlight<()>,
}

/// How often a source is asked.
#[derive(Debug, Clone, Copy)]
struct RefreshIntervals {
    /// From this age on the keys are fetched again, while they are still used. Also the interval of
    /// background refreshes, which bounds the time until a withdrawn key is noticed.
    due: Duration,
    /// From this age on they are not used before a fetch was tried.
    overdue: Duration,
    /// The shortest time between two attempts, so that tokens with invented key names cannot make us
    /// overload the source.
    between: Duration,
}

impl RefreshIntervals {
    const URL: Self = Self {
        due: Duration::from_secs(30),
        overdue: Duration::from_mins(1),
        between: Duration::from_secs(10),
    };
    const FILE: Self = Self {
        due: Duration::from_secs(1),
        overdue: Duration::from_secs(2),
        between: Duration::from_secs(1),
    };
}

impl Jwks {
    pub(super) fn new(issuer: &Issuer) -> Result<Self, SetupError> {
        let intervals = match &issuer.jwks {
            JwksSource::File(_) => RefreshIntervals::FILE,
            JwksSource::Url { .. } => RefreshIntervals::URL,
        };
        Ok(Self {
            issuer: issuer.name.as_str().into(),
            source: Source::new(issuer)?,
            intervals,
            keys: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            changed: watch::Sender::new(()),
            fetched: LastTime::never(),
            attempted: LastTime::never(),
            logged: LastTime::never(),
            failure: ArcSwapOption::empty(),
            outage: Outage::default(),
            flight: SingleFlight::new(),
        })
    }

    /// Fetches the keys, if there never were any.
    pub(super) async fn fetch_first(self: &Arc<Self>) -> Result<(), IdentifyError> {
        if self.not_yet_fetched().is_none() {
            return Ok(());
        }
        self.current().await.map(drop)
    }

    /// Why there never were any keys.
    pub(super) fn not_yet_fetched(&self) -> Option<IdentifyError> {
        (self.generation() == 0).then(|| self.unavailable())
    }

    /// Counts the changes of the keys.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Checks a signature with these keys. Fetches them if there are none yet, or if the key that the
    /// token names is unknown.
    pub(super) async fn verify(
        self: &Arc<Self>,
        id: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &str,
    ) -> Result<VerifiedKey, IdentifyError> {
        let keys = self.current().await?;
        let mut result = keys.verify(id, algorithm, message, signature);
        if result == Err(SignatureError::UnknownKey)
            && id.is_some()
            && let Some(attempt) = self.attempt(self.intervals.between)
        {
            self.wait(attempt).await;
            if let Some(keys) = self.keys.load_full() {
                result = keys.verify(id, algorithm, message, signature);
            }
        }
        let verified_key = result.map(|key| VerifiedKey::new(Arc::clone(self), key));
        verified_key.map_err(|miss| match miss {
            SignatureError::AlgorithmMismatch => IdentifyError::AlgorithmNotAllowed(
                format!(
                    "{algorithm:?} is not for {} of issuer {}",
                    key(id),
                    self.issuer
                )
                .into(),
            ),
            SignatureError::BadSignature => IdentifyError::BadSignature {
                issuer: Arc::clone(&self.issuer),
                key: key(id).into(),
            },
            SignatureError::Malformed => IdentifyError::Malformed("a part is not base64url"),
            SignatureError::Unusable(why) => IdentifyError::KeysUnavailable {
                issuer: Arc::clone(&self.issuer),
                detail: format!("{} in its key set cannot be used: {why}", key(id)).into(),
            },
            // The key may be a new one, which could not be fetched.
            SignatureError::UnknownKey if self.failure.load().is_some() => self.unavailable(),
            SignatureError::UnknownKey => self.unknown_key(id),
        })
    }

    /// Why a token of an algorithm that cannot be checked here is refused. If the issuer publishes the key that the
    /// token names, the issuer chose the algorithm, and not the token.
    pub(super) async fn cannot_check(
        self: &Arc<Self>,
        id: Option<&str>,
        name: &'static str,
    ) -> IdentifyError {
        match self.current().await {
            Err(error) => error,
            Ok(keys) => match keys.unusable(id) {
                None => keys::not_allowed(name),
                Some(why) => IdentifyError::KeysUnavailable {
                    issuer: Arc::clone(&self.issuer),
                    detail: format!(
                        "the token is signed with {name}, and {} in its key set cannot be used: {why}. The issuer chooses the key (a Kubernetes API server by --service-account-signing-key-file)",
                        key(id)
                    )
                    .into(),
                },
            },
        }
    }

    fn unknown_key(&self, id: Option<&str>) -> IdentifyError {
        let keys = self.keys.load();
        IdentifyError::UnknownKey {
            issuer: Arc::clone(&self.issuer),
            named: match id {
                Some(_) => key(id).into(),
                None => "no key, and so one that alone fits its algorithm".into(),
            },
            has: keys
                .as_ref()
                .map_or("none".into(), |keys| keys.names().into()),
        }
    }

    async fn current(self: &Arc<Self>) -> Result<Arc<KeySet>, IdentifyError> {
        let Some(keys) = self.keys.load_full() else {
            if let Some(attempt) = self.attempt(FIRST_BACK_OFF) {
                self.wait(attempt).await;
            }
            return self.keys.load_full().ok_or_else(|| self.unavailable());
        };
        let age = self.fetched.age().unwrap_or(Duration::MAX);
        if age < self.intervals.due {
            return Ok(keys);
        }
        // While the source is down no request waits for it; it is asked again in the background.
        let known_down = self.failure.load().is_some();
        match self.attempt(self.intervals.between) {
            Some(attempt) if age >= self.intervals.overdue && !known_down => {
                self.wait(attempt).await;
                Ok(self.keys.load_full().unwrap_or(keys))
            }
            Some(_) | None => Ok(keys),
        }
    }

    /// The current attempt, or a new one unless the last was less than `between` ago.
    fn attempt(self: &Arc<Self>, between: Duration) -> Option<SharedOutcome<()>> {
        self.flight.under_way().or_else(|| {
            let due = !self.attempted.within(between);
            due.then(|| self.flight.join(|| Arc::clone(self).fetch()))
        })
    }

    async fn wait(&self, attempt: SharedOutcome<()>) {
        let (began, hangs) = (Instant::now(), self.outage.hangs());
        match timeout(if hangs { PROMPT } else { FETCH_TIMEOUT }, attempt).await {
            Ok(Ok(())) => {}
            Ok(Err(_lost)) => self.bridge("fetching them was interrupted".to_owned()),
            // The attempt continues, for later requests.
            Err(_) if hangs => {}
            // For example a file on a file system that hangs. It is not read again before this read
            // ends.
            Err(_) => {
                self.outage.failed(began);
                let name = self.source.name();
                self.bridge(format!("{name} did not respond within {FETCH_TIMEOUT:?}"));
            }
        }
    }

    async fn fetch(self: Arc<Self>) {
        self.attempted.mark();
        let began = Instant::now();
        let document = match self.source.read().await {
            Ok(document) => document,
            Err(detail) => {
                self.outage.failed(began);
                return self.bridge(format!("{}: {detail}", self.source.name()));
            }
        };
        if let Some(lasted) = self.outage.over() {
            let seconds = lasted.as_secs();
            tracing::info!(issuer = %self.issuer, seconds, "the keys can be fetched from their source again");
        }
        let error = match KeySet::parse(&document) {
            Ok(keys) => return self.take(keys),
            Err(error) => error,
        };
        // A valid set without a usable key counts too: the issuer has withdrawn the keys that we have.
        if matches!(error, KeySetError::NoneUsable(_)) && self.keys.load().is_some() {
            self.fetched.mark();
            if !self.has_none() {
                self.replace(Some(KeySet::empty()));
            }
        }
        self.bridge(format!(
            "the response of {} is not usable: {error}",
            self.source.name()
        ));
    }

    fn take(self: &Arc<Self>, keys: KeySet) {
        self.fetched.mark();
        self.failure.store(None);
        let before = self.keys.load_full();
        if before.as_ref().is_some_and(|before| before.is_same(&keys)) {
            return;
        }
        self.replace(Some(keys));
        if self.generation() == 1 {
            tokio::spawn(Self::refresh_in_background(Arc::downgrade(self)));
        }
    }

    fn bridge(&self, detail: String) {
        let kept = !self.has_none() && self.fetched.within(MAX_STALE);
        let before = self.failure.load_full();
        if before.is_none_or(|before| *before != detail) || !self.logged.within(LOG_INTERVAL) {
            self.logged.mark();
            tracing::warn!(issuer = %self.issuer, %detail, kept, "the keys cannot be fetched from their source");
        }
        self.failure.store(Some(Arc::new(detail)));
        if !kept && !self.has_none() {
            self.replace(None);
        }
    }

    fn has_none(&self) -> bool {
        self.keys.load().as_ref().is_none_or(|keys| keys.is_empty())
    }

    fn replace(&self, keys: Option<KeySet>) {
        self.keys.store(keys.map(Arc::new));
        // After the keys: a reader that sees the new count finds the new keys.
        self.generation.fetch_add(1, Ordering::Release);
        self.changed.send_replace(());
    }

    /// Refreshes the keys for as long as anything holds them.
    async fn refresh_in_background(keys: Weak<Self>) {
        while let Some(due) = keys.upgrade().map(|keys| keys.intervals.due) {
            tokio::time::sleep(due).await;
            let Some(keys) = keys.upgrade() else { return };
            if let Some(attempt) = keys.attempt(keys.intervals.between) {
                keys.wait(attempt).await;
            }
        }
    }

    fn unavailable(&self) -> IdentifyError {
        let failure = self.failure.load();
        IdentifyError::KeysUnavailable {
            issuer: Arc::clone(&self.issuer),
            detail: failure
                .as_ref()
                .map_or("they have not been fetched yet", |detail| detail.as_str())
                .into(),
        }
    }
}

/// The key that a token names, for a sentence.
fn key(id: Option<&str>) -> String {
    id.map_or_else(
        || "the only key that fits its algorithm".to_owned(),
        |id| format!("the key {}", quoted(id)),
    )
}
