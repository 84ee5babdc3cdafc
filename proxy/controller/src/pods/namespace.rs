//! The watch of one namespace's pods and Jobs.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use countersign_identity::Pods;
use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::{batch::v1::Job, core::v1};
use kube::{
    Api, Client,
    core::{ApiResource, PartialObjectMeta},
    runtime::{WatchStreamExt as _, watcher},
};

use super::observed::{Pod, SeenPod};
use crate::{
    backoff::Calm,
    rights::{self, Right},
    trouble,
};

const NEEDED: [Right; 4] = [
    ("", "pods", "list"),
    ("", "pods", "watch"),
    ("batch", "jobs", "list"),
    ("batch", "jobs", "watch"),
];

enum Event {
    Pod(watcher::Result<watcher::Event<Pod>>),
    Job(watcher::Result<watcher::Event<PartialObjectMeta<Job>>>),
}

/// Watches until it is dropped.
pub(super) async fn watch(client: Client, name: String, pods: Arc<Pods>) {
    let of_pods = ApiResource::erase::<v1::Pod>(&());
    let pod_api: Api<Pod> = Api::namespaced_with(client.clone(), &name, &of_pods);
    let job_api: Api<PartialObjectMeta<Job>> = Api::namespaced(client.clone(), &name);
    let config = watcher::Config::default;
    let pod_events = watcher(pod_api, config())
        .backoff(Calm::default())
        .map(Event::Pod);
    // Of a Job only its owner matters.
    let job_events = watcher(job_api, config())
        .backoff(Calm::default())
        .map(Event::Job);
    let mut events = std::pin::pin!(stream::select(pod_events, job_events));
    let mut namespace = NamespaceWatch::new(&name, pods);
    while let Some(event) = events.next().await {
        let failed = match event {
            Event::Pod(Ok(event)) => {
                namespace.pod(event);
                None
            }
            Event::Job(Ok(event)) => {
                namespace.job(event);
                None
            }
            Event::Pod(Err(error)) | Event::Job(Err(error)) => Some(error),
        };
        match failed {
            None => namespace.well(),
            Some(error) => {
                let missing = if trouble::is_forbidden(&error) {
                    rights::missing(&client, Some(&name), &NEEDED).await
                } else {
                    None
                };
                let said = || {
                    format!(
                        "the API server cannot be asked about pods: {}",
                        chain(&error)
                    )
                };
                namespace.unwell(&missing.unwrap_or_else(said));
            }
        }
    }
}

/// What has been read of one namespace.
struct NamespaceWatch {
    name: Arc<str>,
    pods: Arc<Pods>,
    seen: HashMap<Arc<str>, SeenPod>,
    /// By uid, with the `CronJob` of each that has one.
    jobs: BTreeMap<Arc<str>, Option<String>>,
    /// The uids of a list of pods that is being read, or that waits for the Jobs.
    listing: Option<HashSet<Arc<str>>>,
    listed: bool,
    jobs_listing: BTreeMap<Arc<str>, Option<String>>,
    jobs_listed: bool,
    /// The Jobs that are gone and have pods.
    orphaning: HashSet<Arc<str>>,
    unwell: bool,
}

impl NamespaceWatch {
    fn new(name: &str, pods: Arc<Pods>) -> Self {
        Self {
            name: name.into(),
            pods,
            seen: HashMap::new(),
            jobs: BTreeMap::new(),
            listing: None,
            listed: false,
            jobs_listing: BTreeMap::new(),
            jobs_listed: false,
            orphaning: HashSet::new(),
            unwell: false,
        }
    }

    fn pod(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => {
                self.listing = Some(HashSet::new());
                self.listed = false;
            }
            watcher::Event::InitApply(pod) | watcher::Event::Apply(pod) => {
                let Some(seen) = SeenPod::of(pod, &self.name) else {
                    return;
                };
                if let Some(listing) = &mut self.listing {
                    listing.insert(Arc::clone(&seen.uid));
                }
                self.pods.observe(seen.with_jobs(&self.jobs));
                self.seen.insert(Arc::clone(&seen.uid), seen);
            }
            watcher::Event::Delete(pod) => {
                if let Some(uid) = pod.metadata.uid {
                    let uid = Arc::from(uid);
                    self.forget(&uid);
                    self.pods.deleted(&uid);
                }
            }
            watcher::Event::InitDone => {
                self.listed = true;
                self.finish_list();
            }
        }
    }

    fn job(&mut self, event: watcher::Event<PartialObjectMeta<Job>>) {
        match event {
            watcher::Event::Init => self.jobs_listing.clear(),
            watcher::Event::InitApply(job) => {
                self.jobs_listing.extend(cron_job(&job));
            }
            watcher::Event::InitDone => {
                // A Job that is gone may have left a pod.
                self.jobs.append(&mut self.jobs_listing);
                self.jobs_listed = true;
                let seen = self.seen.values().filter(|pod| pod.job.is_some());
                seen.for_each(|pod| self.pods.observe(pod.with_jobs(&self.jobs)));
                self.finish_list();
            }
            watcher::Event::Apply(job) => {
                let Some((uid, cron_job)) = cron_job(&job) else {
                    return;
                };
                self.jobs.insert(Arc::clone(&uid), cron_job);
                let seen = self.seen.values();
                seen.filter(|pod| pod.job.as_ref() == Some(&uid))
                    .for_each(|pod| self.pods.observe(pod.with_jobs(&self.jobs)));
            }
            watcher::Event::Delete(job) => {
                if let Some(uid) = job.metadata.uid {
                    self.forget_job(&Arc::from(uid));
                }
            }
        }
    }

    /// Both lists were read: what is in neither is gone.
    fn finish_list(&mut self) {
        if !(self.listed && self.jobs_listed) {
            return;
        }
        if let Some(uids) = self.listing.take() {
            self.pods.synced(&self.name, &uids);
            self.seen.retain(|uid, _| uids.contains(uid));
        }
    }

    fn forget(&mut self, uid: &Arc<str>) {
        let job = self.seen.remove(uid).and_then(|pod| pod.job);
        if let Some(job) = job.filter(|job| self.orphaning.contains(job)) {
            self.forget_job(&job);
        }
    }

    /// A Job is gone. It is kept while one of its pods outlives it.
    fn forget_job(&mut self, uid: &Arc<str>) {
        if self.seen.values().any(|pod| pod.job.as_ref() == Some(uid)) {
            self.orphaning.insert(Arc::clone(uid));
        } else {
            self.orphaning.remove(uid);
            self.jobs.remove(uid);
        }
    }

    fn well(&mut self) {
        if std::mem::take(&mut self.unwell) {
            tracing::info!(namespace = %self.name, "pods are watched again");
            self.pods.trouble(&self.name, None);
        }
    }

    fn unwell(&mut self, why: &str) {
        if !std::mem::replace(&mut self.unwell, true) {
            tracing::warn!(namespace = %self.name, why, "pods are not watched");
        }
        self.pods.trouble(&self.name, Some(why));
    }
}

/// A Job's uid, and the `CronJob` that controls it.
fn cron_job(job: &PartialObjectMeta<Job>) -> Option<(Arc<str>, Option<String>)> {
    let uid = job.metadata.uid.as_deref()?;
    let owners = job.metadata.owner_references.as_deref().unwrap_or_default();
    let owner = owners.iter().find(|owner| {
        owner.controller == Some(true)
            && owner.kind == "CronJob"
            && owner.api_version.starts_with("batch/")
    });
    Some((uid.into(), owner.map(|owner| owner.name.clone())))
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}
