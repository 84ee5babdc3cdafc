//! The counters behind `conditions.rate`: one for each policy and workload, so that a noisy
//! workload does not use up another's.

use std::{num::NonZeroU32, ops::Add, sync::Arc, time::Duration};

use countersign_config::{
    model::{Mode, Policy, Rate, ResourceName},
    policy::Grant,
};
use countersign_core::reason::Reason;
use foldhash::HashMap;
use governor::{
    Quota, RateLimiter,
    clock::{Clock, Reference},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};
use tokio::time::Instant;

use crate::Denied;

type Counter = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Moment>>;

/// All counters of one revision.
#[derive(Debug, Default)]
pub struct Rates(HashMap<ResourceName, HashMap<ResourceName, (Rate, Arc<Counter>)>>);

impl Rates {
    /// Counters for the policies' rates; those that `previous` has unchanged go on counting.
    pub fn new(policies: &[Arc<Policy>], previous: Option<&Self>) -> Self {
        let mut all = HashMap::default();
        for policy in policies {
            let Some(rate) = policy.conditions.rate else {
                continue;
            };
            let counters: HashMap<_, _> = policy
                .workloads
                .iter()
                .map(|workload| {
                    let counter = previous
                        .and_then(|rates| rates.unchanged(policy, &workload.name, rate))
                        .unwrap_or_else(|| Arc::new(counter(rate)));
                    (workload.name.clone(), (rate, counter))
                })
                .collect();
            all.insert(policy.name.clone(), counters);
        }
        Self(all)
    }

    /// Counts one request. An observing policy never refuses: what it would have refused for is
    /// returned.
    ///
    /// # Errors
    /// When the rate is used up, with the time until it is not.
    pub fn take(&self, grant: &Grant<'_>) -> Result<Option<Reason>, Denied> {
        let Some(rate) = grant.policy().conditions.rate else {
            return Ok(None);
        };
        let counter = self
            .0
            .get(&grant.policy().name)
            .and_then(|counters| counters.get(&grant.workload().name));
        let Some((_, counter)) = counter else {
            return Err(Denied::new(
                Reason::Internal,
                "a policy's rate has no counter",
            ));
        };
        match counter.check() {
            Ok(()) => Ok(None),
            Err(_) if grant.policy().mode == Mode::Observe => Ok(Some(Reason::RateLimited)),
            Err(not_until) => {
                let detail = format!(
                    "{} permits {} requests in {:?} to {}, and they are used up",
                    grant.policy().name,
                    rate.requests,
                    rate.period,
                    grant.workload().name
                );
                let wait = not_until.wait_time_from(TokioClock.now());
                Err(Denied {
                    target: Some(Arc::clone(grant.target())),
                    retry_after: Some(wait),
                    ..Denied::new(Reason::RateLimited, detail)
                })
            }
        }
    }

    fn unchanged(
        &self,
        policy: &Policy,
        workload: &ResourceName,
        rate: Rate,
    ) -> Option<Arc<Counter>> {
        let (was, counter) = self.0.get(&policy.name)?.get(workload)?;
        (*was == rate).then(|| Arc::clone(counter))
    }
}

fn counter(rate: Rate) -> Counter {
    let each = rate.period / rate.requests.get();
    let quota = Quota::with_period(each)
        .unwrap_or_else(|| Quota::per_second(NonZeroU32::MAX))
        .allow_burst(rate.requests);
    RateLimiter::direct_with_clock(quota, TokioClock)
}

/// Tokio's clock, so that tests can move it.
#[derive(Debug, Clone, Default)]
struct TokioClock;

/// A moment of tokio's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(Instant);

impl Clock for TokioClock {
    type Instant = Moment;

    fn now(&self) -> Moment {
        Moment(Instant::now())
    }
}

impl Reference for Moment {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_duration_since(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.checked_sub(duration.into()).unwrap_or(self.0))
    }
}

impl Add<Nanos> for Moment {
    type Output = Self;

    fn add(self, duration: Nanos) -> Self {
        Self(self.0 + Duration::from(duration))
    }
}
