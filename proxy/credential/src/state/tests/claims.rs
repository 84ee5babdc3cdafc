//! Who may refresh, with a store that has only compare-and-set.

use std::time::Duration;

use rstest::rstest;
use tokio::time::{Instant, sleep, timeout};

use super::*;

fn store() -> (Arc<FakeStore>, State) {
    let fake = Arc::new(FakeStore::default());
    let state = State::with_store(Store::Fake(Arc::clone(&fake)), Clock::manual(start()));
    (fake, state)
}

/// As if from another process.
fn another(fake: &Arc<FakeStore>) -> State {
    State::with_store(Store::Fake(Arc::clone(fake)), Clock::manual(start()))
}

async fn ours<'a>(state: &'a State, token: &str) -> ClaimGuard<'a> {
    let spends = spent(token);
    match state.claim(&name(), |_| Some(spends.clone())).await {
        Ok(ClaimOutcome::Ours(claim)) => claim,
        other => panic!("not ours: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_that_want_to_one_does_and_the_other_uses_the_result() {
    let (fake, first) = store();
    let second = another(&fake);
    let claim = ours(&first, "seed").await;
    let kept = fake.read().document;
    assert_eq!(kept.attempt.as_ref().unwrap().spends, spent("seed"));

    let wanted = |kept: &StateDocument| kept.pair.is_none().then(|| spent("seed"));
    let name = name();
    let waiting = second.claim(&name, wanted);
    let work = async {
        let mut claim = claim;
        // Longer than a silent holder is waited for: it sends heartbeats.
        claim.hold(sleep(Duration::from_secs(8))).await;
        claim.settle(document(1)).await.unwrap()
    };
    let (turn, kept) = tokio::join!(waiting, work);
    assert!(matches!(turn, Ok(ClaimOutcome::Settled(found)) if found == kept));
    assert_eq!(kept.pair, Some(pair(1)));
    assert_eq!(kept.attempt, None);
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_holder_died_is_taken_over_after_three_seconds_and_says_what_it_spent() {
    let (fake, first) = store();
    let second = another(&fake);
    drop(ours(&first, "seed").await);
    let began = Instant::now();
    let claim = ours(&second, "seed").await;
    let waited = began.elapsed();
    assert!(
        waited >= Duration::from_secs(3) && waited < Duration::from_millis(3_500),
        "{waited:?}"
    );
    assert_eq!(claim.spent_since(), Some(start()));
}

#[tokio::test(start_paused = true)]
async fn a_claim_from_long_ago_is_not_waited_for() {
    let (fake, first) = store();
    drop(ours(&first, "seed").await);
    let later = start() + jiff::SignedDuration::from_hours(1);
    let second = State::with_store(Store::Fake(fake), Clock::manual(later));
    let began = Instant::now();
    let claim = ours(&second, "seed").await;
    assert!(began.elapsed() < Duration::from_millis(500));
    assert_eq!(
        claim.spent_since(),
        Some(start()),
        "the token was first sent then"
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_holder_brings_after_another_took_over_is_refused() {
    let (fake, first) = store();
    let second = another(&fake);
    let slow = ours(&first, "seed").await;
    let quick = ours(&second, "seed").await;
    assert_eq!(
        slow.settle(document(1)).await.unwrap_err(),
        StateError::Conflict
    );
    quick.settle(document(2)).await.unwrap();
    assert_eq!(fake.read().document.pair, Some(pair(2)));
}

#[rstest]
#[case::all_is_well(&[])]
#[case::refused_twice(&[Mishap::Refused, Mishap::Refused])]
#[case::the_answer_was_lost(&[Mishap::AnswerLost])]
#[case::both(&[Mishap::Refused, Mishap::AnswerLost, Mishap::None])]
#[tokio::test(start_paused = true)]
async fn a_result_is_kept_despite_hitches(#[case] mishaps: &[Mishap]) {
    let (fake, state) = store();
    let claim = ours(&state, "seed").await;
    fake.suffer(mishaps);
    let kept = claim.settle(document(1)).await.unwrap();
    assert_eq!(fake.read().document, kept);
    assert_eq!(kept.pair, Some(pair(1)));
}

#[tokio::test(start_paused = true)]
async fn a_sign_of_life_whose_answer_was_lost_is_not_taken_for_another() {
    let (fake, state) = store();
    let mut claim = ours(&state, "seed").await;
    fake.suffer(&[Mishap::AnswerLost, Mishap::None, Mishap::Refused]);
    claim.hold(sleep(Duration::from_millis(3_500))).await;
    claim.settle(document(1)).await.unwrap();
    assert_eq!(fake.read().document.pair, Some(pair(1)));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_away_is_told() {
    let (fake, state) = store();
    let claim = ours(&state, "seed").await;
    fake.suffer(&[Mishap::Refused; 7]);
    let settled = timeout(Duration::from_secs(5), claim.settle(document(1))).await;
    let error = settled.expect("it gives up").unwrap_err();
    assert!(error.may_pass(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn what_else_is_spent_is_written_down_before() {
    let (fake, state) = store();
    let mut claim = ours(&state, "one").await;
    claim.record_intent(spent("two")).await.unwrap();
    let attempt = fake.read().document.attempt.unwrap();
    assert_eq!(attempt.spends, spent("two"));
    assert!(attempt.lease.is_some());
}

/// The first write may be another operation than the next, and need other rights.
#[rstest]
#[case::for_a_while(&[Mishap::None, Mishap::Refused, Mishap::AnswerLost], true)]
#[case::for_good(&[Mishap::None; 1], false)]
#[tokio::test(start_paused = true)]
async fn nothing_is_spent_before_a_document_was_replaced(
    #[case] mishaps: &[Mishap],
    #[case] passes: bool,
) {
    let (fake, state) = store();
    fake.suffer(mishaps);
    if !passes {
        fake.suffer(&[Mishap::Refused; 7]);
    }
    let turn = state.claim(&name(), |_| Some(spent("seed"))).await;
    assert_eq!(turn.is_ok(), passes, "{turn:?}");
    // It was created, and then replaced or not.
    let serial = fake.read().document.serial;
    assert_eq!(serial, if passes { 2 } else { 1 });
}

#[tokio::test(start_paused = true)]
async fn a_claim_takes_the_room_that_its_result_may_need() {
    let (_, state) = store();
    let claim = ours(&state, "seed").await;
    let room = claim.document().write().len();
    let mut result = document(1);
    (0..40).for_each(|seed| result.begin(spent(&seed.to_string())));
    let written = result.write();
    assert!(written.len() < room, "{} of {room}", written.len());
    assert_eq!(
        StateDocument::parse(&claim.document().write(), "here").unwrap(),
        *claim.document()
    );
}
