//! TLS with the client in the name of the destination, after policy has allowed it, and the requests
//! inside.

use std::{pin::pin, sync::Arc};

use countersign_core::{
    budget::Purse,
    destination::Authority,
    wire::{connection_state::ConnectionState, protocol::Protocol},
};
use countersign_identity::Caller;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::{
    AcceptContext, serve,
    tunnel_tls::{Decrypted, TunnelTls},
};
use crate::{
    pipeline::RequestHandler,
    refusal::Refusal,
    session::{BrokenConnection, ConnectionMeta, Session, Tunnel, close, within_proof},
};

/// How an intercepted connection reached the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InterceptMode {
    /// By CONNECT.
    Connect,
    /// It was redirected; its client does not know of a proxy.
    Redirected,
}

/// A tunnel that policy allows to be decrypted.
#[derive(Debug)]
pub(super) struct Intercepted {
    /// What all listeners share.
    pub(super) context: Arc<AcceptContext>,
    /// Where the connection came in.
    pub(super) meta: ConnectionMeta,
    /// Who calls.
    pub(super) caller: Arc<Caller>,
    /// The authority in CONNECT, or in SNI.
    pub(super) authority: Authority,
    /// How the connection reached the gateway.
    pub(super) mode: InterceptMode,
    /// The memory that the tunnel takes.
    pub(super) purse: Arc<Purse>,
    /// Ends the connection.
    pub(super) closing: CancellationToken,
}

impl Intercepted {
    /// Performs the TLS handshake and serves the requests inside until the tunnel ends.
    pub(super) async fn run<IO>(self, stream: IO)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let tls = TunnelTls {
            context: &self.context,
            authority: &self.authority,
            purse: &self.purse,
        };
        match tls.greet(stream).await {
            Ok((stream, fronted)) => self.serve(stream, fronted).await,
            Err(refusal) => self.record(refusal),
        }
    }

    async fn serve<IO>(self, stream: Decrypted<IO>, fronted: bool)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let protocol = Protocol::from_alpn(stream.get_ref().1.alpn_protocol());
        let connection_state = ConnectionState::new();
        let tunnel = Tunnel {
            authority: self.authority,
            protocol,
            fronted,
        };
        let context = self.context;
        let session = Session::new(
            self.meta,
            self.caller,
            Arc::clone(&connection_state),
            self.closing.clone(),
            Some(tunnel),
            self.purse,
        );
        let handler = Arc::new(RequestHandler::new(Arc::clone(&context.requests), session));
        let session = handler.session();
        let broken = BrokenConnection {
            recorder: &context.recorder,
            meta: &session.meta,
            caller: Some(&session.caller),
            tunnel: session
                .tunnel
                .as_ref()
                .map(|tunnel| (&tunnel.authority, protocol)),
        };
        let served = serve::serve(
            stream,
            protocol,
            &context.limits,
            serve::Room {
                slot: &session.meta.slot,
                purse: &session.purse,
            },
            Arc::clone(&connection_state),
            self.closing.clone(),
            serve::Requests {
                handle: |request| Arc::clone(&handler).handle(request),
                broken,
                leaving: context.lifecycle.leaving.clone(),
            },
        );
        let caller = Some(&*session.caller);
        let served = pin!(served);
        let served = within_proof(caller, &context.access.clock, &self.closing, served);
        // What is wrong with the connection was recorded.
        drop(served.await);
    }

    /// Records that the tunnel was refused or failed.
    pub(super) fn record(self, refusal: Refusal) {
        let mut record = self.context.recorder.open();
        record.entered(&self.meta);
        record.called_by(&self.caller);
        match self.mode {
            InterceptMode::Connect => record.connecting(&self.authority),
            InterceptMode::Redirected => record.redirected(&self.authority),
        }
        close(record, refusal);
    }
}
