//! The tunnel of a client whose proof is refused for good. It is opened only to be refused inside, in the
//! language of the API: SDKs repeat a refused CONNECT for minutes, or tell their user nothing of it.
//!
//! Nothing is decided by such a proof, and nothing is sent upstream. The client stays unidentified, with the
//! bounds of one, and the handshake counts as a bad token of its address.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use countersign_authorize as authorize;
use countersign_config::model::Target;
use countersign_core::{
    budget::Purse,
    destination::Authority,
    wire::{connection_state::ConnectionState, protocol::Protocol, unserved::Unserved},
};
use countersign_identity::Unproven;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::{
    AcceptContext,
    intercept::InterceptMode,
    serve,
    tunnel_tls::{Decrypted, TunnelTls},
};
use crate::{
    observe::Record,
    pipeline::{self, AnswerBody},
    refusal::{self, Refusal},
    session::{ConnectionMeta, close},
};

/// A tunnel whose requests are refused.
#[derive(Debug)]
pub(super) struct RefusedTunnel {
    context: Arc<AcceptContext>,
    meta: ConnectionMeta,
    authority: Authority,
    target: Arc<Target>,
    unproven: Unproven,
    purse: Arc<Purse>,
    closing: CancellationToken,
    untold: Untold,
}

/// The refusal, and its record, until a request is there to which it can be told. If none comes, the record
/// says where the tunnel was to go.
#[derive(Debug)]
struct Untold(Option<(Record, Refusal)>);

impl RefusedTunnel {
    /// A tunnel of a client whose proof is refused, which takes this much memory.
    ///
    /// # Errors
    /// The refusal itself, if it is not told inside: it may pass, it is not known whose proof it is, no target
    /// names this host, or the client's address has been told enough.
    pub(super) fn open(
        context: &Arc<AcceptContext>,
        meta: &ConnectionMeta,
        mode: InterceptMode,
        authority: &Authority,
        mut refusal: Refusal,
        room: u64,
    ) -> Result<Self, Refusal> {
        let unproven = match &refusal.unproven {
            Some(unproven) if unproven.is_final() => Unproven::clone(unproven),
            Some(_) | None => return Err(refusal),
        };
        let snapshot = context.access.snapshots.load_full();
        let Some(target) = authorize::told_inside(&snapshot, authority) else {
            return Err(refusal);
        };
        if !context.access.identifier.may_tell_inside(meta.client.ip()) {
            return Err(refusal);
        }
        let Ok(purse) = meta.purse.with_same_account(room) else {
            return Err(refusal);
        };
        let mut record = context.recorder.open();
        record.entered(meta);
        match mode {
            InterceptMode::Connect => record.connecting(authority),
            InterceptMode::Redirected => record.redirected(authority),
        }
        refusal.was_of_unproven(&snapshot);
        Ok(Self {
            context: Arc::clone(context),
            meta: meta.clone(),
            authority: authority.clone(),
            target,
            unproven,
            purse,
            closing: context.lifecycle.drain.child_token(),
            untold: Untold(Some((record, refusal))),
        })
    }

    /// The response to CONNECT: success, with what follows inside for a client that understands it.
    pub(super) fn response(&self) -> Response<()> {
        match &self.untold.0 {
            Some((record, refusal)) => refusal::told_inside(refusal, record),
            None => Response::new(()),
        }
    }

    /// Performs the TLS handshake and refuses the requests inside. After the first one the connection is closed.
    pub(super) async fn run<IO>(self, stream: IO)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let tls = TunnelTls {
            context: &self.context,
            authority: &self.authority,
            purse: &self.purse,
        };
        // Without a handshake there is only the record, of why the client was refused in the first place.
        if let Ok((stream, fronted)) = tls.greet(stream).await {
            self.serve(stream, fronted).await;
        }
    }

    async fn serve<IO>(self, stream: Decrypted<IO>, fronted: bool)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let protocol = Protocol::from_alpn(stream.get_ref().1.alpn_protocol());
        let connection_state = ConnectionState::new();
        let (context, meta) = (Arc::clone(&self.context), self.meta.clone());
        let (purse, closing) = (Arc::clone(&self.purse), self.closing.clone());
        let refuser = Arc::new(Refuser {
            tunnel: Mutex::new(self),
            connection_state: Arc::clone(&connection_state),
            protocol,
            fronted,
        });
        let served = serve::serve(
            stream,
            protocol,
            &context.limits,
            serve::Room {
                slot: &meta.slot,
                purse: &purse,
            },
            connection_state,
            closing,
            serve::Requests {
                handle: |request| {
                    let response = refuser.refuse(request);
                    async { response }
                },
                broken: Unheard,
                leaving: context.lifecycle.leaving.clone(),
            },
        );
        drop(served.await);
    }
}

/// A client that breaks HTTP is refused for its proof nevertheless, which its record says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unheard;

impl serve::Broken for Unheard {
    fn unserved(&self, _why: Unserved) {}

    fn ended(
        &self,
        _connection_state: &ConnectionState,
        _error: &hyper::Error,
    ) -> Option<Response<Bytes>> {
        None
    }
}

/// Refuses the requests of one tunnel.
#[derive(Debug)]
struct Refuser {
    tunnel: Mutex<RefusedTunnel>,
    connection_state: Arc<ConnectionState>,
    protocol: Protocol,
    fronted: bool,
}

impl Refuser {
    fn refuse(&self, request: Request<Incoming>) -> Response<AnswerBody> {
        let in_flight = self.connection_state.begin();
        let (parts, _body) = request.into_parts();
        // Nothing that panics happens to what it guards.
        let mut tunnel = self.tunnel.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut record, mut refusal) = tunnel.next();
        record.came_on(&self.connection_state);
        record.trace(&parts.headers);
        record.asked_inside(&parts, &tunnel.authority, self.protocol);
        if !self.fronted {
            refusal = refusal.finally_at(&tunnel.target);
        }
        let mut response = pipeline::refused(record, refusal, in_flight);
        pipeline::last(&mut response);
        tunnel.closing.cancel();
        response
    }
}

impl RefusedTunnel {
    /// The record of a request, and its refusal. Over HTTP/2 there may be others beside the first.
    fn next(&mut self) -> (Record, Refusal) {
        if let Some(first) = self.untold.0.take() {
            return first;
        }
        let mut refusal = Refusal::from(self.unproven.clone());
        refusal.was_of_unproven(&self.context.access.snapshots.load_full());
        let mut record = self.context.recorder.open();
        record.entered(&self.meta);
        (record, refusal)
    }
}

impl Drop for Untold {
    fn drop(&mut self) {
        if let Some((record, refusal)) = self.0.take() {
            close(record, refusal);
        }
    }
}
