//! State in Kubernetes Secrets: one Secret a credential, replaced only as it was read, which the API
//! server checks by its `resourceVersion`.

use std::{collections::BTreeMap, sync::Arc};

use countersign_config::model::{Cluster, ResourceName};

use super::{Document, Fingerprint, StateError, Stored, Version};
use crate::{
    kube::{Kube, KubeError, StoredSecret},
    secret::Secret,
};

/// The key in the Secret.
const KEY: &str = "state";

/// What marks our Secrets for people.
const LABELS: [(&str, &str); 1] = [("app.kubernetes.io/managed-by", "countersign")];

/// The longest name that a Secret can have.
const LONGEST_NAME: usize = 253;

#[derive(Debug)]
pub(super) struct Secrets {
    kube: Kube,
    namespace: Arc<str>,
}

impl Secrets {
    pub(super) fn new(cluster: &Cluster, namespace: &str) -> Self {
        Self {
            kube: Kube::new(cluster),
            namespace: namespace.into(),
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
            document: Document::parse(bytes, &at)?,
            version: version(&secret),
        })
    }

    pub(super) async fn replace(
        &self,
        credential: &ResourceName,
        expected: &Version,
        document: &Document,
    ) -> Result<Version, StateError> {
        let name = name(credential);
        let data = BTreeMap::from([(KEY.to_owned(), document.text())]);
        let read = self.secret(credential).await?;
        let written = match read {
            None if *expected == Version::Absent => {
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
            Err(error) => Err(error.into()),
        }
    }

    async fn secret(&self, credential: &ResourceName) -> Result<Option<StoredSecret>, StateError> {
        let name = name(credential);
        match self.kube.read_secret(&self.namespace, &name).await {
            Ok(secret) => Ok(Some(secret)),
            Err(KubeError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn version(secret: &StoredSecret) -> Version {
    Version::Known(secret.resource_version().into())
}

/// A namespace has no dot, and so two credentials never share a Secret.
fn name(credential: &ResourceName) -> String {
    let namespace = credential.namespace().unwrap_or_default();
    let name = format!("countersign-state.{namespace}.{}", credential.name());
    if name.len() <= LONGEST_NAME {
        return name;
    }
    let short = Fingerprint::of("name", &Secret::new(name));
    format!("countersign-state.{short}")
}
