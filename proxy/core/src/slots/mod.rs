//! Places for client connections: who may hold how many, and who gives way when there is none left.
//!
//! A connection that has proven nothing yet is a stranger. Strangers have places of their own, so
//! many at each listener and so many from one source; when they are used up the stranger that has
//! least to lose is closed, and never a connection whose caller was proven. Once a request on it was
//! proven, a connection counts as its workload's. Workloads share `limits.connections` fairly: each
//! may use what is free, and gives way to one that has less than its share.
//!
//! The lock is taken when a connection comes, is proven, and goes; never for a request on a
//! connection that is proven already.

mod in_turn;
mod place;
mod shares;
mod strangers;
#[cfg(test)]
mod tests;

pub use crate::shed::Shed;
pub use place::{Slot, Source};

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use countersign_types::{Limits, ResourceName};

use self::{place::Place, shares::Shares, strangers::Strangers};
use crate::{gate::Full, metrics::Metrics};

/// How many of those that may give way are looked at for the one that should: a flood must not make
/// each newcomer cost a walk through all.
const LOOK: usize = 32;

/// Whose places a proven connection takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Share {
    /// Those of a workload.
    Workload(ResourceName),
    /// Those of all callers that are proven and no workload, together.
    Unregistered,
    /// Those of the pod whose own gateway this is.
    Own,
}

/// A workload has its share of the connections, and there is none to spare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "all {most} connections of limits.connections are open, and this workload has its share of them"
)]
pub struct NoPlace {
    most: usize,
}

/// How many connections may be open.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections of proven callers, at all listeners together.
    pub identified: usize,
    /// Strangers at one listener.
    pub strangers: usize,
    /// Strangers from one source at one listener.
    pub per_source: usize,
}

impl From<Full> for Shed {
    fn from(full: Full) -> Self {
        match full {
            Full::One => Self::SourceFull,
            Full::All => Self::ListenerFull,
        }
    }
}

impl From<&Limits> for Bounds {
    fn from(limits: &Limits) -> Self {
        Self {
            identified: limits.connections,
            strangers: limits.unidentified.connections,
            per_source: limits.unidentified.per_source,
        }
    }
}

/// All places. Cheap to clone; clones share.
#[derive(Debug, Clone)]
pub struct Slots(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bounds: Bounds,
    /// `None` where connections are not counted.
    metrics: Option<Metrics>,
    /// Who is told of those that were closed.
    teller: OnceLock<Teller>,
    next: AtomicU64,
    taken: Mutex<Taken>,
}

struct Teller(Box<dyn Fn(bool, IpAddr, Shed) + Send + Sync>);

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Teller")
    }
}

#[derive(Debug, Default)]
struct Taken {
    strangers: Strangers,
    shares: Shares,
}

impl Slots {
    /// No place is taken yet.
    pub fn new(bounds: Bounds, metrics: Option<Metrics>) -> Self {
        Self(Arc::new(Shared {
            bounds,
            metrics,
            teller: OnceLock::new(),
            next: AtomicU64::new(0),
            taken: Mutex::default(),
        }))
    }

    /// From now on `tell` is told who is closed in favour of others: whether its caller was proven, from
    /// where it came, and why. The first call counts.
    pub fn tell(&self, tell: impl Fn(bool, IpAddr, Shed) + Send + Sync + 'static) {
        self.0.teller.get_or_init(|| Teller(Box::new(tell)));
    }

    /// The place of a connection that just came in. There always is one: where strangers have none
    /// left, one of them is closed.
    pub fn enter(&self, listener: &Arc<str>, client: IpAddr) -> Slot {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let place = Arc::new(Place::new(number, listener, client));
        let metrics = self.0.metrics.as_ref();
        let counted = metrics.map(|metrics| metrics.connection(listener));
        place.count(metrics);
        let gone = self
            .taken()
            .strangers
            .enter(Arc::clone(&place), &self.0.bounds);
        if let Some((place, why)) = gone {
            self.shed(&place, why);
        }
        Slot::new(place, self.clone(), counted)
    }

    /// A newcomer was closed before it had a place.
    pub fn turned_away(&self, source: Source, why: Shed) {
        self.count(false, source, why);
    }

    /// How many there may be.
    pub fn bounds(&self) -> Bounds {
        self.0.bounds
    }

    /// Closes the stranger that should go first, for what it holds; false if there is none.
    pub fn evict(&self) -> bool {
        let Some(place) = self.taken().strangers.give_way() else {
            return false;
        };
        self.shed(&place, Shed::Resources);
        true
    }

    /// How many strangers there are, and how many connections of proven callers.
    pub fn open(&self) -> (usize, usize) {
        let taken = self.taken();
        (taken.strangers.open(), taken.shares.open())
    }

    /// Makes a stranger its workload's.
    fn prove(&self, place: &Arc<Place>, share: Share) -> Result<(), NoPlace> {
        let most = self.0.bounds.identified;
        let gone = {
            let mut taken = self.taken();
            if !taken.strangers.has(place) {
                // It was closed meanwhile, or proven by another request.
                return Ok(());
            }
            let Some(gone) = taken.shares.room(&share, most) else {
                return Err(NoPlace { most });
            };
            taken.strangers.leave(place);
            taken.shares.enter(Arc::clone(place), share);
            place.prove();
            gone
        };
        place.count(self.0.metrics.as_ref());
        if let Some(gone) = gone {
            self.shed(&gone, Shed::Share);
        }
        Ok(())
    }

    fn leave(&self, place: &Arc<Place>) {
        let mut taken = self.taken();
        if !taken.strangers.leave(place) {
            taken.shares.leave(place);
        }
    }

    fn shed(&self, place: &Place, why: Shed) {
        if place.shed(why) {
            self.count(place.is_proven(), place.source, why);
        }
    }

    fn count(&self, proven: bool, source: Source, why: Shed) {
        if let Some(metrics) = &self.0.metrics {
            metrics.connection_shed(proven, why.as_str());
        }
        if let Some(Teller(tell)) = self.0.teller.get() {
            tell(proven, source.address(), why);
        }
    }

    /// What is guarded is whole after each statement, so a panic elsewhere spoils nothing.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
