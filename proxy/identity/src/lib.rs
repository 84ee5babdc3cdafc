//! Identifies the caller.
//!
//! A token is first checked locally, so that an outage of its issuer does not affect callers whose
//! keys are known. Then, if configured, the API server is asked whether the token is still valid, so
//! that a deleted pod loses access. No caller is ever identified by an address.
//!
//! ```text
//! presented -> token (form) -> jwks (signature) -> claims -> review -> Caller
//! certificate -> svid (rules, its trust domain's bundle) ------------> Caller
//! ```

mod bad_tokens;
mod caller;
mod claims;
mod error;
mod http;
mod jwks;
mod keys;
mod nearest;
mod own_token;
mod presented;
mod reason;
mod review;
mod svid;
#[cfg(test)]
mod tests;
mod token;

pub use caller::{Caller, Proof};
pub use error::{IdentifyError, SetupError};
pub use own_token::OwnToken;
pub use svid::{BundleError, ChainFault, SvidError, TrustDomains, bundle_validity};

use std::{net::IpAddr, sync::Arc, time::Duration};

use ::http::HeaderMap;
use aws_lc_rs::digest;
use countersign_config::{model, policy::CallerFacts};
use countersign_core::{clock::Clock, secret::Secret, single_flight::LastTime};
use moka::{ops::compute::Op, sync::Cache};
use rustls_pki_types::CertificateDer;
use serde::Deserialize;

use bad_tokens::BadTokens;
use claims::{ClaimRequirements, Claims};
use jwks::{Jwks, VerifiedKey};
use review::{ReviewStatus, ReviewSubject, Reviewer};
use token::Unverified;

/// The most callers that are remembered.
const MAX_CALLERS: u64 = 10_000;

/// How long an idle caller is remembered.
const IDLE: Duration = Duration::from_mins(10);

/// How long a token is accepted by its hash alone; then its signature is checked again, with the keys of
/// that time.
const REVERIFY: Duration = Duration::from_mins(5);

/// Runs a TLS handshake, and returns the identity of the client certificate, if there was one. Before
/// the handshake is complete nothing is proven.
pub async fn observed<F: Future>(
    handshake: F,
) -> (F::Output, Option<Result<Arc<Caller>, SvidError>>) {
    let (outcome, judged) = svid::observed(handshake).await;
    let caller = judged.map(|judged| judged.map(|svid| Arc::new(Caller::of_svid(svid))));
    (outcome, caller)
}

/// Turns proofs into callers.
#[derive(Debug)]
pub struct Identifier {
    issuers: Box<[Issuer]>,
    /// By the hash of the whole token and how it was presented. The signature of each caller in here was
    /// verified; whether the proof is still valid is checked at every use.
    callers: Cache<(Proof, [u8; 32]), Arc<Caller>>,
    bad_tokens: BadTokens,
    trust_domains: Arc<TrustDomains>,
    clock: Clock,
}

#[derive(Debug)]
struct Issuer {
    name: Arc<str>,
    requirements: ClaimRequirements,
    jwks: Arc<Jwks>,
    reviewer: Option<Arc<Reviewer>>,
}

impl Identifier {
    /// Makes the HTTP clients, which reads their roots; fetches nothing yet.
    pub fn new(issuers: &[model::Issuer], clock: Clock) -> Result<Self, SetupError> {
        for (index, issuer) in issuers.iter().enumerate() {
            let twin = issuers[..index]
                .iter()
                .find(|other| other.issuer == issuer.issuer);
            if let Some(twin) = twin {
                return Err(SetupError::SameIssuer {
                    first: twin.name.clone(),
                    second: issuer.name.clone(),
                });
            }
        }
        Ok(Self {
            issuers: issuers.iter().map(Issuer::new).collect::<Result<_, _>>()?,
            callers: Cache::builder()
                .max_capacity(MAX_CALLERS)
                .time_to_idle(IDLE)
                .build(),
            bad_tokens: BadTokens::new(),
            trust_domains: Arc::new(TrustDomains::load(&[], clock.clone())?),
            clock,
        })
    }

    /// The same, with trust domains for X.509-SVIDs. Reads their bundles.
    pub fn with_trust_domains(self, domains: &[model::TrustDomain]) -> Result<Self, SetupError> {
        Ok(Self {
            trust_domains: Arc::new(TrustDomains::load(domains, self.clock.clone())?),
            ..self
        })
    }

    /// The trust domains for X.509-SVIDs.
    pub fn trust_domains(&self) -> &Arc<TrustDomains> {
        &self.trust_domains
    }

