//! The labels and annotations of namespaces: watched, and asked for where what is known is older than the call.

use std::{fmt, time::Duration};

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    core::{ObjectMeta, PartialObjectMeta},
    runtime::{
        WatchStreamExt as _,
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use tokio::time::timeout;

use super::settings::NamespaceFacts;
use crate::backoff::Calm;

/// How long the API server may take to tell about one namespace. It waits for us meanwhile.
const ASK: Duration = Duration::from_secs(3);

/// What is known of namespaces.
#[derive(Clone)]
pub struct Namespaces {
    known: Store<PartialObjectMeta<Namespace>>,
    client: Client,
}

impl fmt::Debug for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespaces").finish_non_exhaustive()
    }
}

impl Namespaces {
    /// Knows them as long as the future runs that comes with it.
    pub fn watch(client: Client) -> (Self, impl Future<Output = ()> + Send) {
        let (known, writer) = reflector::store();
        let api = Api::<PartialObjectMeta<Namespace>>::all(client.clone());
        let events = watcher(api, watcher::Config::default()).backoff(Calm::default());
        let events = reflector::reflector(writer, events);
        let following = events.for_each(|event| {
            if let Err(error) = event {
                tracing::warn!(%error, "cannot watch namespaces; each is asked for until then");
            }
            std::future::ready(())
        });
        (Self { known, client }, following)
    }

    /// What is known of one. The webhook is called for opted-in ones alone: if it is not known as one, it is asked
    /// for.
    ///
    /// # Errors
    /// When the API server does not tell, in words.
    pub async fn facts(&self, name: &str) -> Result<NamespaceFacts, String> {
        let known = self.known.get(&ObjectRef::new(name));
        let known = known.map(|found| facts(name, &found.metadata));
        if let Some(known) = known.filter(NamespaceFacts::is_opted_in) {
            return Ok(known);
        }
        let api = Api::<PartialObjectMeta<Namespace>>::all(self.client.clone());
        match timeout(ASK, api.get(name)).await {
            Ok(Ok(found)) => Ok(facts(name, &found.metadata)),
            Ok(Err(error)) => Err(format!("the namespace {name} cannot be read: {error}")),
            Err(_) => Err(format!(
                "the API server does not tell about the namespace {name} within {} s",
                ASK.as_secs()
            )),
        }
    }
}

fn facts(name: &str, metadata: &ObjectMeta) -> NamespaceFacts {
    NamespaceFacts {
        name: name.to_owned(),
        labels: metadata.labels.clone().unwrap_or_default(),
        annotations: metadata.annotations.clone().unwrap_or_default(),
    }
}
