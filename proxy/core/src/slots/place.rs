//! The place of one connection.

use std::{
    net::{IpAddr, Ipv6Addr},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
};

use smallvec::SmallVec;
use tokio::{sync::Notify, time::Instant};

use super::{NoPlace, Share, Shed, Slots};
use crate::{
    metrics::{ConnectionGuard, Metrics},
    wire::connection_state::ConnectionState,
};

/// How many proofs may be refused on one connection. Clients that send their proof only
/// when they are asked for it send the first request without one.
const MOST_REFUSED: u8 = 2;

/// Where strangers are counted together: one address, or one network of IPv6, which a single host
/// has all of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// The address, or the network of IPv6.
    pub fn address(self) -> IpAddr {
        self.0
    }
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let network = v6.to_bits() & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// How far a stranger has come. Who has least to lose is closed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Its proof was refused.
    Refused,
    /// It has said nothing that was of use yet.
    Silent,
    /// Its TLS handshake is complete.
    Greeted,
    /// It has asked for something, and its proof is being looked at.
    Asking,
    /// Nothing of what it sent was read yet: it may be anything.
    New,
}

/// What is known of a connection's place, by its holder and by the registry.
#[derive(Debug)]
pub(super) struct Place {
    /// Connections are numbered as they come.
    pub(super) number: u64,
    pub(super) source: Source,
    listener: Arc<str>,
    stage: AtomicU8,
    refused: AtomicU8,
    proven: AtomicBool,
    shed: OnceLock<Shed>,
    told: Notify,
    /// What the connection does, then what is done in the tunnels within it.
    activities: Mutex<SmallVec<[Weak<ConnectionState>; 2]>>,
    counted: Mutex<Option<ConnectionGuard>>,
}

impl Place {
    pub(super) fn new(number: u64, listener: &Arc<str>, client: IpAddr) -> Self {
        Self {
            number,
            source: client.into(),
            listener: Arc::clone(listener),
            stage: AtomicU8::new(Stage::New as u8),
            refused: AtomicU8::new(0),
            proven: AtomicBool::new(false),
            shed: OnceLock::new(),
            told: Notify::new(),
            activities: Mutex::default(),
            counted: Mutex::default(),
        }
    }

    pub(super) fn listener(&self) -> &Arc<str> {
        &self.listener
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Acquire)
    }

    pub(super) fn prove(&self) {
        self.proven.store(true, Ordering::Release);
    }

    /// What it sent first was read, if it sent anything.
    pub(super) fn looked_at(&self) {
        if self.is_new() {
            // A task of the connection may have told more meanwhile, which stands.
            let (new, silent) = (Stage::New as u8, Stage::Silent as u8);
            let _ = self
                .stage
                .compare_exchange(new, silent, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Whether nobody knows yet what it wants.
    pub(super) fn is_new(&self) -> bool {
        self.stage() == Stage::New as u8
    }

    /// Counts it as what it is now.
    pub(super) fn count(&self, metrics: Option<&Metrics>) {
        *lock(&self.counted) = metrics.map(|metrics| metrics.connection_of(self.is_proven()));
    }

    /// The order in which strangers give way.
    pub(super) fn stage(&self) -> u8 {
        self.stage.load(Ordering::Relaxed)
    }

    fn set_stage(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// Since when no request is in progress on it; `None` while one is.
    pub(super) fn resting_since(&self) -> Option<Instant> {
        let activities: SmallVec<[_; 2]> =
            lock(&self.activities).iter().map(Weak::upgrade).collect();
        let (outer, inner) = activities.split_first()?;
        // A tunnel keeps the connection around it busy, though it may rest itself.
        let tunnels = inner.iter().flatten().count();
        let busy = outer.as_ref().is_some_and(|outer| outer.active() > tunnels)
            || inner.iter().flatten().any(|inner| inner.active() > 0);
        let rested = activities.iter().flatten().map(|one| one.rested_since());
        if busy { None } else { rested.max() }
    }

    /// Tells the connection that it is closed; false if it knew already.
    pub(super) fn shed(&self, why: Shed) -> bool {
        if self.shed.set(why).is_err() {
            return false;
        }
        // Before it is told: what is in progress on it ends for this reason.
        for connection_state in lock(&self.activities).iter().filter_map(Weak::upgrade) {
            connection_state.shed(why);
        }
        self.told.notify_waiters();
        true
    }
}

/// The place of one connection; given back when its last tunnel is over.
#[derive(Debug)]
pub struct Slot {
    pub(super) place: Arc<Place>,
    slots: Slots,
    _counted: Option<ConnectionGuard>,
}

impl Slot {
    pub(super) fn new(place: Arc<Place>, slots: Slots, counted: Option<ConnectionGuard>) -> Self {
        Self {
            place,
            slots,
            _counted: counted,
        }
    }

    /// Whether a request on the connection was proven.
    pub fn is_proven(&self) -> bool {
        self.place.is_proven()
    }

    /// A request was proven, whose caller takes the places of `share`.
    ///
    /// # Errors
    /// When the share is used up, and nothing is free beyond it.
    pub fn prove(&self, share: impl FnOnce() -> Share) -> Result<(), NoPlace> {
        if self.is_proven() {
            return Ok(());
        }
        self.slots.prove(&self.place, share())
    }

    /// The TLS handshake is complete.
    pub fn greeted(&self) {
        self.place.set_stage(Stage::Greeted);
    }

    /// A request has come, whose proof is looked at now.
    pub fn asks(&self) {
        if !self.is_proven() {
            self.place.set_stage(Stage::Asking);
        }
    }

    /// A proof was refused. Whether the connection is to be closed: a stranger has one more try, and
    /// whoever was proven knows how it is done.
    pub fn refuse(&self) -> bool {
        self.place.set_stage(Stage::Refused);
        let refused = self.place.refused.fetch_add(1, Ordering::Relaxed);
        let last = self.is_proven() || refused.saturating_add(1) >= MOST_REFUSED;
        if last && let Some(metrics) = &self.slots.0.metrics {
            metrics.connection_shed(self.is_proven(), Shed::ProofRefused.as_str());
        }
        last
    }

    /// Notes what is done on the connection, or in a tunnel within it.
    pub fn follow(&self, connection_state: &Arc<ConnectionState>) {
        let mut activities = lock(&self.place.activities);
        // The first stays in its place, for the tunnels within it are counted apart.
        if activities.len() > 1 {
            let first = activities[0].clone();
            activities.retain(|one| Weak::ptr_eq(one, &first) || one.strong_count() > 0);
        }
        activities.push(Arc::downgrade(connection_state));
        drop(activities);
        if let Some(why) = self.place.shed.get() {
            connection_state.shed(*why);
        }
    }

    /// Completes when the connection must be closed at once, in favour of others.
    pub async fn shed(&self) -> Shed {
        let mut told = pin!(self.place.told.notified());
        // From here on nothing is missed.
        told.as_mut().enable();
        if let Some(why) = self.place.shed.get() {
            return *why;
        }
        told.await;
        self.place.shed.get().copied().unwrap_or(Shed::Resources)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.leave(&self.place);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
