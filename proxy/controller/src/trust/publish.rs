//! Publishes the roots: two `ConfigMaps` in each opted-in namespace and our own, and a `ClusterTrustBundle` where the
//! API server has them.
//!
//! What somebody else changed is written again. A namespace that is being deleted is passed over.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::ConfigMap};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
    core::PartialObjectMeta,
    runtime::reflector::{ObjectRef, Store},
};
use serde::Serialize;
use serde_json::json;

use super::{
    bundle::Bundle,
    error::{explained, is_gone},
    names::{
        CLUSTER_TRUST_BUNDLE, FIELD_MANAGER, INTERCEPTION_SIGNER, MANAGED_BY, PUBLISHED_AT, ROOTS,
    },
    settings::TrustSettings,
};

/// How many objects are written at once.
const AT_ONCE: usize = 8;

/// One object: its namespace and its name.
type Key = (String, String);

/// What was published.
pub(super) struct Publisher {
    client: Client,
    settings: Arc<TrustSettings>,
    /// What the API server says of them.
    known: [Store<PartialObjectMeta<ConfigMap>>; 2],
    /// The version of each as it was written, and which content it has.
    written: HashMap<Key, (String, Arc<Bundle>)>,
    trust_bundles: TrustBundles,
    cluster_wide: Option<String>,
}

/// Whether the API server has `ClusterTrustBundles`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TrustBundles {
    NotAsked,
    NotServed,
    Served(&'static str),
}

/// A `ConfigMap` as it is applied. The types of the library do not name their kind where they are a part of another.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Applied {
    api_version: &'static str,
    kind: &'static str,
    metadata: serde_json::Value,
    data: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    binary_data: BTreeMap<String, ByteString>,
}

impl Publisher {
    pub(super) fn new(
        client: Client,
        settings: Arc<TrustSettings>,
        known: [Store<PartialObjectMeta<ConfigMap>>; 2],
    ) -> Self {
        Self {
            client,
            settings,
            known,
            written: HashMap::new(),
            trust_bundles: TrustBundles::NotAsked,
            cluster_wide: None,
        }
    }

    /// Writes what is missing or another. Returns every failure as a sentence.
    pub(super) async fn publish(
        &mut self,
        bundle: &Arc<Bundle>,
        namespaces: &BTreeSet<String>,
        now: Timestamp,
    ) -> Vec<String> {
        let due: Vec<_> = self.due(bundle, namespaces);
        let client = &self.client;
        let settings = &self.settings;
        let writes = due.into_iter().map(|(namespace, name)| async move {
            let api: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
            let applied = applied(&name, bundle, settings, now);
            let params = PatchParams::apply(FIELD_MANAGER).force();
            let result = api.patch(&name, &params, &Patch::Apply(&applied)).await;
            ((namespace, name), result)
        });
        let results: Vec<_> = stream::iter(writes)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut problems = Vec::new();
        for (key, result) in results {
            let (namespace, name) = &key;
            match result {
                Ok(written) => {
                    let version = written.resource_version().unwrap_or_default();
                    tracing::info!(%namespace, %name, "published");
                    self.written.insert(key, (version, Arc::clone(bundle)));
                }
                Err(error) if is_gone(&error) => {
                    self.written.remove(&key);
                }
                Err(error) => problems.push(format!(
                    "the ConfigMap {name} in the namespace {namespace} cannot be written: {}",
                    explained(&error, "patch and create configmaps")
                )),
            }
        }
        problems.extend(self.publish_cluster_wide(bundle).await.err());
        problems
    }

    /// What must be written.
    fn due(&self, bundle: &Arc<Bundle>, namespaces: &BTreeSet<String>) -> Vec<Key> {
        let names = [
            &self.settings.trust_config_map,
            &self.settings.gateway_ca_config_map,
        ];
        let all = namespaces.iter().chain([&self.settings.namespace]);
        let all: BTreeSet<_> = all.collect();
        let keys = all.into_iter().flat_map(|namespace| {
            let known = names.iter().zip(&self.known);
            known.map(move |(name, store)| ((namespace.clone(), (*name).clone()), store))
        });
        let due = keys.filter(|(key, store)| {
            let Some((version, content)) = self.written.get(key) else {
                return true;
            };
            if content != bundle {
                return true;
            }
            // Versions of one object can be compared; a watch may be behind our own write.
            let version_of = |text: &str| text.parse::<u64>().unwrap_or_default();
            find(store, key).is_some_and(|known| {
                let seen = known.resource_version().unwrap_or_default();
                version_of(&seen) > version_of(version)
            })
        });
        due.map(|(key, _)| key).collect()
    }

