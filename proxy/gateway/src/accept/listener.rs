//! Listening addresses, and what is done with each connection that comes in.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use countersign_config::model::{self, ListenerMode, Transparency};
use countersign_core::{
    budget::Purse,
    reason::Reason,
    slots::{NoPlace, Share},
    wire::{
        connection_state::ConnectionState,
        listen::{listen, listen_transparent},
        meter::Overrun,
        protocol::Protocol,
    },
};
use countersign_identity::{Caller, IdentifyError, TrustDomains};
use rustix::io::Errno;
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
    session::{ConnectionMeta, close, record_broken, within_proof},
};

/// How long, and for how many bytes, a client may take to notice that its certificate was refused.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 * 1024;

/// How often memory for a newcomer is asked for, and how long between.
const TRIES: usize = 200;
const BETWEEN_TRIES: Duration = Duration::from_millis(1);

/// Why a listener cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken, not ours, or not permitted.
    #[error("listener `{name}` cannot listen on {address}: {source}")]
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
        source: TlsError,
    },
}

/// A listener that is bound and not yet accepting.
#[derive(Debug)]
pub struct Bound {
    name: Arc<str>,
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<ListenerCertificate>>,
    own: Option<Arc<OwnIdentity>>,
    steering: Option<Steering>,
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
                    source,
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
        Ok(Self {
            name: name.as_str().into(),
            socket,
            address,
            tls,
            own,
            steering,
        })
    }

    /// The listener's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address it is bound to, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its certificate, to be reloaded when the files change.
    pub fn certificate(&self) -> Option<&Arc<ListenerCertificate>> {
        self.tls.as_ref()
    }

    /// Accepts connections until the gateway drains. It never stops because places are taken:
    /// a newcomer has one, and somebody else may have to go for it.
    pub async fn run(self, context: Arc<AcceptContext>) {
        loop {
            let accepted = tokio::select! {
                () = context.lifecycle.drain.cancelled() => return,
                accepted = self.socket.accept() => accepted,
            };
            let (stream, client) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::error!(listener = %self.name, %error, "cannot accept a connection");
                    if is_shortage(&error) {
                        context.slots.evict();
                    }
                    // Trying at once would only spin.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // Counted there, if there is none. Others wait in the system's queue meanwhile.
            let Some(purse) = admitted(&context).await else {
                continue;
            };
            let incoming = Incoming {
                meta: ConnectionMeta {
                    purse,
                    listener: Arc::clone(&self.name),
                    client,
                    original_destination: None,
                    slot: Arc::new(context.slots.enter(&self.name, client.ip())),
                },
                tls: self.tls.clone(),
                own: self.own.clone(),
                steering: self.steering.clone(),
                context: Arc::clone(&context),
            };
            context
                .lifecycle
                .tasks
                .spawn(incoming.serve_within_place(stream));
        }
    }
}

/// Memory for a newcomer. Strangers that were closed for it give theirs back when their tasks have
/// ended, which takes a moment; `None` if it takes long.
async fn admitted(context: &AcceptContext) -> Option<Arc<Purse>> {
    for _ in 0..TRIES {
        if let Ok(purse) = context.budget.admit() {
            return Some(purse);
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
    None
}

/// Whether file descriptors or memory are short, of which a stranger's are the first to be given up.
fn is_shortage(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| {
        [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].contains(&errno)
    })
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
struct Incoming {
    meta: ConnectionMeta,
    tls: Option<Arc<ListenerCertificate>>,
    own: Option<Arc<OwnIdentity>>,
    steering: Option<Steering>,
    context: Arc<AcceptContext>,
}

impl Incoming {
    /// Serves for as long as the connection may keep its place.
    async fn serve_within_place(self, stream: TcpStream) {
        // What comes in at a pod's own gateway is the pod's.
        if self.own.is_some()
            && let Err(refusal) = self.meta.slot.prove(|| Share::Own)
        {
            return self.record(refusal.into());
        }
        let slot = Arc::clone(&self.meta.slot);
        slot.within(self.serve(stream)).await;
    }

    async fn serve(self, stream: TcpStream) {
        // Without it the first small answer waits for the client's delayed acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "the client left at once");
        }
        if let Some(steering) = self.steering {
            let transparent = Transparent {
                closing: self.context.lifecycle.drain.child_token(),
                context: self.context,
                meta: self.meta,
                steering,
            };
            return transparent.serve(stream).await;
        }
        match self.tls.clone() {
            None => self.speak(stream, Protocol::Http1, None).await,
            Some(certificate) => self.greet(stream, &certificate).await,
        }
    }

    async fn greet(self, stream: TcpStream, certificate: &ListenerCertificate) {
        let acceptor = TlsAcceptor::from(certificate.config());
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
            (Ok(Err((error, _))), _) => self.record_handshake(&format!("it failed: {error}")),
            (Err(_), _) => self.record_handshake(&format!("it took longer than {limit:?}")),
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
            own: self.own.clone(),
            certificate: certificate.clone(),
        });
        let served = serve::serve(
            stream,
            protocol,
            &self.context.limits,
            serve::Room::of(&self.meta),
            Arc::clone(&connection_state),
            closing.clone(),
            |request| Arc::clone(&explicit).handle(request),
        );
        let (served, clock) = (pin!(served), &self.context.access.clock);
        let served = within_proof(certificate.as_deref(), clock, &closing, served);
        if let Err(error) = served.await
            && serve::is_worth_telling(&error, &connection_state)
        {
            record_broken(
                &self.context.recorder,
                &self.meta,
                None,
                &connection_state,
                &error,
            );
        }
    }

    fn record_handshake(&self, what: &str) {
        let detail = format!("the TLS handshake with the proxy itself: {what}");
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
