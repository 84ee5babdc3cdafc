//! Token reviews by the API server (`authentication.k8s.io/v1`, `TokenReview`): a signature stays valid
//! after the pod is gone.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use countersign_config::model::{Issuer, TokenReview};
use countersign_control_plane::kube::{Kube, KubeError, Right};
use countersign_core::{
    outage::Outage,
    redact::quoted,
    secret::Secret,
    single_flight::{LastTime, SharedOutcome, SingleFlight},
};
use reqwest::StatusCode;
use serde::Deserialize;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::{IdentifyError, SetupError, from_json_object, http, nearest::listed};

/// How long a rejection is cached: a revoked token does not become valid again.
const REJECTION_TTL: Duration = Duration::from_secs(5);

/// How long a failure is cached, so that an API server that is down is asked once a second per token.
const FAILURE_TTL: Duration = Duration::from_secs(1);

/// Polling interval while waiting for a token's revocation.
const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// The most concurrent reviews per API server, and how long another one may wait for its turn.
const MAX_CONCURRENT: usize = 32;
const TURN: Duration = Duration::from_secs(2);

/// The most audiences that are shown.
const SHOWN_AUDIENCES: usize = 4;

/// What the API server is asked about at the start: not the form of any token.
const NO_TOKEN: &str = "is-there-a-review";

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";

/// The API server of one issuer.
#[derive(Debug)]
pub(super) struct Reviewer {
    issuer: Arc<str>,
    audience: Arc<str>,
    kube: Kube,
    /// The rights that the gateway needs there.
    needed: Vec<Right>,
    cache_for: Duration,
    turns: Semaphore,
    outage: Outage,
    /// Whether it has ever answered a review.
    answered: AtomicBool,
    /// Why it did not, when it was asked for the first time.
    first_failure: ArcSwapOption<String>,
}

/// The token under review.
#[derive(Debug)]
pub(super) struct ReviewSubject {
    pub(super) token: Arc<Secret>,
    pub(super) subject: Arc<str>,
    pub(super) pod: Option<Arc<str>>,
}

/// The API server's last review of one token, and its time.
#[derive(Debug)]
pub(super) struct ReviewStatus {
    reviewer: Arc<Reviewer>,
    subject: ReviewSubject,
    accepted: LastTime,
    rejected: ArcSwapOption<Rejection>,
    flight: SingleFlight<Result<(), IdentifyError>>,
}

#[derive(Debug)]
struct Rejection {
    at: Instant,
    ttl: Duration,
    error: IdentifyError,
}

impl ReviewStatus {
    pub(super) fn new(reviewer: Arc<Reviewer>, subject: ReviewSubject) -> Self {
        Self {
            reviewer,
            subject,
            accepted: LastTime::never(),
            rejected: ArcSwapOption::empty(),
            flight: SingleFlight::new(),
        }
    }

    /// Whether the token is still valid. A cached positive review costs one atomic load; in the last
    /// quarter of its lifetime the next review starts in the background.
    pub(super) async fn confirm(self: &Arc<Self>) -> Result<(), IdentifyError> {
        let cache_for = self.reviewer.cache_for;
        let age = self.accepted.age();
        if age.is_some_and(|age| age < cache_for / 4 * 3) {
            return Ok(());
        }
        let refusal = self
            .rejected
            .load_full()
            .filter(|rejection| rejection.at.elapsed() < rejection.ttl);
        if age.is_some_and(|age| age < cache_for) {
            if refusal.is_none() {
                drop(self.ask());
            }
            return Ok(());
        }
        if let Some(rejection) = refusal {
            return Err(rejection.error.clone());
        }
        let asked = self.ask();
        match self.reviewer.outage.patiently(asked).await {
            Some(answer) => {
                answer.unwrap_or_else(|lost| Err(self.reviewer.unavailable(lost.to_string())))
            }
            None => Err(self.reviewer.unavailable(KubeError::Silent.to_string())),
        }
    }

    /// When the last positive review expires from the cache.
    pub(super) fn due(&self) -> Instant {
        let age = self.accepted.age().unwrap_or(self.reviewer.cache_for);
        Instant::now() + self.reviewer.cache_for.saturating_sub(age)
    }

