//! Listening addresses, and what is done with each connection that comes in.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use countersign_config::model::{self, ListenerMode, Transparency};
use countersign_core::{
    budget::Purse,
    files,
    gate::{Gate, Turn},
    reason::Reason,
    slots::{NoPlace, Share, Source},
    tls_error,
    wire::{
        connection_state::ConnectionState,
        listen::{listen, listen_transparent},
        meter::Overrun,
        protocol::Protocol,
    },
};
use countersign_identity::{Caller, IdentifyError, TrustDomains};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    AcceptContext, ListenerCertificate, TlsError,
    explicit::Explicit,
    metered::Metered,
    own_identity::OwnIdentity,
    serve,
    transparent::{Steering, Transparent},
};
use crate::{
    refusal::Refusal,
    session::{BrokenConnection, ConnectionMeta, close, within_proof},
};

/// How long, and for how many bytes, a client may take to notice that its certificate was refused.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 * 1024;

/// Why a listener cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken, not ours, or not permitted.
    #[error(
        "listener `{name}` cannot listen on {address}: {}",
        files::reason(source)
    )]
    Bind {
        /// The listener.
        name: String,
        /// Its address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// Only with `CAP_NET_ADMIN` may a socket answer from addresses that are not this machine's.
    #[error("listener `{name}` with `transparency: tproxy` needs CAP_NET_ADMIN")]
    Privilege {
        /// The listener.
        name: String,
    },
    /// It is transparent, and nothing says who its clients are.
    #[error("listener `{name}` is transparent and has no identity")]
    NoIdentity {
        /// The listener.
        name: String,
    },
    /// Its certificate cannot be used.
    #[error("listener `{name}`: {source}")]
    Tls {
        /// The listener.
        name: String,
        /// Why.
        source: Box<TlsError>,
    },
}

/// What is known of the connections of a listener.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) name: Arc<str>,
    tls: Option<Arc<ListenerCertificate>>,
    own: Option<Arc<OwnIdentity>>,
    steering: Option<Steering>,
}

/// A listener that is bound and not yet accepting.
#[derive(Debug)]
pub struct Bound {
    socket: TcpListener,
    address: SocketAddr,
    listener: Arc<Listener>,
}

impl Bound {
    /// Binds a listener. Where it asks for client certificates, they are those of `trusted`.
    ///
    /// # Errors
    /// When its address or certificate cannot be used, or nothing says who its clients are.
    pub fn bind(
        listener: &model::Listener,
        trusted: &Arc<TrustDomains>,
    ) -> Result<Self, ListenError> {
        let name = listener.name.clone();
        let tls = match &listener.tls {
            None => None,
            Some(tls) => Some(Arc::new(ListenerCertificate::load(tls, trusted).map_err(
                |source| ListenError::Tls {
                    name: name.clone(),
                    source: Box::new(source),
                },
            )?)),
        };
        let own = listener
            .own_token_file
            .as_ref()
            .map(|file| Arc::new(OwnIdentity::new(file)));
        let steering = match listener.mode {
            ListenerMode::Explicit => None,
            ListenerMode::Transparent(transparency) => {
                let own = own.clone();
                let own = own.ok_or_else(|| ListenError::NoIdentity { name: name.clone() })?;
                Some(Steering { transparency, own })
            }
        };
        let (socket, address) = bind(listener)?;
        let listener = Listener {
            name: name.as_str().into(),
            tls,
            own,
            steering,
        };
        Ok(Self {
            socket,
            address,
            listener: Arc::new(listener),
        })
    }

    pub(super) fn into_parts(self) -> (TcpListener, Arc<Listener>) {
        (self.socket, self.listener)
    }

    /// The listener's name.
    pub fn name(&self) -> &str {
        &self.listener.name
    }

    /// The address it is bound to, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its certificate, to be reloaded when the files change.
    pub fn certificate(&self) -> Option<&Arc<ListenerCertificate>> {
        self.listener.tls.as_ref()
    }
}

fn bind(listener: &model::Listener) -> Result<(TcpListener, SocketAddr), ListenError> {
    let failed = |source: io::Error| {
        let name = listener.name.clone();
        let tproxy = listener.mode == ListenerMode::Transparent(Transparency::Tproxy);
        if tproxy && source.kind() == io::ErrorKind::PermissionDenied {
            return ListenError::Privilege { name };
        }
        ListenError::Bind {
            name,
            address: listener.address,
            source,
        }
    };
    let bound = match listener.mode {
        ListenerMode::Transparent(Transparency::Tproxy) => listen_transparent(listener.address),
        ListenerMode::Explicit | ListenerMode::Transparent(Transparency::Redirect) => {
            listen(listener.address)
        }
    };
    let socket = bound.map_err(failed)?;
    let address = socket.local_addr().map_err(failed)?;
    Ok((socket, address))
}

/// A connection that just came in.
pub(super) struct Incoming {
    meta: ConnectionMeta,
    listener: Arc<Listener>,
    context: Arc<AcceptContext>,
}

impl Incoming {
    pub(super) fn new(
        context: Arc<AcceptContext>,
        listener: &Arc<Listener>,
        client: SocketAddr,
        purse: Arc<Purse>,
    ) -> Self {
        let meta = ConnectionMeta {
            purse,
            listener: Arc::clone(&listener.name),
            client,
            original_destination: None,
            slot: Arc::new(context.slots.enter(&listener.name, client.ip())),
        };
        Self {
            meta,
            listener: Arc::clone(listener),
            context,
        }
    }

