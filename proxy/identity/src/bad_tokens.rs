//! Limits the cost of bad tokens. Detecting a bad token takes a signature check, which anyone who
//! reaches the gateway can cause.
//!
//! A bad token is remembered for a while by its hash. Beyond that each source has a budget of bad
//! tokens, and all sources together another one. When these are used up, unknown tokens wait for a turn,
//! and turns come at a limited rate. A valid token among them is accepted late; known callers never
//! wait.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use moka::{policy::EvictionPolicy, sync::Cache};
use tokio::{sync::Semaphore, time::Instant};

use super::{IdentifyError, Unproven, jwks::Jwks};

/// The most bad tokens that are remembered, and for how long.
const MAX_BAD: u64 = 4096;
const REMEMBER_BAD: Duration = Duration::from_secs(30);

/// The most sources that are counted separately; beyond this the source that was quiet for longest is
/// forgotten.
const MAX_SOURCES: u64 = 4096;

/// The budget of one source: this many bad tokens at once, and one more per interval. The pods of a node
/// may share an address, and some of them may be misconfigured.
const PER_SOURCE: Rate = Rate {
    at_once: 100,
    each: Duration::from_millis(100),
};

/// The budget of all sources: a signature check takes about 50 µs, so this is a twentieth of one
/// processor.
const ALL_SOURCES: Rate = Rate {
    at_once: 1000,
    each: Duration::from_millis(1),
};

/// How many waiting tokens are checked per millisecond.
const TURNS: usize = 2;
const EACH_TURN: Duration = Duration::from_millis(1);

/// How long a token may wait for its turn; then its client may retry.
const LONGEST_WAIT: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
struct Rate {
    at_once: u32,
    each: Duration,
}

/// How much of a rate is used, stored as the time at which none of it will be.
#[derive(Debug)]
struct Meter {
    rate: Rate,
    /// Milliseconds since the start.
    free_at: AtomicU64,
}

impl Meter {
    fn new(rate: Rate) -> Self {
        Self {
            rate,
            free_at: AtomicU64::new(0),
        }
    }

    /// Whether the budget is used up.
    fn is_spent(&self, now: u64) -> bool {
        let full = u64::from(self.rate.at_once) * millis(self.rate.each);
        let used = self.free_at.load(Ordering::Relaxed).saturating_sub(now);
        used + millis(self.rate.each) > full
    }

    fn is_unused(&self, now: u64) -> bool {
        self.free_at.load(Ordering::Relaxed) <= now
    }