    /// The token in `Proxy-Authorization`, as `Bearer` or as the password of `Basic`; `None` if
    /// there is no such header.
    pub fn presented(headers: &HeaderMap) -> Result<Option<Secret>, IdentifyError> {
        presented::presented(headers)
    }

    /// The caller that a token proves. A token that was checked before is recognised by its hash, and
    /// does not wait unless its last review is too old.
    pub async fn by_token(
        &self,
        token: &Secret,
        proof: Proof,
    ) -> Result<Arc<Caller>, IdentifyError> {
        self.by_token_from(None, token, proof).await
    }

    /// The same for a token from this address, whose bad tokens are limited.
    pub async fn by_token_from(
        &self,
        source: Option<IpAddr>,
        token: &Secret,
        proof: Proof,
    ) -> Result<Arc<Caller>, IdentifyError> {
        let key = sha256(token.expose().as_bytes());
        let known = self.callers.get(&(proof, key));
        let caller = match known {
            Some(caller) if caller.verified.within(REVERIFY) => caller,
            known => {
                // A known caller does not wait behind unknown tokens.
                let source = source.filter(|_| known.is_none());
                self.remember(self.look_at(source, token, proof, key).await?)
            }
        };
        self.confirm(&caller).await?;
        Ok(caller)
    }

    async fn look_at(
        &self,
        source: Option<IpAddr>,
        token: &Secret,
        proof: Proof,
        key: [u8; 32],
    ) -> Result<Arc<Caller>, IdentifyError> {
        if let Some(error) = self.bad_tokens.known(&key) {
            return Err(error);
        }
        if let Some(source) = source {
            self.bad_tokens.admit(source).await?;
        }
        let result = self.verify(token, proof, key).await;
        if let (Some(source), Err(error)) = (source, &result)
            && bad_tokens::is_callers_fault(error)
        {
            self.bad_tokens.bad_from(source);
        }
        result
    }

