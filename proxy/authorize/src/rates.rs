//! The counters behind `conditions.rate`: one for each policy and workload, so that a noisy
//! workload does not use up another's.
//!
//! A rate holds for a workload at all gateways together. Nothing is shared between them: where `n` are
//! ready, a request here counts as `n`, so each gateway permits an `n`th.

use std::{
    num::NonZeroU32,
    ops::Add,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

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
pub struct Rates {
    counters: HashMap<ResourceName, HashMap<ResourceName, (Rate, Arc<Counter>)>>,
    /// The gateways that are ready, this one among them; 0 until it is known, which counts as 1. All
    /// revisions share it.
    gateways: Arc<AtomicU32>,
}

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
        Self {
            counters: all,
            gateways: previous.map_or_else(Arc::default, |rates| Arc::clone(&rates.gateways)),
        }
    }

    /// Sets how many gateways are ready, this one among them. What was used up stays used up.
    pub fn set_gateways(&self, ready: NonZeroU32) {
        self.gateways.store(ready.get(), Ordering::Relaxed);
    }

    /// What one request here counts as. Each gateway permits one request in a period at least.
    fn cost(&self, rate: Rate) -> NonZeroU32 {
        let ready = self.gateways.load(Ordering::Relaxed);
        NonZeroU32::new(ready)
            .unwrap_or(NonZeroU32::MIN)
            .min(rate.requests)
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
            .counters
            .get(&grant.policy().name)
            .and_then(|counters| counters.get(&grant.workload().name));
        let Some((_, counter)) = counter else {
            return Err(Denied::new(
                Reason::Internal,
                "a policy's rate has no counter",
            ));
        };
        let Ok(checked) = counter.check_n(self.cost(rate)) else {
            return Err(Denied::new(
                Reason::Internal,
                "a request costs more than its counter holds",
            ));
        };
        match checked {
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
        let (was, counter) = self.counters.get(&policy.name)?.get(workload)?;
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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const RATE: Rate = Rate {
        requests: NonZeroU32::new(60).unwrap(),
        period: Duration::from_mins(1),
    };

    /// A gateway's own counter, and how many it believes are ready.
    fn gateway(ready: u32) -> (Rates, Counter) {
        let rates = Rates::default();
        rates.set_gateways(NonZeroU32::new(ready).unwrap());
        (rates, counter(RATE))
    }

    fn permitted(gateways: &[(Rates, Counter)], rate: Rate) -> usize {
        let each = gateways.iter().map(|(rates, counter)| {
            let took = || matches!(counter.check_n(rates.cost(rate)), Ok(Ok(())));
            (0..200).filter(|_| took()).count()
        });
        each.sum()
    }

    /// Used up at once, and again after a minute: a rate is the same at one, two and three gateways.
    #[rstest]
    #[case(1)]
    #[case(2)]
    #[case(3)]
    #[tokio::test(start_paused = true)]
    async fn gateways_share_a_rate(#[case] ready: u32) {
        let gateways: Vec<_> = (0..ready).map(|_| gateway(ready)).collect();
        assert_eq!(permitted(&gateways, RATE), 60);
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(permitted(&gateways, RATE), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_used_up_stays_used_up_when_a_gateway_goes() {
        let gateways = [gateway(2)];
        assert_eq!(permitted(&gateways, RATE), 30);
        gateways[0].0.set_gateways(NonZeroU32::MIN);
        assert_eq!(permitted(&gateways, RATE), 0);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(permitted(&gateways, RATE), 30);
    }

    /// The bound is exact only down to one request for each gateway.
    #[tokio::test(start_paused = true)]
    async fn each_gateway_permits_one_at_least() {
        let rate = Rate {
            requests: NonZeroU32::new(2).unwrap(),
            period: Duration::from_mins(1),
        };
        let three: Vec<_> = (0..3)
            .map(|_| {
                let (rates, _) = gateway(3);
                (rates, counter(rate))
            })
            .collect();
        assert_eq!(permitted(&three, rate), 3);
    }
}
