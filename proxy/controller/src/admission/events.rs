//! Events about pods that run without a relay, on whatever made the pod: nobody looks at a pod that works.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    core::{DynamicObject, admission::AdmissionRequest},
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::{sync::mpsc, time::timeout};

use super::{metrics::Metrics, outcome::LeftAlone};

/// The most Events that wait to be written; more are lost, and counted.
const WAITING: usize = 256;

/// How long the API server may take to store one.
const WRITE: Duration = Duration::from_secs(10);

/// Where Events are put. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events(mpsc::Sender<(ObjectReference, LeftAlone)>, Metrics);

impl Events {
    /// They are written as long as the future runs that comes with it.
    pub fn written(client: Client, metrics: Metrics) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, mut receiver) = mpsc::channel(WAITING);
        let counters = metrics.clone();
        let writing = async move {
            // It counts up an Event that is there already.
            let recorder = Recorder::new(client, Reporter::from("countersign-controller"));
            while let Some((regarding, why)) = receiver.recv().await {
                let event = event(why);
                match timeout(WRITE, recorder.publish(&event, &regarding)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        counters.event_lost();
                        tracing::warn!(%error, "an Event cannot be written");
                    }
                    Err(_) => counters.event_lost(),
                }
            }
        };
        (Self(sender, metrics), writing)
    }

    /// Tells that a pod was left alone, if it will run and somebody may not expect it.
    pub fn left_alone(&self, request: &AdmissionRequest<DynamicObject>, why: LeftAlone) {
        let is_expected = match why {
            LeftAlone::OptedOut | LeftAlone::MirrorPod => false,
            LeftAlone::NamespaceNotOptedIn
            | LeftAlone::SystemNamespace
            | LeftAlone::AlreadyInjected => true,
        };
        if is_expected || request.dry_run {
            return;
        }
        if let Some(regarding) = regarding(request)
            && self.0.try_send((regarding, why)).is_err()
        {
            self.1.event_lost();
        }
    }
}

fn event(why: LeftAlone) -> Event {
    Event {
        type_: EventType::Normal,
        reason: "PodNotInjected".to_owned(),
        note: Some(format!("{} ({})", why.message(), why.code())),
        action: "Inject".to_owned(),
        secondary: None,
    }
}

/// The pod's owner; or the pod, which has no uid yet.
fn regarding(request: &AdmissionRequest<DynamicObject>) -> Option<ObjectReference> {
    let metadata = &request.object.as_ref()?.metadata;
    let namespace = request.namespace.clone();
    let owners = metadata.owner_references.iter().flatten();
    let owner = owners
        .into_iter()
        .max_by_key(|owner| owner.controller == Some(true));
    if let Some(owner) = owner {
        return Some(ObjectReference {
            api_version: Some(owner.api_version.clone()),
            kind: Some(owner.kind.clone()),
            name: Some(owner.name.clone()),
            uid: Some(owner.uid.clone()),
            namespace,
            ..ObjectReference::default()
        });
    }
    let name = metadata.name.clone().filter(|name| !name.is_empty())?;
    Some(ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(name),
        namespace,
        ..ObjectReference::default()
    })
}
