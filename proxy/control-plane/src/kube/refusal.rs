//! Why the API server refuses the gateway itself, and which rights it lacks.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{Method, StatusCode};
use serde::Deserialize;
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::{Kube, KubeError, KubeResponse, MissingRights, Right, Status};
use crate::{describe_own_token, quoted};

/// How long the API server may take to say which rights are missing. Requests wait for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long its answer is used: it changes only when a person changes a role.
const REMEMBER: Duration = Duration::from_secs(5);

/// The user of requests without a token.
const ANONYMOUS: &str = "system:anonymous";

/// The last answer about missing rights.
#[derive(Debug, Default)]
pub(super) struct LastAnswer(Mutex<Option<Answered>>);

#[derive(Debug)]
struct Answered {
    at: Instant,
    needed: Arc<[Right]>,
    missing: Arc<[Right]>,
}

#[derive(Deserialize)]
struct Answer {
    status: AnswerStatus,
}

#[derive(Deserialize)]
struct AnswerStatus {
    #[serde(default)]
    allowed: bool,
}

impl Kube {
    /// The error for a response 401 or 403, which concerns the gateway itself. `needed` are all rights for the
    /// same purpose, the refused one first.
    pub async fn refusal(&self, answer: &KubeResponse, needed: Vec<Right>) -> KubeError {
        if answer.status == StatusCode::UNAUTHORIZED {
            let token = describe_own_token(&self.own_token).await;
            return KubeError::Unauthorized(token.into());
        }
        // Another kind of server sends a body that cannot be parsed.
        let status: Status = serde_json::from_slice(&answer.body).unwrap_or_default();
        if !matches!(status.reason.as_str(), "" | "Forbidden") {
            return KubeError::Rejected {
                status: answer.status.as_u16(),
                reason: quoted(&status.reason).into(),
            };
        }
        let user = user_of(&status.message);
        match user {
            Some(ANONYMOUS) => return KubeError::Unseen,
            None if !status.message.is_empty() => {
                return KubeError::Denied(quoted(&status.message).into());
            }
            Some(_) | None => {}
        }
        let needed: Arc<[Right]> = needed.into();
        // One that alone is needed is the refused one.
        let missing = match needed.len() {
            1 => None,
            _ => timeout(PATIENCE, self.missing(&needed))
                .await
                .ok()
                .flatten(),
        };
        let missing = missing.filter(|missing| !missing.is_empty());
        let missing = missing.unwrap_or_else(|| needed[..1].into());
        let user = quoted(user.unwrap_or_default());
        KubeError::Forbidden(MissingRights::new(user.into(), missing, needed))
    }

    /// Which of these rights the gateway lacks, by the API server's own answer; `None` if it does not say.
    async fn missing(&self, needed: &Arc<[Right]>) -> Option<Arc<[Right]>> {
        {
            let last = self.rights.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(last) = &*last
                && last.at.elapsed() < REMEMBER
                && last.needed == *needed
            {
                return Some(Arc::clone(&last.missing));
            }
        }
        let mut missing = Vec::new();
        for right in &**needed {
            if !self.allows(right).await? {
                missing.push(right.clone());
            }
        }
        let missing: Arc<[Right]> = missing.into();
        let mut last = self.rights.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(Answered {
            at: Instant::now(),
            needed: Arc::clone(needed),
            missing: Arc::clone(&missing),
        });
        Some(missing)
    }

    async fn allows(&self, right: &Right) -> Option<bool> {
        const PATH: [&str; 4] = [
            "apis",
            "authorization.k8s.io",
            "v1",
            "selfsubjectaccessreviews",
        ];
        let body = Zeroizing::new(right.question().to_string().into_bytes());
        let url = self.url(PATH).ok()?;
        let answer = self.send(Method::POST, url, Some(body)).await.ok()?;
        let answer = (answer.status == StatusCode::CREATED).then_some(answer.body)?;
        let answer: Answer = serde_json::from_slice(&answer).ok()?;
        Some(answer.status.allowed)
    }
}

/// The user in RBAC's message; `None` if something else forbids the request, such as a quota.
fn user_of(message: &str) -> Option<&str> {
    let (_, after) = message.split_once("User \"")?;
    let (user, rest) = after.split_once('"')?;
    rest.starts_with(" cannot ").then_some(user)
}

#[cfg(test)]
mod tests;
