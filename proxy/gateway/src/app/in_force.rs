//! The resources in force, and what is kept of them for a later start.

use std::time::Duration;

use countersign_config::{
    cluster::{Accepted, Objects},
    load::{self, Fingerprints, ResourceText},
    policy::PolicySet,
};
use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    history::History,
    last_good::{KeptObjects, LastGood, Start},
    low_priority::Retired,
    objects::ClusterObjects,
};

/// How often what changes with the objects of a cluster is written. A change of files is written at once.
const KEEP_EVERY: Duration = Duration::from_secs(10);

/// The resources in force.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) fingerprints: Fingerprints,
    pub(super) retired: Retired,
    /// Why the last attempt to replace them failed.
    pub(super) rejected: Option<String>,
    pub(super) last_good: LastGood,
    /// What is in force of a cluster's objects.
    pub(super) accepted: Accepted,
    /// The texts of the files, if a cluster's objects are resources too: those change while the files are wrong.
    pub(super) texts: Vec<ResourceText>,
    pub(super) history: History,
    /// What was not kept yet.
    unkept: Option<Unkept>,
    kept_at: Option<Instant>,
}

/// A revision with objects that is in force.
#[derive(Debug)]
struct Unkept {
    objects: Objects,
    revision: String,
    since: Timestamp,
}

impl InForce {
    /// Those of a start, and its policies and warnings.
    pub(super) fn new(start: Start, last_good: LastGood) -> (Self, PolicySet) {
        let Start {
            loaded, rejected, ..
        } = start;
        let in_force = Self {
            fingerprints: loaded.fingerprints,
            retired: Retired::default(),
            rejected: rejected.map(|problems| problems.errors()),
            last_good,
            accepted: loaded.accepted,
            texts: loaded.texts,
            history: History::default(),
            unkept: None,
            kept_at: None,
        };
        (in_force, loaded.policies)
    }

    /// Keeps the revision with which the gateway starts, if it is not the one that was kept, and every later one.
    /// With objects, the texts are kept for later starts once the objects were read.
    pub(super) fn keep_at_start(
        &mut self,
        has_objects: bool,
        history: History,
        revision: &str,
        now: Timestamp,
    ) {
        history.keep(revision, &load::all_texts(&self.texts, &self.accepted), now);
        self.history = history;
        if has_objects {
            return;
        }
        if self.rejected.is_none() {
            self.last_good.keep(&self.texts, None);
        }
        self.texts = Vec::new();
    }

    /// The objects in a revision that is in force, and the files beside them.
    pub(super) fn take_objects(
        &mut self,
        all: Objects,
        accepted: Accepted,
        texts: Vec<ResourceText>,
        revision: &str,
        now: Timestamp,
    ) {
        self.accepted = accepted;
        self.texts = texts;
        self.unkept = Some(Unkept {
            objects: all,
            revision: revision.to_owned(),
            since: now,
        });
    }

    /// Keeps what changed, if it is time; `at_once`: whatever the time.
    pub(super) fn keep(&mut self, objects: &ClusterObjects, at_once: bool) {
        let is_due = self.kept_at.is_none_or(|kept| kept.elapsed() >= KEEP_EVERY);
        if !is_due && !at_once {
            return;
        }
        let Some(unkept) = self.unkept.take() else {
            return;
        };
        let kept = KeptObjects::new(objects.source(), &unkept.objects.all, &self.accepted);
        self.last_good.keep(&self.texts, Some(kept));
        let texts = load::all_texts(&self.texts, &self.accepted);
        self.history.keep(&unkept.revision, &texts, unkept.since);
        self.kept_at = Some(Instant::now());
    }
}
