use std::{
    collections::VecDeque,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use countersign_config::model::{Provider, SecretSource};
use rstest::rstest;
use tokio::{sync::Semaphore, task::JoinSet, time::advance};

use super::{
    provider::{Fetched, Recheck},
    *,
};

/// A source that counts, answers what it was told to, and waits until it is let go.
#[derive(Debug)]
pub(super) struct Fake {
    answers: Mutex<VecDeque<Result<Fetched, CredentialError>>>,
    fetches: AtomicUsize,
    gate: Semaphore,
}

impl Fake {
    /// Gives these answers one after the other, and waits before each for a permit of the gate.
    fn gated(answers: impl IntoIterator<Item = Result<Fetched, CredentialError>>) -> Arc<Self> {
        Arc::new(Self {
            answers: Mutex::new(answers.into_iter().collect()),
            fetches: AtomicUsize::new(0),
            gate: Semaphore::new(0),
        })
    }

    fn open(answers: impl IntoIterator<Item = Result<Fetched, CredentialError>>) -> Arc<Self> {
        let fake = Self::gated(answers);
        fake.gate.add_permits(1_000);
        fake
    }

    pub(super) async fn fetch(&self) -> Result<Fetched, CredentialError> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.expect("never closed").forget();
        let next = self.answers.lock().unwrap().pop_front();
        next.expect("fetched more often than the test foresaw")
    }

    #[expect(clippy::unused_self, reason = "stands in for a provider's")]
    pub(super) fn recheck(&self) -> Option<Recheck> {
        None
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

const START: &str = "2026-11-23T05:10:00Z";

fn clock() -> Clock {
    Clock::manual(START.parse().unwrap())
}

fn at(seconds: i64) -> Timestamp {
    let start: Timestamp = START.parse().unwrap();
    start + jiff::SignedDuration::from_secs(seconds)
}

fn value(text: &str, expires_at: Option<Timestamp>) -> Result<Fetched, CredentialError> {
    Ok(Fetched {
        secret: Secret::new(text.into()),
        expires_at,
    })
}

fn credential(provider: Provider) -> Credential {
    Credential {
        name: ResourceName::namespaced("qa", "slack-bot"),
        target: ResourceName::cluster_wide("slack"),
        provider,
        allowed_namespaces: vec!["qa".into()],
        rotate_by: None,
        max_age: None,
    }
}

fn of_file(path: &Path) -> Arc<Credential> {
    let token = SecretSource::File(path.to_owned());
    Arc::new(credential(Provider::Static { token }))
}

fn any() -> Arc<Credential> {
    of_file(Path::new("/nowhere"))
}

/// A token file in a directory that lives as long as this does.
struct TokenFile {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

fn token_file(content: &str) -> TokenFile {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    std::fs::write(&path, content).unwrap();
    TokenFile {
        path,
        _directory: directory,
    }
}

fn missing(path: &Path) -> CredentialError {
    CredentialError::Missing { file: path.into() }
}

#[tokio::test]
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

/// Polls once; gives the result if there is one.
fn at_first_poll<T>(future: impl Future<Output = T>) -> Option<T> {
    use futures_util::FutureExt;
    future.now_or_never()
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
    // Four fifths of its life are over: still used, and the next one is fetched beside it.
    assert_eq!(now(80).await, ("one".into(), 1));
    while fake.fetches() < 2 || now(81).await.1 < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(now(81).await, ("two".into(), 2));
    // Nobody asked until it was over: never used, not even once.
    assert_eq!(now(200).await, ("three".into(), 3));
    assert_eq!(fake.fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn max_age_ends_a_value_that_its_issuer_would_still_take() {
    let clock = clock();
    let fake = Fake::open([value("one", None), value("two", Some(at(100_000)))]);
    let credentials = Credentials::with_fetcher(clock.clone(), Fetcher::Fake(fake));
    let mut bounded = credential(any().provider.clone());
    bounded.max_age = Some(Duration::from_secs(60));
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
    // A late rejection of the value before does not touch this one.
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

#[tokio::test(start_paused = true)]
async fn a_file_is_read_again_when_it_changes_and_refused_when_it_goes() {
    let file = token_file("one\n");
    let credentials = Credentials::new(clock());
    let credential = of_file(&file.path);
    let first = credentials.obtain(&credential).await.unwrap();
    assert_eq!((first.secret().expose(), first.generation()), ("one", 1));

    // Same length, and nobody asked for a while: the very next request has the new value.
    std::fs::write(&file.path, "two\n").unwrap();
    advance(Duration::from_secs(2)).await;
    let second = credentials.obtain(&credential).await.unwrap();
    assert_eq!((second.secret().expose(), second.generation()), ("two", 2));

    std::fs::remove_file(&file.path).unwrap();
    advance(Duration::from_secs(2)).await;
    let gone = credentials.obtain(&credential).await;
    assert_eq!(gone.unwrap_err(), missing(&file.path));

    std::fs::write(&file.path, "three\n").unwrap();
    advance(Duration::from_secs(1)).await;
    let third = credentials.obtain(&credential).await.unwrap();
    assert_eq!((third.secret().expose(), third.generation()), ("three", 3));
}

#[tokio::test(start_paused = true)]
async fn under_steady_use_a_change_is_seen_without_making_anyone_wait() {
    let file = token_file("one");
    let credentials = Credentials::new(clock());
    let credential = of_file(&file.path);
    credentials.obtain(&credential).await.unwrap();
    std::fs::write(&file.path, "two").unwrap();
    advance(Duration::from_millis(1_500)).await;
    let meanwhile = at_first_poll(credentials.obtain(&credential));
    assert_eq!(
        meanwhile.expect("no wait").unwrap().secret().expose(),
        "one"
    );
    let seen = async {
        while credentials.obtain(&credential).await.unwrap().generation() == 1 {
            tokio::task::yield_now().await;
        }
    };
    seen.await;
}

#[tokio::test(start_paused = true)]
async fn kubernetes_swap_of_the_data_link_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for (version, value) in [("..v1", "one"), ("..v2", "two")] {
        std::fs::create_dir(root.join(version)).unwrap();
        std::fs::write(root.join(version).join("token"), value).unwrap();
    }
    symlink("..v1", root.join("..data")).unwrap();
    symlink("..data/token", root.join("token")).unwrap();
    let credential = of_file(&root.join("token"));
    let credentials = Credentials::new(clock());
    let first = credentials.obtain(&credential).await.unwrap();
    assert_eq!(first.secret().expose(), "one");
    symlink("..v2", root.join("..data_tmp")).unwrap();
    std::fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    advance(Duration::from_secs(2)).await;
    let second = credentials.obtain(&credential).await.unwrap();
    assert_eq!(second.secret().expose(), "two");
}

#[tokio::test(start_paused = true)]
async fn a_half_written_file_is_bridged_for_thirty_seconds_at_most() {
    let file = token_file("one");
    let credentials = Credentials::new(clock());
    let credential = of_file(&file.path);
    credentials.obtain(&credential).await.unwrap();
    std::fs::write(&file.path, "").unwrap();
    for _ in 0..9 {
        advance(Duration::from_secs(3)).await;
        let issued = credentials.obtain(&credential).await.unwrap();
        assert_eq!(issued.secret().expose(), "one");
    }
    advance(Duration::from_secs(3)).await;
    let error = credentials.obtain(&credential).await.unwrap_err();
    let file: Arc<Path> = Arc::from(&*file.path);
    assert_eq!(error, CredentialError::Empty { file });
}

#[tokio::test]
async fn a_reload_keeps_what_is_unchanged_and_lets_go_of_the_rest() {
    let kept_file = token_file("kept");
    let changed_file = token_file("changed");
    let kept = of_file(&kept_file.path);
    let named = |name, path: &Path| {
        let mut credential = Credential::clone(&of_file(path));
        credential.name = ResourceName::namespaced("qa", name);
        Arc::new(credential)
    };
    let (changed, gone) = (
        named("changed", &changed_file.path),
        named("gone", &kept_file.path),
    );
    let credentials = Credentials::new(clock());
    let before = credentials.obtain(&kept).await.unwrap();
    let weak = [
        Arc::downgrade(&credentials.obtain(&changed).await.unwrap()),
        Arc::downgrade(&credentials.obtain(&gone).await.unwrap()),
    ];

    let changed = named("changed", &kept_file.path);
    let kept = Arc::new(Credential::clone(&kept));
    credentials.retain(&[Arc::clone(&kept), Arc::clone(&changed)]);

    assert!(Arc::ptr_eq(
        &before,
        &credentials.obtain(&kept).await.unwrap()
    ));
    assert!(weak.iter().all(|weak| weak.upgrade().is_none()));
    let after = credentials.obtain(&changed).await.unwrap();
    assert_eq!((after.secret().expose(), after.generation()), ("kept", 2));
}

#[rstest]
#[case::slack(
    Provider::SlackRotation {
        client_id: "1.1".into(),
        client_secret: SecretSource::File("/nowhere".into()),
        refresh_token: SecretSource::File("/nowhere".into()),
    },
    "slackRotation"
)]
#[case::kubernetes(
    Provider::Static {
        token: SecretSource::KubernetesSecret { name: "n".into(), key: "k".into() },
    },
    "kubernetesSecret"
)]
#[case::vault(
    Provider::Static {
        token: SecretSource::Vault { path: "p".into(), key: "k".into() },
    },
    "vault"
)]
#[tokio::test]
async fn what_is_not_built_says_so(#[case] provider: Provider, #[case] key: &str) {
    let credentials = Credentials::new(clock());
    let error = credentials
        .obtain(&Arc::new(credential(provider)))
        .await
        .unwrap_err();
    assert!(matches!(error, CredentialError::NotBuilt { .. }));
    assert!(error.to_string().contains(key), "{error}");
}

#[tokio::test]
async fn nothing_shows_the_value() {
    let fake = Fake::open([value("xoxb-canary", None)]);
    let credentials = Credentials::with_fetcher(clock(), Fetcher::Fake(fake));
    let issued = credentials.obtain(&any()).await.unwrap();
    assert!(!format!("{issued:?} {credentials:?}").contains("canary"));

    let file = token_file("canary two words");
    let error = credentials_error(&file.path).await;
    assert!(!format!("{error} {error:?}").contains("canary"));
    assert!(error.to_string().contains(file.path.to_str().unwrap()));
}

async fn credentials_error(path: &Path) -> CredentialError {
    Credentials::new(clock())
        .obtain(&of_file(path))
        .await
        .unwrap_err()
}
