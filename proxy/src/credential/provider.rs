//! Providers: how a credential is obtained. One `match` knows them all.

mod static_;

use std::time::Duration;

use countersign_config::model::{Credential, Provider};
use jiff::Timestamp;

use super::CredentialError;
use crate::secret::Secret;

/// What a provider brought.
#[derive(Debug, Clone)]
pub(super) struct Fetched {
    pub(super) secret: Secret,
    /// From when on its issuer no longer takes it.
    pub(super) expires_at: Option<Timestamp>,
}

/// When a provider wants to be asked again although its value has not come to its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recheck {
    /// From this age on it is asked while the value is still used.
    pub(super) due: Duration,
    /// From this age on the value is not used before the answer is there.
    pub(super) overdue: Duration,
}

/// Whom a slot asks for values.
#[derive(Debug, Clone)]
pub(super) enum Fetcher {
    /// The credential's provider.
    Provider,
    /// A test's.
    #[cfg(test)]
    Fake(std::sync::Arc<super::tests::Fake>),
}

impl Fetcher {
    pub(super) async fn fetch(&self, credential: &Credential) -> Result<Fetched, CredentialError> {
        match self {
            Self::Provider => match &credential.provider {
                Provider::Static { token } => static_::fetch(token).await,
                Provider::SlackRotation { .. } => Err(CredentialError::NotBuilt {
                    what: "Slack token rotation (slackRotation)",
                }),
            },
            #[cfg(test)]
            Self::Fake(fake) => fake.fetch().await,
        }
    }

    pub(super) fn recheck(&self, credential: &Credential) -> Option<Recheck> {
        match self {
            Self::Provider => match &credential.provider {
                Provider::Static { .. } => Some(static_::RECHECK),
                Provider::SlackRotation { .. } => None,
            },
            #[cfg(test)]
            Self::Fake(fake) => fake.recheck(),
        }
    }
}
