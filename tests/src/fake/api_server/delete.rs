//! Deleting: at once, after a grace period, or once the finalizers are done.

use std::sync::Arc;

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{
    failure::Failure,
    request::Target,
    selector::Selector,
    state::State,
    storage::Key,
    text,
    write::{Plan, Write, is_empty},
};

/// How long a pod has to end, if it does not say so itself.
const POD_GRACE: u64 = 30;

impl State {
    pub(super) fn plan_deletion(&self, write: &Write<'_>, name: &str) -> Result<Plan, Failure> {
        let Write { kind, target, .. } = write;
        let key = Key::new(kind, &target.namespace, name);
        let found = self.storage.get(&key);
        let object = found.ok_or_else(|| Failure::not_found(target, name))?;
        let options = options(write)?;
        check_preconditions(&options, object, target, name)?;
        let grace = grace(write, &options, object);
        let waits = !is_empty(&object["metadata"]["finalizers"]);
        let is_namespace = kind.kind == "Namespace" && !is_empty(&object["spec"]["finalizers"]);
        let ending = object["metadata"]["deletionGracePeriodSeconds"].as_u64();
        let after = if grace > 0 || waits || is_namespace {
            let mut after = Value::clone(object);
            let shorter = ending.is_none_or(|before| grace < before);
            if after["metadata"]["deletionTimestamp"].is_null() || shorter {
                after["metadata"]["deletionTimestamp"] = later(&write.now, grace).into();
                after["metadata"]["deletionGracePeriodSeconds"] = grace.into();
            }
            if is_namespace {
                after["status"]["phase"] = "Terminating".into();
            }
            Some(after)
        } else {
            None
        };
        Ok(Plan {
            key,
            kind: Arc::clone(kind),
            target: target.clone(),
            before: Some(Arc::clone(object)),
            after,
            status: StatusCode::OK,
            dry_run: write.query.get("dryRun").is_some() || !options["dryRun"].is_null(),
        })
    }

    /// The names in a collection that match.
    pub(super) fn selected(&self, write: &Write<'_>) -> Result<Vec<(String, String)>, Failure> {
        let selector = Selector::of(&write.query, &write.kind)?;
        let collection = write.kind.collection();
        let all = self.storage.all(&collection, &write.target.namespace);
        let wanted = all.filter(|(_, object)| selector.matches(object));
        Ok(wanted
            .map(|(key, _)| (key.namespace.clone(), key.name.clone()))
            .collect())
    }
}

fn options(write: &Write<'_>) -> Result<Value, Failure> {
    if write.received.body.is_empty() {
        return Ok(Value::Null);
    }
    let options = write.received.json().filter(Value::is_object);
    options.ok_or_else(|| Failure::bad_request("the body is no DeleteOptions"))
}

fn check_preconditions(
    options: &Value,
    object: &Value,
    target: &Target,
    name: &str,
) -> Result<(), Failure> {
    for (field, word) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let (wanted, is) = (&options["preconditions"][field], &object["metadata"][field]);
        if !wanted.is_null() && wanted != is {
            let why = format!(
                "Precondition failed: {word} in precondition: {}, {word} in object meta: {}",
                text(wanted),
                text(is)
            );
            return Err(Failure::conflict(target, name, &why));
        }
    }
    Ok(())
}

/// Only pods on a node that have not ended have time to end.
fn grace(write: &Write<'_>, options: &Value, object: &Value) -> u64 {
    let ended = ["Succeeded", "Failed"].map(|phase| object["status"]["phase"] == phase);
    let runs = !object["spec"]["nodeName"].is_null() && ended == [false, false];
    if write.kind.kind != "Pod" || !runs {
        return 0;
    }
    let of_query = write.query.get("gracePeriodSeconds");
    of_query
        .and_then(|text| text.parse().ok())
        .or_else(|| options["gracePeriodSeconds"].as_u64())
        .or_else(|| object["spec"]["terminationGracePeriodSeconds"].as_u64())
        .unwrap_or(POD_GRACE)
}

fn later(now: &str, seconds: u64) -> String {
    let now: Timestamp = now.parse().expect("the server's own time");
    (now + SignedDuration::from_secs(seconds.cast_signed())).to_string()
}
