//! Why a proof proves no caller, and what it says if its signature is its issuer's.

use std::{fmt, sync::Arc};

use countersign_config::policy::CallerFacts;

use super::{Caller, IdentifyError};

/// The most audiences of a refused token that are kept, and the longest text of each claim, in bytes.
const MOST_AUDIENCES: usize = 4;
const MOST_BYTES: usize = 253;

/// A proof that proves no caller. Nothing turns it into a [`Caller`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unproven {
    error: IdentifyError,
    signed: Option<Arc<SignedClaims>>,
}

/// What a token says whose signature its issuer made, and which is refused for something else. It is good for
/// telling people whose token it is, and for nothing else: it may be expired, withdrawn, or meant for another
/// audience.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignedClaims {
    /// The configured name of its issuer.
    pub issuer: Arc<str>,
    /// Its `sub`.
    pub subject: Option<Arc<str>>,
    /// The namespace in `sub`, if that names a service account.
    pub namespace: Option<Arc<str>>,
    /// The service account in `sub`.
    pub service_account: Option<Arc<str>>,
    /// The pod's name.
    pub pod: Option<Arc<str>>,
    /// The first of its audiences.
    pub audiences: Vec<Arc<str>>,
    /// Its `jti`.
    pub token_id: Option<Arc<str>>,
}

impl Unproven {
    /// A token whose signature was verified.
    pub(super) fn signed(error: IdentifyError, claims: SignedClaims) -> Self {
        Self {
            error,
            signed: Some(Arc::new(claims)),
        }
    }

    /// The same, with the configured name of the issuer.
    pub(super) fn by(mut self, issuer: &Arc<str>) -> Self {
        if let Some(claims) = &mut self.signed {
            Arc::make_mut(claims).issuer = Arc::clone(issuer);
        }
        self
    }

    /// A token that was that of a caller, for this audience.
    pub(super) fn of_caller(
        error: IdentifyError,
        caller: &Caller,
        audience: Option<Arc<str>>,
    ) -> Self {
        // Whoever has a key that was withdrawn can sign anything.
        if caller.token.is_none() || matches!(error, IdentifyError::KeyWithdrawn { .. }) {
            return error.into();
        }
        let facts = &caller.facts;
        let claims = SignedClaims {
            issuer: Arc::clone(&caller.issuer),
            subject: Some(Arc::clone(&caller.subject)),
            namespace: facts.namespace.clone(),
            service_account: facts.service_account.clone(),
            pod: facts.pod.clone(),
            audiences: audience.into_iter().collect(),
            token_id: caller.token_id.clone(),
        };
        Self::signed(error, claims)
    }

    /// Why it proves nothing.
    pub fn error(&self) -> &IdentifyError {
        &self.error
    }

    /// What it says, if its signature is its issuer's.
    pub fn claims(&self) -> Option<&Arc<SignedClaims>> {
        self.signed.as_ref()
    }

    /// Whether it is known whose proof it is, and it stays refused until a person changes something.
    pub fn is_final(&self) -> bool {
        self.signed.is_some() && self.error.is_final()
    }
}

impl From<IdentifyError> for Unproven {
    fn from(error: IdentifyError) -> Self {
        Self {
            error,
            signed: None,
        }
    }
}

impl fmt::Display for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl std::error::Error for Unproven {}

impl SignedClaims {
    /// What selectors would match, if it were a caller; for the owner of its workload.
    pub fn facts(&self) -> CallerFacts {
        CallerFacts {
            cluster: Some(Arc::clone(&self.issuer)),
            namespace: self.namespace.clone(),
            service_account: self.service_account.clone(),
            pod: self.pod.clone(),
            spiffe_id: None,
            kubernetes: None,
        }
    }

    /// Keeps the first audiences.
    pub(super) fn for_audiences<'a>(mut self, audiences: impl Iterator<Item = &'a str>) -> Self {
        self.audiences = audiences.take(MOST_AUDIENCES).map(kept).collect();
        self
    }
}

/// A claim as it is kept: a token may be 16 KiB long.
pub(super) fn kept(claim: &str) -> Arc<str> {
    claim[..claim.floor_char_boundary(MOST_BYTES)].into()
}
