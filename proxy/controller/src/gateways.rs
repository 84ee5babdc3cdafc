//! How many gateways are ready, by the `EndpointSlices` of their Service.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    time::Duration,
};

use countersign_config::model::Cluster;
use futures_util::StreamExt as _;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::{
    Api, ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};

use crate::{backoff::Calm, client::client};

/// How long it waits before it reads the files of the client again.
const RETRY: Duration = Duration::from_secs(5);

/// Tells the number of ready gateways whenever it changes, until it is dropped. While the API server is
/// away, the last number stands.
pub async fn watch(
    cluster: Cluster,
    namespace: String,
    service: String,
    tell: impl Fn(NonZeroU32) + Send,
) {
    let client = loop {
        match client(&cluster) {
            Ok(client) => break client,
            Err(error) => tracing::warn!(%error, "the other gateways cannot be counted"),
        }
        tokio::time::sleep(RETRY).await;
    };
    let slices: Api<EndpointSlice> = Api::namespaced(client, &namespace);
    let of_service = format!("kubernetes.io/service-name={service}");
    let config = watcher::Config::default().labels(&of_service);
    let mut events = std::pin::pin!(watcher(slices, config).backoff(Calm::default()));
    let mut ready = Slices::default();
    let mut failed = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                if std::mem::take(&mut failed) {
                    tracing::info!(%namespace, %service, "gateways are counted again");
                }
                if let Some(count) = ready.take(event) {
                    tell(count);
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut failed, true) {
                    tracing::warn!(
                        %error, %namespace, %service,
                        "the other gateways cannot be counted: a role must grant to list and watch endpointslices.discovery.k8s.io"
                    );
                }
            }
        }
    }
}

/// The ready endpoints by slice.
#[derive(Debug, Default)]
struct Slices {
    known: BTreeMap<String, BTreeSet<String>>,
    listing: Option<BTreeMap<String, BTreeSet<String>>>,
    told: Option<NonZeroU32>,
}

impl Slices {
    /// The new number, if it is another.
    fn take(&mut self, event: watcher::Event<EndpointSlice>) -> Option<NonZeroU32> {
        match event {
            watcher::Event::Init => self.listing = Some(BTreeMap::new()),
            watcher::Event::InitApply(slice) => {
                let listing = self.listing.get_or_insert_default();
                listing.insert(slice.name_any(), ready_in(&slice));
            }
            watcher::Event::InitDone => self.known = self.listing.take().unwrap_or_default(),
            watcher::Event::Apply(slice) => {
                self.known.insert(slice.name_any(), ready_in(&slice));
            }
            watcher::Event::Delete(slice) => {
                self.known.remove(&slice.name_any());
            }
        }
        if self.listing.is_some() {
            return None;
        }
        // One endpoint may be in a slice of each address family.
        let all: BTreeSet<&String> = self.known.values().flatten().collect();
        let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
        // This one serves, even if it is not ready yet.
        let count = NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        (self.told.replace(count) != Some(count)).then_some(count)
    }
}

fn ready_in(slice: &EndpointSlice) -> BTreeSet<String> {
    let endpoints = slice.endpoints.iter().flatten();
    endpoints
        .filter(|it| is_ready(it))
        .filter_map(identity)
        .collect()
}

/// Unknown counts as ready, as in Kubernetes itself.
fn is_ready(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    conditions.is_none_or(|conditions| {
        conditions.ready != Some(false) && conditions.terminating != Some(true)
    })
}

fn identity(endpoint: &Endpoint) -> Option<String> {
    let target = endpoint.target_ref.as_ref();
    let uid = target.and_then(|target| target.uid.clone());
    uid.or_else(|| endpoint.addresses.first().cloned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn slice(name: &str, endpoints: &Value) -> EndpointSlice {
        serde_json::from_value(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name}, "addressType": "IPv4", "endpoints": endpoints,
        }))
        .unwrap()
    }

    fn endpoint(uid: &str, ready: Option<bool>) -> Value {
        json!({"addresses": ["10.0.0.1"], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "uid": uid}})
    }

    fn count(number: u32) -> Option<NonZeroU32> {
        NonZeroU32::new(number)
    }

    #[test]
    fn ready_endpoints_are_counted_once() {
        let mut slices = Slices::default();
        assert_eq!(slices.take(watcher::Event::Init), None);
        let first = slice(
            "a",
            &json!([endpoint("1", Some(true)), endpoint("2", Some(false))]),
        );
        assert_eq!(slices.take(watcher::Event::InitApply(first)), None);
        // The same one by IPv6, and one of which nothing is said.
        let second = slice(
            "b",
            &json!([endpoint("1", Some(true)), endpoint("3", None)]),
        );
        assert_eq!(slices.take(watcher::Event::InitApply(second)), None);
        assert_eq!(slices.take(watcher::Event::InitDone), count(2));
        let ready = slice(
            "a",
            &json!([endpoint("1", Some(true)), endpoint("2", Some(true))]),
        );
        assert_eq!(slices.take(watcher::Event::Apply(ready.clone())), count(3));
        assert_eq!(
            slices.take(watcher::Event::Apply(ready.clone())),
            None,
            "nothing changed"
        );
        assert_eq!(slices.take(watcher::Event::Delete(ready)), count(2));
    }

    #[test]
    fn a_gateway_alone_counts_as_one() {
        let mut slices = Slices::default();
        slices.take(watcher::Event::Init);
        assert_eq!(slices.take(watcher::Event::InitDone), count(1));
    }

    #[test]
    fn what_ends_is_not_counted() {
        let mut slices = Slices::default();
        let ending =
            json!({"addresses": ["10.0.0.1"], "conditions": {"ready": true, "terminating": true}});
        let serving = json!({"addresses": ["10.0.0.2"]});
        assert_eq!(
            slices.take(watcher::Event::Apply(slice("a", &json!([ending, serving])))),
            count(1)
        );
    }
}
