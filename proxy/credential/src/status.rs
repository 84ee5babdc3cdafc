//! The reported status of the credentials in use, never their values.

mod sources;

use std::sync::Arc;

use countersign_core::redact::redact;
use serde::{Deserialize, Serialize};

use super::{
    Credentials,
    revoke::NOT_REVOKED,
    slot::{Freshness, Slot},
};
use crate::health::{HealthRegistry, HealthStatus};

/// The most slots that are reported: a credential may have one for each caller.
const MOST: usize = 1_000;

/// The state of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CredentialState {
    /// No request has asked for it yet.
    Unused,
    /// There is a value, and its source did not fail last time.
    Good,
    /// There is a value in use, although its source fails.
    Stale,
    /// There is none: its source fails, or the API has rejected its value.
    Failed,
    /// There was one, and it was released: idle, or expired.
    Idle,
}

impl CredentialState {
    /// The word in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Good => "good",
            Self::Stale => "stale",
            Self::Failed => "failed",
            Self::Idle => "idle",
        }
    }
}

/// The status of one value: a credential's, or that of one caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialStatus {
    /// The credential's name.
    pub name: String,
    /// How it is obtained: the provider's key in YAML.
    pub provider: String,
    /// Where its secrets are kept, and who issues it: files, Secrets, paths in Vault, helpers, endpoints.
    #[serde(default)]
    pub sources: Vec<String>,
    /// Whose value it is, if each caller has its own: its issuer, its subject, and its pod if known.
    pub caller: Option<String>,
    /// Its state.
    pub state: CredentialState,
    /// The generation of the current value.
    pub generation: Option<u64>,
    /// Seconds since it was fetched.
    pub age_s: Option<u64>,
    /// Seconds until it expires; `None` if there is no known expiry, or no value.
    pub expires_in_s: Option<u64>,
    /// Seconds since a request last asked for it.
    pub last_use_s: Option<u64>,
    /// Why the source failed last, or else that the API rejects the value; `None` once it is over.
    pub last_error: Option<String>,
    /// Seconds since then.
    pub last_error_s: Option<u64>,
    /// A setting of its resource that has no effect.
    #[serde(default)]
    pub unheeded: Option<String>,
    /// Its health at its API; nothing for a value that each caller has for itself.
    pub health: Option<HealthStatus>,
}

/// The status of all credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialsStatus {
    /// By name and caller.
    pub credentials: Vec<CredentialStatus>,
    /// How many more there are that are not reported.
    pub omitted: usize,
}

impl CredentialsStatus {
    /// The same with their health at their APIs.
    #[must_use]
    pub fn with(mut self, health: &HealthRegistry) -> Self {
        for status in &mut self.credentials {
            if status.caller.is_some() {
                continue;
            }
            let health = health.known(&status.name);
            status.health = health.map(|health| health.status(status.generation));
            if let Some((error, ago)) = status.health.as_ref().and_then(HealthStatus::fault) {
                status.state = CredentialState::Failed;
                if status.last_error.is_none() {
                    status.last_error = Some(redact(&error).into_owned());
                    status.last_error_s = Some(ago);
                }
            }
        }
        self
    }
}

impl Credentials {
    /// The current status of all credentials that policies use.
    pub fn status(&self) -> CredentialsStatus {
        let table = self.table.load();
        let mut slots: Vec<Arc<Slot>> =
            table.entries.values().flat_map(super::Entry::all).collect();
        slots.sort_by(|one, other| one.credential.name.cmp(&other.credential.name));
        let omitted = slots.len().saturating_sub(MOST);
        slots.truncate(MOST);
        let mut credentials: Vec<_> = slots.iter().map(|slot| slot.status()).collect();
        credentials
            .sort_by(|one, other| (&one.name, &one.caller).cmp(&(&other.name, &other.caller)));
        CredentialsStatus {
            credentials,
            omitted,
        }
    }
}

impl Slot {
    fn status(&self) -> CredentialStatus {
        let now = self.clock.now();
        let held = self.held.load_full();
        let held = held.filter(|held| self.freshness(held) != Freshness::Bad);
        let failure = self.failure.load_full();
        let seconds = |from: jiff::Timestamp, to: jiff::Timestamp| {
            u64::try_from(to.duration_since(from).as_secs()).unwrap_or(0)
        };
        let caller = self.caller.as_ref().map(|caller| caller.described());
        CredentialStatus {
            name: self.credential.name.to_string(),
            provider: self.credential.provider.kind().to_owned(),
            sources: sources::of(&self.credential),
            caller,
            state: match (&held, &failure) {
                (Some(_), None) => CredentialState::Good,
                (Some(_), Some(_)) => CredentialState::Stale,
                (None, Some(_)) => CredentialState::Failed,
                (None, None) if self.last_use().is_some() => CredentialState::Idle,
                (None, None) => CredentialState::Unused,
            },
            generation: held.as_ref().map(|held| held.generation),
            age_s: held.as_ref().map(|held| seconds(held.obtained_at, now)),
            expires_in_s: held
                .as_ref()
                .and_then(|held| held.expires_at)
                .map(|end| seconds(now, end)),
            last_use_s: self.last_use().map(|age| age.as_secs()),
            last_error: failure
                .as_ref()
                .map(|failure| redact(&failure.error.to_string()).into_owned()),
            last_error_s: failure.map(|failure| failure.at.elapsed().as_secs()),
            unheeded: held
                .filter(|held| self.credential.revoke_when_idle && !held.value.is_revoked_at_end())
                .map(|_| NOT_REVOKED.to_owned()),
            health: None,
        }
    }
}
