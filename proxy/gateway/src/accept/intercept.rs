//! TLS with the client in the name of the destination, after policy has allowed it, and the requests
//! inside.

use std::{io, pin::pin, sync::Arc};

use countersign_config::host::Host;
use countersign_core::{
    budget::Purse,
    destination::Authority,
    reason::Reason,
    tls_error,
    wire::{connection_state::ConnectionState, meter::Overrun, protocol::Protocol},
};
use countersign_identity::Caller;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{AcceptContext, metered::Metered, serve};
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
    /// Like [`Self::run`], but refuses the tunnel if the client sent data (`early`) before the response to
    /// CONNECT.
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

    /// Performs the TLS handshake and serves the requests inside until the tunnel ends.
    pub(super) async fn run<IO>(self, stream: IO)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limit = self.context.limits.handshake_timeout;
        // Boxed, so that the future of the connection does not hold the handshake's.
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

    /// The stream, and whether SNI names another host than CONNECT did. It is boxed because a TLS session
    /// has more than a kilobyte and is moved several times.
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
        // Without SNI, the name in CONNECT is the only one.
        let fronted = hello
            .server_name()
            .is_some_and(|name| Host::parse(name).ok().as_ref() != Some(self.authority.host()));
        let leaf = self.context.ca.leaf_in_time(self.authority.host()).await;
        let config = leaf
            .map_err(|error| Refusal::new(Reason::Internal, format!("no certificate: {error}")))?;
        let mut stream = start.into_stream(config).await.map_err(|error| {
            // A client that fronted wants the certificate of another host.
            let refused = self.refused_leaf(&error).filter(|_| !fronted);
            refused.unwrap_or_else(|| client_tls(&error))
        })?;
        stream.get_mut().0.greeted();
        Ok((Box::new(stream), fronted))
    }

    async fn serve<IO>(self, stream: Box<TlsStream<Metered<IO>>>, fronted: bool)
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
                unserved: |why| broken.record_unserved(why),
            },
        );
        let caller = Some(&*session.caller);
        let served = pin!(served);
        let served = within_proof(caller, &context.access.clock, &self.closing, served);
        if let Err(error) = served.await
            && serve::is_worth_telling(&error, &connection_state)
        {
            broken.record(&connection_state, &error);
        }
    }

    /// The refusal, if the client says that it does not accept the certificate that was issued for it.
    fn refused_leaf(&self, error: &io::Error) -> Option<Refusal> {
        let Some(rustls::Error::AlertReceived(alert)) = tls_error::find(error) else {
            return None;
        };
        let alert = tls_error::is_about_certificate(*alert).then(|| tls_error::alert(*alert))?;
        let (host, root) = (self.authority.host(), self.context.ca.root_file());
        let detail = format!(
            "the client says that {alert}; it was issued for {host} by the root in {}: mount the bundle with that root in the pod, and set the CA variable of its language",
            root.display()
        );
        Some(Refusal::new(Reason::OwnCertificate, detail))
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

fn client_tls(error: &io::Error) -> Refusal {
    if let Some(overrun) = Overrun::of(error) {
        return overrun.into();
    }
    let departed = error.kind() == io::ErrorKind::UnexpectedEof;
    let detail = if departed {
        "the client left within the TLS handshake; most often it does not trust the gateway's root"
            .to_owned()
    } else {
        format!("no TLS with the client: {}", tls_error::of_handshake(error))
    };
    Refusal::new(Reason::ClientTls, detail)
}
