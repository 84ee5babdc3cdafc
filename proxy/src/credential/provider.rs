//! Providers: how a credential is obtained. One `match` knows them all.

mod static_;

use std::{sync::Arc, time::Duration};

use countersign_config::model::{Credential, Provider};
use jiff::Timestamp;

use super::{CredentialError, Tools};
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

/// What a provider is asked.
#[derive(Debug)]
pub(super) struct Asking<'a> {
    /// The credential that a value is wanted for.
    pub(super) credential: &'a Credential,
    /// A value that the API has rejected, so that it is not brought again.
    #[expect(
        dead_code,
        reason = "no provider can do better than to ask its source again yet"
    )]
    pub(super) rejected: Option<&'a Secret>,
}

/// Whom a slot asks for values.
#[derive(Debug, Clone)]
pub(super) enum Fetcher {
    /// The credential's provider.
    Provider(Arc<Tools>),
    /// A test's.
    #[cfg(test)]
    Fake(Arc<super::tests::Fake>),
}

impl Fetcher {
    pub(super) async fn fetch(&self, asking: Asking<'_>) -> Result<Fetched, CredentialError> {
        let tools = match self {
            Self::Provider(tools) => tools,
            #[cfg(test)]
            Self::Fake(fake) => return fake.fetch().await,
        };
        let not_built = |what| Err(CredentialError::NotBuilt { what });
        match &asking.credential.provider {
            Provider::Static { token } => static_::fetch(&asking, token, tools).await,
            Provider::Basic { .. } => not_built("a name and a password (basic)"),
            Provider::SlackRotation { .. } => not_built("Slack token rotation (slackRotation)"),
            Provider::ClientCredentials { .. } => {
                not_built("an OAuth 2.0 access token (oauth2ClientCredentials)")
            }
            Provider::TokenExchange { .. } => not_built("token exchange (tokenExchange)"),
            Provider::Jwt { .. } => not_built("a minted token (jwt)"),
        }
    }

    pub(super) fn recheck(&self, credential: &Credential) -> Option<Recheck> {
        match self {
            Self::Provider(_) => match &credential.provider {
                Provider::Static { .. } | Provider::Basic { .. } => Some(static_::RECHECK),
                Provider::SlackRotation { .. }
                | Provider::ClientCredentials { .. }
                | Provider::TokenExchange { .. }
                | Provider::Jwt { .. } => None,
            },
            #[cfg(test)]
            Self::Fake(fake) => fake.recheck(),
        }
    }
}
