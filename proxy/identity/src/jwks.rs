//! An issuer's keys: fetched when they are first needed, kept, and looked at again from time to
//! time and when a token names one that is not there.
//!
//! The first token that must be checked has them fetched; from then on they are looked at in the
//! background, so that a key that its issuer withdraws ends what rests on it also where nobody
//! asks. Keys that were had once go on serving while their source fails, for a day.

mod vouched;

pub(super) use vouched::Vouched;

use std::{
    path::PathBuf,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use countersign_config::model::{Issuer, JwksSource};
use countersign_core::{
    control_plane, files,
    flight::{Flight, LastTime, Outcome},
    outage::{Outage, PROMPT},
    secret_file,
};
use jsonwebtoken::Algorithm;
use reqwest::{Client, StatusCode, Url};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    IdentifyError, SetupError, http,
    keys::{KeySet, KeySetError, Miss},
};

/// How long the first fetch is not tried again after it failed.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);

/// How long anybody waits for a source.
const PATIENCE: Duration = Duration::from_secs(6);

/// How long keys serve whose source fails: longer than an outage that somebody looks after, and no
/// longer than the tokens that were signed before it, unless `maxTokenLife` was raised.
const KEPT: Duration = Duration::from_hours(24);

/// How often the log says that a source still fails.
const TOLD_EVERY: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub(super) struct Jwks {
    issuer: Arc<str>,
    source: Source,
    pace: Pace,
    keys: ArcSwapOption<KeySet>,
    /// Counts the changes of `keys`, after each; 0 is before the first.
    generation: AtomicU64,
    changed: watch::Sender<()>,
    fetched: LastTime,
    attempted: LastTime,
    /// When the log last said that they are not to be had.
    told: LastTime,
    /// What the last attempt said, if it failed.
    failure: ArcSwapOption<String>,
    outage: Outage,
    flight: Flight<()>,
}

#[derive(Debug)]
enum Source {
    Url {
        client: Client,
        url: Url,
        /// The gateway's own token, where the keys live on the API server, which shows them to
        /// service accounts only.
        own_token: Option<PathBuf>,
    },
    File(PathBuf),
}

/// How often a source is asked.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// From this age on the keys are fetched again while they are still used. Also the time
    /// between two looks in the background: the bound within which a withdrawn key is noticed.
    due: Duration,
    /// From this age on they are not used before that was tried.
    overdue: Duration,
    /// The shortest time between two attempts, so that tokens with made-up key names cannot
    /// drive us to hammer the source.
    between: Duration,
}

