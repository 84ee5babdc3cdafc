//! One revision of the resources as requests see it: each takes one snapshot and keeps it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwap;
use countersign_config::{
    model::{Credential, Workload},
    policy::{CallerFacts, PolicySet, Recognised},
};
use countersign_core::slots::Share;
use countersign_identity::Caller;
use tokio::sync::watch;

use crate::Rates;

/// The revision in force. Requests load it; what stays open is told when it changes.
#[derive(Debug)]
pub struct Snapshots {
    current: ArcSwap<Snapshot>,
    changed: watch::Sender<()>,
}

impl Snapshots {
    /// Puts the first revision into force.
    pub fn new(first: Snapshot) -> Self {
        Self {
            current: ArcSwap::from_pointee(first),
            changed: watch::Sender::new(()),
        }
    }

    /// The revision in force, without waiting.
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Puts a revision into force, then tells of it.
    pub fn store(&self, next: Arc<Snapshot>) {
        self.current.store(next);
        self.changed.send_replace(());
    }

    /// Is told of every revision from now on.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

/// A revision in force, with its counters.
#[derive(Debug)]
pub struct Snapshot {
    serial: u64,
    revision: Arc<str>,
    policies: PolicySet,
    rates: Rates,
}

impl Snapshot {
    /// Puts a policy set into force; counters of rates that did not change go on from `previous`.
    pub fn new(policies: PolicySet, previous: Option<&Self>) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let rates = Rates::new(
            policies.policies(),
            previous.map(|snapshot| &snapshot.rates),
        );
        Self {
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            revision: policies.revision().into(),
            policies,
            rates,
        }
    }

    /// The revision's name in records.
    pub fn revision(&self) -> &Arc<str> {
        &self.revision
    }

    /// The policies.
    pub fn policies(&self) -> &PolicySet {
        &self.policies
    }

    /// The credentials that policies use; one may be named more than once.
    pub fn credentials(&self) -> impl Iterator<Item = &Arc<Credential>> {
        let policies = self.policies.policies().iter();
        policies.flat_map(|policy| policy.credentials.iter().map(|(_, credential)| credential))
    }

    /// Frees it in short steps, which let requests have the core in between.
    pub fn free(self) {
        self.policies.free();
    }

    /// The counters of the policies' rates.
    pub fn rates(&self) -> &Rates {
        &self.rates
    }

    /// Whose share of the connections a caller's connection takes.
    pub fn share_of(&self, caller: &Caller) -> Share {
        match self.workload_of(caller) {
            Some(workload) => Share::Workload(workload.name.clone()),
            None => Share::Unregistered,
        }
    }

    /// The first of the workloads that a caller is.
    pub fn workload_of(&self, caller: &Caller) -> Option<&Arc<Workload>> {
        self.workload_like(caller.facts())
    }

    /// The workload that a caller would have of which this were true; whose owner may know more.
    pub fn workload_like(&self, facts: &CallerFacts) -> Option<&Arc<Workload>> {
        let recognised = self.policies.recognise(facts);
        self.policies.workloads_of(&recognised).next()
    }

    /// Which workloads a caller is in this revision.
    pub fn recognise(&self, caller: &CallerFacts) -> Recognition {
        Recognition {
            serial: self.serial,
            workloads: self.policies.recognise(caller),
        }
    }
}

/// The workloads a caller is, in one snapshot; kept with the connection.
#[derive(Debug)]
pub struct Recognition {
    serial: u64,
    workloads: Recognised,
}

impl Recognition {
    /// Whether it was made from this very snapshot. From another it would name wrong workloads.
    pub fn is_of(&self, snapshot: &Snapshot) -> bool {
        self.serial == snapshot.serial
    }

    /// The workloads.
    pub fn workloads(&self) -> &Recognised {
        &self.workloads
    }
}
