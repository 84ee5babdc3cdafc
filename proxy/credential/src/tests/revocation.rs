//! Revoking values at the issuer.

use std::time::Duration;

use tokio::time::advance;

use super::*;

const LIMIT: Duration = Duration::from_secs(5);

fn of(fake: &Arc<Fake>, clock: &Clock) -> Credentials {
    Credentials::with_fetcher(clock.clone(), Fetcher::Fake(Arc::clone(fake)))
}

fn asking_for_it() -> Arc<Credential> {
    let mut credential = Credential::clone(&any());
    credential.revoke_when_idle = true;
    Arc::new(credential)
}

#[tokio::test(start_paused = true)]
async fn what_is_idle_is_revoked_if_the_credential_asks_for_it() {
    let fake = Fake::open([revocable("one", None), revocable("two", None)]);
    let credentials = of(&fake, &clock());
    credentials.obtain(&asking_for_it()).await.unwrap();
    settle().await;
    advance(Duration::from_mins(10)).await;
    assert_eq!(fake.revoked().await, ["one"]);

    let not_asking = any();
    credentials.obtain(&not_asking).await.unwrap();
    settle().await;
    advance(Duration::from_mins(10)).await;
    assert_eq!(fake.revoked().await, ["one"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_revoked_while_a_request_holds_it() {
    let fake = Fake::open([revocable("one", None)]);
    let credentials = of(&fake, &clock());
    let in_flight = credentials.obtain(&asking_for_it()).await.unwrap();
    credentials.retain([]);
    assert!(fake.revoked().await.is_empty());
    drop(in_flight);
    assert_eq!(fake.revoked().await, ["one"]);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_another_has_replaced_is_revoked_and_one_that_stayed_the_same_is_not() {
    let clock = clock();
    let fake = Fake::open([
        revocable("one", Some(at(100))),
        revocable("one", Some(at(200))),
        revocable("two", Some(at(300))),
    ]);
    let credentials = of(&fake, &clock);
    let credential = asking_for_it();
    for (second, generation, revoked) in [(0, 1, 0), (85, 1, 0), (190, 2, 1)] {
        clock.set(at(second));
        while credentials.obtain(&credential).await.unwrap().obtained_at() != at(second) {
            tokio::task::yield_now().await;
        }
        let held = credentials.obtain(&credential).await.unwrap();
        assert_eq!(held.generation(), generation);
        assert_eq!(fake.revoked().await.len(), revoked, "at {second} s");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_at_its_end_need_not_be_revoked() {
    let clock = clock();
    let fake = Fake::open([revocable("one", Some(at(100)))]);
    let credentials = of(&fake, &clock);
    credentials.obtain(&asking_for_it()).await.unwrap();
    settle().await;
    clock.pass(at(100));
    credentials.retain([]);
    assert!(fake.revoked().await.is_empty());
}

/// `maxAge` ends it here, but its issuer would still accept it.
#[tokio::test(start_paused = true)]
async fn what_we_let_go_before_its_issuer_does_is_revoked() {
    let clock = clock();
    let fake = Fake::open([revocable("one", Some(at(1_000)))]);
    let credentials = of(&fake, &clock);
    let mut bounded = Credential::clone(&asking_for_it());
    bounded.max_age = Some(Duration::from_secs(100));
    credentials.obtain(&Arc::new(bounded)).await.unwrap();
    settle().await;
    clock.pass(at(100));
    assert_eq!(fake.revoked().await, ["one"]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_may_pass_is_tried_again_and_another_is_not() {
    for (errors, attempts_left, revoked) in [
        (vec![CredentialError::Abandoned; 2], 0, true),
        (vec![CredentialError::Abandoned; 3], 0, false),
        (vec![CredentialError::NoToken; 2], 1, false),
    ] {
        let fake = Fake::open([revocable("one", None)]);
        *fake.revocation_failures.lock().unwrap() = errors.into();
        let credentials = of(&fake, &clock());
        credentials.obtain(&asking_for_it()).await.unwrap();
        assert!(credentials.end(2 * LIMIT).await);
        assert_eq!(!fake.revoked().await.is_empty(), revoked);
        assert_eq!(
            fake.revocation_failures.lock().unwrap().len(),
            attempts_left
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_revocations_within_its_bound() {
    let fake = Fake::open([revocable("one", None)]);
    let credentials = of(&fake, &clock());
    let in_flight = credentials.obtain(&asking_for_it()).await.unwrap();
    let held = tokio::spawn(async move {
        tokio::time::sleep(LIMIT / 2).await;
        drop(in_flight);
    });
    assert!(credentials.end(LIMIT).await, "nothing was let go yet");
    held.await.unwrap();
    assert_eq!(fake.revoked().await, ["one"]);

    let fake = Fake::open([revocable("two", None)]);
    *fake.revocation_failures.lock().unwrap() = vec![CredentialError::Abandoned; 3].into();
    let credentials = of(&fake, &clock());
    credentials.obtain(&asking_for_it()).await.unwrap();
    let began = tokio::time::Instant::now();
    assert!(!credentials.end(LIMIT).await);
    assert_eq!(began.elapsed(), LIMIT);
}
