//! Asking the API server whether a token still stands (`authentication.k8s.io/v1`,
//! `TokenReview`): a signature goes on being good after the pod is gone.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use countersign_config::model::{Issuer, TokenReview};
use countersign_core::{
    flight::{Flight, LastTime, Outcome},
    kube::{Kube, KubeError},
    outage::Outage,
    secret::Secret,
};
use reqwest::StatusCode;
use serde::Deserialize;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::{IdentifyError, SetupError, from_json_object, http};

/// How long a no is remembered: a token that was revoked does not come back.
const REMEMBER_NO: Duration = Duration::from_secs(5);

/// How long a failure is remembered, so that an API server that is down is asked once a second
/// for each token.
const REMEMBER_FAILURE: Duration = Duration::from_secs(1);

/// How long who only waits for a token's end lets pass between two looks.
const LOOK: Duration = Duration::from_secs(30);

/// How many reviews one API server is asked for at once, and how long another may wait for its turn.
const AT_ONCE: usize = 32;
const TURN: Duration = Duration::from_secs(2);

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";

/// One issuer's API server.
#[derive(Debug)]
pub(super) struct Reviewer {
    issuer: Arc<str>,
    audience: Arc<str>,
    kube: Kube,
    cache_for: Duration,
    turns: Semaphore,
    outage: Outage,
}

/// What a review is about.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) token: Arc<Secret>,
    pub(super) subject: Arc<str>,
    pub(super) pod: Option<Arc<str>>,
}

/// What one API server has said of one token, and when.
#[derive(Debug)]
pub(super) struct Standing {
    reviewer: Arc<Reviewer>,
    about: Question,
    yes: LastTime,
    no: ArcSwapOption<No>,
    flight: Flight<Result<(), IdentifyError>>,
}

#[derive(Debug)]
struct No {
    at: Instant,
    remember: Duration,
    error: IdentifyError,
}

impl Standing {
    pub(super) fn new(reviewer: Arc<Reviewer>, about: Question) -> Self {
        Self {
            reviewer,
            about,
            yes: LastTime::never(),
            no: ArcSwapOption::empty(),
            flight: Flight::new(),
        }
    }

    /// Whether the token stands. A yes that is still remembered costs one atomic load; in the
    /// last quarter of that time the next review is started beside the request.
    pub(super) async fn confirm(self: &Arc<Self>) -> Result<(), IdentifyError> {
        let cache_for = self.reviewer.cache_for;
        let age = self.yes.age();
        if age.is_some_and(|age| age < cache_for / 4 * 3) {
            return Ok(());
        }
        let refusal = self
            .no
            .load_full()
            .filter(|no| no.at.elapsed() < no.remember);
        if age.is_some_and(|age| age < cache_for) {
            if refusal.is_none() {
                drop(self.ask());
            }
            return Ok(());
        }
        if let Some(no) = refusal {
            return Err(no.error.clone());
        }
        let asked = self.ask();
        match self.reviewer.outage.patiently(asked).await {
            Some(answer) => {
                answer.unwrap_or_else(|lost| Err(self.reviewer.unavailable(lost.to_string())))
            }
            None => Err(self.reviewer.unavailable(KubeError::Silent.to_string())),
        }
    }

    /// When the last yes will have been remembered for as long as it may be.
    pub(super) fn due(&self) -> Instant {
        let age = self.yes.age().unwrap_or(self.reviewer.cache_for);
        Instant::now() + self.reviewer.cache_for.saturating_sub(age)
    }

    /// When to ask again after a failure; `None` if the last yes is too old to stay open on it. An
    /// API server that is down for a moment, as for its upgrade, does not end what is open.
    pub(super) fn patience(&self) -> Option<Instant> {
        let limit = self.reviewer.cache_for * 2;
        let left = limit.checked_sub(self.yes.age()?)?;
        (!left.is_zero()).then(|| Instant::now() + left.min(REMEMBER_FAILURE))
    }

    /// Completes when the API server has said that the token does not stand any more. That it cannot
    /// be asked says nothing.
    pub(super) async fn withdrawn(self: &Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            let no = self.confirm().await.err();
            if no.is_some_and(|no| !matches!(no, IdentifyError::ReviewUnavailable { .. })) {
                return;
            }
        }
    }

    fn ask(self: &Arc<Self>) -> Outcome<Result<(), IdentifyError>> {
        self.flight.join(|| Arc::clone(self).review())
    }

    async fn review(self: Arc<Self>) -> Result<(), IdentifyError> {
        if self.yes.within(self.reviewer.cache_for / 4 * 3) {
            return Ok(());
        }
        let result = self.reviewer.ask(&self.about).await;
        match &result {
            Ok(()) => {
                self.no.store(None);
                self.yes.mark();
            }
            Err(error) => {
                let unavailable = matches!(error, IdentifyError::ReviewUnavailable { .. });
                if !unavailable {
                    self.yes.clear();
                }
                self.no.store(Some(Arc::new(No {
                    at: Instant::now(),
                    remember: if unavailable {
                        REMEMBER_FAILURE
                    } else {
                        REMEMBER_NO
                    },
                    error: error.clone(),
                })));
            }
        }
        result
    }
}

