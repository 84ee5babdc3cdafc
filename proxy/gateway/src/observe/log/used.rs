//! When policies, workloads and credentials were used last.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use countersign_config::{
    cluster::{Key, Used},
    model::ResourceName,
    resource::Kind,
};
use jiff::Timestamp;

use crate::observe::{Outcome, closed::Closed};

/// The most names that are known; more are not noted.
const MOST: usize = 65_536;

/// When each was used, to the hour. Only the log's own thread notes, so nobody waits for anybody.
#[derive(Debug, Default)]
pub(crate) struct LastUsed(Mutex<HashMap<(Kind, ResourceName), Noted>>);

#[derive(Debug)]
struct Noted {
    hour: i64,
    taken: bool,
}

impl LastUsed {
    /// Notes what a finished request used.
    pub(super) fn note(&self, closed: &Closed) {
        if matches!(closed.outcome, Outcome::Refused { .. }) {
            return;
        }
        let entry = &closed.entry;
        let Some(policy) = &entry.policy else {
            return;
        };
        let hour = closed.time.as_second().div_euclid(3600);
        let mut noted = self.noted();
        note(&mut noted, Kind::AccessPolicy, &policy.policy.name, hour);
        if let Some(workload) = &entry.workload {
            note(&mut noted, Kind::Workload, &workload.name, hour);
        }
        if let Some(credential) = &entry.credential {
            note(&mut noted, Kind::Credential, &credential.name, hour);
        }
    }

    /// What was used in another hour since this was asked last.
    pub(crate) fn take(&self) -> Vec<Used> {
        let mut noted = self.noted();
        let new = noted.iter_mut().filter(|(_, noted)| !noted.taken);
        let used = new.filter_map(|((kind, name), noted)| {
            noted.taken = true;
            let hour = Timestamp::from_second(noted.hour * 3600).ok()?;
            Some(Used {
                key: Key::of(*kind, name),
                hour,
            })
        });
        used.collect()
    }

    fn noted(&self) -> MutexGuard<'_, HashMap<(Kind, ResourceName), Noted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note(
    noted: &mut HashMap<(Kind, ResourceName), Noted>,
    kind: Kind,
    name: &ResourceName,
    hour: i64,
) {
    let is_full = noted.len() >= MOST;
    // A name is a pointer: this allocates nothing.
    let key = (kind, name.clone());
    match noted.get_mut(&key) {
        Some(known) if known.hour == hour => {}
        Some(known) => *known = Noted { hour, taken: false },
        None if is_full => {}
        None => {
            noted.insert(key, Noted { hour, taken: false });
        }
    }
}
