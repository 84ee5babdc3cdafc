//! An identified caller on one connection: what its requests share, and what keeps an open tunnel or
//! WebSocket permitted.

mod guard;
mod meta;
pub mod pump;
mod record_ext;

pub use guard::AccessGuard;
pub use meta::{ConnectionMeta, open_for};
pub use record_ext::{BrokenConnection, close, no_violation};

use std::{pin::Pin, sync::Arc};

use arc_swap::ArcSwapOption;
use countersign_authorize::{Recognition, Snapshot};
use countersign_core::{
    budget::Purse,
    clock::Clock,
    destination::Authority,
    wire::{connection_state::ConnectionState, protocol::Protocol},
};
use countersign_identity::Caller;
use countersign_upstream::forward::{CallerId, Requester};
use tokio_util::sync::CancellationToken;

use crate::observe::CallerPart;

/// An identified caller on one connection.
#[derive(Debug)]
pub struct Session {
    /// Where the connection came in.
    pub meta: ConnectionMeta,
    /// Who calls.
    pub caller: Arc<Caller>,
    /// The connection's requests in flight, and how it ends.
    pub connection_state: Arc<ConnectionState>,
    /// Ends the connection once its requests in progress are over.
    pub closing: CancellationToken,
    /// The tunnel the requests come through; `None` for requests in absolute form.
    pub tunnel: Option<Tunnel>,
    /// The memory that the requests take.
    pub purse: Arc<Purse>,
    /// Whose part of the upstream connections its requests take.
    caller_id: CallerId,
    /// What records say of the caller; made once.
    caller_part: Arc<CallerPart>,
    recognition: ArcSwapOption<Recognition>,
}

/// The intercepted tunnel that requests come through.
#[derive(Debug)]
pub struct Tunnel {
    /// The authority in CONNECT, which every request must name.
    pub authority: Authority,
    /// The HTTP version inside.
    pub protocol: Protocol,
    /// Whether SNI named another host, so that no request is served.
    pub fronted: bool,
}

impl Session {
    /// A session of a caller that `identify` has proven.
    pub fn new(
        meta: ConnectionMeta,
        caller: Arc<Caller>,
        connection_state: Arc<ConnectionState>,
        closing: CancellationToken,
        tunnel: Option<Tunnel>,
        purse: Arc<Purse>,
    ) -> Self {
        Self {
            caller_id: caller_id(&caller),
            caller_part: Arc::new(CallerPart::of(&caller)),
            meta,
            caller,
            connection_state,
            closing,
            tunnel,
            purse,
            recognition: ArcSwapOption::empty(),
        }
    }

    /// The requester of its upstream connections.
    pub fn requester(&self) -> Requester<'_> {
        Requester::new(self.caller_id, &self.purse)
    }

    /// The workloads of the caller in `snapshot`; computed once per revision.
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

/// What distinguishes callers of one workload: their pods, or their proofs if the pod is not known.
pub fn caller_id(caller: &Caller) -> CallerId {
    let pod = caller.facts().pod.as_deref();
    let own = pod.or_else(|| caller.token_id());
    CallerId::of((caller.issuer(), caller.subject(), own))
}

/// Runs a connection, and ends it by `closing` when the proof of `caller` expires, to whom all its requests
/// belong.
pub async fn within_proof<C: Future>(
    caller: Option<&Caller>,
    clock: &Clock,
    closing: &CancellationToken,
    // Pinned by the caller of this function: a connection by value would be in memory twice.
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
