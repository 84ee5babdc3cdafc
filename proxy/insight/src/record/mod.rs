//! The lines of a decision log, typed. `docs/decision-record.md` explains each field.
//!
//! Texts borrow from the line wherever it has no escapes. Whatever another version of the gateway may not write
//! is optional, and fields that are not known here are skipped: a log may hold lines of several versions.

mod decision;
mod event;
mod text;

pub use self::{
    decision::{
        Bytes, Caller, Credential, Decision, Mismatch, Nearest, Outcome, Policy, RefusedToken,
        Rejected, Target, Timing, Upstream, Workload,
    },
    event::{
        Change, Dropped, Event, Happened, ReasonCount, Shed, SourceCount, Summary, TargetCount,
    },
    text::Text,
};

/// The schema of a decision.
pub const DECISION: &str = "countersign.decision/v1";
/// The schema of an event of the gateway itself.
pub const EVENT: &str = "countersign.event/v1";
/// The schema of refusals that were counted and not written one by one.
pub const SUMMARY: &str = "countersign.summary/v1";
/// The schema of records that were lost.
pub const DROPPED: &str = "countersign.dropped/v1";
/// The schema of connections that gave way to others.
pub const SHED: &str = "countersign.shed/v1";

/// One line of the log.
#[derive(Debug, Clone)]
pub enum Entry<'a> {
    /// One request, tunnel or refused connection. Boxed: it is many times as large as the others.
    Decision(Box<Decision<'a>>),
    /// Something that happened to the gateway itself.
    Event(Event<'a>),
    /// Refusals that are told in sum.
    Summary(Summary<'a>),
    /// Records that were lost.
    Dropped(Dropped<'a>),
    /// Connections that gave way to others.
    Shed(Shed<'a>),
}

impl Entry<'_> {
    /// When it was.
    pub fn time(&self) -> jiff::Timestamp {
        match self {
            Self::Decision(decision) => decision.time,
            Self::Event(event) => event.time,
            Self::Summary(summary) => summary.time,
            Self::Dropped(dropped) => dropped.time,
            Self::Shed(shed) => shed.time,
        }
    }
}
