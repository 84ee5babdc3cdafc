//! Who the clients of a sidecar's listener are: the pod whose sidecar it is.

use std::{path::Path, sync::Arc};

use countersign_core::secret::Secret;
use countersign_identity::{Caller, Identifier, OwnToken, Proof};

use crate::refusal::Refusal;

/// The identity of whatever comes in at a sidecar's listener: the pod's own token.
#[derive(Debug)]
pub(super) struct OwnIdentity(OwnToken);

impl OwnIdentity {
    /// The identity whose token is in `file`.
    pub(super) fn new(file: &Path) -> Self {
        Self(OwnToken::new(file))
    }

    /// The pod's identity. If the client presents a token too, that must be of the same subject and pod.
    pub(super) async fn caller(
        &self,
        identifier: &Identifier,
        presented: Option<&Secret>,
    ) -> Result<Arc<Caller>, Refusal> {
        let token = self.0.read().await?;
        let own = identifier.by_token(&token, Proof::OwnToken).await?;
        if let Some(presented) = presented {
            let presented = identifier.by_token(presented, Proof::ServiceAccountToken);
            identifier.of_same_pod(&own, &*presented.await?)?;
        }
        Ok(own)
    }
}
