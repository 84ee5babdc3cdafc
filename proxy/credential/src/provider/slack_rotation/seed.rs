//! What the operator gives a chain to begin with.

use countersign_config::model::SlackSeed;
use countersign_core::secret::Secret;

use super::{super::Asking, refresh_token};
use crate::{CredentialError, Tools, source::Form, state::Fingerprint};

/// What a chain can begin with.
#[derive(Debug)]
pub(super) struct Seed {
    pub(super) secret: Secret,
    pub(super) fingerprint: Fingerprint,
    pub(super) long_lived: bool,
}

impl Seed {
    pub(super) async fn read(
        asking: &Asking<'_>,
        seed: &SlackSeed,
        tools: &Tools,
    ) -> Result<Self, CredentialError> {
        let (source, long_lived) = match seed {
            SlackSeed::RefreshToken(source) => (source, false),
            SlackSeed::LongLivedToken(source) => (source, true),
        };
        let read = tools.sources.read(asking.credential, source, Form::Token);
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
