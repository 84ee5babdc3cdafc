//! What happened, said once: the decision record, and the log line and metrics made of it.
//!
//! A [`Record`] is opened when a request is accepted, is filled in by the rooms it passes, rides on
//! the response body, and is closed exactly once. The request path only fills in an [`Entry`] and
//! hands it over; the decision log's own thread turns it into JSON and counts it in the
//! [`Metrics`](countersign_core::metrics::Metrics). Both are made of the same entry, so they cannot disagree.

pub mod admin;
mod count;
mod document;
mod entry;
#[cfg(test)]
mod fixture;
mod json;
mod log;
mod record;

pub use entry::{
    ByteCounts, Bytes, CallerPart, CredentialPart, Entry, PathOnly, PolicyPart, RejectedPart,
    TargetPart, Timing, TraceId, UpstreamPart,
};
pub use log::{DecisionLog, DrainTimedOut, LogError, MemoryLog, QUEUED_BYTES};
pub use record::{Outcome, Record, Recorder};

/// Ends a text of which only the beginning was kept.
const CUT: &str = "[cut]";
