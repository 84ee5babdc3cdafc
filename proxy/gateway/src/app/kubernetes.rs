//! What the binary connects to the API server: the gateway itself has no client for its watches.

use std::{num::NonZeroU32, sync::Arc};

use countersign_config::model::{Cluster, ServiceName};
use countersign_identity::Pods;

use super::App;

impl App {
    /// The clusters whose API servers are to be asked about pods, and where the answers go.
    pub fn pods(&self) -> Vec<(Cluster, Arc<Pods>)> {
        let asked = self.gateway.access.identifier.pods();
        asked
            .map(|(cluster, pods)| (cluster.clone(), Arc::clone(pods)))
            .collect()
    }

    /// The Service by whose endpoints the gateways are counted, its cluster, and where the number goes.
    pub fn replicas(&self) -> Option<(Cluster, ServiceName, impl Fn(NonZeroU32) + Send + use<>)> {
        let (cluster, service) = self.service.clone()?;
        let access = Arc::clone(&self.gateway.access);
        let tell = move |ready| access.snapshots.load_full().rates().set_gateways(ready);
        Some((cluster, service, tell))
    }
}