    /// When to ask again after a failure; `None` if the last positive review is too old to keep
    /// connections open. A short outage of the API server, as during an upgrade, does not close what is
    /// open.
    pub(super) fn patience(&self) -> Option<Instant> {
        let limit = self.reviewer.cache_for * 2;
        let left = limit.checked_sub(self.accepted.age()?)?;
        (!left.is_zero()).then(|| Instant::now() + left.min(FAILURE_TTL))
    }

    /// Completes when the API server no longer accepts the token. A failure to ask it does not count.
    pub(super) async fn withdrawn(self: &Arc<Self>) {
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let error = self.confirm().await.err();
            if error.is_some_and(|error| !matches!(error, IdentifyError::ReviewUnavailable { .. }))
            {
                return;
            }
        }
    }

    fn ask(self: &Arc<Self>) -> SharedOutcome<Result<(), IdentifyError>> {
        self.flight.join(|| Arc::clone(self).review())
    }

    async fn review(self: Arc<Self>) -> Result<(), IdentifyError> {
        if self.accepted.within(self.reviewer.cache_for / 4 * 3) {
            return Ok(());
        }
        let result = self.reviewer.ask(&self.subject).await;
        match &result {
            Ok(()) => {
                self.rejected.store(None);
                self.accepted.mark();
            }
            Err(error) => {
                let unavailable = matches!(error, IdentifyError::ReviewUnavailable { .. });
                if !unavailable {
                    self.accepted.clear();
                }
                self.rejected.store(Some(Arc::new(Rejection {
                    at: Instant::now(),
                    ttl: if unavailable {
                        FAILURE_TTL
                    } else {
                        REJECTION_TTL
                    },
                    error: error.clone(),
                })));
            }
        }
        result
    }
}

#[derive(Deserialize)]
struct TokenReviewResponse {
    status: TokenReviewStatus,
}

/// Kubernetes omits fields that are false or empty.
#[derive(Deserialize)]
struct TokenReviewStatus {
    #[serde(default)]
    authenticated: bool,
    #[serde(default)]
    user: ReviewedUser,
    #[serde(default)]
    audiences: Vec<String>,
    /// Why it is not authenticated.
    #[serde(default)]
    error: String,
}

#[derive(Deserialize, Default)]
struct ReviewedUser {
    #[serde(default)]
    username: String,
    #[serde(default)]
    extra: HashMap<String, Vec<String>>,
}

impl Reviewer {
    pub(super) fn new(issuer: &Issuer, review: &TokenReview) -> Result<Self, SetupError> {
        // Checked once here, so that a gateway with a wrong configuration does not start.
        http::url(issuer, &review.cluster.url)?;
        if let Some(file) = &review.cluster.ca_file {
            http::roots(issuer, file)?;
        }
        Ok(Self {
            issuer: issuer.name.as_str().into(),
            audience: issuer.audience.as_str().into(),
            kube: Kube::new(&review.cluster),
            needed: std::iter::once(Right::to_review_tokens())
                .chain(http::keys_path(issuer).map(|path| Right::to_read(&path)))
                .collect(),
            cache_for: review.cache_for,
            turns: Semaphore::new(MAX_CONCURRENT),
            outage: Outage::default(),
            answered: AtomicBool::new(false),
            first_failure: ArcSwapOption::empty(),
        })
    }

    /// Asks about a token that is none, to learn whether reviews are answered and permitted at all.
    pub(super) async fn ask_first(&self) -> Result<(), IdentifyError> {
        if self.answered.load(Ordering::Relaxed) {
            return Ok(());
        }
        let nothing = ReviewSubject {
            token: Arc::new(Secret::new(NO_TOKEN.to_owned())),
            subject: "".into(),
            pod: None,
        };
        let answer = self.post(&nothing).await;
        answer.map(drop).map_err(|detail| {
            let before = self.first_failure.swap(Some(Arc::new(detail.clone())));
            let error = self.unavailable(detail.clone());
            if before.is_none_or(|before| *before != detail) {
                tracing::warn!(%error, "no TokenReview yet; the gateway is not ready");
            }
            error
        })
    }

    /// Why no review was ever answered.
    pub(super) fn not_yet_answered(&self) -> Option<IdentifyError> {
        if self.answered.load(Ordering::Relaxed) {
            return None;
        }
        let failure = self.first_failure.load_full();
        let detail = failure.map_or_else(
            || "it has not been asked yet".to_owned(),
            |detail| detail.to_string(),
        );
        Some(self.unavailable(detail))
    }

