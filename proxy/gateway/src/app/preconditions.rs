//! What can be told about a configuration before anything is opened or made.

use std::path::PathBuf;

use countersign_config::model::{Cluster, Gateway, JwksSource, ResourceSource};

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
    match own.ca_file {
        Some(missing) if uses_it && !missing.exists() => Err(StartError::NotInKubernetes(missing)),
        Some(_) | None => Ok(()),
    }
}

pub(super) fn directories(gateway: &Gateway) -> Result<Vec<PathBuf>, StartError> {
    if gateway.observe.otlp.is_some() {
        return Err(StartError::NotBuilt("`observe.otlp`"));
    }
    gateway
        .resources
        .iter()
        .map(|source| match source {
            ResourceSource::Directory(directory) => Ok(directory.clone()),
            ResourceSource::Kubernetes => Err(StartError::NotBuilt("`resources: kubernetes`")),
        })
        .collect()
}
