//! The decision record, and the log line and metrics made from it.
//!
//! A [`Record`] is opened when a request is accepted, is filled in by each step, moves with the response
//! body, and is closed exactly once. The request path only fills in an [`Entry`] and hands it over; the
//! log's own thread turns it into JSON and counts it in the
//! [`Metrics`](countersign_core::metrics::Metrics). Both are made from the same entry, so they cannot
//! disagree.

pub mod admin;
mod closed;
mod count;
mod entry;
#[cfg(test)]
pub(crate) mod fixture;
mod json;
mod log;
mod otlp;
mod record;
mod sampler;
mod steps;
mod trace;
mod trace_context;

pub use closed::Outcome;
pub use entry::{
    ByteCounts, Bytes, CallerPart, CredentialPart, Entry, PathOnly, PolicyPart, RejectedPart,
    TargetPart, Timing, UpstreamPart,
};
pub use log::{
    DecisionLog, DrainTimedOut, Happened, LogError, MemoryLog, QUEUED_BYTES, RecordsFull,
    SinkError, TracesError, unidentified_file,
};
pub use record::{Record, Recorder};
pub use trace_context::{Parent, TraceId};

/// Marks a text that was cut.
const CUT: &str = "[cut]";
