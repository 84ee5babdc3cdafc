//! Watches pods and their Jobs, in the namespaces that policy asks about and in those that have opted in,
//! and tells identification what it sees.

mod namespace;
mod observed;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use countersign_config::model::Cluster;
use countersign_identity::Pods;
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::{sync::watch, task::AbortHandle};

use crate::{backoff::Calm, client::client};

/// The label by which a namespace opts in.
pub const OPTED_IN: &str = "countersign.dev/inject=enabled";

/// How long it waits before it reads the files of the client again.
const RETRY: Duration = Duration::from_secs(5);

/// Watches until it is dropped.
pub async fn watch(cluster: Cluster, pods: Arc<Pods>) {
    let client = loop {
        match client(&cluster) {
            Ok(client) => break client,
            Err(error) => {
                tracing::warn!(%error, "pods cannot be watched");
                for namespace in &*pods.wanted().borrow() {
                    pods.trouble(namespace, Some(&error.to_string()));
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    };
    let opted_in = watch::Sender::default();
    tokio::select! {
        () = watch_labels(client.clone(), &opted_in) => {}
        () = watch_namespaces(client, pods, opted_in.subscribe()) => {}
    }
}

/// One watch for each namespace, as policy and labels change.
async fn watch_namespaces(
    client: Client,
    pods: Arc<Pods>,
    mut opted_in: watch::Receiver<BTreeSet<String>>,
) {
    let mut wanted = pods.wanted();
    let mut watches = Watches::default();
    loop {
        let mut all = wanted.borrow_and_update().clone();
        all.extend(opted_in.borrow_and_update().iter().cloned());
        watches.become_those_of(&all, &client, &pods);
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            changed = opted_in.changed() => if changed.is_err() { return },
        }
    }
}

/// The running watches by namespace; they end when this is dropped.
#[derive(Default)]
struct Watches(HashMap<String, AbortHandle>);

impl Watches {
    fn become_those_of(&mut self, all: &BTreeSet<String>, client: &Client, pods: &Arc<Pods>) {
        self.0.retain(|name, task| {
            let stays = all.contains(name);
            if !stays {
                task.abort();
                pods.unwatched(name);
            }
            stays
        });
        for name in all {
            if !self.0.contains_key(name) {
                let watch = namespace::watch(client.clone(), name.clone(), Arc::clone(pods));
                self.0
                    .insert(name.clone(), tokio::spawn(watch).abort_handle());
            }
        }
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.0.values().for_each(AbortHandle::abort);
    }
}

/// Follows which namespaces have opted in. Without the right to, there are none but those of policy.
async fn watch_labels(client: Client, opted_in: &watch::Sender<BTreeSet<String>>) {
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client);
    let config = watcher::Config::default().labels(OPTED_IN);
    let events = watcher(namespaces, config).backoff(Calm::default());
    let mut events = std::pin::pin!(events);
    let mut read = BTreeSet::new();
    let mut told = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => read.clear(),
            Ok(watcher::Event::InitApply(namespace)) => {
                read.insert(namespace.name_any());
            }
            Ok(watcher::Event::InitDone) => {
                opted_in.send_replace(read.clone());
            }
            Ok(watcher::Event::Apply(namespace)) => {
                opted_in.send_if_modified(|all| all.insert(namespace.name_any()));
            }
            Ok(watcher::Event::Delete(namespace)) => {
                opted_in.send_if_modified(|all| all.remove(&namespace.name_any()));
            }
            Err(error) if !told => {
                told = true;
                tracing::info!(%error, label = OPTED_IN, "namespaces with this label are not known");
            }
            Err(_) => {}
        }
    }
}
