//! What one place in the code may say: a bound on lines a while, so that a peer who can have one
//! line written cannot have a million.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;
use tracing::{Event, Level, Metadata, Subscriber, callsite::Identifier};
use tracing_subscriber::layer::{Context, Layer};

/// The time that the bounds are for.
const SPELL: Duration = Duration::from_secs(10);

/// Lines of one place in a spell.
const LINES: u32 = 100;

/// The same for what is written only when someone asked for details.
const DETAILS: u32 = 2000;

/// Leaves out what a place says beyond its bound. Clones share.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// As many as the program has places that speak.
    places: Arc<Mutex<HashMap<Identifier, Place>>>,
    left_out: Counter,
}

#[derive(Debug)]
struct Place {
    metadata: &'static Metadata<'static>,
    began: Instant,
    said: u32,
    left_out: u64,
}

/// What a place said too often.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) target: &'static str,
    pub(super) line: u32,
    pub(super) count: u64,
}

impl Pace {
    /// What is left out is counted in `left_out`.
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
        let place = places.entry(metadata.callsite()).or_insert(Place {
            metadata,
            began: now,
            said: 0,
            left_out: 0,
        });
        if now.duration_since(place.began) >= SPELL {
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

    /// What was left out in spells that are over, since this was asked last.
    pub(super) fn take_left_out(&self) -> Vec<LeftOut> {
        let mut places = self.lock();
        let over = places
            .values_mut()
            .filter(|place| place.left_out > 0 && place.began.elapsed() >= SPELL);
        over.map(|place| LeftOut {
            target: place.metadata.target(),
            line: place.metadata.line().unwrap_or(0),
            count: std::mem::take(&mut place.left_out),
        })
        .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Identifier, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Pace {
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
        let pace = Pace::new(Counter::default());
        let subscriber = registry()
            .with(Counting(Arc::clone(&written)))
            .with(pace.clone());
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
        assert_eq!(pace.left_out.get(), 99_900);
        assert_eq!(pace.take_left_out(), []);
        tokio::time::advance(SPELL).await;
        let left_out = pace.take_left_out();
        assert_eq!(left_out.len(), 1);
        assert_eq!(left_out[0].target, module_path!());
        assert_eq!(left_out[0].count, 99_900);
        assert_eq!(pace.take_left_out(), []);
        flood(100);
        assert_eq!(written.load(Ordering::Relaxed), 100);
    }
}
