//! The state of rotating credentials: what must not be lost, stored so that it survives a crash.
//!
//! A store holds one document per credential and has two operations: read it, and replace it if it is
//! still the version that was read (compare-and-set). `claim` is built on these two: it decides which
//! process may spend a refresh token now, so that exactly one does. The kind of store makes no
//! difference to its users.

mod claim;
mod directory;
mod document;
mod envelope;
mod error;
mod kubernetes;
mod rights;
#[cfg(test)]
mod tests;
mod vault;

pub(super) use claim::{ClaimGuard, ClaimOutcome};
pub use document::StateDocument;
pub(super) use document::{Access, Attempt, Fingerprint, Pair};
pub use error::StateError;

use std::sync::Arc;

use countersign_config::model::{Gateway, ResourceName, StateStore};
use countersign_core::clock::Clock;
use jiff::Timestamp;

use crate::vault::Vault;
use directory::{Directory, Exclusive};

/// Where rotated secret material is kept.
#[derive(Debug)]
pub struct State {
    store: Store,
    clock: Clock,
}

/// The kinds of store.
#[derive(Debug)]
enum Store {
    Directory(Directory),
    Kubernetes(kubernetes::Secrets),
    Vault(vault::Kv),
    /// A store that the configuration names without its settings.
    Missing(&'static str),
    /// A test's.
    #[cfg(test)]
    Fake(Arc<tests::FakeStore>),
}

/// Identifies the write that was read. No two writes have the same version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// There is no document yet.
    Absent,
    /// The store's own identifier.
    Known(Arc<str>),
}

/// A document and its version.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The document.
    pub document: StateDocument,
    /// The version that was read.
    pub version: Version,
}

impl Stored {
    fn nothing() -> Self {
        Self {
            document: StateDocument::default(),
            version: Version::Absent,
        }
    }
}

impl State {
    /// As the Gateway file configures it; `vault` is its Vault. Reads nothing yet.
    pub fn new(gateway: &Gateway, vault: Option<Arc<Vault>>, clock: Clock) -> Self {
        let store = match &gateway.state {
            StateStore::Directory { path, key_file } => {
                Store::Directory(Directory::new(path.clone(), key_file.clone()))
            }
            StateStore::Kubernetes { namespace } => {
                Store::Kubernetes(kubernetes::Secrets::new(&gateway.kubernetes, namespace))
            }
            StateStore::Vault { mount, path } => match vault {
                Some(vault) => Store::Vault(vault::Kv::new(vault, mount, path)),
                None => Store::Missing("the gateway's `vault`"),
            },
        };
        Self::with_store(store, clock)
    }

    fn with_store(store: Store, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// In a directory that does not exist.
    #[cfg(test)]
    pub(super) fn for_tests(clock: Clock) -> Self {
        let nowhere = Directory::new("/nowhere/countersign".into(), None);
        Self::with_store(Store::Directory(nowhere), clock)
    }

    /// The stored document of a credential; an empty one if there is none.
    ///
    /// # Errors
    /// When that is not known.
    pub async fn read(&self, credential: &ResourceName) -> Result<Stored, StateError> {
        match &self.store {
            Store::Directory(directory) => directory.read(credential).await,
            Store::Kubernetes(secrets) => secrets.read(credential).await,
            Store::Vault(kv) => kv.read(credential).await,
            #[cfg(test)]
            Store::Fake(fake) => Ok(fake.read()),
            Store::Missing(what) => Err(StateError::NotConfigured { what }),
        }
    }

    /// Replaces the document that was read as `expected`. It is durable when this returns its new
    /// version.
    ///
    /// # Errors
    /// After [`StateError::Conflict`] nothing was written; after any other error it is not known.
    pub async fn replace(
        &self,
        credential: &ResourceName,
        expected: &Version,
        document: &StateDocument,
    ) -> Result<Version, StateError> {
        match &self.store {
            Store::Directory(directory) => directory.replace(credential, expected, document).await,
            Store::Kubernetes(secrets) => secrets.replace(credential, expected, document).await,
            Store::Vault(kv) => kv.replace(credential, expected, document).await,
            #[cfg(test)]
            Store::Fake(fake) => fake.replace(expected, document),
            Store::Missing(what) => Err(StateError::NotConfigured { what }),
        }
    }

    /// Finds out whether the result of a refresh could be stored.
    ///
    /// # Errors
    /// When it could not, or that is not known.
    pub(super) async fn prove(&self, credential: &ResourceName) -> Result<(), StateError> {
        match &self.store {
            Store::Directory(directory) => directory.prove().await,
            Store::Kubernetes(secrets) => secrets.prove_all(credential).await,
            Store::Vault(kv) => kv.prove(credential).await,
            #[cfg(test)]
            Store::Fake(_) => Ok(()),
            Store::Missing(what) => Err(StateError::NotConfigured { what }),
        }
    }

    /// The store's own lock; `None` if only a lease is available.
    async fn exclude(&self, credential: &ResourceName) -> Result<Option<Exclusive>, StateError> {
        match &self.store {
            Store::Directory(directory) => directory.exclude(credential).await.map(Some),
            Store::Kubernetes(_) | Store::Vault(_) => Ok(None),
            #[cfg(test)]
            Store::Fake(_) => Ok(None),
            Store::Missing(what) => Err(StateError::NotConfigured { what }),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