    /// Serves for as long as the connection may keep its place.
    pub(super) async fn serve_within_place(
        self,
        stream: TcpStream,
        turn: Turn<Source>,
        gate: &Gate<Source>,
    ) {
        // What comes in at a pod's own gateway is the pod's.
        if self.listener.own.is_some()
            && let Err(refusal) = self.meta.slot.prove(|| Share::Own)
        {
            return self.record(refusal.into());
        }
        let slot = Arc::clone(&self.meta.slot);
        // Boxed, so that it is not moved about with what it is wrapped in.
        let served = Box::pin(self.serve(stream));
        slot.within_turns(turn, gate, served).await;
    }

    async fn serve(self, stream: TcpStream) {
        // Without it the first small answer waits for the client's delayed acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "the client left at once");
        }
        if let Some(steering) = self.listener.steering.clone() {
            let transparent = Transparent {
                closing: self.context.lifecycle.drain.child_token(),
                context: self.context,
                meta: self.meta,
                steering,
            };
            return transparent.serve(stream).await;
        }
        match self.listener.tls.clone() {
            None => self.speak(stream, Protocol::Http1, None).await,
            Some(certificate) => self.greet(stream, &certificate).await,
        }
    }

    async fn greet(self, stream: TcpStream, certificate: &ListenerCertificate) {
        let Some(config) = certificate.config() else {
            let why = certificate.refused().unwrap_or_default();
            let detail = format!("this listener has no certificate yet: {why}");
            return self.record(Refusal::new(Reason::OwnCertificate, detail));
        };
        let acceptor = TlsAcceptor::from(config);
        let limit = self.context.limits.handshake_timeout;
        let stream = Metered::new(stream, &self.meta.purse);
        let handshake = tokio::time::timeout(limit, acceptor.accept(stream).into_fallible());
        let (outcome, shown) = countersign_identity::observed(handshake).await;
        match (outcome, shown) {
            (Ok(Ok(stream)), shown) => self.greeted(stream, shown.and_then(Result::ok)).await,
            (Ok(Err((_, stream))), Some(Err(refused))) => {
                self.record(IdentifyError::from(refused).into());
                linger(stream).await;
            }
            (Ok(Err((error, _))), _) if let Some(overrun) = Overrun::of(&error) => {
                self.record(overrun.into());
            }
            (Ok(Err((error, _))), _) => self.record_handshake(&error, certificate),
            (Err(_), _) => {
                let detail = format!("the TLS handshake with the proxy took longer than {limit:?}");
                self.record(Refusal::new(Reason::ClientTls, detail));
            }
        }
    }

    /// In a resumed session no certificate was shown, and the one from before is checked again.
    async fn greeted(self, mut stream: TlsStream<Metered<TcpStream>>, shown: Option<Arc<Caller>>) {
        self.meta.slot.greeted();
        stream.get_mut().0.greeted();
        let (_, connection) = stream.get_ref();
        let protocol = Protocol::from_alpn(connection.alpn_protocol());
        let again = || {
            let chain = connection.peer_certificates()?;
            Some(self.context.access.identifier.by_svid(chain))
        };
        let certificate = match shown.map(Ok).or_else(again).transpose() {
            Ok(certificate) => certificate,
            Err(error) => return self.record(error.into()),
        };
        if let Some(caller) = &certificate {
            if let Err(refusal) = self.takes_share_of(caller) {
                return self.record(refusal.into());
            }
            if let Err(short) = self.meta.charge_to(caller, &self.context.budget) {
                return self.record(short.into());
            }
        }
        self.speak(Box::new(stream), protocol, certificate).await;
    }

    fn takes_share_of(&self, caller: &Caller) -> Result<(), NoPlace> {
        let share = || self.context.access.snapshots.load_full().share_of(caller);
        self.meta.slot.prove(share)
    }

    async fn speak<IO>(self, stream: IO, protocol: Protocol, certificate: Option<Arc<Caller>>)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection_state = ConnectionState::new();
        let closing = self.context.lifecycle.drain.child_token();
        let explicit = Arc::new(Explicit {
            context: Arc::clone(&self.context),
            meta: self.meta.clone(),
            connection_state: Arc::clone(&connection_state),
            closing: closing.clone(),
            own: self.listener.own.clone(),
            certificate: certificate.clone(),
        });
        let broken = BrokenConnection {
            recorder: &self.context.recorder,
            meta: &self.meta,
            caller: certificate.as_deref(),
            tunnel: None,
        };
        let served = serve::serve(
            stream,
            protocol,
            &self.context.limits,
            serve::Room::of(&self.meta),
            Arc::clone(&connection_state),
            closing.clone(),
            serve::Requests {
                handle: |request| Arc::clone(&explicit).handle(request),
                broken,
                leaving: self.context.lifecycle.leaving.clone(),
            },
        );
        let (served, clock) = (pin!(served), &self.context.access.clock);
        let served = within_proof(certificate.as_deref(), clock, &closing, served);
        // What is wrong with the connection was recorded.
        drop(served.await);
    }

    fn record_handshake(&self, error: &io::Error, certificate: &ListenerCertificate) {
        let now = self.context.access.clock.now();
        if let Some(detail) = certificate.is_blamed_by(error, now) {
            return self.record(Refusal::new(Reason::OwnCertificate, detail));
        }
        let what = tls_error::of_handshake(error);
        let detail = format!("no TLS between the client and the proxy: {what}");
        self.record(Refusal::new(Reason::ClientTls, detail));
    }

    fn record(&self, refusal: Refusal) {
        let mut record = self.context.recorder.open();
        record.entered(&self.meta);
        close(record, refusal);
    }
}

/// Lets the client read the alert. By TLS 1.3 it may have sent a request already, and closing upon
/// unread bytes would reset the connection before the alert is read.
async fn linger(mut stream: Metered<TcpStream>) {
    let last = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // Whether the client read it or left is the same now.
    drop(tokio::time::timeout(LINGER, last).await);
}
