//! The state of credentials that rotate: what must not be lost, kept where a crash cannot take it.
//!
//! A store holds one document a credential and knows two operations: read it, and replace it if it
//! is still the version that was read (compare-and-set). On these two rests `claim`: who may
//! spend a refresh token now, so that of several processes exactly one does. Which store it is
//! makes no difference to whoever uses it.

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

pub(super) use claim::{Claimed, Turn};
pub use document::Document;
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

/// The places that state can be in.
#[derive(Debug)]
enum Store {
    Directory(Directory),
    Kubernetes(kubernetes::Secrets),
    Vault(vault::Kv),
    /// A store that the configuration names and does not describe.
    Missing(&'static str),
    /// A test's.
    #[cfg(test)]
    Fake(Arc<tests::FakeStore>),
}

/// Which writing of a document was read. Two writings never have the same version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// There is none yet.
    Absent,
    /// What the store calls it.
    Known(Arc<str>),
}

/// A document and its version.
#[derive(Debug, Clone)]
pub struct Stored {
    /// What is kept.
    pub document: Document,
    /// The version of it that was read.
    pub version: Version,
}

impl Stored {
    fn nothing() -> Self {
        Self {
            document: Document::default(),
            version: Version::Absent,
        }
    }
}

impl State {
    /// As the gateway's file says, where `vault` is the one that it names. Touches nothing yet.
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

    /// What is kept for a credential; an empty document if nothing is.
    ///
    /// # Errors
    /// When that cannot be told.
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

    /// Puts a document in the place of the one that was read as `expected`. It is durable when
    /// this returns its new version.
    ///
    /// # Errors
    /// After [`StateError::Conflict`] nothing was written; after any other error it is not known.
    pub async fn replace(
        &self,
        credential: &ResourceName,
        expected: &Version,
        document: &Document,
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

    /// Finds out whether what a refresh would bring could be kept.
    ///
    /// # Errors
    /// When it could not, or that cannot be told.
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

    /// What the store itself offers to keep others out; `None` where a lease has to do.
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
