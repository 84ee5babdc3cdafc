//! One configured issuer of tokens: its keys, what its tokens must say, who reviews them, and who knows
//! their pods.

use std::sync::{Arc, OnceLock};

use countersign_config::{
    model::{self, Cluster},
    policy::CallerFacts,
};
use countersign_core::{secret::Secret, single_flight::LastTime};

use super::{
    Caller, IdentifyError, Pods, Proof, SetupError,
    claims::{ClaimRequirements, Claims},
    jwks::{Jwks, VerifiedKey},
    pods::{Found, KnownPod},
    review::{ReviewStatus, ReviewSubject, Reviewer},
};

#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) name: Arc<str>,
    pub(super) requirements: ClaimRequirements,
    pub(super) jwks: Arc<Jwks>,
    pub(super) reviewer: Option<Arc<Reviewer>>,
    /// What its API server says of pods, if it is asked.
    pub(super) pods: Option<(Cluster, Arc<Pods>)>,
}

impl Issuer {
    pub(super) fn new(issuer: &model::Issuer) -> Result<Self, SetupError> {
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
            pods: issuer
                .pod_facts
                .clone()
                .map(|cluster| (cluster, Arc::default())),
        })
    }

    /// What is known of the pod of a token.
    pub(super) async fn known_pod(
        &self,
        claims: &Claims,
    ) -> Result<Option<Arc<KnownPod>>, IdentifyError> {
        let (Some((_, pods)), Some(uid)) = (&self.pods, &claims.pod_uid) else {
            return Ok(None);
        };
        match pods.find(&claims.namespace, uid).await {
            Found::NotWatched => Ok(None),
            Found::Known(pod) => Ok(Some(pod)),
            Found::Ended(how) => Err(IdentifyError::PodEnded { how }),
            Found::Unknown(why) => Err(IdentifyError::PodUnknown {
                issuer: Arc::clone(&self.name),
                namespace: Arc::clone(&claims.namespace),
                why,
            }),
        }
    }

    pub(super) fn caller(
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
            known_pod: None,
            svid: None,
            account: OnceLock::new(),
        }
    }
}
