//! A source that tests control, and files that they write.

mod callers;
mod exec;
mod files;
mod hanging;
mod maintenance;
mod revocation;
mod slots;

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use countersign_config::model::{
    Cluster, Limits, Provider, SecretSource, TrustRoots, Upstream, VaultEngine,
};
use tokio::sync::Semaphore;

use super::{provider::Fetched, revocation::Revocation, *};

/// A source that counts, responds as configured, and waits until it is released.
#[derive(Debug)]
pub(super) struct Fake {
    answers: Mutex<VecDeque<Result<Fetched, CredentialError>>>,
    fetches: AtomicUsize,
    gate: Semaphore,
    revoked: Mutex<Vec<String>>,
    /// The errors of the attempts to revoke, in order.
    revocation_failures: Mutex<VecDeque<CredentialError>>,
}

impl Fake {
    /// Returns these results in order, and waits before each for a permit of the gate.
    fn gated(answers: impl IntoIterator<Item = Result<Fetched, CredentialError>>) -> Arc<Self> {
        Arc::new(Self {
            answers: Mutex::new(answers.into_iter().collect()),
            fetches: AtomicUsize::new(0),
            gate: Semaphore::new(0),
            revoked: Mutex::default(),
            revocation_failures: Mutex::default(),
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

    pub(super) fn revoke(&self, secret: &Secret) -> Result<(), CredentialError> {
        if let Some(error) = self.revocation_failures.lock().unwrap().pop_front() {
            return Err(error);
        }
        self.revoked.lock().unwrap().push(secret.expose().into());
        Ok(())
    }

    /// What was revoked so far, after all tasks have run as far as they can.
    async fn revoked(&self) -> Vec<String> {
        settle().await;
        self.revoked.lock().unwrap().clone()
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

const START: &str = "2026-11-23T05:10:00Z";

/// Credentials with the real providers.
fn of_provider(clock: Clock) -> Credentials {
    let upstream = Upstream {
        roots: TrustRoots::System,
        allow_addresses: Vec::new(),
        resolve: BTreeMap::new(),
        proxy: None,
    };
    let limits = Limits::default();
    let forwarder = Forwarder::new(&upstream, &limits, Vec::new()).expect("roots");
    let context = ProviderContext {
        http: http::Http::new(Arc::new(forwarder), upstream, limits),
        sources: source::Sources::new(&Cluster::in_cluster(), None),
        state: state::State::for_tests(clock.clone()),
        rotations: provider::Rotations::default(),
    };
    Credentials::new(context, clock)
}

fn clock() -> Clock {
    Clock::manual(START.parse().unwrap())
}

fn at(seconds: i64) -> Timestamp {
    let start: Timestamp = START.parse().unwrap();
    start + jiff::SignedDuration::from_secs(seconds)
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "stands among answers that are errors"
)]
fn value(text: &str, expires_at: Option<Timestamp>) -> Result<Fetched, CredentialError> {
    Ok(Fetched::issued(Secret::new(text.into()), expires_at, None))
}

/// One that can be revoked.
fn revocable(text: &str, expires_at: Option<Timestamp>) -> Result<Fetched, CredentialError> {
    let mut fetched = value(text, expires_at)?;
    fetched.revocation = Some(Revocation::Oauth);
    Ok(fetched)
}

/// Lets every task run as far as it can at this moment.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

fn credential(provider: Provider) -> Credential {
    Credential {
        name: ResourceName::namespaced("qa", "slack-bot"),
        target: ResourceName::cluster_wide("slack"),
        provider,
        allowed_namespaces: vec!["qa".into()],
        rotate_by: None,
        max_age: None,
        idle_after: std::time::Duration::from_mins(10),
        revoke_when_idle: false,
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

/// Polls once; returns the result if there is one.
fn at_first_poll<T>(future: impl Future<Output = T>) -> Option<T> {
    use futures_util::FutureExt;
    future.now_or_never()
}