    /// Tells that somebody deleted one.
    pub(super) fn forget(&mut self, namespace: &str, name: &str) {
        self.written
            .remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// Forgets what the watches do not know: somebody may have deleted it before they began. What was written after
    /// they began is written once more, which changes nothing.
    pub(super) fn forget_unlisted(&mut self) {
        let known = &self.known;
        self.written
            .retain(|key, _| known.iter().any(|store| find(store, key).is_some()));
    }

    /// Whether both objects of each namespace have this content: read back, since others may write them, too.
    pub(super) async fn check(
        &self,
        bundle: &Bundle,
        namespaces: &BTreeSet<String>,
    ) -> Result<usize, String> {
        let names = [
            (&self.settings.trust_config_map, &bundle.fingerprints[0]),
            (
                &self.settings.gateway_ca_config_map,
                &bundle.fingerprints[1],
            ),
        ];
        let all = namespaces.iter().chain([&self.settings.namespace]);
        let all: BTreeSet<_> = all.cloned().collect();
        let count = all.len();
        let reads = all.into_iter().flat_map(|namespace| {
            names.map(|(name, roots)| {
                let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &namespace);
                let namespace = namespace.clone();
                async move {
                    let found = match api.get_metadata_opt(name).await {
                        Ok(found) => found,
                        Err(error) if is_gone(&error) => return Ok(()),
                        Err(error) => {
                            return Err(explained(&error, "get configmaps"));
                        }
                    };
                    let found = found.as_ref().and_then(|it| it.annotations().get(ROOTS));
                    if found == Some(roots) {
                        return Ok(());
                    }
                    Err(format!(
                        "the ConfigMap {name} in the namespace {namespace} has not all roots"
                    ))
                }
            })
        });
        let results: Vec<Result<(), String>> = stream::iter(reads)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let wrong: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        match wrong.first() {
            None => Ok(count),
            Some(first) => Err(format!("{first}, and {} more", wrong.len() - 1)),
        }
    }

    async fn publish_cluster_wide(&mut self, bundle: &Bundle) -> Result<(), String> {
        if self.cluster_wide.as_ref() == Some(&bundle.roots) {
            return Ok(());
        }
        if self.trust_bundles == TrustBundles::NotAsked {
            self.trust_bundles = self.served_version().await?;
        }
        let TrustBundles::Served(version) = self.trust_bundles else {
            return Ok(());
        };
        let (label, manager) = MANAGED_BY;
        let object = json!({
            "apiVersion": format!("certificates.k8s.io/{version}"),
            "kind": "ClusterTrustBundle",
            "metadata": {"name": CLUSTER_TRUST_BUNDLE, "labels": {label: manager}},
            "spec": {"signerName": INTERCEPTION_SIGNER, "trustBundle": bundle.roots},
        });
        let path = format!(
            "/apis/certificates.k8s.io/{version}/clustertrustbundles/{CLUSTER_TRUST_BUNDLE}?fieldManager={FIELD_MANAGER}&force=true"
        );
        let body = serde_json::to_vec(&object).map_err(|error| error.to_string())?;
        let request = http::Request::patch(path)
            .header(http::header::CONTENT_TYPE, "application/apply-patch+yaml")
            .body(body)
            .map_err(|error| error.to_string())?;
        let applied: kube::Result<serde_json::Value> = self.client.request(request).await;
        applied.map_err(|error| {
            let why = explained(
                &error,
                "patch and create clustertrustbundles, and to attest for the signer countersign.dev/interception",
            );
            format!("the ClusterTrustBundle {CLUSTER_TRUST_BUNDLE} cannot be written: {why}")
        })?;
        tracing::info!(name = CLUSTER_TRUST_BUNDLE, "published");
        self.cluster_wide = Some(bundle.roots.clone());
        Ok(())
    }

    /// The version of `ClusterTrustBundles` that the API server has.
    async fn served_version(&self) -> Result<TrustBundles, String> {
        for version in ["v1", "v1beta1"] {
            let group = format!("certificates.k8s.io/{version}");
            match self.client.list_api_group_resources(&group).await {
                Ok(list) => {
                    if list
                        .resources
                        .iter()
                        .any(|it| it.name == "clustertrustbundles")
                    {
                        return Ok(TrustBundles::Served(version));
                    }
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => {
                    return Err(format!(
                        "whether there are ClusterTrustBundles is not known: {}",
                        explained(&error, "read discovery")
                    ));
                }
            }
        }
        Ok(TrustBundles::NotServed)
    }
}

fn find(
    store: &Store<PartialObjectMeta<ConfigMap>>,
    (namespace, name): &Key,
) -> Option<Arc<PartialObjectMeta<ConfigMap>>> {
    store.get(&ObjectRef::new(name).within(namespace))
}

fn applied(name: &str, bundle: &Bundle, settings: &TrustSettings, now: Timestamp) -> Applied {
    let (label, manager) = MANAGED_BY;
    let is_for_apps = name == settings.trust_config_map;
    let roots = &bundle.fingerprints[usize::from(!is_for_apps)];
    let (data, binary_data) = if is_for_apps {
        (bundle.for_apps(), bundle.for_java())
    } else {
        (bundle.for_relays(), BTreeMap::new())
    };
    Applied {
        api_version: "v1",
        kind: "ConfigMap",
        metadata: json!({
            "name": name,
            "labels": {label: manager},
            "annotations": {ROOTS: roots, PUBLISHED_AT: format!("{now:.0}")},
        }),
        data,
        binary_data,
    }
}