    /// The caller that the certificate of a TLS connection proves, leaf first. The connection has
    /// shown that the client holds the leaf's key.
    pub fn by_svid(&self, chain: &[CertificateDer<'_>]) -> Result<Arc<Caller>, IdentifyError> {
        let svid = self.trust_domains.check(chain)?;
        Ok(Arc::new(Caller::of_svid(svid)))
    }

    /// The caller that token and certificate prove together, if they name the same workload: the
    /// certificate's path must be `/ns/NAMESPACE/sa/NAME` with the namespace and service account of the
    /// token. The proof expires with the first of the two.
    pub fn by_both(
        &self,
        token: &Arc<Caller>,
        certificate: &Arc<Caller>,
    ) -> Result<Arc<Caller>, IdentifyError> {
        Caller::of_both(token, certificate)
            .map(Arc::new)
            .ok_or_else(|| IdentifyError::Mismatch {
                token: Arc::clone(&token.subject),
                certificate: Arc::clone(&certificate.subject),
            })
    }

    /// Whether a caller's proof is still valid. To be called for every request of a connection. While
    /// the issuer's keys are unchanged and the last review is cached this costs a few atomic loads.
    pub async fn confirm(&self, caller: &Arc<Caller>) -> Result<(), IdentifyError> {
        let now = self.clock.now();
        if caller.is_expired(now) {
            return Err(IdentifyError::expired(caller.expires_at(), now));
        }
        if let Some(svid) = &caller.svid {
            self.trust_domains.confirm(svid)?;
        }
        if let Some(verified_key) = &caller.verified_key {
            verified_key.confirm()?;
        }
        match &caller.review {
            None => Ok(()),
            Some(review) => review.confirm().await,
        }
    }

    /// Completes when a caller's proof is no longer valid, with the reason: it has expired, its trust
    /// domain has another bundle, its issuer has withdrawn the key, or the API server no longer accepts
    /// it.
    ///
    /// For tunnels and WebSockets. The API server is asked once per cache period, for all holders of the
    /// same token together. If it cannot be asked, it is tried again until the last positive review is
    /// twice that old.
    pub async fn withdrawn(&self, caller: &Arc<Caller>) -> IdentifyError {
        let mut bundles = self.trust_domains.changes();
        let mut keys = caller
            .verified_key
            .as_ref()
            .map(|verified_key| verified_key.changes());
        loop {
            bundles.mark_unchanged();
            if let Some(keys) = &mut keys {
                keys.mark_unchanged();
            }
            let review = caller.review.as_ref();
            let due = match self.confirm(caller).await {
                Ok(()) => review.map(|review| review.due()),
                Err(error @ IdentifyError::ReviewUnavailable { .. }) => {
                    match review.and_then(|review| review.patience()) {
                        None => return error,
                        again => again,
                    }
                }
                Err(error) => return error,
            };
            let review_is_due = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let other_keys = async {
                match &mut keys {
                    Some(keys) => keys.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The senders live as long as `self` and the caller.
                _ = bundles.changed() => {}
                _ = other_keys => {}
                () = self.clock.until(caller.expires_at) => {}
                () = review_is_due => {}
            }
        }
    }

    /// Every check that needs no review of this token by the API server.
    async fn verify(
        &self,
        token: &Secret,
        proof: Proof,
        key: [u8; 32],
    ) -> Result<Arc<Caller>, IdentifyError> {
        match proof {
            Proof::ServiceAccountToken | Proof::OwnToken => {}
            Proof::X509Svid => {
                return Err(IdentifyError::Malformed("a certificate is not a token"));
            }
        }
        let unverified = Unverified::parse(token.expose())?;
        let iss = unverified.issuer()?;
        let names = || {
            self.issuers
                .iter()
                .map(|it| it.requirements.issuer.as_str())
        };
        let issuer = names().position(|name| name == iss);
        let Some(issuer) = issuer.map(|index| &self.issuers[index]) else {
            let named = nearest::with_nearest(iss, names());
            return Err(IdentifyError::UnknownIssuer(named.into()));
        };
        // Read before the check: keys that change in between may give another result.
        let generation = issuer.jwks.generation();
        let verified = unverified
            .verify(&issuer.jwks, &issuer.requirements, self.clock.now())
            .await;
        let (claims, verified_key) = verified.inspect_err(|error| {
            self.bad_tokens
                .remember(key, &issuer.jwks, generation, error);
        })?;
        Ok(Arc::new(issuer.caller(
            claims,
            verified_key,
            token,
            proof,
            key,
        )))
    }

    /// Lets all users of the same token share one caller, and so its reviews.
    fn remember(&self, new: Arc<Caller>) -> Arc<Caller> {
        let entry = self.callers.entry((new.proof, new.key));
        let kept = entry.and_compute_with(|known| match known {
            Some(known) if known.value().verified.within(REVERIFY) => Op::Nop,
            Some(_) | None => Op::Put(Arc::clone(&new)),
        });
        kept.into_entry().map_or(new, moka::Entry::into_value)
    }
}

impl Issuer {
    fn new(issuer: &model::Issuer) -> Result<Self, SetupError> {
        let reviewer = issuer.token_review.as_ref();
        let reviewer = reviewer
            .map(|review| Reviewer::new(issuer, review))
            .transpose()?;
        Ok(Self {
            name: issuer.name.as_str().into(),
            requirements: ClaimRequirements {
                issuer: issuer.issuer.clone(),
                audience: issuer.audience.as_str().into(),
                max_life: issuer.max_token_life,
            },
            jwks: Arc::new(Jwks::new(issuer)?),
            reviewer: reviewer.map(Arc::new),
        })
    }

    fn caller(
        &self,
        claims: Claims,
        verified_key: VerifiedKey,
        token: &Secret,
        proof: Proof,
        key: [u8; 32],
    ) -> Caller {
        let token = Arc::new(token.clone());
        let review = self.reviewer.as_ref().map(|reviewer| {
            let question = ReviewSubject {
                token: Arc::clone(&token),
                subject: Arc::clone(&claims.subject),
                pod: claims.pod.clone(),
            };
            Arc::new(ReviewStatus::new(Arc::clone(reviewer), question))
        });
        let verified = LastTime::never();
        verified.mark();
        Caller {
            facts: CallerFacts {
                cluster: Some(Arc::clone(&self.name)),
                namespace: Some(claims.namespace),
                service_account: Some(claims.service_account),
                pod: claims.pod,
                spiffe_id: None,
                kubernetes: None,
            },
            proof,
            issuer: Arc::clone(&self.name),
            subject: claims.subject,
            token_id: claims.token_id,
            token: Some(token),
            expires_at: claims.expires_at,
            key,
            verified,
            verified_key: Some(Arc::new(verified_key)),
            review,
            svid: None,
            account: std::sync::OnceLock::new(),
        }
    }
}

/// Parses a JSON object. serde alone would also accept an array for a struct, its elements as the fields
/// in order.
fn from_json_object<'j, T: Deserialize<'j>>(json: &'j [u8]) -> Option<T> {
    let is_object = json.trim_ascii_start().first() == Some(&b'{');
    // The cause is not shown: the parser's error contains parts of the token.
    is_object
        .then(|| serde_json::from_slice(json).ok())
        .flatten()
}

fn sha256(proof: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, proof);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}
