//! Who is calling, proven.
//!
//! A token is checked locally first, so that an outage of its issuer does not stop callers whose
//! keys are known; then, where a cluster is configured, the API server is asked whether it still
//! stands, so that a deleted pod loses access. Never is anyone known by an address.
//!
//! ```text
//! presented -> token (form) -> jwks (signature) -> claims -> review -> Caller
//! certificate -> svid (rules, its trust domain's bundle) ------------> Caller
//! ```

mod caller;
mod claims;
mod error;
mod http;
mod jwks;
mod keys;
mod own_token;
mod presented;
mod reason;
mod review;
mod strangers;
mod svid;
#[cfg(test)]
mod tests;
mod token;

pub use caller::{Caller, Proof};
pub use error::{IdentifyError, SetupError};
pub use own_token::OwnToken;
pub use svid::{BundleError, ChainFault, SvidError, TrustDomains};

use std::{net::IpAddr, sync::Arc, time::Duration};

use ::http::HeaderMap;
use aws_lc_rs::digest;
use countersign_config::{model, policy::CallerFacts};
use countersign_core::{clock::Clock, flight::LastTime, secret::Secret};
use moka::{ops::compute::Op, sync::Cache};
use rustls_pki_types::CertificateDer;
use serde::Deserialize;

use claims::{Claims, Demands};
use jwks::{Jwks, Vouched};
use review::{Question, Reviewer, Standing};
use strangers::Strangers;
use token::Unverified;

/// The most callers that are remembered.
const MAX_CALLERS: u64 = 10_000;

/// How long a caller that does not call is remembered.
const IDLE: Duration = Duration::from_mins(10);

/// How long a token is taken by its hash alone; then its signature is checked again, against the
/// keys of that moment.
const REVERIFY: Duration = Duration::from_mins(5);

/// Runs a TLS handshake, and tells whom the certificate is of that was shown in it, if one was. Nobody
/// is proven before the handshake is complete.
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
    /// By the whole hash of the token and how it was presented. A caller in here has a good
    /// signature; whether it still stands is asked on every use.
    callers: Cache<(Proof, [u8; 32]), Arc<Caller>>,
    strangers: Strangers,
    trust_domains: Arc<TrustDomains>,
    clock: Clock,
}

