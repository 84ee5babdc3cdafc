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
mod issuer;
mod jwks;
mod keys;
mod nearest;
mod own_issuer;
mod own_token;
mod pods;
mod presented;
mod readiness;
mod reason;
mod review;
mod svid;
#[cfg(test)]
mod tests;
mod token;
mod unproven;

pub use caller::{Caller, Proof};
pub use error::{IdentifyError, SetupError};
pub use own_token::OwnToken;
pub use pods::{ObservedPod, PodEnd, Pods};
pub use readiness::Missing;
pub use svid::{BundleError, ChainFault, SvidError, TrustDomains, bundle_validity};
pub use unproven::{SignedClaims, Unproven};

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use ::http::HeaderMap;
use aws_lc_rs::digest;
use countersign_config::model::{self, Cluster};
use countersign_core::{clock::Clock, secret::Secret};
use moka::{ops::compute::Op, sync::Cache};
use rustls_pki_types::CertificateDer;
use serde::Deserialize;

use bad_tokens::BadTokens;
use issuer::Issuer;
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

impl Identifier {
    /// Makes the HTTP clients, which reads their roots, and finds the issuer of the gateway's own cluster in its token;
    /// fetches nothing yet.
    pub fn new(issuers: &[model::Issuer], clock: Clock) -> Result<Self, SetupError> {
        let issuers = own_issuer::found(issuers)?;
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

    /// The clusters whose API servers are asked about pods, and what is known of these.
    pub fn pods(&self) -> impl Iterator<Item = (&Cluster, &Arc<Pods>)> {
        let asked = self.issuers.iter().filter_map(|it| it.pods.as_ref());
        asked.map(|(cluster, pods)| (cluster, pods))
    }

    /// Tells which namespaces policy asks about, by the name of the cluster.
    pub fn want_pods(&self, namespaces: impl Fn(&str) -> BTreeSet<String>) {
        for issuer in &self.issuers {
            if let Some((_, pods)) = &issuer.pods {
                pods.want(namespaces(&issuer.name));
            }
        }
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
    ///
    /// # Errors
    /// When it proves none. If its signature is its issuer's, the error has what it says.
    pub async fn by_token(&self, token: &Secret, proof: Proof) -> Result<Arc<Caller>, Unproven> {
        self.by_token_from(None, token, proof).await
    }

    /// The same for a token from this address, whose bad tokens are limited.
    pub async fn by_token_from(
        &self,
        source: Option<IpAddr>,
        token: &Secret,
        proof: Proof,
    ) -> Result<Arc<Caller>, Unproven> {
        let key = sha256(token.expose().as_bytes());
        let known = self.callers.get(&(proof, key));
        let caller = match known {
            Some(caller) if caller.verified.within(REVERIFY) && !caller.is_other_pod() => caller,
            known => {
                // A known caller does not wait behind unknown tokens.
                let source = source.filter(|_| known.is_none());
                self.remember(self.look_at(source, token, proof, key).await?)
            }
        };
        match self.confirm(&caller).await {
            Ok(()) => Ok(caller),
            Err(error) => Err(self.unproven(error, &caller)),
        }
    }

    /// Whether a client at this address may be told inside a tunnel why its token is refused, which takes a TLS
    /// handshake. It counts as a bad token of the address, and is asked for before the handshake.
    pub fn may_tell_inside(&self, source: IpAddr) -> bool {
        self.bad_tokens.may_tell(source)
    }

    fn unproven(&self, error: IdentifyError, caller: &Caller) -> Unproven {
        let issuer = self.issuers.iter().find(|it| it.name == caller.issuer);
        let audience = issuer.map(|issuer| Arc::clone(&issuer.requirements.audience));
        Unproven::of_caller(error, caller, audience)
    }

    async fn look_at(
        &self,
        source: Option<IpAddr>,
        token: &Secret,
        proof: Proof,
        key: [u8; 32],
    ) -> Result<Arc<Caller>, Unproven> {
        if let Some(unproven) = self.bad_tokens.known(&key) {
            return Err(unproven);
        }
        if let Some(source) = source {
            self.bad_tokens.admit(source).await?;
        }
        let result = self.verify(token, proof, key).await;
        if let (Some(source), Err(unproven)) = (source, &result)
            && bad_tokens::is_callers_fault(unproven.error())
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
    ) -> Result<Arc<Caller>, Unproven> {
        let both = Caller::of_both(token, certificate).map(Arc::new);
        both.ok_or_else(|| {
            let error = IdentifyError::Mismatch {
                token: Arc::clone(&token.subject),
                certificate: Arc::clone(&certificate.subject),
            };
            self.unproven(error, token)
        })
    }

    /// Checks a token that a client presents where it is known which pod it is in: it must be of the same
    /// subject, issuer and pod.
    pub fn of_same_pod(&self, own: &Caller, presented: &Caller) -> Result<(), Unproven> {
        let pods = (&presented.facts.pod, &own.facts.pod);
        let another_pod = matches!(pods, (Some(presented), Some(own)) if presented != own);
        if presented.subject == own.subject && presented.issuer == own.issuer && !another_pod {
            return Ok(());
        }
        let error = IdentifyError::OtherPod {
            presented: presented.in_words().into(),
            own: own.in_words().into(),
        };
        Err(self.unproven(error, presented))
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
        if caller.known_pod.is_some() {
            caller.confirm_pod()?;
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
            let pod_is_over = async {
                match &caller.known_pod {
                    Some(pod) => pod.over().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The senders live as long as `self` and the caller.
                _ = bundles.changed() => {}
                () = pod_is_over => {}
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
    ) -> Result<Arc<Caller>, Unproven> {
        match proof {
            Proof::ServiceAccountToken | Proof::OwnToken => {}
            Proof::X509Svid => {
                return Err(IdentifyError::Malformed("a certificate is not a token").into());
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
            return Err(IdentifyError::UnknownIssuer(named.into()).into());
        };
        // Read before the check: keys that change in between may give another result.
        let generation = issuer.jwks.generation();
        let verified = unverified
            .verify(&issuer.jwks, &issuer.requirements, self.clock.now())
            .await
            .map_err(|unproven| unproven.by(&issuer.name));
        let (claims, verified_key) = verified.inspect_err(|unproven| {
            self.bad_tokens
                .remember(key, &issuer.jwks, generation, unproven);
        })?;
        let known_pod = issuer.known_pod(&claims).await?;
        let mut caller = issuer.caller(claims, verified_key, token, proof, key);
        caller.facts.kubernetes = known_pod.as_ref().map(|pod| Arc::clone(&pod.facts));
        caller.known_pod = known_pod;
        Ok(Arc::new(caller))
    }

    /// Lets all users of the same token share one caller, and so its reviews.
    fn remember(&self, new: Arc<Caller>) -> Arc<Caller> {
        let entry = self.callers.entry((new.proof, new.key));
        let kept = entry.and_compute_with(|known| match known {
            Some(known)
                if known.value().verified.within(REVERIFY) && !known.value().is_other_pod() =>
            {
                Op::Nop
            }
            Some(_) | None => Op::Put(Arc::clone(&new)),
        });
        kept.into_entry().map_or(new, moka::Entry::into_value)
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
