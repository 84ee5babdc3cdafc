//! Makes a revision of the files and the cluster's objects, and puts it in force.

use std::sync::Arc;

use countersign_authorize::Snapshot;
use countersign_config::{
    cluster::{Objects, Report},
    load::{self, Fingerprints, Loaded},
    policy::PolicySet,
    problem::Problems,
};

use super::{
    super::{in_force::InForce, low_priority::at_low_priority, state::GatewayState},
    ReloadError, Shared, Sources,
};
use crate::observe::Happened;

/// What can be put in force.
struct Attempt {
    loaded: Loaded,
    /// The objects in it.
    objects: Option<Objects>,
    /// Why the files of now are not in it.
    rejected: Option<Problems>,
}

impl Shared {
    pub(super) fn take(&self, in_force: &mut InForce) -> Result<(), ReloadError> {
        let taken = self.try_take(in_force);
        if let (Err(_), Some(objects)) = (&taken, &self.sources.objects) {
            objects.not_taken();
        }
        match taken? {
            None => Ok(()),
            Some(rejected) => Err(rejected.into()),
        }
    }

    /// Puts what can be in force into force; returns why the files are not in it.
    fn try_take(&self, in_force: &mut InForce) -> Result<Option<Problems>, ReloadError> {
        let Attempt {
            loaded,
            objects,
            rejected,
        } = self.load(in_force)?;
        warn(&loaded.warnings);
        self.put_in_force(loaded, objects, in_force)?;
        Ok(rejected)
    }

    fn put_in_force(
        &self,
        loaded: Loaded,
        objects: Option<Objects>,
        in_force: &mut InForce,
    ) -> Result<(), ReloadError> {
        let Loaded {
            policies,
            fingerprints,
            texts,
            verdicts,
            accepted,
            ..
        } = loaded;
        let report = Report::new(verdicts, accepted.clone(), &policies);
        let access = &self.gateway.access;
        let (revision, now) = (policies.revision().to_owned(), access.clock.now());
        let previous = access.snapshots.load_full();
        if policies.revision() != &**previous.revision() {
            self.replace(previous, policies, fingerprints, in_force)?;
            if objects.is_none() {
                in_force.last_good.keep(&texts, None);
                let texts = load::all_texts(&texts, &accepted);
                in_force.history.keep(&revision, &texts, now);
            }
        }
        if let (Some(all), Some(objects)) = (objects, &self.sources.objects) {
            in_force.take_objects(all, accepted, texts, &revision, now);
            objects.tell(report);
        }
        Ok(())
    }

    fn replace(
        &self,
        previous: Arc<Snapshot>,
        policies: PolicySet,
        fingerprints: Fingerprints,
        in_force: &mut InForce,
    ) -> Result<(), ReloadError> {
        let GatewayState {
            access,
            credential,
            ca,
            recorder,
            ..
        } = &*self.gateway;
        // Certificates for the new hosts first: requests for them may arrive at once.
        ca.constrain(policies.intercepted_hosts())?;
        let next = Arc::new(Snapshot::new(policies, Some(&previous)));
        let revision = Arc::clone(next.revision());
        // Before the new revision is in force: a late request of the old one must not bring back a
        // credential that was dropped.
        credential.credentials.retain(next.credentials());
        let in_use = next.credentials();
        credential
            .health
            .retain(in_use.map(|credential| &credential.name));
        access
            .identifier
            .want_pods(|cluster| next.policies().namespaces_asked_about(cluster));
        access.snapshots.store(next);
        recorder.metrics().reloaded(&revision, access.clock.now());
        self.state.set_revision(&revision);
        tracing::info!(%revision, "a new revision is in force");
        let changes = in_force.fingerprints.changes(&fingerprints);
        in_force.fingerprints = fingerprints;
        let before = previous.revision().to_string();
        in_force.retired.push(previous);
        self.gateway.tell(Happened::Reloaded {
            previous: before,
            changes,
        });
        Ok(())
    }

    /// Reads the resources so that requests do not have to wait for it.
    fn load(&self, in_force: &InForce) -> Result<Attempt, Problems> {
        let Sources {
            directories,
            objects,
            setting,
        } = &self.sources;
        let setting = setting.later(self.gateway.access.clock.now());
        let Some(objects) = objects else {
            let loaded = at_low_priority(|| load::resources_in(directories, &setting))?;
            return Ok(Attempt {
                loaded,
                objects: None,
                rejected: None,
            });
        };
        let all = objects.take();
        let accepted = &in_force.accepted;
        let read = || load::resources_and_objects(directories, &all, accepted, &setting);
        // Whoever writes objects does not wait for whoever writes files.
        let again = || {
            let texts = in_force.texts.clone();
            load::resources_of_and_objects(texts, &all, accepted, &setting)
        };
        let (loaded, rejected) = match at_low_priority(read) {
            Ok(loaded) => (loaded, None),
            Err(problems) => match at_low_priority(again) {
                Ok(loaded) => (loaded, Some(problems)),
                Err(_) => return Err(problems),
            },
        };
        Ok(Attempt {
            loaded,
            objects: Some(all),
            rejected,
        })
    }
}

/// Logs what is usable but probably not meant.
pub(in crate::app) fn warn(warnings: &Problems) {
    if !warnings.0.is_empty() {
        tracing::warn!(warnings = %warnings, "the resources are usable, but look at this");
    }
}
