//! The operator's seed of a chain.

use countersign_config::model::SlackSeed;
use countersign_core::secret::Secret;

use super::{super::FetchRequest, refresh_token};
use crate::{CredentialError, ProviderContext, source::Form, state::Fingerprint};

/// A seed of a chain.
#[derive(Debug)]
pub(super) struct Seed {
    pub(super) secret: Secret,
    pub(super) fingerprint: Fingerprint,
    pub(super) long_lived: bool,
}

impl Seed {
    pub(super) async fn read(
        request: &FetchRequest<'_>,
        seed: &SlackSeed,
        context: &ProviderContext,
    ) -> Result<Self, CredentialError> {
        let (source, long_lived) = match seed {
            SlackSeed::RefreshToken(source) => (source, false),
            SlackSeed::LongLivedToken(source) => (source, true),
        };
        let read = context
            .sources
            .read_for(request.credential, source, Form::Token);
        let secret = read.await?.secret;
        let fingerprint = if long_lived {
            Fingerprint::of("long-lived token", &secret)
        } else {
            refresh_token(&secret)
        };
        Ok(Self {
            secret,
            fingerprint,
            long_lived,
        })
    }
}
