//! TLS with the client in the destination's name, once policy has allowed it, and the requests
//! within.

use std::{io, pin::pin, sync::Arc};

use countersign_config::host::Host;
use countersign_core::{
    budget::Purse,
    destination::Authority,
    reason::Reason,
    wire::{activity::Activity, meter::Overrun, protocol::Protocol},
};
use countersign_identity::Caller;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{
    metered::Metered,
    serve,
    session::{Entrance, Session, Tunnel, within_proof},
};
use crate::{app::Rooms, pipeline, refusal::Refusal};

/// How a connection came to be intercepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By CONNECT.
    Connect,
    /// It was steered here; its client knows of no proxy.
    Steered,
}

/// A tunnel whose decryption policy has allowed.
#[derive(Debug)]
pub(super) struct Intercepted {
    /// The rooms of the gateway.
    pub(super) rooms: Arc<Rooms>,
    /// Where the connection came in.
    pub(super) entrance: Entrance,
    /// Who calls.
    pub(super) caller: Arc<Caller>,
    /// What was asked of CONNECT, or named by SNI.
    pub(super) authority: Authority,
    /// How it came here.
    pub(super) way: Way,
    /// What the tunnel makes the gateway hold.
    pub(super) purse: Arc<Purse>,
    /// Ends the connection.
    pub(super) closing: CancellationToken,
}

impl Intercepted {
    /// The same as [`Self::run`], if the client waited for our answer to CONNECT: `early` is what
    /// it sent before.
    pub(super) async fn begin<IO>(self, stream: IO, early: &[u8])
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if early.is_empty() {
            return self.run(stream).await;
        }
        self.record(Refusal::new(
            Reason::EarlyData,
            "the client sent data before its CONNECT was answered",
        ));
    }

    /// Shakes hands and serves the requests within until the tunnel is over.
    pub(super) async fn run<IO>(self, stream: IO)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limit = self.rooms.limits.handshake_timeout;
        // Boxed, so that the connection does not carry the room for its handshake.
        let handshake = Box::pin(self.handshake(stream));
        match tokio::time::timeout(limit, handshake).await {
            Ok(Ok((stream, fronted))) => self.serve(stream, fronted).await,
            Ok(Err(refusal)) => self.record(refusal),
            Err(_) => self.record(Refusal::new(
                Reason::ClientTls,
                format!("the client did not finish the TLS handshake within {limit:?}"),
            )),
        }
    }

    /// The stream, and whether the client asked for another host than CONNECT did. It is boxed: a
    /// TLS session is more than a kilobyte, and is handed on by value from here on.
    async fn handshake<IO>(
        &self,
        stream: IO,
    ) -> Result<(Box<TlsStream<Metered<IO>>>, bool), Refusal>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = Metered::new(stream, &self.purse);
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream)
            .await
            .map_err(|error| client_tls(&error))?;
        let hello = start.client_hello();
        // Without SNI the name that policy judged stands: it is the only one there is.
        let fronted = hello
            .server_name()
            .is_some_and(|name| Host::parse(name).ok().as_ref() != Some(self.authority.host()));
        let leaf = self.rooms.ca.leaf_in_time(self.authority.host()).await;
        let config = leaf
            .map_err(|error| Refusal::new(Reason::Internal, format!("no certificate: {error}")))?;
        let mut stream = start
            .into_stream(config)
            .await
            .map_err(|error| client_tls(&error))?;
        stream.get_mut().0.greeted();
        Ok((Box::new(stream), fronted))
    }

    async fn serve<IO>(self, stream: Box<TlsStream<Metered<IO>>>, fronted: bool)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let protocol = Protocol::from_alpn(stream.get_ref().1.alpn_protocol());
        let activity = Activity::new();
        let tunnel = Tunnel {
            authority: self.authority,
            protocol,
            fronted,
        };
        let session = Arc::new(Session::new(
            self.rooms,
            self.entrance,
            self.caller,
            Arc::clone(&activity),
            self.closing.clone(),
            Some(tunnel),
            self.purse,
        ));
        let rooms = Arc::clone(&session.rooms);
        let handler = Arc::clone(&session);
        let served = serve::serve(
            stream,
            protocol,
            &rooms.limits,
            serve::Room {
                slot: &session.entrance.slot,
                purse: &session.purse,
            },
            Arc::clone(&activity),
            self.closing.clone(),
            move |request| pipeline::handle(Arc::clone(&handler), request),
        );
        let caller = Some(&*session.caller);
        let served = pin!(served);
        let served = within_proof(caller, &rooms.clock, &self.closing, served);
        if let Err(error) = served.await
            && serve::is_worth_telling(&error, &activity)
        {
            pipeline::record_broken(
                &session.rooms,
                &session.entrance,
                Some(&session.caller),
                &activity,
                &error,
            );
        }
    }

    /// Records that the tunnel came to nothing.
    pub(super) fn record(self, refusal: Refusal) {
        let mut record = self.rooms.recorder.open();
        record.entered(&self.entrance);
        record.called_by(&self.caller);
        match self.way {
            Way::Connect => record.connecting(&self.authority),
            Way::Steered => record.steered(&self.authority),
        }
        pipeline::close(record, refusal);
    }
}

fn client_tls(error: &io::Error) -> Refusal {
    if let Some(overrun) = Overrun::of(error) {
        return overrun.into();
    }
    let departed = error.kind() == io::ErrorKind::UnexpectedEof;
    let detail = if departed {
        "the client left within the TLS handshake; most often it does not trust the gateway's root"
            .to_owned()
    } else {
        format!("the TLS handshake with the client failed: {error}")
    };
    Refusal::new(Reason::ClientTls, detail)
}
