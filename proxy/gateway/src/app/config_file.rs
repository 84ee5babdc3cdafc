//! The Gateway file while its gateway runs. It is read at start only, so a change of it does nothing until the
//! next start: that is said, with the keys that differ.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use countersign_config::load;
use countersign_core::metrics::Metrics;

use crate::observe::admin::AdminState;

/// A Gateway file, and what it was at start.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: PathBuf,
    at_start: String,
    /// What was told last.
    told: Mutex<Difference>,
}

/// How the file differs from what runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Difference {
    #[default]
    None,
    /// These keys have other values.
    Keys(Vec<String>),
    /// A gateway would not start with it.
    Unusable(String),
}

impl ConfigFile {
    pub(super) fn new(path: PathBuf, at_start: String) -> Self {
        Self {
            path,
            at_start,
            told: Mutex::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Compares the file with what runs; tells the log, `/readyz` and the metric.
    pub(super) fn compare(&self, state: &AdminState, metrics: &Metrics) {
        let now = match load::gateway_changes(&self.at_start, &self.path) {
            Ok(keys) if keys.is_empty() => Difference::None,
            Ok(keys) => Difference::Keys(keys),
            Err(problems) => Difference::Unusable(problems.errors()),
        };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        self.log(&told, &now);
        metrics.restart_needed(now != Difference::None);
        match &now {
            Difference::None => state.set_config_change(&[], None),
            Difference::Keys(keys) => state.set_config_change(keys, None),
            Difference::Unusable(problems) => state.set_config_change(&[], Some(problems)),
        }
        *told = now;
    }

    /// Until it is restarted, each reload says it again.
    fn log(&self, told: &Difference, now: &Difference) {
        let file = self.path.display();
        match now {
            Difference::None if *told == Difference::None => {}
            Difference::None => {
                tracing::info!(%file, "the Gateway file is again as it was at start");
            }
            Difference::Keys(keys) => tracing::warn!(
                %file,
                changed = keys.join(", "),
                "the Gateway file has changed, which a reload does not apply; restart the gateway"
            ),
            Difference::Unusable(error) => tracing::error!(
                %file,
                %error,
                "the Gateway file has changed and cannot be used; the gateway would not start again"
            ),
        }
    }
}
