//! Writes what the gateways make of the objects into their status.
//!
//! One gateway of all writes, elected by a Lease; so three thousand policies are written once and not once for each
//! gateway. Writes are paced, what is wrong first, and nothing is written that stands there already. When something
//! was used last is known to each gateway alone: each writes that, once an hour for each object.

mod document;
mod usage;
mod writer;

use std::{collections::BTreeMap, fs, io, pin::pin, sync::Arc, time::Duration};

use countersign_config::{
    cluster::{CredentialStanding, Key, Report, Scope, Used},
    model::{Cluster, KubernetesSource},
};
use countersign_core::clock::Clock;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep};

use crate::{
    client::client,
    lease::{Election, Role, Timing},
    resources::api_resource,
};
use writer::Writer;

/// The Lease of who writes.
pub const LEASE: &str = "countersign-status";

/// The name under which the API server notes who wrote a status.
const MANAGER: &str = "countersign";

/// The same for when something was used.
const USAGE_MANAGER: &str = "countersign-usage";

/// How long it waits before it reads the files of the client again.
const RETRY: Duration = Duration::from_secs(5);

/// What is known to a gateway and written here.
pub struct Source {
    /// The cluster whose objects they are.
    pub cluster: Cluster,
    /// Which objects are read.
    pub objects: KubernetesSource,
    /// The gateway's own namespace, for the Lease; `None`: as the file beside its token says.
    pub namespace: Option<String>,
    /// What became of the objects; `None` until they were read.
    pub reports: watch::Receiver<Option<Arc<Report>>>,
    /// Whether each credential can be used.
    pub credentials: Box<dyn Fn() -> Vec<CredentialStanding> + Send + Sync>,
    /// What was used since it was asked last.
    pub used: Box<dyn Fn() -> Vec<Used> + Send + Sync>,
    /// Of the conditions.
    pub clock: Clock,
    /// Of the Lease and of the writes.
    pub pace: Pace,
}

/// How fast it goes.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The Lease's times.
    pub lease: Timing,
    /// The time between two writes of one gateway.
    pub writes: Duration,
    /// How often it is looked whether credentials still work, and what was used.
    pub look: Duration,
    /// How often what stands in the cluster is read again: others may have changed it.
    pub again: Duration,
}

impl Default for Pace {
    /// Six hundred writes a minute at most.
    fn default() -> Self {
        Self {
            lease: Timing::default(),
            writes: Duration::from_millis(100),
            look: Duration::from_secs(10),
            again: Duration::from_mins(10),
        }
    }
}

/// Writes until `end` completes.
pub async fn write(source: Source, end: impl Future<Output = ()>) {
    let mut end = pin!(end);
    let client = loop {
        match client(&source.cluster) {
            Ok(client) => break client,
            Err(error) => tracing::warn!(%error, "no status can be written"),
        }
        tokio::select! {
            () = &mut end => return,
            () = sleep(RETRY) => {}
        }
    };
    let namespace = match own_namespace(&source) {
        Ok(namespace) => namespace,
        Err(error) => {
            tracing::error!(
                %error,
                "no status of an object is written: the namespace of this gateway is not known; set `service`, or mount the file `namespace` beside the token"
            );
            return;
        }
    };
    let election = Election::new(client.clone(), &namespace, LEASE, source.clock.clone())
        .with(source.pace.lease);
    let objects = Objects::new(&client);
    let mut role = None;
    let tell = |now: Role| {
        if role.as_ref() != Some(&now) {
            told(&now);
            role = Some(now);
        }
    };
    let lead = election.lead(tell, || Writer::new(&source, &objects).run(), end);
    tokio::select! {
        () = lead => {}
        () = usage::write(&source, &objects) => {}
    }
}

fn told(role: &Role) {
    match role {
        Role::Leads => tracing::info!("this gateway writes the status of objects"),
        Role::Waits(holder) => {
            tracing::info!(%holder, "another gateway writes the status of objects");
        }
        Role::Unknown(why) => {
            tracing::warn!("it is not known which gateway writes the status of objects: {why}");
        }
    }
}

fn own_namespace(source: &Source) -> io::Result<String> {
    if let Some(namespace) = &source.namespace {
        return Ok(namespace.clone());
    }
    let file = source.cluster.token_file.with_file_name("namespace");
    let text = fs::read_to_string(&file)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))?;
    Ok(text.trim().to_owned())
}

/// The objects of the cluster, to be written.
struct Objects<'c> {
    client: &'c Client,
}

impl<'c> Objects<'c> {
    fn new(client: &'c Client) -> Self {
        Self { client }
    }

    fn of(&self, scope: &Scope) -> Option<Api<DynamicObject>> {
        let resource = api_resource(scope.kind)?;
        Some(match &scope.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        })
    }

    /// Makes this the part of the status that the manager owns.
    async fn apply(&self, key: &Key, manager: &str, status: Value) -> kube::Result<()> {
        let scope = Scope {
            kind: key.kind,
            namespace: Some(key.namespace.clone()),
        };
        let (Some(api), Some(resource)) = (self.of(&scope), api_resource(key.kind)) else {
            return Ok(());
        };
        let object = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": { "name": key.name, "namespace": key.namespace },
            "status": status,
        });
        // Nobody else owns what stands there, whatever they say.
        let how = PatchParams::apply(manager).force();
        let applied = Patch::Apply(&object);
        match api.patch_status(&key.name, &how, &applied).await {
            // It is gone: there is nothing to write about.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop),
        }
    }
}

/// By their names.
fn by_name(credentials: Vec<CredentialStanding>) -> BTreeMap<String, CredentialStanding> {
    let named = credentials.into_iter();
    named.map(|one| (one.name.clone(), one)).collect()
}

/// Why a status is not written, in a sentence.
fn why(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            "a ClusterRole must grant the gateway's service account to patch workloads/status, credentials/status, accesspolicies/status and targetservices/status of countersign.dev".to_owned()
        }
        kube::Error::Api(status) => format!("the API server answers with status {}", status.code),
        _ => "the API server cannot be reached".to_owned(),
    }
}
