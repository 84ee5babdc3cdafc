//! The results of probes of a credential: which of its values works, and whose it is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use countersign_core::single_flight::{LastTime, SingleFlight};
use jiff::Timestamp;

/// If a probe could not be made, the next one is made after this time.
const AGAIN: Duration = Duration::from_mins(1);

/// A doubted value is not probed again before this time.
const AFTER_DOUBT: Duration = Duration::from_secs(10);

/// [`Probed::generation`] before the first probe; generations count from 1.
const NONE: u64 = 0;

/// The results of probes of one credential.
#[derive(Debug)]
pub struct Probed {
    /// The newest generation that was probed, with any result.
    generation: AtomicU64,
    at: LastTime,
    /// Whether the result is unknown.
    unknown: AtomicBool,
    /// Whether a request has since met something that a probe should check.
    doubted: AtomicBool,
    /// Why no probe may be made.
    forbidden: ArcSwapOption<String>,
    newest: ArcSwapOption<ProbeReport>,
    /// The probe in progress.
    pub flight: SingleFlight<()>,
}

/// The result of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeReport {
    /// The generation that was probed.
    pub generation: u64,
    /// When it was made.
    pub at: Timestamp,
    /// Its finding.
    pub finding: Finding,
    /// Whose credential it is, by the target's `shows`: names and texts.
    pub shows: Vec<(String, String)>,
}

/// The finding of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The API accepts the value.
    Works,
    /// The API rejects it, with this error.
    Rejected(Option<String>),
    /// The API accepts it, but it lacks a right for the probe itself.
    Insufficient(Option<String>),
    /// No result, and why.
    Unknown(String),
}

impl Finding {
    /// The word in metrics and tables.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Rejected(_) => "rejected",
            Self::Insufficient(_) => "insufficient",
            Self::Unknown(_) => "unknown",
        }
    }

    /// Further detail.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Works => None,
            Self::Rejected(said) | Self::Insufficient(said) => said.as_deref(),
            Self::Unknown(why) => Some(why),
        }
    }
}

/// Whether a value was probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Recently enough.
    Fresh,
    /// Too long ago; it is used meanwhile.
    Old,
    /// Not yet.
    Missing,
}

impl Default for Probed {
    fn default() -> Self {
        Self {
            generation: AtomicU64::new(NONE),
            at: LastTime::never(),
            unknown: AtomicBool::new(false),
            doubted: AtomicBool::new(false),
            forbidden: ArcSwapOption::empty(),
            newest: ArcSwapOption::empty(),
            flight: SingleFlight::new(),
        }
    }
}

impl Probed {
    /// Whether the value of this generation was probed within `every`.
    pub fn proof(&self, generation: u64, every: Duration) -> Proof {
        if self.generation.load(Ordering::Acquire) != generation {
            return Proof::Missing;
        }
        let good_for = if self.doubted.load(Ordering::Relaxed) {
            AFTER_DOUBT.min(every)
        } else if self.unknown.load(Ordering::Relaxed) {
            AGAIN.min(every)
        } else {
            every
        };
        if self.at.within(good_for) {
            Proof::Fresh
        } else {
            Proof::Old
        }
    }

    /// The API accepted this value in a request, which proves as much as a probe.
    pub fn worked(&self, generation: u64) {
        if self.generation.load(Ordering::Acquire) < generation {
            self.settle(generation, false);
        }
    }

    /// A request was rejected with this value: another probe is to find out whether the value is at
    /// fault.
    pub fn doubt(&self, generation: u64) {
        if self.generation.load(Ordering::Acquire) == generation {
            self.doubted.store(true, Ordering::Relaxed);
        }
    }

    /// Records that no probe may be made, and why.
    pub fn forbid(&self, why: impl FnOnce() -> String) {
        if self.forbidden.load().is_none() {
            self.forbidden.store(Some(Arc::new(why())));
        }
    }

    /// Why no probe may be made; `None` if one was made, or none was needed yet.
    pub fn forbidden(&self) -> Option<Arc<String>> {
        self.forbidden.load_full()
    }

    /// Records a probe; returns the previous report.
    pub fn note(&self, report: ProbeReport) -> Option<Arc<ProbeReport>> {
        let unknown = matches!(report.finding, Finding::Unknown(_));
        self.settle(report.generation, unknown);
        self.forbidden.store(None);
        self.newest.swap(Some(Arc::new(report)))
    }

    /// The newest report.
    pub fn newest(&self) -> Option<Arc<ProbeReport>> {
        self.newest.load_full()
    }

    fn settle(&self, generation: u64, unknown: bool) {
        self.unknown.store(unknown, Ordering::Relaxed);
        self.doubted.store(false, Ordering::Relaxed);
        self.at.mark();
        self.generation.store(generation, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(generation: u64, finding: Finding) -> ProbeReport {
        ProbeReport {
            generation,
            at: Timestamp::UNIX_EPOCH,
            finding,
            shows: Vec::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_proof_is_of_one_value_and_grows_old() {
        const EVERY: Duration = Duration::from_mins(10);
        let probed = Probed::default();
        assert_eq!(probed.proof(1, EVERY), Proof::Missing);
        probed.note(report(1, Finding::Works));
        assert_eq!(probed.proof(1, EVERY), Proof::Fresh);
        assert_eq!(probed.proof(2, EVERY), Proof::Missing);
        tokio::time::advance(EVERY).await;
        assert_eq!(probed.proof(1, EVERY), Proof::Old);

        // A successful request is as good; an older one proves nothing new.
        probed.worked(2);
        assert_eq!(probed.proof(2, EVERY), Proof::Fresh);
        probed.worked(1);
        assert_eq!(probed.proof(2, EVERY), Proof::Fresh);

        // A request's rejection is checked by a probe, but not every one.
        probed.doubt(1);
        assert_eq!(probed.proof(2, EVERY), Proof::Fresh);
        probed.doubt(2);
        assert_eq!(probed.proof(2, EVERY), Proof::Fresh);
        tokio::time::advance(AFTER_DOUBT).await;
        assert_eq!(probed.proof(2, EVERY), Proof::Old);
        probed.note(report(2, Finding::Works));
        tokio::time::advance(AFTER_DOUBT).await;
        assert_eq!(probed.proof(2, EVERY), Proof::Fresh);

        // An unknown result is asked again sooner.
        probed.note(report(3, Finding::Unknown("away".into())));
        assert_eq!(probed.proof(3, EVERY), Proof::Fresh);
        tokio::time::advance(AGAIN).await;
        assert_eq!(probed.proof(3, EVERY), Proof::Old);
    }
}
