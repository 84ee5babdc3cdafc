//! What happens to a value while no one asks for it.

use std::{sync::Weak, time::Duration};

use jiff::SignedDuration;
use tokio::time::advance;

use super::*;

const IDLE_AFTER: Duration = Duration::from_mins(10);

const ALMOST: Duration = Duration::from_secs(599);

struct Life {
    clock: Clock,
    fake: Arc<Fake>,
    credentials: Credentials,
}

fn life(answers: impl IntoIterator<Item = Result<Fetched, CredentialError>>) -> Life {
    let (clock, fake) = (clock(), Fake::open(answers));
    let credentials = Credentials::with_fetcher(clock.clone(), Fetcher::Fake(fake.clone()));
    Life {
        clock,
        fake,
        credentials,
    }
}

impl Life {
    async fn obtain(&self) -> Arc<Issued> {
        self.credentials.obtain(&any()).await.unwrap()
    }

    /// Advances both clocks by this many seconds, one after the other.
    async fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            advance(Duration::from_secs(1)).await;
            let now = self.clock.now();
            self.clock.pass(now + SignedDuration::from_secs(1));
            settle().await;
        }
    }

    async fn obtain_weakly(&self) -> Weak<Issued> {
        Arc::downgrade(&self.obtain().await)
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_used_is_renewed_ahead_though_nobody_waits() {
    let life = life([value("one", Some(at(100))), value("two", Some(at(200)))]);
    life.obtain().await;
    life.pass(60).await;
    life.obtain().await;
    assert_eq!(life.fake.fetches(), 1);
    life.pass(9).await;
    assert_eq!(life.fake.fetches(), 1, "before seven tenths of its life");
    life.pass(11).await;
    assert_eq!(life.fake.fetches(), 2, "after four fifths of its life");
    let held = at_first_poll(life.credentials.obtain(&any()));
    let held = held.expect("the next one is there").unwrap();
    assert_eq!(held.secret().expose(), "two");
}

#[tokio::test(start_paused = true)]
async fn what_was_not_used_since_it_came_is_not_renewed_and_goes_at_its_end() {
    let life = life([value("one", Some(at(100)))]);
    let held = life.obtain_weakly().await;
    life.pass(99).await;
    assert!(held.upgrade().is_some());
    life.pass(1).await;
    assert!(held.upgrade().is_none());
    assert_eq!(life.fake.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn renewals_are_spread_over_a_tenth_of_the_life() {
    let mut moments = Vec::new();
    for _ in 0..40 {
        let life = life([value("one", Some(at(1_000)))]);
        let issued = life.obtain().await;
        let ahead = issued.renew_ahead_at.unwrap();
        assert!(at(700) < ahead && ahead <= at(800), "{ahead}");
        moments.push(ahead);
    }
    moments.sort();
    moments.dedup();
    assert!(moments.len() > 5, "{moments:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_idle_is_let_go_and_fetched_anew_when_it_is_needed_again() {
    let life = life([value("one", None), value("two", None)]);
    let held = life.obtain_weakly().await;
    advance(ALMOST).await;
    life.obtain().await;
    advance(ALMOST).await;
    settle().await;
    assert!(held.upgrade().is_some(), "it was used in between");
    advance(Duration::from_secs(1)).await;
    settle().await;
    assert!(held.upgrade().is_none());
    assert_eq!(life.obtain().await.secret().expose(), "two");
    // And maintained like the first one.
    let held = life.obtain_weakly().await;
    advance(IDLE_AFTER).await;
    settle().await;
    assert!(held.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_is_tried_again_and_the_value_serves_until_its_end() {
    let down = || Err(CredentialError::Abandoned);
    let answers = [value("one", Some(at(1_000)))];
    let life = life(answers.into_iter().chain((0..40).map(|_| down())));
    life.obtain().await;
    for _ in 0..99 {
        life.pass(10).await;
        assert_eq!(life.obtain().await.secret().expose(), "one");
    }
    let attempts = life.fake.fetches();
    assert!((4..40).contains(&attempts), "{attempts} attempts");
    life.pass(10).await;
    let over = life.credentials.obtain(&any()).await;
    assert_eq!(over.unwrap_err(), CredentialError::Abandoned);
}

#[tokio::test(start_paused = true)]
async fn access_that_was_taken_away_ends_a_value_before_its_end() {
    let gone = missing(Path::new("/gone"));
    let life = life([value("one", Some(at(1_000))), Err(gone.clone())]);
    life.obtain().await;
    life.clock.set(at(800));
    life.obtain().await;
    settle().await;
    let refused = life.credentials.obtain(&any()).await;
    assert_eq!(refused.unwrap_err(), gone);
}

#[tokio::test(start_paused = true)]
async fn a_request_of_the_revision_before_does_not_bring_back_what_is_gone() {
    let life = life([value("one", None), value("two", None), value("three", None)]);
    let removed = any();
    life.credentials.retain([&removed]);
    let held = life.obtain_weakly().await;
    life.credentials.retain([]);
    assert!(held.upgrade().is_none());
    // It was permitted when it came, so it is served, but nothing is kept.
    let late = life.obtain_weakly().await;
    settle().await;
    assert!(late.upgrade().is_none());
    assert_eq!(life.fake.fetches(), 2);
    life.credentials.retain([&removed]);
    assert_eq!(life.obtain().await.secret().expose(), "three");
}
