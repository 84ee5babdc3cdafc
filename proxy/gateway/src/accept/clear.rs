//! HTTP without TLS from clients that know nothing of a proxy: never with a credential, and never
//! to a governed host.

use std::sync::Arc;

use countersign_config::model::Unmatched;
use countersign_core::{
    destination::Authority,
    reason::Reason,
    slots::Share,
    wire::activity::{Activity, Busy},
};
use http::{Request, Response};
use hyper::body::Incoming;

use super::{Entrance, Received, listener::OwnIdentity, plain::Passing};
use crate::{
    app::Rooms,
    authorize,
    observe::Record,
    pipeline::{self, Answer},
    refusal::Refusal,
};

/// One steered connection that speaks HTTP in clear.
#[derive(Debug)]
pub(super) struct Clear {
    /// The rooms of the gateway.
    pub(super) rooms: Arc<Rooms>,
    /// Where the connection came in.
    pub(super) entrance: Entrance,
    /// Who calls.
    pub(super) own: Arc<OwnIdentity>,
    /// What the connection is doing.
    pub(super) activity: Arc<Activity>,
    /// The port the client dialled.
    pub(super) port: u16,
}

impl Clear {
    /// Handles one request.
    pub(super) async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Response<Answer> {
        let busy = self.activity.begin();
        if let Err(refusal) = pipeline::no_violation(&self.activity) {
            return self.refuse(refusal, |_| {}, busy);
        }
        let (parts, body) = request.into_parts();
        let caller = match self.own.caller(&self.rooms.identifier, None).await {
            Ok(caller) => caller,
            Err(refusal) => {
                let mut response = self.refuse(refusal, |_| {}, busy);
                if self.entrance.slot.refuse() {
                    pipeline::last(&mut response);
                }
                return response;
            }
        };
        if let Err(refusal) = self.entrance.slot.prove(|| Share::Own) {
            return self.refuse(refusal.into(), |record| record.called_by(&caller), busy);
        }
        if let Err(short) = self.rooms.claim(&self.entrance, &caller) {
            return self.refuse(short.into(), |record| record.called_by(&caller), busy);
        }
        let received = match Received::in_clear(&parts, self.port) {
            Ok(received) => received,
            Err(refusal) => return self.refuse(refusal, |record| record.called_by(&caller), busy),
        };
        if let Err(refusal) = self.may_pass(received.authority()) {
            let tell = |record: &mut Record| {
                record.called_by(&caller);
                record.passing(&received, &parts);
            };
            return self.refuse(refusal, tell, busy);
        }
        let passing = Passing {
            rooms: &self.rooms,
            entrance: &self.entrance,
            caller: &caller,
            received,
        };
        passing.forward(parts, body, busy).await
    }

    fn may_pass(&self, authority: &Authority) -> Result<(), Refusal> {
        let snapshot = self.rooms.snapshots.load_full();
        if snapshot
            .policies()
            .governing_target(authority.host())
            .is_some()
        {
            let detail = format!("{authority} gets a credential, which never travels in clear");
            return Err(Refusal::new(Reason::PlaintextRefused, detail));
        }
        match self.rooms.unmatched {
            Unmatched::Deny => Err(authorize::unmatched(authority)),
            Unmatched::Tunnel => Ok(()),
        }
    }

    fn refuse(
        &self,
        refusal: Refusal,
        tell: impl FnOnce(&mut Record),
        busy: Busy,
    ) -> Response<Answer> {
        let mut record = self.rooms.recorder.open();
        record.entered(&self.entrance);
        tell(&mut record);
        let mut response = pipeline::refused(record, refusal, busy);
        pipeline::last_if_violated(&mut response, &self.activity);
        response
    }
}
