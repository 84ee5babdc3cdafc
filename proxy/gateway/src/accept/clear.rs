//! HTTP in clear text from clients that were redirected: never with a credential, and never to a governed
//! host.

use std::sync::Arc;

use countersign_authorize::{self as authorize, Received};
use countersign_core::{
    slots::Share,
    wire::connection_state::{ConnectionState, InFlightGuard},
};
use countersign_identity::Caller;
use http::{Request, Response, request::Parts};
use hyper::body::Incoming;

use super::{AcceptContext, own_identity::OwnIdentity, unmatched::UnmatchedRequest};
use crate::{
    pipeline::{self, AnswerBody},
    refusal::Refusal,
    session::{ConnectionMeta, no_violation},
};

/// One redirected connection that speaks HTTP in clear text.
#[derive(Debug)]
pub(super) struct Clear {
    /// What all listeners share.
    pub(super) context: Arc<AcceptContext>,
    /// Where the connection came in.
    pub(super) meta: ConnectionMeta,
    /// The identity of the pod.
    pub(super) own: Arc<OwnIdentity>,
    /// The connection's requests in flight, and how it ends.
    pub(super) connection_state: Arc<ConnectionState>,
    /// The port the client dialled.
    pub(super) port: u16,
}

impl Clear {
    /// Handles one request.
    pub(super) async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Response<AnswerBody> {
        let in_flight = self.connection_state.begin();
        if let Err(refusal) = no_violation(&self.connection_state) {
            return self.refuse(refusal, None, None, in_flight);
        }
        let (parts, body) = request.into_parts();
        let caller = match self.own.caller(&self.context.access.identifier, None).await {
            Ok(caller) => caller,
            Err(refusal) => {
                let mut response = self.refuse_proof(refusal, &parts, in_flight);
                if self.meta.slot.refuse() {
                    pipeline::last(&mut response);
                }
                return response;
            }
        };
        if let Err(refusal) = self.meta.slot.prove(|| Share::Own) {
            return self.refuse(refusal.into(), Some(&caller), None, in_flight);
        }
        if let Err(short) = self.meta.charge_to(&caller, &self.context.budget) {
            return self.refuse(short.into(), Some(&caller), None, in_flight);
        }
        let received = match Received::in_clear(&parts, self.port) {
            Ok(received) => received,
            Err(denied) => return self.refuse(denied.into(), Some(&caller), None, in_flight),
        };
        let access = &self.context.access;
        let snapshot = access.snapshots.load_full();
        let passage =
            authorize::in_clear(&snapshot, &caller, received.authority(), access.unmatched);
        let passage = match passage {
            Ok(passage) => passage,
            Err(denied) => {
                let asked = Some((&received, &parts));
                return self.refuse(denied.into(), Some(&caller), asked, in_flight);
            }
        };
        let request = UnmatchedRequest {
            context: &self.context,
            meta: &self.meta,
            passage,
            received,
        };
        request.forward(parts, body, in_flight).await
    }

    /// Refuses the pod's proof, in the language of the API if that is final.
    fn refuse_proof(
        &self,
        mut refusal: Refusal,
        parts: &Parts,
        in_flight: InFlightGuard,
    ) -> Response<AnswerBody> {
        let snapshot = self.context.access.snapshots.load_full();
        refusal.was_of_unproven(&snapshot);
        let received = Received::in_clear(parts, self.port).ok();
        if let Some(received) = &received
            && let Some(target) = snapshot
                .policies()
                .governing_target(received.authority().host())
            && refusal.is_final_about_proof()
        {
            refusal = refusal.finally_at(target);
        }
        let asked = received.as_ref().map(|received| (received, parts));
        self.refuse(refusal, None, asked, in_flight)
    }

    fn refuse(
        &self,
        mut refusal: Refusal,
        caller: Option<&Caller>,
        asked: Option<(&Received, &Parts)>,
        in_flight: InFlightGuard,
    ) -> Response<AnswerBody> {
        let mut record = self.context.recorder.open();
        record.entered(&self.meta);
        if let Some(caller) = caller {
            record.called_by(caller);
            let snapshot = self.context.access.snapshots.load_full();
            refusal.was_of(caller, &snapshot);
            record.refused_under(&snapshot);
        }
        if let Some((received, parts)) = asked {
            record.passing(received, parts);
        }
        let mut response = pipeline::refused(record, refusal, in_flight);
        pipeline::last_if_violated(&mut response, &self.connection_state);
        response
    }
}
