//! The resources with which a gateway starts.

use std::{path::PathBuf, sync::Arc};

use countersign_config::{model::Gateway, policy::PolicySet, setting::Setting};

use super::{
    StartError,
    in_force::InForce,
    last_good::{self, LastGood},
    objects::ClusterObjects,
    preconditions,
    reload::{self, Sources},
};

/// The resources with which the gateway starts, and where later ones come from.
pub(super) fn read_resources(
    gateway: &Gateway,
    directories: Vec<PathBuf>,
    setting: Setting,
) -> Result<(Sources, InForce, PolicySet), StartError> {
    let last_good = LastGood::of(gateway);
    let source = preconditions::objects(gateway).cloned();
    let mut start = last_good::resources(&directories, &setting, &last_good, source.as_ref())
        .map_err(StartError::Resources)?;
    reload::warn(&start.loaded.warnings);
    let kept = std::mem::take(&mut start.objects);
    let sources = Sources {
        directories,
        objects: source.map(|source| Arc::new(ClusterObjects::new(source, kept))),
        setting,
    };
    let (in_force, policies) = InForce::new(start, last_good);
    Ok((sources, in_force, policies))
}