#[derive(Deserialize)]
struct Answer {
    status: Status,
}

/// Kubernetes leaves out what is false or empty.
#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    authenticated: bool,
    #[serde(default)]
    user: User,
    #[serde(default)]
    audiences: Vec<String>,
}

#[derive(Deserialize, Default)]
struct User {
    #[serde(default)]
    username: String,
    #[serde(default)]
    extra: HashMap<String, Vec<String>>,
}

impl Reviewer {
    pub(super) fn new(issuer: &Issuer, review: &TokenReview) -> Result<Self, SetupError> {
        // Asked once here, so that a gateway whose file is wrong does not start.
        http::url(issuer, &review.cluster.url)?;
        if let Some(file) = &review.cluster.ca_file {
            http::roots(issuer, file)?;
        }
        Ok(Self {
            issuer: issuer.name.as_str().into(),
            audience: issuer.audience.as_str().into(),
            kube: Kube::new(&review.cluster),
            cache_for: review.cache_for,
            turns: Semaphore::new(AT_ONCE),
            outage: Outage::default(),
        })
    }

    async fn ask(&self, about: &Question) -> Result<(), IdentifyError> {
        let Ok(Ok(_turn)) = timeout(TURN, self.turns.acquire()).await else {
            return Err(self.unavailable(format!("{AT_ONCE} other reviews are under way")));
        };
        let began = Instant::now();
        let document = self.post(about).await.map_err(|detail| {
            let error = self.unavailable(detail);
            if self.outage.failed(began) {
                tracing::warn!(%error, "no TokenReview");
            }
            error
        })?;
        if let Some(lasted) = self.outage.over() {
            let seconds = lasted.as_secs();
            tracing::info!(issuer = %self.issuer, seconds, "TokenReviews are answered again");
        }
        let answer: Answer = from_json_object(&document)
            .ok_or_else(|| self.unavailable("the answer is no TokenReview".into()))?;
        self.judge(&answer.status, about)
    }

    async fn post(&self, about: &Question) -> Result<Vec<u8>, String> {
        let body = serde_json::json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": { "token": about.token.expose(), "audiences": [*self.audience] },
        });
        let path = ["apis", "authentication.k8s.io", "v1", "tokenreviews"];
        let posted = self.kube.post(path, body.to_string().into_bytes()).await;
        let answer = posted.map_err(|error| error.to_string())?;
        match answer.status {
            StatusCode::OK | StatusCode::CREATED => Ok(answer.body.to_vec()),
            StatusCode::UNAUTHORIZED => Err(KubeError::Unauthorized.to_string()),
            StatusCode::FORBIDDEN => Err(
                "it does not let the gateway ask (403): bind its service account to the cluster \
                 role system:auth-delegator"
                    .to_owned(),
            ),
            status => Err(format!("the answer was {status}")),
        }
    }

    fn judge(&self, status: &Status, about: &Question) -> Result<(), IdentifyError> {
        if !status.authenticated {
            return Err(IdentifyError::Revoked {
                issuer: Arc::clone(&self.issuer),
            });
        }
        // An API server that knows nothing of audiences leaves them out, and would have accepted
        // a token for anyone.
        if !status
            .audiences
            .iter()
            .any(|audience| **audience == *self.audience)
        {
            return Err(self.mismatch("its audiences do not contain ours"));
        }
        if status.user.username != *about.subject {
            return Err(self.mismatch("it is another user's"));
        }
        let pod = status.user.extra.get(POD_NAME);
        match (pod.map(Vec::as_slice), about.pod.as_deref()) {
            (None, _) => Ok(()),
            (Some([reviewed]), Some(claimed)) if reviewed == claimed => Ok(()),
            (Some(_), _) => Err(self.mismatch("it is another pod's")),
        }
    }

    fn unavailable(&self, detail: String) -> IdentifyError {
        IdentifyError::ReviewUnavailable {
            issuer: Arc::clone(&self.issuer),
            detail: detail.into(),
        }
    }

    fn mismatch(&self, what: &'static str) -> IdentifyError {
        IdentifyError::ReviewMismatch {
            issuer: Arc::clone(&self.issuer),
            what,
        }
    }
}
