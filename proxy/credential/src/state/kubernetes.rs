//! State in Kubernetes Secrets: one Secret per credential, replaced only if unchanged, which the API
//! server checks by its `resourceVersion`.

use std::{collections::BTreeMap, sync::Arc};

use countersign_config::model::{Cluster, ResourceName};
use countersign_control_plane::kube::{Kube, KubeError, StoredSecret};
use countersign_core::secret::Secret;

use super::{Fingerprint, StateDocument, StateError, Stored, Version, rights::Refusals};

/// The key in the Secret.
const KEY: &str = "state";

/// Marks our Secrets for people.
const LABELS: [(&str, &str); 1] = [("app.kubernetes.io/managed-by", "countersign")];

/// The longest name that a Secret can have.
const LONGEST_NAME: usize = 253;

#[derive(Debug)]
pub(super) struct Secrets {
    kube: Kube,
    namespace: Arc<str>,
    refusals: Refusals,
}

impl Secrets {
    pub(super) fn new(cluster: &Cluster, namespace: &str) -> Self {
        Self {
            kube: Kube::new(cluster),
            namespace: namespace.into(),
            refusals: Refusals::default(),
        }
    }

    pub(super) async fn read(&self, credential: &ResourceName) -> Result<Stored, StateError> {
        let Some(secret) = self.secret(credential).await? else {
            return Ok(Stored::nothing());
        };
        let at = format!("Secret {}/{}", self.namespace, name(credential));
        let bytes = secret.bytes(KEY).ok_or_else(|| StateError::Corrupt {
            at: at.as_str().into(),
            reason: "it has no key `state`",
        })?;
        Ok(Stored {
            document: StateDocument::parse(bytes, &at)?,
            version: version(&secret),
        })
    }

    pub(super) async fn replace(
        &self,
        credential: &ResourceName,
        expected: &Version,
        document: &StateDocument,
    ) -> Result<Version, StateError> {
        let name = name(credential);
        let data = BTreeMap::from([(KEY.to_owned(), document.text())]);
        let read = self.secret(credential).await?;
        let written = match read {
            None if *expected == Version::Absent => {
                // The right to create does not imply the right to update: then the next write would
                // fail.
                self.prove(credential, Vec::new()).await?;
                let (kube, namespace) = (&self.kube, &self.namespace);
                kube.create_secret(namespace, &name, &LABELS, &data).await
            }
            Some(read) if version(&read) == *expected => {
                let (kube, namespace) = (&self.kube, &self.namespace);
                kube.replace_secret(namespace, &name, &read, &data).await
            }
            None | Some(_) => return Err(StateError::Conflict),
        };
        match written {
            Ok(secret) => Ok(version(&secret)),
            // Not found: it was deleted in between.
            Err(
                KubeError::Conflict { .. }
                | KubeError::AlreadyExists { .. }
                | KubeError::NotFound { .. },
            ) => Err(StateError::Conflict),
            Err(KubeError::Forbidden(rights)) => Err(self.lacks(&name, vec![rights.verb()])),
            Err(error) => Err(error.into()),
        }
    }

    /// Fails unless a credential's Secret may be read and updated, and created if it does not exist.
    pub(super) async fn prove_all(&self, credential: &ResourceName) -> Result<(), StateError> {
        if self.secret(credential).await?.is_none() {
            return self.prove(credential, Vec::new()).await;
        }
        match self.prove(credential, Vec::new()).await {
            // It already exists.
            Err(StateError::KubeRights { missing, .. }) if missing == ["create"] => Ok(()),
            proven => proven,
        }
    }

    /// Fails unless a Secret that does not exist may be created and then updated, or with the verbs that
    /// are known to be `missing`. The API server is not asked at once again about what it refused.
    async fn prove(
        &self,
        credential: &ResourceName,
        mut missing: Vec<&'static str>,
    ) -> Result<(), StateError> {
        self.refusals.recent(credential)?;
        let name = name(credential);
        let data = BTreeMap::from([(KEY.to_owned(), StateDocument::default().text())]);
        let to_write = self.kube.missing_to_write(&self.namespace, &name, &data);
        missing.extend(to_write.await?);
        if missing.is_empty() {
            return Ok(());
        }
        Err(self.refusals.note(credential, self.lacks(&name, missing)))
    }

    fn lacks(&self, name: &str, missing: Vec<&'static str>) -> StateError {
        StateError::KubeRights {
            namespace: Arc::clone(&self.namespace),
            name: name.into(),
            missing,
        }
    }

    async fn secret(&self, credential: &ResourceName) -> Result<Option<StoredSecret>, StateError> {
        let name = name(credential);
        match self.kube.read_secret(&self.namespace, &name).await {
            Ok(secret) => Ok(Some(secret)),
            Err(KubeError::NotFound { .. }) => Ok(None),
            Err(KubeError::Forbidden(rights)) => {
                let verb = rights.verb();
                self.prove(credential, vec![verb]).await?;
                Err(self.lacks(&name, vec![verb]))
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn version(secret: &StoredSecret) -> Version {
    Version::Known(secret.resource_version().into())
}

/// A namespace has no dot, so two credentials never share a Secret.
fn name(credential: &ResourceName) -> String {
    let namespace = credential.namespace().unwrap_or_default();
    let name = format!("countersign-state.{namespace}.{}", credential.name());
    if name.len() <= LONGEST_NAME {
        return name;
    }
    let short = Fingerprint::of("name", &Secret::new(name));
    format!("countersign-state.{short}")
}
