//! Faults of the server: it is away, slow, flapping, starting, or has too much to do.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use http::{Response, StatusCode, header::RETRY_AFTER};

use super::{access::Attributes, failure::Failure, user::User};
use crate::fake::{Body, text};

/// How the server misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It answers everything with this status, such as 503.
    Status(StatusCode),
    /// It takes this long for each answer.
    Slow(Duration),
    /// It answers every other request with 503.
    Flapping,
    /// It has not read its roles yet, and so forbids everything.
    Starting,
    /// It has too much to do: 429 with `Retry-After`.
    TooManyRequests,
}

/// Counts requests while it flaps.
#[derive(Debug, Default)]
pub(super) struct Turns(AtomicU64);

impl Fault {
    /// The answer that comes instead of the right one, if any.
    pub(super) async fn answer(
        self,
        turns: &Turns,
        user: &User,
        asked: &Attributes,
    ) -> Option<Response<Body>> {
        let unwell = |code| {
            let reason = code_reason(code);
            Failure::new(code, &reason, "the API server is not well").response()
        };
        match self {
            Self::Status(code) => Some(unwell(code)),
            Self::Slow(time) => {
                tokio::time::sleep(time).await;
                None
            }
            Self::Flapping => {
                let fails = turns.0.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
                fails.then(|| unwell(StatusCode::SERVICE_UNAVAILABLE))
            }
            Self::Starting => {
                let mut failure = asked.forbidden(user);
                failure.message.push_str(
                    ": RBAC: [clusterrole.rbac.authorization.k8s.io \"system:discovery\" not found, \
                     clusterrole.rbac.authorization.k8s.io \"system:basic-user\" not found]",
                );
                Some(failure.response())
            }
            Self::TooManyRequests => {
                let code = StatusCode::TOO_MANY_REQUESTS;
                let mut response = text(code, "Too many requests, please try again later.\n");
                let headers = response.headers_mut();
                headers.insert(RETRY_AFTER, http::HeaderValue::from_static("1"));
                Some(response)
            }
        }
    }
}

fn code_reason(code: StatusCode) -> String {
    let reason = code.canonical_reason().unwrap_or_default();
    reason.split_whitespace().collect()
}