    fn spend(&self, now: u64) {
        let each = millis(self.rate.each);
        let next = |free_at: u64| Some(free_at.max(now) + each);
        let _always = self
            .free_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A bad token: with which keys it was checked, and what is wrong with it.
#[derive(Debug, Clone)]
struct BadToken {
    jwks: Arc<Jwks>,
    generation: u64,
    unproven: Unproven,
}

/// The known bad tokens and their sources.
#[derive(Debug)]
pub(super) struct BadTokens {
    bad: Cache<[u8; 32], BadToken>,
    sources: Cache<IpAddr, Arc<Meter>>,
    all: Meter,
    turns: Semaphore,
    start: Instant,
}

impl BadTokens {
    pub(super) fn new() -> Self {
        Self {
            bad: Cache::builder()
                .max_capacity(MAX_BAD)
                .time_to_live(REMEMBER_BAD)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            sources: Cache::builder()
                .max_capacity(MAX_SOURCES)
                // A busy source must not be forgotten because of many that come once, nor may new ones
                // be refused.
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            all: Meter::new(ALL_SOURCES),
            turns: Semaphore::new(TURNS),
            start: Instant::now(),
        }
    }

    /// Completes when an unknown token may be checked.
    pub(super) async fn admit(&self, source: IpAddr) -> Result<(), IdentifyError> {
        let from = network(source);
        if !self.must_wait(from) {
            return Ok(());
        }
        let turn = async {
            let turn = self.turns.acquire().await;
            tokio::time::sleep(EACH_TURN).await;
            drop(turn);
        };
        let waited = tokio::time::timeout(LONGEST_WAIT, turn).await;
        waited.map_err(|_| IdentifyError::Throttled { from, again: AGAIN })
    }

    fn must_wait(&self, from: IpAddr) -> bool {
        let now = self.now();
        // A source that has sent nothing bad recently does not wait because of others.
        let meter = self.sources.get(&from);
        meter.is_some_and(|meter| {
            meter.is_spent(now) || !meter.is_unused(now) && self.all.is_spent(now)
        })
    }

    /// Whether a client from this source may be told at length why its token is bad; counts it if so. Unlike a
    /// check, which may be of a good token, this does not wait for a turn.
    pub(super) fn may_tell(&self, source: IpAddr) -> bool {
        let now = self.now();
        let meter = self.sources.get(&network(source));
        if meter.is_some_and(|meter| meter.is_spent(now)) || self.all.is_spent(now) {
            return false;
        }
        self.bad_from(source);
        true
    }

    /// Counts a bad token.
    pub(super) fn bad_from(&self, source: IpAddr) {
        let now = self.now();
        let meter = || Arc::new(Meter::new(PER_SOURCE));
        self.sources.get_with(network(source), meter).spend(now);
        self.all.spend(now);
    }

    /// Why a token is bad, if it was checked with the keys that are still current.
    pub(super) fn known(&self, token: &[u8; 32]) -> Option<Unproven> {
        let bad = self.bad.get(token)?;
        (bad.jwks.generation() == bad.generation).then_some(bad.unproven)
    }

    /// Remembers why a token is bad, if the result is valid for the keys of this generation.
    pub(super) fn remember(
        &self,
        token: [u8; 32],
        jwks: &Arc<Jwks>,
        generation: u64,
        unproven: &Unproven,
    ) {
        let stays = matches!(
            unproven.error(),
            IdentifyError::BadSignature { .. }
                | IdentifyError::BadClaims(_)
                | IdentifyError::WrongAudience { .. }
                | IdentifyError::LivesTooLong { .. }
        );
        if stays {
            let bad = BadToken {
                jwks: Arc::clone(jwks),
                generation,
                unproven: unproven.clone(),
            };
            self.bad.insert(token, bad);
        }
    }

    fn now(&self) -> u64 {
        millis(self.start.elapsed())
    }
}

/// Whether the caller is at fault, not an issuer or API server.
pub(super) fn is_callers_fault(error: &IdentifyError) -> bool {
    match error {
        IdentifyError::Malformed(_)
        | IdentifyError::UnsupportedScheme
        | IdentifyError::UnknownIssuer(_)
        | IdentifyError::AlgorithmNotAllowed(_)
        | IdentifyError::UnknownKey { .. }
        | IdentifyError::BadSignature { .. }
        | IdentifyError::BadClaims(_)
        | IdentifyError::WrongAudience { .. }
        | IdentifyError::Expired { .. }
        | IdentifyError::LivesTooLong { .. }
        | IdentifyError::NotYetValid { .. } => true,
        IdentifyError::KeyWithdrawn { .. }
        | IdentifyError::Throttled { .. }
        | IdentifyError::KeysUnavailable { .. }
        | IdentifyError::ReviewUnavailable { .. }
        | IdentifyError::Revoked { .. }
        | IdentifyError::PodEnded { .. }
        | IdentifyError::PodUnknown { .. }
        | IdentifyError::PodChanged
        | IdentifyError::ReviewMismatch { .. }
        | IdentifyError::Certificate(_)
        | IdentifyError::Mismatch { .. }
        | IdentifyError::OtherPod { .. }
        | IdentifyError::OwnTokenUnavailable { .. } => false,
    }
}

/// An IPv4 address, or the IPv6 network of one host (RFC 6177).
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() >> 64 << 64;
            Ipv6Addr::from_bits(network).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::v4("192.0.2.1", "192.0.2.1", "192.0.2.2")]
    #[case::v6("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1")]
    #[case::v4_in_v6("::ffff:192.0.2.1", "192.0.2.1", "::ffff:192.0.2.2")]
    #[tokio::test(start_paused = true)]
    async fn each_source_has_its_own_to_spend(
        #[case] one: IpAddr,
        #[case] the_same: IpAddr,
        #[case] another: IpAddr,
    ) {
        let bad_tokens = BadTokens::new();
        let waits = |source| bad_tokens.must_wait(network(source));
        for _ in 0..100 {
            assert!(!waits(one));
            bad_tokens.bad_from(one);
        }
        assert!(waits(one) && waits(the_same) && !waits(another));
        tokio::time::advance(Duration::from_millis(99)).await;
        assert!(waits(one));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!waits(one));
        bad_tokens.bad_from(one);
        assert!(waits(one));
    }

    #[tokio::test(start_paused = true)]
    async fn all_together_have_a_bound_that_the_clean_do_not_feel() {
        let bad_tokens = BadTokens::new();
        let source = |number: u32| IpAddr::from(number.to_be_bytes());
        let waits = |number| bad_tokens.must_wait(source(number));
        for number in 0..1000 {
            assert!(!waits(number));
            bad_tokens.bad_from(source(number));
        }
        assert!(waits(0) && !waits(1000));
        // A source that has sent nothing bad for a while has its whole budget again.
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(!waits(0));
    }

    /// Unlike checks, these have a bound that also the clean feel.
    #[tokio::test(start_paused = true)]
    async fn refusals_are_told_at_length_as_often_as_tokens_may_be_bad() {
        let bad_tokens = BadTokens::new();
        let source = |number: u32| IpAddr::from(number.to_be_bytes());
        let told = (0..500).filter(|_| bad_tokens.may_tell(source(0))).count();
        assert_eq!(told, 100);
        let told = (0..2000).filter(|number| bad_tokens.may_tell(source(number + 1)));
        assert_eq!(told.count(), 900);
        tokio::time::advance(Duration::from_millis(100)).await;
        let told = (0..500).filter(|_| bad_tokens.may_tell(source(0))).count();
        assert_eq!(told, 1);
        let told = (0..2000).filter(|number| bad_tokens.may_tell(source(number + 1)));
        assert_eq!(told.count(), 99);
    }

    #[tokio::test(start_paused = true)]
    async fn turns_come_two_a_millisecond_and_not_after_three_seconds() {
        let bad_tokens = BadTokens::new();
        let source = IpAddr::from([192, 0, 2, 1]);
        for _ in 0..200 {
            bad_tokens.bad_from(source);
        }
        let start = Instant::now();
        let few = join_all((0..200).map(|_| bad_tokens.admit(source))).await;
        assert!(few.iter().all(Result::is_ok), "{few:?}");
        assert_eq!(start.elapsed(), Duration::from_millis(100));
        for _ in 0..1000 {
            bad_tokens.bad_from(source);
        }
        let many = join_all((0..7_000).map(|_| bad_tokens.admit(source))).await;
        let (served, refused): (Vec<_>, Vec<_>) = many.into_iter().partition(Result::is_ok);
        assert!((5_900..=6_000).contains(&served.len()), "{}", served.len());
        let throttled = |error| matches!(error, Err(IdentifyError::Throttled { .. }));
        assert!(refused.into_iter().all(throttled));
    }
}
