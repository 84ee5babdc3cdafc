//! What a slot guarantees for every provider.

use std::time::Duration;

use tokio::{task::JoinSet, time::advance};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_first_requests_make_one_fetch() {
    let fake = Fake::gated([value("xoxb-1", None)]);
    let credentials = Arc::new(Credentials::with_fetcher(
        clock(),
        Fetcher::Fake(fake.clone()),
    ));
    let waiting = Arc::new(AtomicUsize::new(0));
    let mut requests = JoinSet::new();
    for _ in 0..1_000 {
        let (credentials, waiting) = (Arc::clone(&credentials), Arc::clone(&waiting));
        requests.spawn(async move {
            waiting.fetch_add(1, Ordering::SeqCst);
            credentials.obtain(&any()).await
        });
    }
    while waiting.load(Ordering::SeqCst) < 1_000 || fake.fetches() == 0 {
        tokio::task::yield_now().await;
    }
    fake.gate.add_permits(1_000);
    while let Some(result) = requests.join_next().await {
        let issued = result.unwrap().unwrap();
        assert_eq!(
            (issued.secret().expose(), issued.generation()),
            ("xoxb-1", 1)
        );
    }
    assert_eq!(fake.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_never_answers_is_not_waited_for_without_end() {
    let fake = Fake::gated([value("xoxb-1", None)]);
    let credentials = Credentials::with_fetcher(clock(), Fetcher::Fake(fake.clone()));
    let refused = credentials.obtain(&any()).await.unwrap_err();
    assert_eq!(refused, CredentialError::TooSlow);
    // The fetch continues, and a later request gets its result.
    fake.gate.add_permits(1);
    let issued = credentials.obtain(&any()).await.unwrap();
    assert_eq!(issued.secret().expose(), "xoxb-1");
    assert_eq!(fake.fetches(), 1);
}

#[tokio::test]
async fn a_request_that_is_cancelled_does_not_lose_the_fetch() {
    let fake = Fake::gated([value("xoxb-1", None)]);
    let credentials = Arc::new(Credentials::with_fetcher(
        clock(),
        Fetcher::Fake(fake.clone()),
    ));
    let request = tokio::spawn({
        let credentials = Arc::clone(&credentials);
        async move { credentials.obtain(&any()).await }
    });
    while fake.fetches() == 0 {
        tokio::task::yield_now().await;
    }
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    fake.gate.add_permits(1);
    let issued = credentials.obtain(&any()).await.unwrap();
    assert_eq!(issued.secret().expose(), "xoxb-1");
    assert_eq!(fake.fetches(), 1);
}

#[tokio::test]
async fn a_fresh_value_is_given_without_waiting() {
    let fake = Fake::open([value("xoxb-1", Some(at(1_000)))]);
    let credentials = Credentials::with_fetcher(clock(), Fetcher::Fake(fake.clone()));
    credentials.obtain(&any()).await.unwrap();
    let mut second = at_first_poll(credentials.obtain(&any()));
    assert!(second.take().expect("ready at the first poll").is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_value_is_not_used_at_its_expiry_and_is_renewed_ahead_of_it() {
    let clock = clock();
    let fake = Fake::open([
        value("one", Some(at(100))),
        value("two", Some(at(200))),
        value("three", Some(at(300))),
    ]);
    let credentials = Credentials::with_fetcher(clock.clone(), Fetcher::Fake(fake.clone()));
    let now = async |second| {
        clock.set(at(second));
        let issued = credentials.obtain(&any()).await.unwrap();
        (issued.secret().expose().to_owned(), issued.generation())
    };
    assert_eq!(now(0).await, ("one".into(), 1));
    assert_eq!(now(79).await, ("one".into(), 1));
    assert_eq!(fake.fetches(), 1);
    // Four fifths of its lifetime are over: it is still used, and the next one is fetched in the
    // background.
    assert_eq!(now(80).await, ("one".into(), 1));
    while fake.fetches() < 2 || now(81).await.1 < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(now(81).await, ("two".into(), 2));
    // No one asked until it expired: never used, not even once.
    assert_eq!(now(200).await, ("three".into(), 3));
    assert_eq!(fake.fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn max_age_ends_a_value_that_its_issuer_would_still_take() {
    let clock = clock();
    let fake = Fake::open([value("one", None), value("two", Some(at(100_000)))]);
    let credentials = Credentials::with_fetcher(clock.clone(), Fetcher::Fake(fake));
    let mut bounded = credential(any().provider.clone());
    bounded.max_age = Some(Duration::from_mins(1));
    let bounded = Arc::new(bounded);
    let first = credentials.obtain(&bounded).await.unwrap();
    assert_eq!(first.expires_at(), Some(at(60)));
    clock.set(at(60));
    let second = credentials.obtain(&bounded).await.unwrap();
    assert_eq!(second.secret().expose(), "two");
    assert_eq!(second.expires_at(), Some(at(120)));
}

#[tokio::test]
async fn a_value_that_comes_expired_is_refused() {
    let fake = Fake::open([value("one", Some(at(0)))]);
    let credentials = Credentials::with_fetcher(clock(), Fetcher::Fake(fake));
    let refused = credentials.obtain(&any()).await;
    assert_eq!(refused.unwrap_err(), CredentialError::Expired { at: at(0) });
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_remembered_for_a_second_only() {
    let error = missing(Path::new("/gone"));
    let fake = Fake::open([Err(error.clone()), value("one", None)]);
    let credentials = Credentials::with_fetcher(clock(), Fetcher::Fake(fake.clone()));
    for _ in 0..100 {
        assert_eq!(credentials.obtain(&any()).await.unwrap_err(), error);
    }
    assert_eq!(fake.fetches(), 1);
    advance(Duration::from_secs(1)).await;
    assert!(credentials.obtain(&any()).await.is_ok());
    assert_eq!(fake.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_value_is_read_again_and_its_generation_tells_whether_it_changed() {
    let fake = Fake::open([value("one", None), value("one", None), value("two", None)]);
    let credentials = Credentials::with_fetcher(clock(), Fetcher::Fake(fake.clone()));
    let name = any().name.clone();
    assert_eq!(credentials.obtain(&any()).await.unwrap().generation(), 1);
    credentials.invalidate(&name, 1);
    assert_eq!(credentials.obtain(&any()).await.unwrap().generation(), 1);
    assert_eq!(fake.fetches(), 2);
    credentials.invalidate(&name, 1);
    assert_eq!(credentials.obtain(&any()).await.unwrap().generation(), 2);
    // A late rejection of the previous value does not affect this one.
    credentials.invalidate(&name, 1);
    assert_eq!(credentials.obtain(&any()).await.unwrap().generation(), 2);
    assert_eq!(fake.fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_value_does_not_serve_while_its_source_fails() {
    let empty = CredentialError::Empty {
        file: Path::new("/half-written").into(),
    };
    let fake = Fake::open([value("one", None), Err(empty.clone()), value("two", None)]);
    let credentials = Credentials::with_fetcher(clock(), Fetcher::Fake(fake));
    credentials.obtain(&any()).await.unwrap();
    credentials.invalidate(&any().name, 1);
    assert_eq!(credentials.obtain(&any()).await.unwrap_err(), empty);
    advance(Duration::from_secs(1)).await;
    assert_eq!(credentials.obtain(&any()).await.unwrap().generation(), 2);
}

#[tokio::test]
async fn a_rejection_during_a_fetch_is_not_answered_by_that_fetch() {
    let fake = Fake::gated([value("one", None), value("one", None), value("two", None)]);
    let credentials = Arc::new(Credentials::with_fetcher(
        clock(),
        Fetcher::Fake(fake.clone()),
    ));
    fake.gate.add_permits(1);
    credentials.obtain(&any()).await.unwrap();
    credentials.invalidate(&any().name, 1);
    let request = tokio::spawn({
        let credentials = Arc::clone(&credentials);
        async move { credentials.obtain(&any()).await }
    });
    while fake.fetches() < 2 {
        tokio::task::yield_now().await;
    }
    credentials.invalidate(&any().name, 1);
    fake.gate.add_permits(2);
    assert_eq!(request.await.unwrap().unwrap().generation(), 2);
    assert_eq!(fake.fetches(), 3);
}

#[tokio::test]
async fn max_age_of_a_value_that_stays_the_same_makes_it_be_read_again_once() {
    let clock = clock();
    let fake = Fake::open([value("one", None), value("one", None)]);
    let credentials = Credentials::with_fetcher(clock.clone(), Fetcher::Fake(fake.clone()));
    let mut bounded = credential(any().provider.clone());
    bounded.max_age = Some(Duration::from_secs(100));
    let bounded = Arc::new(bounded);
    credentials.obtain(&bounded).await.unwrap();
    clock.set(at(80));
    let renewed = async {
        loop {
            let issued = credentials.obtain(&bounded).await.unwrap();
            assert_eq!(issued.generation(), 1);
            if issued.obtained_at() == at(80) {
                return issued;
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(renewed.await.expires_at(), Some(at(180)));
    for _ in 0..10 {
        credentials.obtain(&bounded).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(fake.fetches(), 2);
}
