//! Steered connections that are carried on unread.

use std::sync::Arc;

use countersign_config::memory::CARRIED;
use countersign_core::{destination::Authority, wire::rewound::Rewound};
use countersign_identity::Caller;
use tokio::net::TcpStream;

use super::{Transparent, alert};
use crate::{
    accept::{intercept::Way, tunnel::Carried},
    authorize,
    observe::Record,
    pipeline,
    refusal::Refusal,
};

/// What is carried on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tunnel {
    /// Whether its client speaks TLS, and understands an alert.
    pub(super) tls: bool,
    /// Whether it is to a target that is not decrypted.
    pub(super) granted: bool,
}

impl Transparent {
    pub(super) async fn tunnel(
        self,
        caller: Arc<Caller>,
        authority: &Authority,
        mut stream: Rewound<TcpStream>,
        kind: Tunnel,
    ) {
        let mut record = self.rooms.recorder.open();
        record.entered(&self.entrance);
        record.called_by(&caller);
        record.steered(authority);
        let opened = match self.permitted(&caller, authority, kind, &mut record) {
            Ok(()) => self.rooms.forwarder.tunnel(authority).await,
            Err(refusal) => {
                if kind.tls {
                    alert(&mut stream, &refusal).await;
                }
                return pipeline::close(record, refusal);
            }
        };
        let (upstream, address) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let refusal = error.into();
                if kind.tls {
                    alert(&mut stream, &refusal).await;
                }
                return pipeline::close(record, refusal);
            }
        };
        record.dialled(address);
        let room = match self.rooms.open_for(&caller, CARRIED) {
            Ok(room) => room,
            Err(short) => return pipeline::close(record, short.into()),
        };
        let carried = Carried {
            rooms: self.rooms,
            entrance: self.entrance,
            caller,
            authority: authority.clone(),
            address,
            granted: kind.granted,
            way: Way::Steered,
            room,
            closing: self.closing,
        };
        carried.run(stream, upstream, record).await;
    }

    /// Asks policy for a tunnel where it has a say.
    fn permitted(
        &self,
        caller: &Caller,
        authority: &Authority,
        kind: Tunnel,
        record: &mut Record,
    ) -> Result<(), Refusal> {
        if !kind.granted {
            return Ok(());
        }
        let snapshot = self.rooms.snapshots.load_full();
        let recognition = snapshot.recognise(caller.facts());
        let now = self.rooms.clock.now();
        let permit = authorize::tunnel(&snapshot, &recognition, caller, authority, now)?;
        record.permitted(&permit, &snapshot);
        Ok(())
    }
}
