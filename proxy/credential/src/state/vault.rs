//! State in KV version 2 of Vault or `OpenBao`: one secret per credential, written by check-and-set.

use std::{collections::BTreeMap, sync::Arc};

use countersign_config::model::ResourceName;

use super::{StateDocument, StateError, Stored, Version, rights::Refusals};
use crate::vault::{Vault, VaultError};

/// The field in the secret.
const FIELD: &str = "state";

/// The rights for storing state: the first write is a `create`, all others are an `update`.
const CAPABILITIES: [&str; 3] = ["create", "read", "update"];

#[derive(Debug)]
pub(super) struct Kv {
    vault: Arc<Vault>,
    mount: Arc<str>,
    path: Arc<str>,
    refusals: Refusals,
}

impl Kv {
    pub(super) fn new(vault: Arc<Vault>, mount: &str, path: &str) -> Self {
        Self {
            vault,
            mount: mount.into(),
            path: path.into(),
            refusals: Refusals::default(),
        }
    }

    pub(super) async fn read(&self, credential: &ResourceName) -> Result<Stored, StateError> {
        let path = self.path(credential);
        let secret = match self.vault.read(&self.mount, &path).await {
            Ok(secret) => secret,
            Err(VaultError::NotFound { .. }) => return Ok(Stored::nothing()),
            // Someone removed it, as if it had never existed; but its versions continue.
            Err(VaultError::Deleted { version, .. } | VaultError::Destroyed { version, .. }) => {
                return Ok(Stored {
                    version: known(version),
                    ..Stored::nothing()
                });
            }
            Err(error) => return Err(self.refused(credential, error).await),
        };
        let at = format!("{path:?} in Vault at {:?}", self.mount);
        let text = secret.text(FIELD).ok_or_else(|| StateError::Corrupt {
            at: at.as_str().into(),
            reason: "it has no field `state`",
        })?;
        Ok(Stored {
            document: StateDocument::parse(text.expose().as_bytes(), &at)?,
            version: known(secret.version),
        })
    }

    pub(super) async fn replace(
        &self,
        credential: &ResourceName,
        expected: &Version,
        document: &StateDocument,
    ) -> Result<Version, StateError> {
        let cas = match expected {
            Version::Absent => 0,
            // Only what this store returned is ever expected of it.
            Version::Known(version) => version.parse().map_err(|_| StateError::Conflict)?,
        };
        let fields = BTreeMap::from([(FIELD.to_owned(), document.text())]);
        let path = self.path(credential);
        if cas == 0 {
            self.prove(credential).await?;
        }
        match self.vault.write(&self.mount, &path, &fields, cas).await {
            Ok(version) => Ok(known(version)),
            Err(VaultError::Conflict { .. }) => Err(StateError::Conflict),
            Err(error) => Err(self.refused(credential, error).await),
        }
    }

    /// Fails unless the gateway has all rights for storing state, as far as Vault reports them.
    pub(super) async fn prove(&self, credential: &ResourceName) -> Result<(), StateError> {
        self.refusals.recent(credential)?;
        let path = self.path(credential);
        let asked = self
            .vault
            .missing_capabilities(&self.mount, &path, &CAPABILITIES);
        match asked.await? {
            Some(missing) if !missing.is_empty() => {
                let path = format!("{}/data/{path}", self.mount).into();
                let lacks = StateError::VaultRights { path, missing };
                Err(self.refusals.note(credential, lacks))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A refusal, with everything that is missing.
    async fn refused(&self, credential: &ResourceName, error: VaultError) -> StateError {
        if matches!(error, VaultError::Denied { .. })
            && let Err(lacks @ StateError::VaultRights { .. }) = self.prove(credential).await
        {
            return lacks;
        }
        error.into()
    }

    fn path(&self, credential: &ResourceName) -> String {
        format!("{}/{credential}", self.path)
    }
}

fn known(version: u64) -> Version {
    Version::Known(version.to_string().into())
}
