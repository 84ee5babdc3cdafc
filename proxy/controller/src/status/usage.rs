//! Writes when something was used last, to the hour.

use std::{collections::BTreeMap, time::Duration};

use countersign_config::{cluster::Key, resource::Kind};
use jiff::Timestamp;
use serde_json::json;
use tokio::time::sleep;

use super::{Objects, Source, USAGE_MANAGER, why};
use crate::backoff::jittered;

/// After a write that failed.
const PAUSE: Duration = Duration::from_secs(10);

/// Writes until it is dropped.
pub(super) async fn write(source: &Source, objects: &Objects<'_>) {
    let mut written: BTreeMap<Key, Timestamp> = BTreeMap::new();
    let mut due: BTreeMap<Key, Timestamp> = BTreeMap::new();
    let mut told = None;
    loop {
        for used in (source.used)() {
            let is_new = written.get(&used.key).is_none_or(|hour| *hour < used.hour);
            // A target is used by everybody.
            if is_new && used.key.kind != Kind::TargetService && is_object(source, &used.key) {
                due.insert(used.key, used.hour);
            }
        }
        while let Some((key, hour)) = due.pop_first() {
            let status = json!({ "lastUsedTime": hour.to_string() });
            match objects.apply(&key, USAGE_MANAGER, status).await {
                Ok(()) => {
                    written.insert(key, hour);
                    told = None;
                    sleep(source.pace.writes).await;
                }
                Err(error) => {
                    due.insert(key, hour);
                    let why = why(&error);
                    if told.as_ref() != Some(&why) {
                        tracing::warn!(%why, "when objects were used last is not written");
                        told = Some(why);
                    }
                    sleep(jittered(PAUSE)).await;
                    break;
                }
            }
        }
        sleep(source.pace.look).await;
    }
}

/// Whether it is an object of the cluster: resources of files are used too.
fn is_object(source: &Source, key: &Key) -> bool {
    let report = source.reports.borrow();
    let verdicts = report.as_ref().map(|report| report.verdicts.as_slice());
    let verdicts = verdicts.unwrap_or_default();
    verdicts
        .binary_search_by(|verdict| verdict.key.cmp(key))
        .is_ok()
}
