//! Keeps a credential that an API rejects from being tried by every request.
//!
//! It speaks of one generation, and opens when a value was rejected and no better one could be had.
//! While it is open, requests are refused here; once the back-off is over, one of them
//! is let through to try. A value of another generation is free to go at once.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::Health;

/// The first back-off. Each failed trial doubles it, and up to a quarter is added by chance, so
/// that replicas do not try in step.
pub const BACK_OFF_SHORTEST: Duration = Duration::from_secs(1);

/// The longest back-off, chance included.
pub const BACK_OFF_LONGEST: Duration = Duration::from_mins(5);

/// [`Breaker::generation`] when it is closed; generations count from 1.
const CLOSED: u64 = 0;

/// The breaker of one credential.
#[derive(Debug, Default)]
pub struct Breaker {
    /// The rejected generation.
    generation: AtomicU64,
    /// Read and written only while a value is rejected.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// How often in a row values were rejected, whatever their generations.
    failures: u32,
    until: Option<Instant>,
    trying: bool,
    said: Option<Arc<str>>,
}

/// The API rejected this value, and it is too early to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The generation.
    pub generation: u64,
    /// What the API said, if it did.
    pub said: Option<Arc<str>>,
    /// In which time it is tried again; zero while another request tries.
    pub again_in: Duration,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the API rejects this value (generation {}",
            self.generation
        )?;
        if let Some(said) = &self.said {
            write!(f, ", `{said}`")?;
        }
        write!(f, "); it is tried again ")?;
        match self.again_in {
            Duration::ZERO => write!(f, "by another request at this moment")?,
            wait => write!(f, "in {} s", wait.as_secs() + 1)?,
        }
        write!(f, ", and at once when its source has another")
    }
}

/// The right to try a rejected value again. Dropped without a word it proves nothing, and the next
/// request may try.
#[derive(Debug)]
#[must_use = "a trial that is dropped proved nothing"]
pub struct Trial {
    health: Arc<Health>,
    generation: u64,
}

impl Drop for Trial {
    fn drop(&mut self) {
        let breaker = &self.health.breaker;
        if breaker.generation.load(Ordering::Acquire) == self.generation {
            breaker.open().trying = false;
        }
    }
}

impl Health {
    /// Whether a request may carry the value of this generation. A trial is the one request that
    /// finds out whether it still cannot.
    pub fn admit(self: &Arc<Self>, generation: u64) -> Result<Option<Trial>, Rejected> {
        let rejected = self.breaker.generation.load(Ordering::Acquire);
        if rejected != generation || rejected == CLOSED {
            return Ok(None);
        }
        let mut open = self.breaker.open();
        let left = open
            .until
            .map_or(Duration::ZERO, |until| until.duration_since(Instant::now()));
        if left.is_zero() && !open.trying {
            open.trying = true;
            return Ok(Some(Trial {
                health: Arc::clone(self),
                generation,
            }));
        }
        Err(Rejected {
            generation,
            said: open.said.clone(),
            again_in: left,
        })
    }
}

impl Breaker {
    /// The API rejected this value, and there is no better one. Returns the back-off from now.
    ///
    /// Requests that were under way when it opened, and find the same, do not lengthen it.
    pub fn trip(&self, generation: u64, said: Option<&str>) -> Duration {
        let mut open = self.open();
        let now = Instant::now();
        let rejected = self.generation.load(Ordering::Acquire);
        if generation < rejected {
            // A newer one is rejected already.
            return Duration::ZERO;
        }
        self.generation.store(generation, Ordering::Release);
        let known = rejected == generation;
        if let Some(until) = open.until
            && known
            && !open.trying
            && now < until
        {
            return until.duration_since(now);
        }
        open.failures = open.failures.saturating_add(1);
        open.trying = false;
        open.said = said.map(Arc::from).or(open.said.take());
        let wait = back_off(open.failures, chance());
        open.until = Some(now + wait);
        wait
    }

    /// The API took this value.
    pub fn worked(&self, generation: u64) {
        let rejected = self.generation.load(Ordering::Acquire);
        if rejected == CLOSED || generation < rejected {
            return;
        }
        let mut open = self.open();
        self.generation.store(CLOSED, Ordering::Release);
        *open = Open::default();
    }

    /// What is wrong with the credential, if something is.
    pub fn rejected(&self) -> Option<Rejected> {
        let generation = self.generation.load(Ordering::Acquire);
        if generation == CLOSED {
            return None;
        }
        let open = self.open();
        let left = |until: Instant| until.duration_since(Instant::now());
        Some(Rejected {
            generation,
            said: open.said.clone(),
            again_in: open.until.map_or(Duration::ZERO, left),
        })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Twice the one before, plus up to a quarter; `chance` is from 0 to 255.
pub(super) fn back_off(failures: u32, chance: u8) -> Duration {
    let doublings = failures.saturating_sub(1).min(9);
    let plain = BACK_OFF_SHORTEST * 2_u32.pow(doublings);
    let more = plain / 4 * u32::from(chance) / 255;
    (plain + more).min(BACK_OFF_LONGEST)
}

fn chance() -> u8 {
    let mut byte = [0];
    // Without chance replicas try in step, and nothing worse.
    match aws_lc_rs::rand::fill(&mut byte) {
        Ok(()) => byte[0],
        Err(_) => 0,
    }
}
