//! What the binary connects to the API server: the gateway itself has no client for its watches.

use std::{num::NonZeroU32, sync::Arc};

use countersign_config::{
    cluster::{CredentialStanding, Report, Seen, Used},
    model::{Cluster, KubernetesSource, ServiceName},
};
use countersign_credential::{CredentialState, CredentialStatus};
use countersign_identity::Pods;
use tokio::sync::watch;

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
        let service = self.service.clone()?;
        let access = Arc::clone(&self.gateway.access);
        let tell = move |ready| access.snapshots.load_full().rates().set_gateways(ready);
        Some((self.cluster.clone(), service, tell))
    }

    /// The objects of the cluster that are resources, if any are, and where what is seen of them goes.
    pub fn resources(
        &self,
    ) -> Option<(
        Cluster,
        KubernetesSource,
        impl Fn(Seen) + Clone + Send + Sync + use<>,
    )> {
        let objects = Arc::clone(self.objects.as_ref()?);
        let source = objects.source().clone();
        Some((self.cluster.clone(), source, move |seen| objects.see(seen)))
    }

    /// The namespace of the gateway's Service, if it is known.
    pub fn service_namespace(&self) -> Option<String> {
        Some(self.service.as_ref()?.namespace.clone())
    }

    /// What became of the objects of the cluster, for their status; `None` until they were read.
    pub fn reports(&self) -> Option<watch::Receiver<Option<Arc<Report>>>> {
        Some(self.objects.as_ref()?.reports())
    }

    /// Tells whether each credential can be used.
    pub fn credential_standings(
        &self,
    ) -> impl Fn() -> Vec<CredentialStanding> + Send + Sync + use<> {
        let services = self.gateway.credential.clone();
        move || {
            let status = services.credentials.status().with(&services.health);
            // What each caller has for itself is no property of the credential.
            let all = status.credentials.into_iter();
            all.filter(|one| one.caller.is_none())
                .map(standing)
                .collect()
        }
    }

    /// Tells what was used since it was asked last. From the first call on that is noted.
    pub fn used(&self) -> impl Fn() -> Vec<Used> + Send + Sync + use<> {
        let log = self.gateway.recorder.log().clone();
        let used = log.note_use();
        move || used.take()
    }
}

fn standing(status: CredentialStatus) -> CredentialStanding {
    let error = || status.last_error.clone().unwrap_or_default();
    let (ready, reason, message) = match status.state {
        CredentialState::Good => (Some(true), "Good", "It has a value.".to_owned()),
        CredentialState::Idle => (
            Some(true),
            "Idle",
            "It had a value, which was released; the next request obtains another.".to_owned(),
        ),
        CredentialState::Stale => (
            Some(true),
            "Stale",
            format!("It has a value, although its source fails: {}", error()),
        ),
        CredentialState::Failed => (Some(false), "Failed", error()),
        CredentialState::Unused => (
            None,
            "NotUsed",
            "No request has asked for it yet.".to_owned(),
        ),
    };
    CredentialStanding {
        name: status.name,
        ready,
        reason,
        message,
    }
}