impl Pace {
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
        let (source, pace) = match &issuer.jwks {
            JwksSource::File(path) => (Source::File(path.clone()), Pace::FILE),
            JwksSource::Url { url, ca_file } => {
                let url = http::url(issuer, url)?;
                let own_token = match &issuer.token_review {
                    Some(review)
                        if http::url(issuer, &review.cluster.url)?.origin() == url.origin() =>
                    {
                        Some(review.cluster.token_file.clone())
                    }
                    Some(_) | None => None,
                };
                let client = http::client(issuer, ca_file.as_deref())?;
                let source = Source::Url {
                    client,
                    url,
                    own_token,
                };
                (source, Pace::URL)
            }
        };
        Ok(Self {
            issuer: issuer.name.as_str().into(),
            source,
            pace,
            keys: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            changed: watch::Sender::new(()),
            fetched: LastTime::never(),
            attempted: LastTime::never(),
            told: LastTime::never(),
            failure: ArcSwapOption::empty(),
            outage: Outage::default(),
            flight: Flight::new(),
        })
    }

    /// Counts the changes of the keys.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Checks a signature with these keys; fetches them if there are none yet, or if the one
    /// that the token names is not among them.
    pub(super) async fn verify(
        self: &Arc<Self>,
        id: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &str,
    ) -> Result<Vouched, IdentifyError> {
        let keys = self.current().await?;
        let mut result = keys.verify(id, algorithm, message, signature);
        if result == Err(Miss::UnknownKey)
            && id.is_some()
            && let Some(attempt) = self.attempt(self.pace.between)
        {
            self.wait(attempt).await;
            if let Some(keys) = self.keys.load_full() {
                result = keys.verify(id, algorithm, message, signature);
            }
        }
        let vouched = result.map(|key| Vouched::new(Arc::clone(self), key));
        vouched.map_err(|miss| match miss {
            Miss::AlgorithmMismatch => IdentifyError::AlgorithmNotAllowed,
            Miss::BadSignature => IdentifyError::BadSignature,
            Miss::Malformed => IdentifyError::Malformed("a part is not base64url"),
            // It may well be a new one, which could not be fetched.
            Miss::UnknownKey if self.failure.load().is_some() => self.unavailable(),
            Miss::UnknownKey => IdentifyError::UnknownKey,
        })
    }

    async fn current(self: &Arc<Self>) -> Result<Arc<KeySet>, IdentifyError> {
        let Some(keys) = self.keys.load_full() else {
            if let Some(attempt) = self.attempt(FIRST_BACK_OFF) {
                self.wait(attempt).await;
            }
            return self.keys.load_full().ok_or_else(|| self.unavailable());
        };
        let age = self.fetched.age().unwrap_or(Duration::MAX);
        if age < self.pace.due {
            return Ok(keys);
        }
        // While the source is down nobody waits for it, and it is asked again in the background.
        let known_down = self.failure.load().is_some();
        match self.attempt(self.pace.between) {
            Some(attempt) if age >= self.pace.overdue && !known_down => {
                self.wait(attempt).await;
                Ok(self.keys.load_full().unwrap_or(keys))
            }
            Some(_) | None => Ok(keys),
        }
    }

    /// The attempt that is under way, or a new one unless the last was less than `between` ago.
    fn attempt(self: &Arc<Self>, between: Duration) -> Option<Outcome<()>> {
        self.flight.under_way().or_else(|| {
            let due = !self.attempted.within(between);
            due.then(|| self.flight.join(|| Arc::clone(self).fetch()))
        })
    }

    async fn wait(&self, attempt: Outcome<()>) {
        let (began, hangs) = (Instant::now(), self.outage.hangs());
        match timeout(if hangs { PROMPT } else { PATIENCE }, attempt).await {
            Ok(Ok(())) => {}
            Ok(Err(_lost)) => self.bridge("fetching them was cut off".to_owned()),
            // The attempt goes on, for whoever comes later.
            Err(_) if hangs => {}
            // Such as a file on a file system that hangs. It is not asked again before it is done.
            Err(_) => {
                self.outage.failed(began);
                let name = self.source.name();
                self.bridge(format!("{name} gives nothing within {PATIENCE:?}"));
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
            tracing::info!(issuer = %self.issuer, seconds, "keys come from their source again");
        }
        let error = match KeySet::parse(&document) {
            Ok(keys) => return self.take(keys),
            Err(error) => error,
        };
        // A whole set without a key of use is an issuer's word as well: ours are none of its own.
        if error == KeySetError::NoneUsable && self.keys.load().is_some() {
            self.fetched.mark();
            if !self.has_none() {
                self.replace(Some(KeySet::empty()));
            }
        }
        self.bridge(format!(
            "what {} gave is not usable: {error}",
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
            tokio::spawn(Self::look_after(Arc::downgrade(self)));
        }
    }

    fn bridge(&self, detail: String) {
        let kept = !self.has_none() && self.fetched.within(KEPT);
        let before = self.failure.load_full();
        if before.is_none_or(|before| *before != detail) || !self.told.within(TOLD_EVERY) {
            self.told.mark();
            tracing::warn!(issuer = %self.issuer, %detail, kept, "no keys from their source");
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
        // After the keys: who sees the new count finds the new keys.
        self.generation.fetch_add(1, Ordering::Release);
        self.changed.send_replace(());
    }

    /// Looks at the source again and again, for as long as anybody holds the keys.
    async fn look_after(keys: Weak<Self>) {
        while let Some(due) = keys.upgrade().map(|keys| keys.pace.due) {
            tokio::time::sleep(due).await;
            let Some(keys) = keys.upgrade() else { return };
            if let Some(attempt) = keys.attempt(keys.pace.between) {
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
                .map_or("they were not fetched yet", |detail| detail.as_str())
                .into(),
        }
    }
}

impl Source {
    fn name(&self) -> String {
        match self {
            Self::Url { url, .. } => url.to_string(),
            Self::File(path) => path.display().to_string(),
        }
    }

    async fn read(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::File(path) => files::read(path).await.map_err(|error| error.to_string()),
            Self::Url {
                client,
                url,
                own_token,
            } => {
                let mut request = client.get(url.clone());
                if let Some(file) = own_token {
                    let token = secret_file::read(file).await.map_err(|error| {
                        format!("the gateway's own token file {} {error}", file.display())
                    })?;
                    request = request.bearer_auth(token.expose());
                }
                let answer = request.send().await.map_err(control_plane::sentence)?;
                match answer.status() {
                    StatusCode::OK => http::body(answer).await,
                    status => Err(format!("the answer was {status}")),
                }
            }
        }
    }
}
