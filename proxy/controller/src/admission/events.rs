//! Events about pods that run without a relay, on whatever made the pod: nobody looks at a pod that works.
//! Of pods that were left alone, and of those that are found later.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    core::{DynamicObject, ObjectMeta, admission::AdmissionRequest},
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::{sync::mpsc, time::timeout};

use super::{metrics::Metrics, outcome::LeftAlone};

/// The most Events that wait to be written; more are lost, and counted.
const WAITING: usize = 256;

/// How long the API server may take to store one.
const WRITE: Duration = Duration::from_secs(10);

/// Why a pod runs without a relay though its namespace has opted in. The codes are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRelay {
    /// A new one like it would get one.
    NotInjected,
    /// A new one like it would be refused.
    WouldBeRefused,
}

impl NoRelay {
    /// The code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotInjected => "not_injected",
            Self::WouldBeRefused => "would_be_refused",
        }
    }

    /// What to do, for the pods' owner.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::NotInjected => "create them again, and they get one",
            Self::WouldBeRefused => {
                "new ones would be refused: kubectl apply --dry-run=server says why"
            }
        }
    }
}

/// What an Event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// A pod was left alone when it was created.
    LeftAlone(LeftAlone),
    /// Pods run without a relay.
    WithoutRelay {
        /// How many of one owner.
        pods: usize,
        /// Why.
        reason: NoRelay,
    },
}

/// Where Events are put. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events(mpsc::Sender<(ObjectReference, Notice)>, Metrics);

impl Events {
    /// They are written as long as the future runs that comes with it.
    pub fn written(client: Client, metrics: Metrics) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, mut receiver) = mpsc::channel(WAITING);
        let counters = metrics.clone();
        let writing = async move {
            // It counts up an Event that is there already.
            let recorder = Recorder::new(client, Reporter::from("countersign-controller"));
            while let Some((regarding, notice)) = receiver.recv().await {
                let event = event(notice);
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
        if let Some(regarding) = regarding(request) {
            self.tell(regarding, Notice::LeftAlone(why));
        }
    }

    /// Writes an Event, later. It is counted if it is lost.
    pub fn tell(&self, regarding: ObjectReference, notice: Notice) {
        if self.0.try_send((regarding, notice)).is_err() {
            self.1.event_lost();
        }
    }
}

fn event(notice: Notice) -> Event {
    match notice {
        Notice::LeftAlone(why) => Event {
            type_: EventType::Normal,
            reason: "PodNotInjected".to_owned(),
            note: Some(format!("{} ({})", why.message(), why.code())),
            action: "Inject".to_owned(),
            secondary: None,
        },
        Notice::WithoutRelay { pods, reason } => {
            let pods = match pods {
                1 => "A pod runs".to_owned(),
                more => format!("{more} pods run"),
            };
            Event {
                type_: EventType::Warning,
                reason: "PodWithoutRelay".to_owned(),
                note: Some(format!(
                    "{pods} without a relay, though the namespace has opted in, and so without access by a credential: {} ({})",
                    reason.remedy(),
                    reason.code()
                )),
                action: "Inject".to_owned(),
                secondary: None,
            }
        }
    }
}

/// The pod's owner; or the pod, which has no uid yet.
fn regarding(request: &AdmissionRequest<DynamicObject>) -> Option<ObjectReference> {
    owner_or_self(
        &request.object.as_ref()?.metadata,
        request.namespace.clone(),
    )
}

/// The owner of a pod with these metadata, or the pod itself.
pub(crate) fn owner_or_self(
    metadata: &ObjectMeta,
    namespace: Option<String>,
) -> Option<ObjectReference> {
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
        uid: metadata.uid.clone(),
        namespace,
        ..ObjectReference::default()
    })
}
