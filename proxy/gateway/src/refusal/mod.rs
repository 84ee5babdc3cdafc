//! Refusals: the reason, the blame, and the response to the caller.
//!
//! Each crate has a small error type; the `From` implementations in `from` turn them into a [`Refusal`]
//! exhaustively, so that a new kind of failure needs a reason.

mod answer;
mod from;

pub use answer::{answer, connect_answer, told_inside};

use std::{sync::Arc, time::Duration};

use countersign_authorize::Snapshot;
use countersign_config::{
    model::{Target, TransportFaults, Workload},
    policy::Nearest,
};
use countersign_core::reason::{Language, Reason};
use countersign_identity::{Caller, Unproven};

/// A refusal: nothing was sent upstream, or there was no response.
#[derive(Debug)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The format of the response.
    pub language: Language,
    /// A sentence with details for the operator; contains no secret.
    pub detail: String,
    /// For a policy miss, the rule that came nearest.
    pub nearest: Option<Nearest>,
    /// The caller's workload, if policy got that far.
    pub workload: Option<Arc<Workload>>,
    /// The target whose error format the response uses.
    pub target: Option<Arc<Target>>,
    /// When a retry may succeed.
    pub retry_after: Option<Duration>,
    /// Whether a client that calls the API itself would have met a closed or refused connection.
    pub disconnected: bool,
    /// The proof that is refused, if that is why.
    pub unproven: Option<Box<Unproven>>,
}

impl Refusal {
    /// A refusal with its operator's sentence.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            language: reason.facts().language,
            detail: detail.into(),
            nearest: None,
            workload: None,
            target: None,
            retry_after: None,
            disconnected: false,
            unproven: None,
        }
    }

    /// Whether its client is told by closing the connection, as the API would.
    pub fn hangs_up(&self) -> bool {
        let close = |target: &Arc<Target>| target.transport_faults == TransportFaults::Close;
        self.disconnected && self.target.as_ref().is_some_and(close)
    }

    /// Notes the workload of the refused caller, if it is not known yet.
    pub fn was_of(&mut self, caller: &Caller, snapshot: &Snapshot) {
        if self.workload.is_none() {
            self.workload = snapshot.workload_of(caller).cloned();
        }
    }

    /// Notes the workload whose token was refused, so that its owner is named.
    pub fn was_of_unproven(&mut self, snapshot: &Snapshot) {
        let unproven = self.unproven.as_ref();
        if let Some(claims) = unproven.and_then(|unproven| unproven.claims()) {
            self.workload = snapshot.workload_like(&claims.facts()).cloned();
        }
    }

    /// Whether it is about a proof of which it is known whose it is, and which stays refused.
    pub fn is_final_about_proof(&self) -> bool {
        let unproven = self.unproven.as_ref();
        unproven.is_some_and(|unproven| unproven.is_final())
    }

    /// The same refusal, as a final one in the error format of `target`.
    #[must_use]
    pub fn finally_at(mut self, target: &Arc<Target>) -> Self {
        self.language = Language::Api;
        self.at(target)
    }

    /// The same refusal, in the error format of `target`.
    #[must_use]
    pub fn at(mut self, target: &Arc<Target>) -> Self {
        self.target = Some(Arc::clone(target));
        self
    }
}
