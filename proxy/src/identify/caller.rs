//! A proven caller.

use std::{fmt, sync::Arc};

use countersign_config::policy::CallerFacts;
use jiff::Timestamp;

use super::review::Standing;
use crate::flight::LastTime;

/// How a caller was proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proof {
    /// By a projected service-account token that it presented.
    ServiceAccountToken,
    /// By the X.509-SVID of its connection.
    X509Svid,
    /// By the token file of the pod that it shares with this gateway.
    OwnToken,
}

impl Proof {
    /// The stable name in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServiceAccountToken => "service-account-token",
            Self::X509Svid => "x509-svid",
            Self::OwnToken => "own-token",
        }
    }
}

/// A caller that was proven. Whoever holds one may rely on all that it says; only this module's
/// parent makes them.
pub struct Caller {
    pub(super) facts: CallerFacts,
    pub(super) proof: Proof,
    pub(super) issuer: Arc<str>,
    pub(super) subject: Arc<str>,
    pub(super) token_id: Option<Arc<str>>,
    pub(super) expires_at: Timestamp,
    pub(super) key: [u8; 32],
    /// When the proof was last checked against the issuer's keys.
    pub(super) verified: LastTime,
    /// What the API server says of it, where it is asked.
    pub(super) standing: Option<Arc<Standing>>,
}

impl Caller {
    /// What policy may decide by.
    pub fn facts(&self) -> &CallerFacts {
        &self.facts
    }

    /// How it was proven.
    pub fn proof(&self) -> Proof {
        self.proof
    }

    /// The name, in our configuration, of the issuer that vouched for it.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Who it is in its issuer's terms, such as `system:serviceaccount:qa:nightly-dashboard`.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The token's `jti`.
    pub fn token_id(&self) -> Option<&str> {
        self.token_id.as_deref()
    }

    /// The end of its proof; there is no leeway.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// Whether its proof has come to its end.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }

    /// The SHA-256 of its proof, whole, for use as a cache's key.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("subject", &self.subject)
            .field("issuer", &self.issuer)
            .field("proof", &self.proof)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}