    async fn ask(&self, subject: &ReviewSubject) -> Result<(), IdentifyError> {
        let Ok(Ok(_turn)) = timeout(TURN, self.turns.acquire()).await else {
            return Err(self.unavailable(format!("{MAX_CONCURRENT} other reviews are in progress")));
        };
        let began = Instant::now();
        let document = self.post(subject).await.map_err(|detail| {
            let error = self.unavailable(detail);
            if self.outage.failed(began) {
                tracing::warn!(%error, "no TokenReview");
            }
            error
        })?;
        if let Some(lasted) = self.outage.over() {
            let seconds = lasted.as_secs();
            tracing::info!(issuer = %self.issuer, seconds, "the API server answers TokenReviews again");
        }
        let response: TokenReviewResponse = from_json_object(&document)
            .ok_or_else(|| self.unavailable("the response is not a TokenReview".into()))?;
        self.check(&response.status, subject)
    }

    async fn post(&self, subject: &ReviewSubject) -> Result<Vec<u8>, String> {
        let body = serde_json::json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": { "token": subject.token.expose(), "audiences": [*self.audience] },
        });
        let path = ["apis", "authentication.k8s.io", "v1", "tokenreviews"];
        let posted = self.kube.post(path, body.to_string().into_bytes()).await;
        let response = posted.map_err(|error| error.to_string())?;
        match response.status {
            StatusCode::OK | StatusCode::CREATED => {
                self.answered.store(true, Ordering::Relaxed);
                Ok(response.body.to_vec())
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let refusal = self.kube.refusal(&response, self.needed.clone());
                Err(refusal.await.to_string())
            }
            status => Err(format!("the response status was {status}")),
        }
    }

    fn check(
        &self,
        status: &TokenReviewStatus,
        subject: &ReviewSubject,
    ) -> Result<(), IdentifyError> {
        if !status.authenticated {
            return Err(IdentifyError::Revoked {
                issuer: Arc::clone(&self.issuer),
                said: said(&status.error).into(),
            });
        }
        // An API server that does not know audiences omits them, and would have accepted a token for any
        // audience.
        if !status
            .audiences
            .iter()
            .any(|audience| **audience == *self.audience)
        {
            let audiences = status.audiences.iter().map(String::as_str);
            let audiences = match status.audiences.len() {
                0 => "no audience; an API server without audiences would accept a token for any"
                    .to_owned(),
                _ => listed(audiences, SHOWN_AUDIENCES),
            };
            let ours = &self.audience;
            return Err(self.mismatch(format!("it is for {audiences}, not for {ours:?}")));
        }
        if status.user.username != *subject.subject {
            let user = quoted(&status.user.username);
            return Err(self.mismatch(format!("it belongs to another user, {user}")));
        }
        let pod = status.user.extra.get(POD_NAME);
        match (pod.map(Vec::as_slice), subject.pod.as_deref()) {
            (None, _) => Ok(()),
            (Some([reviewed]), Some(claimed)) if reviewed == claimed => Ok(()),
            (Some(pods), _) => {
                let pods = listed(pods.iter().map(String::as_str), 2);
                Err(self.mismatch(format!("it belongs to another pod, {pods}")))
            }
        }
    }

    fn unavailable(&self, detail: String) -> IdentifyError {
        IdentifyError::ReviewUnavailable {
            issuer: Arc::clone(&self.issuer),
            detail: detail.into(),
        }
    }

    fn mismatch(&self, what: String) -> IdentifyError {
        IdentifyError::ReviewMismatch {
            issuer: Arc::clone(&self.issuer),
            what: what.into(),
        }
    }
}

/// What the API server says of a token that it does not authenticate, and what that means.
fn said(error: &str) -> String {
    let meaning = match error {
        "" => {
            return "it gives no reason, as for a token of another cluster; compare the issuer's `tokenReview` and `jwks`, which must be of one cluster".to_owned();
        }
        error if error.contains("invalidated") => {
            " (its pod or service account is gone, or was made anew)"
        }
        error if error.contains("cryptographic primitive") || error.contains("signature") => {
            " (it does not have the key: is `tokenReview` of another cluster than `jwks`?)"
        }
        _ => "",
    };
    format!("{}{meaning}", quoted(error))
}
