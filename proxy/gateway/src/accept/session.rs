//! A connection whose caller is proven: what its requests share.

use std::{net::SocketAddr, pin::Pin, sync::Arc};

use arc_swap::ArcSwapOption;
use countersign_core::{
    budget::Purse,
    clock::Clock,
    destination::Authority,
    slots::Slot,
    wire::{activity::Activity, protocol::Protocol},
};
use countersign_identity::Caller;
use countersign_upstream::forward::{CallerId, Requester};
use tokio_util::sync::CancellationToken;

use crate::{
    app::Rooms,
    authorize::{Recognition, Snapshot},
    observe::CallerPart,
};

/// Where a connection came in.
#[derive(Debug, Clone)]
pub struct Entrance {
    /// The listener's name.
    pub listener: Arc<str>,
    /// The peer's address; told in records, never taken for identity.
    pub client: SocketAddr,
    /// Where a steered connection was going; `None` for clients that know of the proxy.
    pub original_destination: Option<SocketAddr>,
    /// What the connection makes the gateway hold.
    pub purse: Arc<Purse>,
    /// The connection's place among those that may be open; given back with its last tunnel.
    pub slot: Arc<Slot>,
}

/// A proven caller on one connection.
#[derive(Debug)]
pub struct Session {
    /// The rooms of the gateway.
    pub rooms: Arc<Rooms>,
    /// Where the connection came in.
    pub entrance: Entrance,
    /// Who calls.
    pub caller: Arc<Caller>,
    /// What the connection is doing.
    pub activity: Arc<Activity>,
    /// Ends the connection once its requests in progress are over.
    pub closing: CancellationToken,
    /// The tunnel the requests come through; `None` for requests in absolute form.
    pub tunnel: Option<Tunnel>,
    /// Whose part of upstream connections its requests take.
    caller_id: CallerId,
    /// What the requests make the gateway hold.
    pub purse: Arc<Purse>,
    /// What records say of the caller; made once.
    pub(crate) caller_part: Arc<CallerPart>,
    recognition: ArcSwapOption<Recognition>,
}

/// The intercepted tunnel that requests come through.
#[derive(Debug)]
pub struct Tunnel {
    /// What was asked of CONNECT, and what every request must name.
    pub authority: Authority,
    /// What was negotiated within.
    pub protocol: Protocol,
    /// Whether SNI named another host, so that no request is served.
    pub fronted: bool,
}

impl Session {
    /// A session of a caller that `identify` has proven.
    pub fn new(
        rooms: Arc<Rooms>,
        entrance: Entrance,
        caller: Arc<Caller>,
        activity: Arc<Activity>,
        closing: CancellationToken,
        tunnel: Option<Tunnel>,
        purse: Arc<Purse>,
    ) -> Self {
        Self {
            caller_id: caller_id(&caller),
            caller_part: Arc::new(CallerPart::of(&caller)),
            rooms,
            entrance,
            caller,
            activity,
            closing,
            tunnel,
            purse,
            recognition: ArcSwapOption::empty(),
        }
    }

    /// For whom its requests are sent on.
    pub(crate) fn requester(&self) -> Requester<'_> {
        Requester::new(self.caller_id, &self.purse)
    }

    /// The workloads the caller is in `snapshot`; worked out once a revision.
    pub fn recognised(&self, snapshot: &Snapshot) -> Arc<Recognition> {
        if let Some(known) = &*self.recognition.load()
            && known.is_of(snapshot)
        {
            return Arc::clone(known);
        }
        let fresh = Arc::new(snapshot.recognise(self.caller.facts()));
        self.recognition.store(Some(Arc::clone(&fresh)));
        fresh
    }
}

/// What tells callers of one workload apart: their pods, or where none is known their proofs.
pub(super) fn caller_id(caller: &Caller) -> CallerId {
    let pod = caller.facts().pod.as_deref();
    let own = pod.or_else(|| caller.token_id());
    CallerId::of((caller.issuer(), caller.subject(), own))
}

/// Runs a connection, and ends it by `closing` when the proof of its caller does, if all of its
/// requests are that caller's.
pub(super) async fn within_proof<C: Future>(
    caller: Option<&Caller>,
    clock: &Clock,
    closing: &CancellationToken,
    // Pinned by whoever calls: a connection by value would be in memory twice.
    mut connection: Pin<&mut C>,
) -> C::Output {
    if let Some(caller) = caller {
        tokio::select! {
            biased;
            ended = connection.as_mut() => return ended,
            () = clock.until(caller.expires_at()) => closing.cancel(),
        }
    }
    connection.await
}
