//! Sources: where secret material is stored. One `match` lists them all.
//!
//! Each source returns, with the value, its refresh strategy ([`Material::recheck`], or the value's own
//! expiry) and grace period.

mod exec;
mod kubernetes;
mod vault;

pub(super) use vault::DynamicSecret;

use std::{sync::Arc, time::Duration};

use countersign_config::model::{Cluster, Credential, SecretSource, VaultEngine};
use countersign_core::{
    secret::Secret,
    secret_file::{self, SecretFileError},
};
use jiff::Timestamp;

use super::{
    CredentialError, Issued,
    error::{HelperFault, SourceError},
};
use crate::vault::{Lease, Vault};
use kubernetes::Secrets;

/// How long the previous value may be used while a source in the network is unavailable.
const OUTAGE: Duration = Duration::from_hours(1);

/// The current content of a source.
#[derive(Debug)]
pub(super) struct Material {
    pub(super) secret: Secret,
    /// When it expires, according to the source.
    pub(super) expires_at: Option<Timestamp>,
    /// How to detect a changed source.
    pub(super) recheck: Option<Recheck>,
    /// The dynamic secret that it came from, if a source made one.
    pub(super) dynamic_secret: Option<Arc<DynamicSecret>>,
}

/// When to ask a source again although its value has not expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recheck {
    /// From this age on the source is asked in the background.
    pub(super) due: Duration,
    /// From this age on the value is not used before the source has responded.
    pub(super) overdue: Duration,
    /// How long after the source's last response the value may be used while the source fails in a way
    /// that may pass.
    pub(super) grace: Duration,
}

impl Recheck {
    /// A file is read every second while it is used. After a pause it is read before the use, so that a
    /// value that was replaced or removed is never used more than two seconds later.
    const FILE: Self = Self {
        due: Duration::from_secs(1),
        overdue: Duration::from_secs(2),
        grace: Duration::from_secs(30),
    };

    /// A Secret is watched, so that a read is cheap.
    const SECRET: Self = Self {
        grace: OUTAGE,
        ..Self::FILE
    };

    /// Vault does not notify of changes; a value that an API rejects is read again at once.
    const VAULT: Self = Self {
        due: Duration::from_secs(15),
        overdue: Duration::from_secs(30),
        grace: OUTAGE,
    };

    /// Each call runs a process.
    const HELPER: Self = Self {
        due: Duration::from_mins(1),
        overdue: Duration::from_mins(2),
        grace: OUTAGE,
    };
}

/// The form of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One line of visible ASCII without spaces.
    Token,
    /// Any text, such as a PEM key or a password.
    Text,
}

impl Form {
    /// The value of a source in the network, if it has this form; `at` says where it is stored.
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

/// A request to a source.
#[derive(Debug, Clone, Copy)]
pub(super) struct SourceRequest<'a> {
    /// The credential that needs it.
    pub(super) credential: &'a Credential,
    /// The required form.
    pub(super) form: Form,
    /// The current value, if it was not rejected, so that its lease may be renewed.
    pub(super) held: Option<&'a Issued>,
    /// Whether an API has rejected the source's last value.
    pub(super) rejected: bool,
}

/// The sources of secret material.
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

    /// Reads the current content of a source for `credential`.
    pub(super) async fn read_for(
        &self,
        credential: &Credential,
        source: &SecretSource,
        form: Form,
    ) -> Result<Material, CredentialError> {
        let wanted = SourceRequest {
            credential,
            form,
            held: None,
            rejected: false,
        };
        self.read(source, wanted).await
    }

    /// The same for a value that is put on requests unchanged, or nearly so.
    pub(super) async fn read(
        &self,
        source: &SecretSource,
        wanted: SourceRequest<'_>,
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
                let field = vault::FieldRef { mount, path, key };
                let vault = self.vault.as_ref().ok_or(SourceError::NotConfigured)?;
                Ok(match engine {
                    VaultEngine::Kv2 => field.read(vault, wanted).await?,
                    VaultEngine::Dynamic => field.dynamic_secret(vault, wanted).await?,
                })
            }
            SecretSource::Exec { command, timeout } => {
                Ok(exec::ask(command, *timeout, wanted).await?)
            }
        }
    }

    /// Revokes a dynamic secret.
    pub(super) async fn end(&self, lease: &Lease) -> Result<(), CredentialError> {
        let vault = self.vault.as_ref().ok_or(SourceError::NotConfigured)?;
        Ok(vault.revoke(lease).await.map_err(SourceError::Vault)?)
    }
}

impl Material {
    /// A value without a known expiry, which is read again.
    fn looked_up(secret: Secret, recheck: Recheck) -> Self {
        Self {
            secret,
            expires_at: None,
            recheck: Some(recheck),
            dynamic_secret: None,
        }
    }
}
