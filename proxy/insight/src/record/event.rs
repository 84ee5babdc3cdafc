//! Lines that are no single request: events of the gateway, and what is told in sum.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Text, Workload};

/// Something that happened to the gateway itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event<'a> {
    /// When.
    pub time: Timestamp,
    /// What.
    pub event: Happened,
    /// The gateway's version.
    #[serde(borrow, default)]
    pub version: Option<Text<'a>>,
    /// The revision in effect afterwards.
    #[serde(borrow, default)]
    pub revision: Option<Text<'a>>,
    /// The revision before it, for a reload.
    #[serde(borrow, default)]
    pub previous_revision: Option<Text<'a>>,
    /// The resources that changed; a line names 25 at most.
    #[serde(borrow, default)]
    pub changes: Vec<Change<'a>>,
    /// How many changed in all.
    #[serde(default)]
    pub changed: u64,
    /// Why a reload was rejected.
    #[serde(borrow, default)]
    pub detail: Option<Text<'a>>,
    /// Connections that may finish, for a drain.
    #[serde(default)]
    pub open: Option<u64>,
    /// Connections that did not finish, for a stop.
    #[serde(default)]
    pub cut_off: Option<u64>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Happened {
    /// The gateway is about to serve.
    Started,
    /// Another revision is in effect.
    Reloaded,
    /// New resources cannot be used.
    ReloadRejected,
    /// Nothing new is accepted.
    Draining,
    /// The process ends.
    Stopped,
    /// An event of a later version.
    #[serde(other)]
    Other,
}

/// One resource that changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Change<'a> {
    /// `added`, `changed` or `removed`.
    #[serde(borrow)]
    pub change: Text<'a>,
    /// The kind of the resource.
    #[serde(borrow)]
    pub kind: Text<'a>,
    /// `NAMESPACE/NAME`.
    #[serde(borrow)]
    pub name: Text<'a>,
}

/// A count of one reason.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReasonCount<'a> {
    /// The reason's code.
    #[serde(borrow)]
    pub reason: Text<'a>,
    /// How often.
    pub count: u64,
}

/// A count of one address; a lower bound.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceCount<'a> {
    /// The address.
    #[serde(borrow)]
    pub address: Text<'a>,
    /// How often.
    pub count: u64,
}

/// A count of one target; a lower bound.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetCount<'a> {
    /// Host and port.
    #[serde(borrow)]
    pub authority: Text<'a>,
    /// How often.
    pub count: u64,
}

/// Refusals that have no line of their own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary<'a> {
    /// When the line was written.
    pub time: Timestamp,
    /// `identified` or `unidentified`.
    #[serde(borrow)]
    pub class: Text<'a>,
    /// The workload that they have in common.
    #[serde(borrow, default)]
    pub workload: Option<Workload<'a>>,
    /// The caller, if it matches no workload.
    #[serde(borrow, default)]
    pub subject: Option<Text<'a>>,
    /// How many the line stands for.
    pub count: u64,
    /// The first of them.
    pub first: Timestamp,
    /// The last of them.
    pub last: Timestamp,
    /// By reason.
    #[serde(borrow, default)]
    pub reasons: Vec<ReasonCount<'a>>,
    /// The most frequent addresses.
    #[serde(borrow, default)]
    pub sources: Vec<SourceCount<'a>>,
    /// The most frequent targets.
    #[serde(borrow, default)]
    pub targets: Vec<TargetCount<'a>>,
}

/// Records that were lost.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Dropped<'a> {
    /// When the line was written.
    pub time: Timestamp,
    /// How many.
    pub count: u64,
    /// `identified` or `unidentified`.
    #[serde(borrow)]
    pub class: Text<'a>,
}

/// Connections that gave way to others.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shed<'a> {
    /// When the line was written.
    pub time: Timestamp,
    /// `identified` or `unidentified`.
    #[serde(borrow)]
    pub class: Text<'a>,
    /// How many.
    pub count: u64,
    /// By reason.
    #[serde(borrow, default)]
    pub reasons: Vec<ReasonCount<'a>>,
    /// The most frequent addresses.
    #[serde(borrow, default)]
    pub sources: Vec<SourceCount<'a>>,
}
