//! What the leader follows in the cluster.

use std::{collections::BTreeSet, fmt::Debug, hash::Hash};

use futures_util::{
    StreamExt as _,
    future::ready,
    stream::{BoxStream, SelectAll, select_all},
};
use k8s_openapi::api::{
    certificates::v1::CertificateSigningRequest,
    core::v1::{ConfigMap, Namespace},
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        reflector::{self, Lookup, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;

use super::{
    names::{GATEWAY_SIGNER, INTERCEPTION_SIGNER, STATE_CONFIG_MAP},
    settings::TrustSettings,
};
use crate::{backoff::Calm, pods::OPTED_IN};

/// What happened.
#[derive(Debug)]
pub(super) enum Seen {
    /// Something is another now.
    Changed,
    /// All objects of a kind were listed: what was deleted before is missing, and nobody tells of it.
    Listed,
    /// A `ConfigMap` was deleted: its namespace and name.
    Gone(String, String),
}

/// What is known, as far as the watches are.
pub(super) struct Known {
    namespaces: Store<PartialObjectMeta<Namespace>>,
    pub(super) published: [Store<PartialObjectMeta<ConfigMap>>; 2],
    pub(super) requests: [Store<CertificateSigningRequest>; 2],
    own: Store<ConfigMap>,
}

/// The watches; what is known is kept as long as they are polled.
pub(super) type Watches = SelectAll<BoxStream<'static, Seen>>;

pub(super) fn watch(client: &Client, settings: &TrustSettings) -> (Known, Watches) {
    let mut streams = Vec::new();
    let labels = watcher::Config::default().labels(OPTED_IN);
    let namespaces = follow(Api::all(client.clone()), labels, &mut streams);
    let published = [&settings.trust_config_map, &settings.gateway_ca_config_map].map(|name| {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        follow(Api::all(client.clone()), config, &mut streams)
    });
    let requests = [INTERCEPTION_SIGNER, GATEWAY_SIGNER].map(|signer| {
        let config = watcher::Config::default().fields(&format!("spec.signerName={signer}"));
        follow(Api::all(client.clone()), config, &mut streams)
    });
    let own = watcher::Config::default().fields(&format!("metadata.name={STATE_CONFIG_MAP}"));
    let api = Api::namespaced(client.clone(), &settings.namespace);
    let own = follow(api, own, &mut streams);
    let known = Known {
        namespaces,
        published,
        requests,
        own,
    };
    (known, select_all(streams))
}

fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    streams: &mut Vec<BoxStream<'static, Seen>>,
) -> Store<K>
where
    K: Resource<DynamicType = ()> + Lookup<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    K: Send + Sync + 'static,
    <K as Lookup>::DynamicType: Eq + Hash + Clone + Default,
{
    let (store, writer) = reflector::store();
    let events = watcher(api, config).backoff(Calm::default());
    let events = reflector::reflector(writer, events);
    let mut failed = false;
    let seen = events.filter_map(move |event| {
        let seen = match event {
            Ok(watcher::Event::Delete(object)) => {
                let namespace = kube::ResourceExt::namespace(&object);
                Some(Seen::Gone(namespace.unwrap_or_default(), object.name_any()))
            }
            Ok(watcher::Event::Apply(_)) => Some(Seen::Changed),
            Ok(watcher::Event::InitDone) => Some(Seen::Listed),
            Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => None,
            Err(error) => {
                if !std::mem::replace(&mut failed, true) {
                    let kind = <K as Resource>::kind(&());
                    tracing::warn!(%error, %kind, "cannot be watched; a role must grant to list and watch them");
                }
                return ready(None);
            }
        };
        failed = false;
        ready(seen)
    });
    streams.push(seen.boxed());
    store
}

impl Known {
    /// The namespaces that have opted in and are not being deleted.
    pub(super) fn opted_in(&self) -> BTreeSet<String> {
        let known = self.namespaces.state();
        let living = known
            .iter()
            .filter(|namespace| namespace.metadata.deletion_timestamp.is_none());
        living.map(|namespace| namespace.name_any()).collect()
    }

    /// The public state, as somebody may have annotated it.
    pub(super) fn own(&self) -> Option<std::sync::Arc<ConfigMap>> {
        self.own.state().into_iter().next()
    }
}
