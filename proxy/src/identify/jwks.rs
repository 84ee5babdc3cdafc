//! An issuer's keys: fetched when they are first needed, kept, and looked at again from time to
//! time and when a token names one that is not there.
//!
//! Nothing runs in the background: a token that must be checked is what asks. Keys that were
//! had once go on serving while their source fails.

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use countersign_config::model::{Issuer, JwksSource};
use jsonwebtoken::Algorithm;
use reqwest::{Client, StatusCode, Url};

use super::{
    IdentifyError, SetupError, http,
    keys::{KeySet, Miss},
};
use crate::{
    flight::{Flight, LastTime, Outcome},
    secret_file,
};

/// How long the first fetch is not tried again after it failed.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Jwks {
    issuer: Arc<str>,
    source: Source,
    pace: Pace,
    keys: ArcSwapOption<KeySet>,
    fetched: LastTime,
    attempted: LastTime,
    /// What the last attempt said, if it failed.
    failure: ArcSwapOption<String>,
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
    /// From this age on the keys are fetched again while they are still used.
    due: Duration,
    /// From this age on they are not used before that was tried.
    overdue: Duration,
    /// The shortest time between two attempts, so that tokens with made-up key names cannot
    /// drive us to hammer the source.
    between: Duration,
}

impl Pace {
    const URL: Self = Self {
        due: Duration::from_mins(5),
        overdue: Duration::from_mins(10),
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
            fetched: LastTime::never(),
            attempted: LastTime::never(),
            failure: ArcSwapOption::empty(),
            flight: Flight::new(),
        })
    }

    /// Checks a signature with these keys; fetches them if there are none yet, or if the one
    /// that the token names is not among them.
    pub(super) async fn verify(
        self: &Arc<Self>,
        id: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &str,
    ) -> Result<(), IdentifyError> {
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
        result.map_err(|miss| match miss {
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
        // While the source is down nobody waits for it: the keys from before serve.
        let known_down = self.failure.load().is_some() && self.attempted.within(self.pace.overdue);
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
        if attempt.await.is_err() {
            let cut_off = "fetching them was cut off".to_owned();
            self.failure.store(Some(Arc::new(cut_off)));
        }
    }

    async fn fetch(self: Arc<Self>) {
        self.attempted.mark();
        let keys = match self.source.read().await {
            Ok(document) => KeySet::parse(&document).map_err(|error| {
                format!("what {} gave is not usable: {error}", self.source.name())
            }),
            Err(detail) => Err(format!("{}: {detail}", self.source.name())),
        };
        match keys {
            Ok(keys) => {
                self.keys.store(Some(Arc::new(keys)));
                self.fetched.mark();
                self.failure.store(None);
            }
            Err(detail) => {
                let kept = self.keys.load().is_some();
                tracing::warn!(issuer = %self.issuer, %detail, kept, "no keys from their source");
                self.failure.store(Some(Arc::new(detail)));
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
            Self::File(path) => read_file(path.clone()).await,
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
                let answer = request.send().await.map_err(http::sentence)?;
                match answer.status() {
                    StatusCode::OK => http::body(answer).await,
                    status => Err(format!("the answer was {status}")),
                }
            }
        }
    }
}

async fn read_file(path: PathBuf) -> Result<Vec<u8>, String> {
    /// The largest file, in bytes.
    const MAX_FILE: u64 = 1024 * 1024;
    let metadata = tokio::fs::metadata(&path)
        .await
        .map_err(|e| e.to_string())?;
    if !metadata.is_file() {
        return Err("it is no file".into());
    }
    if metadata.len() > MAX_FILE {
        return Err("it is larger than 1 MiB".into());
    }
    tokio::fs::read(&path).await.map_err(|e| e.to_string())
}
