//! What a gateway needs before it can identify callers: the keys of each issuer, an API server that reviews
//! tokens, the bundles of its trust domains.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::{Identifier, Issuer};

/// The interval of attempts.
const AGAIN: Duration = Duration::from_secs(1);

/// Which sources of callers cannot be used yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// One sentence for each.
    pub why: Vec<String>,
    /// Whether there are others, whose callers can be identified.
    pub some_usable: bool,
}

impl Identifier {
    /// Fetches what identity needs, and completes once callers of every source can be identified. A later
    /// outage does not matter here: what was fetched is kept.
    pub async fn prepare(&self) {
        let issuers = join_all(self.issuers.iter().map(Issuer::prepare));
        tokio::join!(issuers, self.trust_domains.complete());
    }

    /// Which sources were never usable since the start.
    pub fn missing(&self) -> Missing {
        let issuers = self.issuers.iter().map(Issuer::missing);
        let domains = self.trust_domains.without_bundle().map(Some);
        let why: Vec<_> = issuers.chain(domains).flatten().collect();
        let sources = self.issuers.len() + self.trust_domains.count();
        Missing {
            some_usable: why.len() < sources,
            why,
        }
    }
}

impl Issuer {
    async fn prepare(&self) {
        while self.jwks.fetch_first().await.is_err() {
            sleep(AGAIN).await;
        }
        let Some(reviewer) = &self.reviewer else {
            return;
        };
        while reviewer.ask_first().await.is_err() {
            sleep(AGAIN).await;
        }
    }

    fn missing(&self) -> Option<String> {
        let unanswered = || self.reviewer.as_ref()?.not_yet_answered();
        let error = self.jwks.not_yet_fetched().or_else(unanswered)?;
        Some(error.to_string())
    }
}
