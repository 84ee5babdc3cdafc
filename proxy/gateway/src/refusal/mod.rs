//! Every refusal: its reason, whose fault it is, and the answer the caller gets.
//!
//! Each room has a small error of its own; the `From` implementations in [`from`](self) turn
//! them into a [`Refusal`] exhaustively, so that a new way to fail cannot go without a reason.

mod answer;
mod from;

pub use answer::{answer, connect_answer};

use std::{sync::Arc, time::Duration};

use countersign_config::{
    model::{Target, Workload},
    policy::Nearest,
};
use countersign_core::reason::Reason;

/// A refusal: nothing was sent upstream, or what was sent did not come to an answer.
#[derive(Debug)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// One sentence for the operator, with the particulars; no secret is in it.
    pub detail: String,
    /// For a policy miss, the rule that came nearest.
    pub nearest: Option<Nearest>,
    /// The workload the caller was recognised as, where policy got that far.
    pub workload: Option<Arc<Workload>>,
    /// The target in whose language the answer is written.
    pub target: Option<Arc<Target>>,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal with its operator's sentence.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            nearest: None,
            workload: None,
            target: None,
            retry_after: None,
        }
    }

    /// The same, answered in the language of `target`.
    #[must_use]
    pub fn at(mut self, target: &Arc<Target>) -> Self {
        self.target = Some(Arc::clone(target));
        self
    }
}
