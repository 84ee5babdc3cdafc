//! A limit on the lines from each place in the code, so that a peer who can cause one line cannot cause
//! a million.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;
use tracing::{Event, Level, Metadata, Subscriber, callsite::Identifier};
use tracing_subscriber::layer::{Context, Layer};

/// The period of the limits.
const PERIOD: Duration = Duration::from_secs(10);

/// The most lines from one place in a period.
const LINES: u32 = 100;

/// The same for debug and trace lines, which are written only on request.
const DETAILS: u32 = 2000;

/// Leaves out lines above the limit of their place. Clones share the state.
#[derive(Debug, Clone)]
pub(super) struct LineLimiter {
    /// One entry per place in the code.
    places: Arc<Mutex<HashMap<Identifier, CallsiteState>>>,
    left_out: Counter,
}

#[derive(Debug)]
struct CallsiteState {
    metadata: &'static Metadata<'static>,
    began: Instant,
    said: u32,
    left_out: u64,
}

/// The lines that one place logged too often.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SuppressedLines {
    pub(super) target: &'static str,
    pub(super) line: u32,
    pub(super) count: u64,
}

impl LineLimiter {
    /// Lines that are left out are counted in `left_out`.
    pub(super) fn new(left_out: Counter) -> Self {
        Self {
            places: Arc::default(),
            left_out,
        }
    }

    fn admit(&self, metadata: &'static Metadata<'static>, now: Instant) -> bool {
        let most = if *metadata.level() <= Level::INFO {
            LINES
        } else {
            DETAILS
        };
        let mut places = self.lock();
        let place = places.entry(metadata.callsite()).or_insert(CallsiteState {
            metadata,
            began: now,
            said: 0,
            left_out: 0,
        });
        if now.duration_since(place.began) >= PERIOD {
            place.began = now;
            place.said = 0;
        }
        if place.said < most {
            place.said += 1;
            return true;
        }
        place.left_out += 1;
        self.left_out.inc();
        false
    }

    /// The lines that were left out in completed periods, since the last call.
    pub(super) fn take_left_out(&self) -> Vec<SuppressedLines> {
        let mut places = self.lock();
        let over = places
            .values_mut()
            .filter(|place| place.left_out > 0 && place.began.elapsed() >= PERIOD);
        over.map(|place| SuppressedLines {
            target: place.metadata.target(),
            line: place.metadata.line().unwrap_or(0),
            count: std::mem::take(&mut place.left_out),
        })
        .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Identifier, CallsiteState>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for LineLimiter {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.admit(event.metadata(), Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tracing_subscriber::{layer::SubscriberExt as _, registry};

    use super::*;

    struct Counting(Arc<AtomicUsize>);

    impl<S: Subscriber> Layer<S> for Counting {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_place_is_bounded_and_the_next_is_heard() {
        let written = Arc::new(AtomicUsize::new(0));
        let limiter = LineLimiter::new(Counter::default());
        let subscriber = registry()
            .with(Counting(Arc::clone(&written)))
            .with(limiter.clone());
        let _guard = tracing::subscriber::set_default(subscriber);
        let flood = |count: usize| {
            for _ in 0..count {
                tracing::warn!("a peer sent what it should not");
            }
        };
        flood(100_000);
        assert_eq!(written.swap(0, Ordering::Relaxed), 100);
        tracing::warn!("something else");
        assert_eq!(written.swap(0, Ordering::Relaxed), 1);
        assert_eq!(limiter.left_out.get(), 99_900);
        assert_eq!(limiter.take_left_out(), []);
        tokio::time::advance(PERIOD).await;
        let left_out = limiter.take_left_out();
        assert_eq!(left_out.len(), 1);
        assert_eq!(left_out[0].target, module_path!());
        assert_eq!(left_out[0].count, 99_900);
        assert_eq!(limiter.take_left_out(), []);
        flood(100);
        assert_eq!(written.load(Ordering::Relaxed), 100);
    }
}
