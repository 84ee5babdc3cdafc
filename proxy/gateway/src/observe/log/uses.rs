//! When each grant was last used: counted by the log's own thread from the records that it writes.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
};

use countersign_config::{
    history::{CredentialUse, GrantUse, LastUse, Used},
    model::ResourceName,
};
use jiff::Timestamp;
use uuid::Uuid;

use super::{super::closed::Closed, class::was_forwarded};

/// The most grants and the most credentials that are counted between two times at which they are kept.
const MOST: usize = 20_000;

/// What was used since it was last taken.
#[derive(Debug, Default)]
pub(in crate::observe) struct Uses(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    grants: HashMap<(ResourceName, ResourceName, Option<usize>), Use>,
    credentials: HashMap<ResourceName, Use>,
}

#[derive(Debug)]
struct Use {
    count: u64,
    first: Timestamp,
    last: Timestamp,
    last_id: Uuid,
}

impl Uses {
    /// Counts a finished request, if it was forwarded.
    pub(super) fn record(&self, closed: &Closed) {
        let entry = &closed.entry;
        let (Some(workload), Some(policy)) = (&entry.workload, &entry.policy) else {
            return;
        };
        if !was_forwarded(closed) {
            return;
        }
        let grant = (
            workload.name.clone(),
            policy.policy.name.clone(),
            policy.rule,
        );
        let counted = &mut *self.counted();
        let time = closed.time;
        counted.from = Some(counted.from.map_or(time, |from| from.min(time)));
        counted.to = counted.to.max(Some(time));
        add(&mut counted.grants, grant, time, entry.id);
        if let Some(credential) = &entry.credential {
            let name = credential.name.clone();
            add(&mut counted.credentials, name, time, entry.id);
        }
    }

    /// Takes what was counted.
    pub(in crate::observe) fn take(&self) -> LastUse {
        let counted = std::mem::take(&mut *self.counted());
        let grants = counted.grants.into_iter();
        let grants = grants.map(|((workload, policy, rule), used)| GrantUse {
            workload: workload.to_string(),
            policy: policy.to_string(),
            rule: rule.map(|rule| rule as u64),
            used: used.into(),
        });
        let credentials = counted.credentials.into_iter();
        let credentials = credentials.map(|(name, used)| CredentialUse {
            name: name.to_string(),
            used: used.into(),
            scopes_held: Vec::new(),
            scopes_used: Vec::new(),
        });
        LastUse {
            from: counted.from,
            to: counted.to,
            grants: grants.collect(),
            credentials: credentials.collect(),
            ..LastUse::default()
        }
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add<K: Eq + Hash>(all: &mut HashMap<K, Use>, key: K, time: Timestamp, id: Uuid) {
    if all.len() >= MOST && !all.contains_key(&key) {
        return;
    }
    let used = all.entry(key).or_insert(Use {
        count: 0,
        first: time,
        last: time,
        last_id: id,
    });
    used.count += 1;
    used.first = used.first.min(time);
    if time >= used.last {
        used.last = time;
        used.last_id = id;
    }
}

impl From<Use> for Used {
    fn from(used: Use) -> Self {
        Self {
            count: used.count,
            first: used.first,
            last: used.last,
            last_id: used.last_id.hyphenated().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{Outcome, fixture};

    #[test]
    fn what_was_forwarded_is_counted_until_it_is_taken() {
        let uses = Uses::default();
        let (recorder, _log) = fixture::recorder();
        let closed = |outcome| {
            let mut record = recorder.open();
            fixture::fill(&mut record);
            record.take_closed(outcome)
        };
        let refused = Outcome::Refused {
            reason: "request_not_allowed",
            blame: "operator",
        };
        uses.record(&closed(Outcome::Permitted));
        let last = closed(Outcome::Permitted);
        uses.record(&last);
        let mut stayed_here = closed(refused);
        stayed_here.entry.upstream = None;
        uses.record(&stayed_here);
        let told = uses.take();
        let grant = &told.grants[0];
        assert_eq!(grant.policy, "qa/dashboard-posts-to-slack");
        assert_eq!((grant.used.count, told.grants.len()), (2, 1));
        assert_eq!(grant.used.last_id, last.entry.id.hyphenated().to_string());
        assert_eq!(told.credentials[0].used.count, 2);
        assert_eq!(uses.take(), LastUse::default());
    }
}
