//! What can be told about a configuration before anything is opened or made.

use std::path::PathBuf;

use countersign_config::model::{Cluster, Gateway, JwksSource, KubernetesSource, ResourceSource};

use super::StartError;

/// An error if callers are to be proven by the cluster in which the gateway runs, and it runs in none.
pub(super) fn has_its_cluster(gateway: &Gateway) -> Result<(), StartError> {
    let own = Cluster::in_cluster();
    let uses_it = gateway.issuers.iter().any(|issuer| {
        let reviewer = issuer.token_review.as_ref();
        let keys_by_it = match &issuer.jwks {
            JwksSource::Url { ca_file, .. } => *ca_file == own.ca_file,
            JwksSource::File(_) => false,
        };
        keys_by_it || reviewer.is_some_and(|review| review.cluster == own)
    });
    let uses_it = uses_it || (objects(gateway).is_some() && gateway.kubernetes == own);
    match own.ca_file {
        Some(missing) if uses_it && !missing.exists() => Err(StartError::NotInKubernetes(missing)),
        Some(_) | None => Ok(()),
    }
}

/// The directories of the resources.
pub(super) fn directories(gateway: &Gateway) -> Vec<PathBuf> {
    let directory = |source: &ResourceSource| match source {
        ResourceSource::Directory(directory) => Some(directory.clone()),
        ResourceSource::Kubernetes(_) => None,
    };
    gateway.resources.iter().filter_map(directory).collect()
}

/// The objects of a cluster that are resources too, if any are.
pub(super) fn objects(gateway: &Gateway) -> Option<&KubernetesSource> {
    gateway.resources.iter().find_map(|source| match source {
        ResourceSource::Directory(_) => None,
        ResourceSource::Kubernetes(source) => Some(source),
    })
}
