//! Who makes a request to the explicit proxy.

use std::sync::Arc;

use countersign_core::reason::Reason;
use countersign_identity::{Caller, Identifier, Proof};
use http::Request;
use hyper::body::Incoming;

use super::{Explicit, Known};
use crate::{observe::TargetPart, refusal::Refusal};

impl Explicit {
    /// Identifies the caller. From then on the connection counts against the caller's workload.
    pub(super) async fn identify(
        &self,
        request: &Request<Incoming>,
        known: &mut Known,
    ) -> Result<Arc<Caller>, Refusal> {
        let slot = &self.meta.slot;
        slot.asks();
        let caller = self.prove(request).await?;
        known.caller = Some(Arc::clone(&caller));
        slot.prove(|| self.context.access.snapshots.load_full().share_of(&caller))?;
        self.meta.charge_to(&caller, &self.context.budget)?;
        Ok(caller)
    }

    /// Identifies the caller of a request in absolute form. A refusal names its target, and has the format of its API
    /// if it is final.
    pub(super) async fn identify_absolute(
        &self,
        request: &Request<Incoming>,
        known: &mut Known,
    ) -> Result<Arc<Caller>, Refusal> {
        let refusal = match self.identify(request, known).await {
            Ok(caller) => return Ok(caller),
            Err(refusal) => refusal,
        };
        known.target = TargetPart::asked(request);
        let Some(asked) = &known.target else {
            return Err(refusal);
        };
        let snapshot = self.context.access.snapshots.load_full();
        let (policies, host) = (snapshot.policies(), asked.authority.host());
        Err(match policies.governing_target(host) {
            Some(target) if refusal.is_final_about_proof() => refusal.finally_at(target),
            Some(_) | None => refusal,
        })
    }

    /// By token, by certificate, or by both, which must then prove the same workload.
    async fn prove(&self, request: &Request<Incoming>) -> Result<Arc<Caller>, Refusal> {
        let identifier = &self.context.access.identifier;
        if let Some(certificate) = &self.certificate
            && let Err(error) = identifier.confirm(certificate).await
        {
            // The certificate of a connection cannot change.
            self.closing.cancel();
            return Err(error.into());
        }
        match (self.by_token(request).await?, &self.certificate) {
            (Some(token), Some(certificate)) => Ok(identifier.by_both(&token, certificate)?),
            (Some(token), None) => Ok(token),
            (None, Some(certificate)) => Ok(Arc::clone(certificate)),
            (None, None) => {
                let detail = "the request has no Proxy-Authorization, and the connection no client certificate";
                Err(Refusal::new(Reason::IdentityMissing, detail))
            }
        }
    }

    async fn by_token(&self, request: &Request<Incoming>) -> Result<Option<Arc<Caller>>, Refusal> {
        let identifier = &self.context.access.identifier;
        let presented = Identifier::presented(request.headers())?;
        if let Some(own) = &self.own {
            return own.caller(identifier, presented.as_ref()).await.map(Some);
        }
        let Some(token) = presented else {
            return Ok(None);
        };
        let source = Some(self.meta.client.ip());
        let caller = identifier.by_token_from(source, &token, Proof::ServiceAccountToken);
        Ok(Some(caller.await?))
    }
}