#[derive(Debug)]
struct Issuer {
    name: Arc<str>,
    demands: Demands,
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
            strangers: Strangers::new(),
            trust_domains: Arc::new(TrustDomains::load(&[], clock.clone())?),
            clock,
        })
    }

    /// The same, with trust domains whose X.509-SVIDs are known. Reads their bundles.
    pub fn with_trust_domains(self, domains: &[model::TrustDomain]) -> Result<Self, SetupError> {
        Ok(Self {
            trust_domains: Arc::new(TrustDomains::load(domains, self.clock.clone())?),
            ..self
        })
    }

    /// The trust domains whose X.509-SVIDs are known.
    pub fn trust_domains(&self) -> &Arc<TrustDomains> {
        &self.trust_domains
    }

    /// The token in `Proxy-Authorization`, as `Bearer` or as the password of `Basic`; `None` if
    /// there is no such header.
    pub fn presented(headers: &HeaderMap) -> Result<Option<Secret>, IdentifyError> {
        presented::presented(headers)
    }

    /// The caller that a token proves. A token that was checked before is known by its whole
    /// hash, and costs no wait unless its last review is too old.
    pub async fn by_token(
        &self,
        token: &Secret,
        proof: Proof,
    ) -> Result<Arc<Caller>, IdentifyError> {
        self.by_token_from(None, token, proof).await
    }

    /// The same for a token that came from this address, which may spend only so much on bad ones.
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
                // Who was good before does not wait among strangers.
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
        if let Some(error) = self.strangers.known(&key) {
            return Err(error);
        }
        if let Some(source) = source {
            self.strangers.admit(source).await?;
        }
        let result = self.verify(token, proof, key).await;
        if let (Some(source), Err(error)) = (source, &result)
            && strangers::is_callers_fault(error)
        {
            self.strangers.bad_from(source);
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
    /// certificate's path must be `/ns/NAMESPACE/sa/NAME` with the namespace and service account of
    /// the token. It ends with the first of the two.
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

    /// Whether a caller's proof still stands. To be asked for every request of a connection that
    /// outlives its first: while the issuer's keys are the same and the last review is remembered
    /// this costs a few atomic loads.
    pub async fn confirm(&self, caller: &Arc<Caller>) -> Result<(), IdentifyError> {
        if caller.is_expired(self.clock.now()) {
            return Err(IdentifyError::Expired);
        }
        if let Some(svid) = &caller.svid {
            self.trust_domains.confirm(svid)?;
        }
        if let Some(vouched) = &caller.vouched {
            vouched.confirm()?;
        }
        match &caller.standing {
            None => Ok(()),
            Some(standing) => standing.confirm().await,
        }
    }

    /// Completes when a caller's proof no longer stands, and says why: it has ended, its trust
    /// domain has another bundle, its issuer has withdrawn the key, or the API server does not accept
    /// it any more.
    ///
    /// For what stays open without requests. The API server is asked once in the time for which
    /// its yes is remembered, once for all who hold the same token; one that cannot be asked is
    /// tried again until the last yes is twice that old.
    pub async fn withdrawn(&self, caller: &Arc<Caller>) -> IdentifyError {
        let mut bundles = self.trust_domains.changes();
        let mut keys = caller.vouched.as_ref().map(|vouched| vouched.changes());
        loop {
            bundles.mark_unchanged();
            if let Some(keys) = &mut keys {
                keys.mark_unchanged();
            }
            let standing = caller.standing.as_ref();
            let due = match self.confirm(caller).await {
                Ok(()) => standing.map(|standing| standing.due()),
                Err(error @ IdentifyError::ReviewUnavailable { .. }) => {
                    match standing.and_then(|standing| standing.patience()) {
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

    /// Everything that can be checked without asking the API server about this token.
    async fn verify(
        &self,
        token: &Secret,
        proof: Proof,
        key: [u8; 32],
    ) -> Result<Arc<Caller>, IdentifyError> {
        match proof {
            Proof::ServiceAccountToken | Proof::OwnToken => {}
            Proof::X509Svid => return Err(IdentifyError::Malformed("a certificate is no token")),
        }
        let unverified = Unverified::parse(token.expose())?;
        let iss = unverified.issuer()?;
        let mut issuers = self.issuers.iter();
        let issuer = issuers.find(|issuer| issuer.demands.issuer == iss);
        let issuer = issuer.ok_or(IdentifyError::UnknownIssuer)?;
        // Before the check: keys that come in between may find otherwise.
        let generation = issuer.jwks.generation();
        let verified = unverified
            .verify(&issuer.jwks, &issuer.demands, self.clock.now())
            .await;
        let (claims, vouched) = verified.inspect_err(|error| {
            self.strangers
                .remember(key, &issuer.jwks, generation, error);
        })?;
        Ok(Arc::new(issuer.caller(claims, vouched, token, proof, key)))
    }

    /// Lets all who bring the same token share one caller, and so its reviews.
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
            demands: Demands {
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
        vouched: Vouched,
        token: &Secret,
        proof: Proof,
        key: [u8; 32],
    ) -> Caller {
        let token = Arc::new(token.clone());
        let standing = self.reviewer.as_ref().map(|reviewer| {
            let question = Question {
                token: Arc::clone(&token),
                subject: Arc::clone(&claims.subject),
                pod: claims.pod.clone(),
            };
            Arc::new(Standing::new(Arc::clone(reviewer), question))
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
            vouched: Some(Arc::new(vouched)),
            standing,
            svid: None,
            account: std::sync::OnceLock::new(),
        }
    }
}

/// Parses a JSON object. Left to itself serde would also take an array for a struct, its elements
/// for the fields in their order.
fn from_json_object<'j, T: Deserialize<'j>>(json: &'j [u8]) -> Option<T> {
    let is_object = json.trim_ascii_start().first() == Some(&b'{');
    // Why it is none is not told: the parser's error shows parts of it.
    is_object
        .then(|| serde_json::from_slice(json).ok())
        .flatten()
}

fn sha256(proof: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, proof);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}
