//! Redirected connections that are carried on unread.

use std::sync::Arc;

use countersign_authorize::{self as authorize, Passage};
use countersign_config::memory::CARRIED;
use countersign_core::{destination::Authority, wire::rewound::Rewound};
use countersign_identity::Caller;
use countersign_upstream::forward::Outbound;
use tokio::net::TcpStream;

use super::{Transparent, alert};
use crate::{
    accept::{intercept::InterceptMode, tunnel::CarriedTunnel},
    observe::Record,
    refusal::Refusal,
    session::{close, open_for},
};

impl Transparent {
    /// Carries a connection on to a target that is not decrypted, if policy permits a tunnel there. A
    /// client that speaks `tls` understands an alert.
    pub(super) async fn carry(
        self,
        caller: &Arc<Caller>,
        authority: &Authority,
        mut stream: Rewound<TcpStream>,
        tls: bool,
    ) {
        let mut record = self.record_of(caller, authority);
        match self.permitted(caller, authority, &mut record) {
            Ok(outbound) => {
                let granted = true;
                self.tunnel(caller, &outbound, granted, stream, tls, record)
                    .await;
            }
            Err(refusal) => {
                if tls {
                    alert(&mut stream, &refusal).await;
                }
                close(record, refusal);
            }
        }
    }

    /// Carries a connection on to a host that no target has.
    pub(super) async fn pass(
        self,
        caller: &Arc<Caller>,
        passage: &Passage<'_>,
        stream: Rewound<TcpStream>,
        tls: bool,
    ) {
        let record = self.record_of(caller, passage.authority());
        let outbound = Outbound::unmatched(passage);
        self.tunnel(caller, &outbound, false, stream, tls, record)
            .await;
    }

    async fn tunnel(
        self,
        caller: &Arc<Caller>,
        outbound: &Outbound,
        granted: bool,
        mut stream: Rewound<TcpStream>,
        tls: bool,
        mut record: Record,
    ) {
        let (upstream, address) = match self.context.forwarder.tunnel(outbound).await {
            Ok(opened) => opened,
            Err(error) => {
                let refusal = error.into();
                if tls {
                    alert(&mut stream, &refusal).await;
                }
                return close(record, refusal);
            }
        };
        record.dialled(address);
        let room = match open_for(&self.context.budget, caller, CARRIED) {
            Ok(room) => room,
            Err(short) => return close(record, short.into()),
        };
        let carried = CarriedTunnel {
            context: self.context,
            meta: self.meta,
            caller: Arc::clone(caller),
            authority: outbound.authority().clone(),
            address,
            granted,
            mode: InterceptMode::Redirected,
            room,
            closing: self.closing,
        };
        carried.run(stream, upstream, record).await;
    }

    fn record_of(&self, caller: &Caller, authority: &Authority) -> Record {
        let mut record = self.context.recorder.open();
        record.entered(&self.meta);
        record.called_by(caller);
        record.redirected(authority);
        record
    }

    /// Asks policy for the tunnel.
    fn permitted(
        &self,
        caller: &Caller,
        authority: &Authority,
        record: &mut Record,
    ) -> Result<Outbound, Refusal> {
        let access = &self.context.access;
        let snapshot = access.snapshots.load_full();
        let recognition = snapshot.recognise(caller.facts());
        let now = access.clock.now();
        let permit = authorize::tunnel(&snapshot, &recognition, caller, authority, now)?;
        record.permitted(&permit, &snapshot);
        Ok(Outbound::permitted(&permit))
    }
}
