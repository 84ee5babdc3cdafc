//! A store that tests control, and directories that they damage.

mod claims;
mod directory;

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use super::*;
use countersign_core::secret::Secret;

/// A store without locks: compare-and-set in memory, with failures on demand.
#[derive(Debug, Default)]
pub(super) struct FakeStore {
    kept: Mutex<(Option<StateDocument>, u64)>,
    mishaps: Mutex<VecDeque<Mishap>>,
}

/// The failure of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mishap {
    /// None.
    None,
    /// It is not done, and returns an error.
    Refused,
    /// It is done, but returns an error.
    AnswerLost,
}

impl FakeStore {
    pub(super) fn read(&self) -> Stored {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match &kept.0 {
            None => Stored::nothing(),
            Some(document) => Stored {
                document: document.clone(),
                version: Version::Known(kept.1.to_string().into()),
            },
        }
    }

    pub(super) fn replace(
        &self,
        expected: &Version,
        document: &StateDocument,
    ) -> Result<Version, StateError> {
        let lost = || StateError::Unavailable {
            reason: "as the test wants".into(),
        };
        let mishap = self.mishaps.lock().unwrap().pop_front();
        if mishap == Some(Mishap::Refused) {
            return Err(lost());
        }
        if self.read().version != *expected {
            return Err(StateError::Conflict);
        }
        let mut kept = self.kept.lock().unwrap();
        *kept = (Some(document.clone()), kept.1 + 1);
        match mishap {
            Some(Mishap::AnswerLost) => Err(lost()),
            Some(Mishap::None | Mishap::Refused) | None => {
                Ok(Version::Known(kept.1.to_string().into()))
            }
        }
    }

    fn suffer(&self, mishaps: &[Mishap]) {
        self.mishaps.lock().unwrap().extend(mishaps);
    }
}

fn name() -> ResourceName {
    ResourceName::namespaced("qa", "slack-bot")
}

fn start() -> Timestamp {
    "2026-11-23T05:10:00Z".parse().unwrap()
}

fn spent(token: &str) -> Fingerprint {
    Fingerprint::of("refresh token", &Secret::new(token.into()))
}

fn pair(number: u32) -> Pair {
    Pair {
        access: Some(Access {
            token: Secret::new(format!("xoxe.xoxb-{number}")),
            obtained_at: start(),
            expires_at: start() + jiff::SignedDuration::from_hours(12),
        }),
        refresh_token: Secret::new(format!("xoxe-1-{number}")),
    }
}

fn document(number: u32) -> StateDocument {
    StateDocument {
        pair: Some(pair(number)),
        ..StateDocument::default()
    }
}
