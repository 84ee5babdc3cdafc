//! An identified caller.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
};

use countersign_config::policy::CallerFacts;
use countersign_core::{
    bearer::Bearer,
    budget::{Account, Budget},
    clock::Clock,
    secret::Secret,
    single_flight::LastTime,
};
use jiff::Timestamp;

use super::{
    IdentifyError,
    jwks::VerifiedKey,
    pods::{Gone, KnownPod},
    review::ReviewStatus,
    svid::Svid,
};

/// How a caller was proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proof {
    /// By a projected service-account token in the request.
    ServiceAccountToken,
    /// By the X.509-SVID of its connection.
    X509Svid,
    /// By the token file of the pod that this gateway is a sidecar of.
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

/// A caller that was proven. Only this crate's identification makes one, so everything in it can be relied on.
pub struct Caller {
    pub(super) facts: CallerFacts,
    pub(super) proof: Proof,
    pub(super) issuer: Arc<str>,
    pub(super) subject: Arc<str>,
    pub(super) token_id: Option<Arc<str>>,
    /// The token itself, for exchanging it for another; there is one copy in total.
    pub(super) token: Option<Arc<Secret>>,
    pub(super) expires_at: Timestamp,
    pub(super) key: [u8; 32],
    /// When the proof was last checked against the issuer's keys.
    pub(super) verified: LastTime,
    /// The key that verified the token, which its issuer may withdraw; certificates have `svid`.
    pub(super) verified_key: Option<Arc<VerifiedKey>>,
    /// The API server's reviews of the token, if it is asked.
    pub(super) review: Option<Arc<ReviewStatus>>,
    /// What the API server says of its pod, if it is asked.
    pub(super) known_pod: Option<Arc<KnownPod>>,
    /// The certificate of its connection, if it has one.
    pub(super) svid: Option<Arc<Svid>>,
    /// The memory account of its workload; looked up once.
    pub(super) account: OnceLock<Arc<Account>>,
}

impl Caller {
    /// A caller by certificate. Its namespace and service account are not facts: the path of a SPIFFE ID
    /// is a convention of each trust domain, and policy names the whole ID.
    pub(super) fn of_svid(svid: Svid) -> Self {
        let verified = LastTime::never();
        verified.mark();
        Self {
            facts: CallerFacts {
                cluster: None,
                namespace: None,
                service_account: None,
                pod: None,
                spiffe_id: Some(svid.id.shared()),
                kubernetes: None,
            },
            proof: Proof::X509Svid,
            issuer: svid.id.trust_domain().shared(),
            subject: svid.id.shared(),
            token_id: Some(svid.serial.as_ref().into()),
            token: None,
            expires_at: svid.not_after,
            key: svid.key(),
            verified,
            verified_key: None,
            review: None,
            known_pod: None,
            svid: Some(Arc::new(svid)),
            account: OnceLock::new(),
        }
    }

    /// The caller by token, with the SPIFFE ID of its connection; `None` if they are not the same
    /// service account.
    pub(super) fn of_both(token: &Self, certificate: &Self) -> Option<Self> {
        let svid = certificate.svid.as_ref()?;
        let facts = &token.facts;
        let of_token = (
            facts.namespace.as_deref()?,
            facts.service_account.as_deref()?,
        );
        if svid.id.service_account() != Some(of_token) {
            return None;
        }
        let verified = LastTime::never();
        verified.mark();
        Some(Self {
            facts: CallerFacts {
                spiffe_id: Some(svid.id.shared()),
                ..facts.clone()
            },
            proof: token.proof,
            issuer: Arc::clone(&token.issuer),
            subject: Arc::clone(&token.subject),
            token_id: token.token_id.clone(),
            token: token.token.clone(),
            expires_at: token.expires_at.min(certificate.expires_at),
            key: token.key,
            verified,
            verified_key: token.verified_key.clone(),
            review: token.review.clone(),
            known_pod: token.known_pod.clone(),
            svid: Some(Arc::clone(svid)),
            account: OnceLock::new(),
        })
    }

    /// The facts for policy decisions.
    pub fn facts(&self) -> &CallerFacts {
        &self.facts
    }

    /// How it was proven.
    pub fn proof(&self) -> Proof {
        self.proof
    }

    /// The name, in our configuration, of its issuer.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The caller in its issuer's terms, such as `system:serviceaccount:qa:nightly-dashboard`.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// A name that is unique among the callers of all issuers. A subject has no space in it, so two
    /// pairs of names cannot give the same text.
    pub fn full_name(&self) -> String {
        format!("{} {}", self.issuer, self.subject)
    }

    /// Whose proof it is, for a sentence.
    pub(super) fn in_words(&self) -> String {
        let pod = self.facts.pod.as_deref();
        let pod = pod.map(|pod| format!(", pod {pod}")).unwrap_or_default();
        format!("{} (issuer {}{pod})", self.subject, self.issuer)
    }

    /// The token's `jti`, or the serial number of the certificate.
    pub fn token_id(&self) -> Option<&str> {
        self.token_id.as_deref()
    }

    /// When its proof expires; there is no leeway.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// That its pod still runs, and is what it was when the caller was proven.
    pub(super) fn confirm_pod(&self) -> Result<(), IdentifyError> {
        match self.known_pod.as_ref().and_then(|pod| pod.gone()) {
            None => Ok(()),
            Some(Gone::Changed) => Err(IdentifyError::PodChanged),
            Some(Gone::Ended(how)) => Err(IdentifyError::PodEnded { how }),
        }
    }

    /// Whether something else is known of its pod now, or it has ended.
    pub(super) fn is_other_pod(&self) -> bool {
        self.confirm_pod().is_err()
    }

    /// Whether its proof has expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }

    /// The memory account of its workload; looked up once.
    pub fn account(&self, budget: &Budget) -> &Arc<Account> {
        self.account
            .get_or_init(|| budget.account_of(&self.issuer, &self.subject))
    }

    /// The SHA-256 of its whole proof, as a cache key.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }
}

impl Bearer for Caller {
    fn key(&self) -> &[u8; 32] {
        &self.key
    }

    fn token(&self) -> Option<&Secret> {
        self.token.as_deref()
    }

    fn described(&self) -> String {
        let name = self.full_name();
        match &self.facts.pod {
            Some(pod) => format!("{name} ({pod})"),
            None => name,
        }
    }

    fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// Completes when the token is no longer valid: it has expired, its issuer has withdrawn the key, or
    /// the API server, if it is asked, no longer accepts it. The API server is asked at most twice a
    /// minute; a failure to ask it does not count.
    fn over<'a>(&'a self, clock: &'a Clock) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let withdrawn = async {
                match &self.review {
                    None => std::future::pending().await,
                    Some(review) => review.withdrawn().await,
                }
            };
            let other_keys = async {
                match &self.verified_key {
                    None => std::future::pending().await,
                    Some(verified_key) => verified_key.withdrawn().await,
                }
            };
            let pod_is_over = async {
                match &self.known_pod {
                    None => std::future::pending().await,
                    Some(pod) => pod.over().await,
                }
            };
            tokio::select! {
                () = clock.until(self.expires_at) => {}
                () = other_keys => {}
                () = pod_is_over => {}
                () = withdrawn => {}
            }
        })
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
