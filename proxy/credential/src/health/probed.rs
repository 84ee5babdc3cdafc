//! What probes have shown of a credential: which of its values is proven, and whose it is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use countersign_core::flight::{Flight, LastTime};
use jiff::Timestamp;

/// A probe that could not be made is made again after this time.
const AGAIN: Duration = Duration::from_mins(1);

/// A doubted value is not probed again before this time.
const AFTER_DOUBT: Duration = Duration::from_secs(10);

/// [`Probed::generation`] before the first probe; generations count from 1.
const NONE: u64 = 0;

/// What probes have shown of one credential.
#[derive(Debug)]
pub struct Probed {
    /// The newest generation that was probed, or of which nothing could be found out.
    generation: AtomicU64,
    at: LastTime,
    /// Whether nothing could be found out.
    unknown: AtomicBool,
    /// Whether a request has met since what a probe should look into.
    doubted: AtomicBool,
    /// Why no probe may be made.
    forbidden: ArcSwapOption<String>,
    newest: ArcSwapOption<ProbeReport>,
    /// The probe that is under way.
    pub flight: Flight<()>,
}

/// What one probe has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeReport {
    /// The generation that was probed.
    pub generation: u64,
    /// When.
    pub at: Timestamp,
    /// What came of it.
    pub finding: Finding,
    /// Whose credential it is, by the target's `shows`: names and texts.
    pub shows: Vec<(String, String)>,
}

/// What came of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The API takes the value.
    Works,
    /// The API does not, and says this of it.
    Rejected(Option<String>),
    /// The API knows it, but it does not suffice for the probe itself.
    Insufficient(Option<String>),
    /// Nothing could be found out, and why.
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

    /// What there is to say besides.
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
    /// A while ago at most.
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
            flight: Flight::new(),
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

    /// The API took this value for a request, which shows as much as a probe.
    pub fn worked(&self, generation: u64) {
        if self.generation.load(Ordering::Acquire) < generation {
            self.settle(generation, false);
        }
    }

    /// A request was rejected with this value: another probe is to tell whether that is the value's fault.
    pub fn doubt(&self, generation: u64) {
        if self.generation.load(Ordering::Acquire) == generation {
            self.doubted.store(true, Ordering::Relaxed);
        }
    }

    /// Takes note that no probe may be made, and why.
    pub fn forbid(&self, why: impl FnOnce() -> String) {
        if self.forbidden.load().is_none() {
            self.forbidden.store(Some(Arc::new(why())));
        }
    }

    /// Why no probe may be made; `None` if one was, or none was wanted yet.
    pub fn forbidden(&self) -> Option<Arc<String>> {
        self.forbidden.load_full()
    }

    /// Takes note of a probe; gives the one before it.
    pub fn note(&self, report: ProbeReport) -> Option<Arc<ProbeReport>> {
        let unknown = matches!(report.finding, Finding::Unknown(_));
        self.settle(report.generation, unknown);
        self.forbidden.store(None);
        self.newest.swap(Some(Arc::new(report)))
    }

    /// What the newest probe has shown.
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

        // A request that works is as good; an older one proves nothing new.
        probed.worked(2);
        assert_eq!(probed.proof(2, EVERY), Proof::Fresh);
        probed.worked(1);
        assert_eq!(probed.proof(2, EVERY), Proof::Fresh);

        // What a request met is looked into, though not at every one.
        probed.doubt(1);
        assert_eq!(probed.proof(2, EVERY), Proof::Fresh);
        probed.doubt(2);
        assert_eq!(probed.proof(2, EVERY), Proof::Fresh);
        tokio::time::advance(AFTER_DOUBT).await;
        assert_eq!(probed.proof(2, EVERY), Proof::Old);
        probed.note(report(2, Finding::Works));
        tokio::time::advance(AFTER_DOUBT).await;
        assert_eq!(probed.proof(2, EVERY), Proof::Fresh);

        // Nothing found out is asked again sooner.
        probed.note(report(3, Finding::Unknown("away".into())));
        assert_eq!(probed.proof(3, EVERY), Proof::Fresh);
        tokio::time::advance(AGAIN).await;
        assert_eq!(probed.proof(3, EVERY), Proof::Old);
    }
}
