//! HTTP without TLS from clients that know nothing of a proxy: never with a credential, and never
//! to a governed host.

use std::sync::Arc;

use countersign_config::model::Unmatched;
use http::{Request, Response};
use hyper::body::Incoming;

use super::{Activity, Entrance, Received, listener::OwnIdentity, plain::Passing};
use crate::{
    app::Rooms,
    authorize,
    destination::Authority,
    observe::Record,
    pipeline::{self, Answer},
    refusal::{Reason, Refusal},
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
        let (parts, body) = request.into_parts();
        let caller = match self.own.caller(&self.rooms.identifier, None).await {
            Ok(caller) => caller,
            Err(refusal) => return self.refuse(refusal, |_| {}),
        };
        let received = match Received::in_clear(&parts, self.port) {
            Ok(received) => received,
            Err(refusal) => return self.refuse(refusal, |record| record.called_by(&caller)),
        };
        if let Err(refusal) = self.may_pass(received.authority()) {
            return self.refuse(refusal, |record| {
                record.called_by(&caller);
                record.passing(&received, &parts);
            });
        }
        let passing = Passing {
            rooms: &self.rooms,
            entrance: &self.entrance,
            caller: &caller,
            received,
        };
        passing.forward(parts, body, self.activity.begin()).await
    }

    fn may_pass(&self, authority: &Authority) -> Result<(), Refusal> {
        let snapshot = self.rooms.snapshots.load_full();
        let mut governed = snapshot.policies().governed_hosts();
        if governed.any(|host| host.matches(authority.host())) {
            let detail = format!("{authority} gets a credential, which never travels in clear");
            return Err(Refusal::new(Reason::PlaintextRefused, detail));
        }
        match self.rooms.unmatched {
            Unmatched::Deny => Err(authorize::unmatched(authority)),
            Unmatched::Tunnel => Ok(()),
        }
    }

    fn refuse(&self, refusal: Refusal, tell: impl FnOnce(&mut Record)) -> Response<Answer> {
        let mut record = self.rooms.recorder.open();
        record.entered(&self.entrance);
        tell(&mut record);
        pipeline::refused(record, refusal, self.activity.begin())
    }
}
