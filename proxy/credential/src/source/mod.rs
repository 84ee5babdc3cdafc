//! Sources: where secret material lives. One `match` knows them all.
//!
//! Each says with what it brings how its changes are noticed ([`Material::recheck`], or the value's
//! own end), and how long a value outlives a source that is away.

mod error;
mod exec;
mod kubernetes;
mod vault;

pub use error::{HelperFault, SourceError};
pub(super) use vault::Made;

use std::{sync::Arc, time::Duration};

use countersign_config::model::{Cluster, Credential, SecretSource, VaultEngine};
use countersign_core::{
    secret::Secret,
    secret_file::{self, SecretFileError},
};
use jiff::Timestamp;

use super::{CredentialError, Issued};
use crate::vault::{Lease, Vault};
use kubernetes::Secrets;

/// How long the value from before serves while a source beyond the network is away.
const OUTAGE: Duration = Duration::from_hours(1);

/// What a source holds now.
#[derive(Debug)]
pub(super) struct Material {
    pub(super) secret: Secret,
    /// When the source says that it ends.
    pub(super) expires_at: Option<Timestamp>,
    /// How it is noticed that the source holds something else.
    pub(super) recheck: Option<Recheck>,
    /// What it is of, where it was made for us.
    pub(super) made: Option<Arc<Made>>,
}

/// When a source is asked again although its value has not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recheck {
    /// From this age on it is asked while the value is still used.
    pub(super) due: Duration,
    /// From this age on the value is not used before the answer is there.
    pub(super) overdue: Duration,
    /// How long after its last answer the value still serves while it fails in a way that may pass.
    pub(super) grace: Duration,
}

impl Recheck {
    /// A file is looked at every second while it is used. After a pause the look comes before the
    /// use, so that a value that was replaced or removed is never used more than two seconds later.
    const FILE: Self = Self {
        due: Duration::from_secs(1),
        overdue: Duration::from_secs(2),
        grace: Duration::from_secs(30),
    };

    /// A Secret is watched, so that a look costs nothing.
    const SECRET: Self = Self {
        grace: OUTAGE,
        ..Self::FILE
    };

    /// Vault tells of no change; a value that an API rejects is asked for again at once.
    const VAULT: Self = Self {
        due: Duration::from_secs(15),
        overdue: Duration::from_secs(30),
        grace: OUTAGE,
    };

    /// A process each time.
    const HELPER: Self = Self {
        due: Duration::from_mins(1),
        overdue: Duration::from_mins(2),
        grace: OUTAGE,
    };
}

/// What a secret must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One line of visible ASCII without spaces.
    Token,
    /// Any text, such as a PEM key or a password.
    Text,
}

impl Form {
    /// What a source beyond the network gave, if it is of this form; `at` says where it lies.
    fn of(self, bytes: &[u8], at: impl FnOnce() -> String) -> Result<Secret, SourceError> {
        let taken = match self {
            _ if bytes.len() > secret_file::MAX_SECRET_FILE => Err(SecretFileError::TooLarge),
            Self::Token => secret_file::token(bytes),
            Self::Text => secret_file::text(bytes),
        };
        taken.map_err(|fault: SecretFileError| SourceError::Form {
            at: at().into(),
            fault,
        })
    }
}

/// What a source is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// On whose behalf.
    pub(super) credential: &'a Credential,
    /// What it must look like.
    pub(super) form: Form,
    /// What is held of it and was not rejected, so that it may be prolonged.
    pub(super) held: Option<&'a Issued>,
    /// Whether an API has rejected what the source gave last.
    pub(super) rejected: bool,
}

/// The places that secret material is read from.
#[derive(Debug)]
pub(super) struct Sources {
    secrets: Secrets,
    vault: Option<Arc<Vault>>,
}

impl Sources {
    /// Connects to nothing yet.
    pub(super) fn new(cluster: &Cluster, vault: Option<Arc<Vault>>) -> Self {
        Self {
            secrets: Secrets::new(cluster),
            vault,
        }
    }

    /// Reads what a source holds now, on behalf of `credential`.
    pub(super) async fn read(
        &self,
        credential: &Credential,
        source: &SecretSource,
        form: Form,
    ) -> Result<Material, CredentialError> {
        let wanted = Wanted {
            credential,
            form,
            held: None,
            rejected: false,
        };
        self.bring(source, wanted).await
    }

    /// The same for what is put on requests as it is, or nearly so.
    pub(super) async fn bring(
        &self,
        source: &SecretSource,
        wanted: Wanted<'_>,
    ) -> Result<Material, CredentialError> {
        match source {
            SecretSource::File(path) => {
                let read = match wanted.form {
                    Form::Token => secret_file::read(path).await,
                    Form::Text => secret_file::read_text(path).await,
                };
                let secret = read.map_err(|error| CredentialError::of_file(path, error))?;
                Ok(Material::looked_up(secret, Recheck::FILE))
            }
            SecretSource::KubernetesSecret { name, key } => {
                let namespace = wanted.credential.name.namespace().unwrap_or_default();
                let read = self.secrets.read(namespace, name, key, wanted.form).await;
                Ok(Material::looked_up(read?, Recheck::SECRET))
            }
            SecretSource::Vault {
                mount,
                path,
                key,
                engine,
            } => {
                let field = vault::Field { mount, path, key };
                let vault = self.vault.as_ref().ok_or(SourceError::NotConfigured)?;
                Ok(match engine {
                    VaultEngine::Kv2 => field.read(vault, wanted).await?,
                    VaultEngine::Dynamic => field.made(vault, wanted).await?,
                })
            }
            SecretSource::Exec { command, timeout } => {
                Ok(exec::ask(command, *timeout, wanted).await?)
            }
        }
    }

    /// Ends what was made for us, before its time.
    pub(super) async fn end(&self, lease: &Lease) -> Result<(), CredentialError> {
        let vault = self.vault.as_ref().ok_or(SourceError::NotConfigured)?;
        Ok(vault.revoke(lease).await.map_err(SourceError::Vault)?)
    }
}

impl Material {
    /// What has no known end, and is looked at again.
    fn looked_up(secret: Secret, recheck: Recheck) -> Self {
        Self {
            secret,
            expires_at: None,
            recheck: Some(recheck),
            made: None,
        }
    }
}
