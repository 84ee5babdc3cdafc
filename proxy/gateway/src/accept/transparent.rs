//! Redirected connections, whose clients do not know of a proxy.
//!
//! The protocol is detected from the first bytes. For TLS the name in SNI counts, for HTTP the `Host`; the
//! gateway resolves it, so that the client's DNS cannot decide where a credential goes. Only a connection
//! without a name is decided about, and carried, by its original address.

mod carry;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use countersign_authorize::{self as authorize, Denied, Disposition};
use countersign_config::{host::Host, memory::TUNNEL, model::Transparency};
use countersign_core::{
    destination::Authority,
    files,
    reason::Reason,
    wire::{
        connection_state::ConnectionState,
        first_bytes::{self, Detection, FirstBytes},
        original_destination::{canonical, original_destination},
        protocol::Protocol,
        rewound::Rewound,
        sniff::{ClientHello, DetectedProtocol},
    },
};
use countersign_identity::Caller;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_util::sync::CancellationToken;

use super::{
    AcceptContext,
    clear::Clear,
    intercept::{InterceptMode, Intercepted},
    metered::Metered,
    own_identity::OwnIdentity,
    refused_tunnel::RefusedTunnel,
    serve, tunnel,
};
use crate::{
    refusal::Refusal,
    session::{BrokenConnection, ConnectionMeta, close, open_for},
};

/// What a transparent listener needs besides its socket.
#[derive(Debug, Clone)]
pub(super) struct Steering {
    /// How the kernel redirects connections.
    pub(super) transparency: Transparency,
    /// The clients' identity: they cannot present one.
    pub(super) own: Arc<OwnIdentity>,
}

/// One redirected connection.
#[derive(Debug)]
pub(super) struct Transparent {
    /// What all listeners share.
    pub(super) context: Arc<AcceptContext>,
    /// Where the connection came in.
    pub(super) meta: ConnectionMeta,
    /// The listener's settings.
    pub(super) steering: Steering,
    /// Ends the connection.
    pub(super) closing: CancellationToken,
}

impl Transparent {
    /// Finds the original destination and the protocol, then does what policy says.
    pub(super) async fn serve(mut self, mut stream: TcpStream) {
        let original = match self.original(&stream) {
            Ok(original) => original,
            Err(refusal) => return self.refuse(None, None, refusal),
        };
        let limit = self.context.limits.handshake_timeout;
        let mut metered = Metered::first_bytes(&mut stream, &self.meta.purse);
        let first = tokio::select! {
            biased;
            () = self.closing.cancelled() => {
                let refusal = Refusal::new(Reason::Draining, "the client had said nothing yet");
                return self.refuse(None, None, refusal);
            }
            first = first_bytes::read(&mut metered, limit) => first,
        };
        // Checked only now: a connection of the gateway's own is registered before its first byte is sent.
        if self
            .context
            .forwarder
            .has_dialled(canonical(self.meta.client), original)
        {
            let detail = format!(
                "this is the gateway's own connection to {original}: the steering rules do not leave its user out"
            );
            return self.refuse(None, None, Refusal::new(Reason::LoopRefused, detail));
        }
        self.dispatch(first, stream, original, limit).await;
    }

    async fn dispatch(
        self,
        first: FirstBytes,
        stream: TcpStream,
        original: SocketAddr,
        limit: Duration,
    ) {
        let stream = Rewound::new(first.bytes, stream);
        let refusal = match first.detection {
            Detection::Protocol(DetectedProtocol::Tls(hello)) => {
                return self.tls(hello, stream, original).await;
            }
            Detection::Protocol(DetectedProtocol::Http1) => {
                return self.http(Protocol::Http1, stream, original).await;
            }
            Detection::Protocol(DetectedProtocol::Http2) => {
                return self.http(Protocol::Http2, stream, original).await;
            }
            Detection::Protocol(DetectedProtocol::Unknown) => {
                let detail = "the client speaks neither TLS nor HTTP";
                let refusal = Refusal::new(Reason::ProtocolUnknown, detail);
                return self.unnamed(stream, original, refusal).await;
            }
            Detection::Nothing => {
                let detail = format!("the client did not say what it wants within {limit:?}");
                let refusal = Refusal::new(Reason::HeadTimeout, detail);
                return self.unnamed(stream, original, refusal).await;
            }
            Detection::Malformed(malformed) => Refusal::new(Reason::ClientTls, malformed.0),
            Detection::Left => Refusal::new(Reason::ClientGone, "the client left without a word"),
            Detection::Overrun(overrun) => overrun.into(),
        };
        self.refuse(None, Some(&by_address(original)), refusal);
    }

    /// The original destination, kept for the records; never a listener of this gateway.
    fn original(&mut self, stream: &TcpStream) -> Result<SocketAddr, Refusal> {
        let looped = |detail: String| Refusal::new(Reason::LoopRefused, detail);
        let original =
            original_destination(stream, self.steering.transparency).map_err(|error| {
                looped(format!(
                    "the connection came here directly, or netfilter does not say from where: {}",
                    files::reason(&error)
                ))
            })?;
        self.meta.original_destination = Some(original);
        let here = stream.local_addr().map(canonical).ok();
        let redirected = self.steering.transparency == Transparency::Redirect;
        if redirected && here == Some(original) {
            return Err(looped(format!(
                "the client connected to this listener itself, at {original}"
            )));
        }
        if self.context.forwarder.is_own_listener(original) {
            return Err(looped(format!("{original} is a listener of this gateway")));
        }
        Ok(original)
    }

    async fn tls(self, hello: ClientHello, mut stream: Rewound<TcpStream>, original: SocketAddr) {
        let named = match &hello.server_name {
            Some(name) => named(name, original),
            None => Ok(by_address(original)),
        };
        let authority = match named {
            Ok(authority) => authority,
            Err(refusal) => {
                alert(&mut stream, &refusal).await;
                return self.refuse(None, Some(&by_address(original)), refusal);
            }
        };
        let caller = match self.caller().await {
            Ok(caller) => caller,
            Err(refusal) => return self.tell_inside(refusal, &authority, stream).await,
        };
        match self.disposition(&caller, &authority) {
            Ok(Disposition::Intercept(_)) => {
                self.intercept(Arc::clone(&caller), authority, stream).await;
            }
            Ok(Disposition::Carry) => self.carry(&caller, &authority, stream, true).await,
            Ok(Disposition::Pass(passage)) => {
                // With ECH the name may be an outer one, not where the client goes.
                let passage = if hello.encrypted {
                    passage.by_address(original)
                } else {
                    passage
                };
                self.pass(&caller, &passage, stream, true).await;
            }
            Err(denied) => {
                let refusal = denied.into();
                alert(&mut stream, &refusal).await;
                self.refuse(Some(&caller), Some(&authority), refusal);
            }
        }
    }

    /// Refuses a client whose proof is refused, inside its TLS if it is final.
    async fn tell_inside(
        self,
        refusal: Refusal,
        authority: &Authority,
        mut stream: Rewound<TcpStream>,
    ) {
        let (context, mode) = (&self.context, InterceptMode::Redirected);
        match RefusedTunnel::open(context, &self.meta, mode, authority, refusal, TUNNEL) {
            Ok(refused) => Box::pin(refused.run(stream)).await,
            Err(refusal) => {
                alert(&mut stream, &refusal).await;
                self.refuse(None, Some(authority), refusal);
            }
        }
    }

    async fn intercept(
        self,
        caller: Arc<Caller>,
        authority: Authority,
        mut stream: Rewound<TcpStream>,
    ) {
        let purse = match open_for(&self.context.budget, &caller, TUNNEL) {
            Ok(purse) => purse,
            Err(short) => {
                let refusal = short.into();
                alert(&mut stream, &refusal).await;
                return self.refuse(Some(&caller), Some(&authority), refusal);
            }
        };
        let intercepted = Intercepted {
            purse,
            context: self.context,
            meta: self.meta,
            caller,
            authority,
            mode: InterceptMode::Redirected,
            closing: self.closing,
        };
        intercepted.run(stream).await;
    }

    async fn http(self, protocol: Protocol, stream: Rewound<TcpStream>, original: SocketAddr) {
        let connection_state = ConnectionState::new();
        let clear = Arc::new(Clear {
            context: Arc::clone(&self.context),
            meta: self.meta.clone(),
            own: Arc::clone(&self.steering.own),
            connection_state: Arc::clone(&connection_state),
            port: original.port(),
        });
        let broken = BrokenConnection {
            recorder: &self.context.recorder,
            meta: &self.meta,
            caller: None,
            tunnel: None,
        };
        let served = serve::serve(
            stream,
            protocol,
            &self.context.limits,
            serve::Room::of(&self.meta),
            Arc::clone(&connection_state),
            self.closing.clone(),
            serve::Requests {
                handle: |request| Arc::clone(&clear).handle(request),
                broken,
                leaving: self.context.lifecycle.leaving.clone(),
            },
        );
        // What is wrong with the connection was recorded.
        drop(served.await);
    }

    /// A connection without a name goes to its original address if unmatched traffic may pass; otherwise it
    /// is refused.
    async fn unnamed(self, stream: Rewound<TcpStream>, original: SocketAddr, refusal: Refusal) {
        let authority = by_address(original);
        let caller = match self.caller().await {
            Ok(caller) => caller,
            Err(refusal) => return self.refuse(None, Some(&authority), refusal),
        };
        match self.disposition(&caller, &authority) {
            Ok(Disposition::Carry) => self.carry(&caller, &authority, stream, false).await,
            Ok(Disposition::Pass(passage)) => self.pass(&caller, &passage, stream, false).await,
            // A governed address is reached by TLS only.
            Ok(Disposition::Intercept(_)) | Err(_) => {
                self.refuse(Some(&caller), Some(&authority), refusal);
            }
        }
    }

    async fn caller(&self) -> Result<Arc<Caller>, Refusal> {
        let own = &self.steering.own;
        let caller = own.caller(&self.context.access.identifier, None).await?;
        self.meta.charge_to(&caller, &self.context.budget)?;
        Ok(caller)
    }

    fn disposition<'c>(
        &self,
        caller: &'c Caller,
        authority: &Authority,
    ) -> Result<Disposition<'c>, Denied> {
        let access = &self.context.access;
        let snapshot = access.snapshots.load_full();
        let recognition = snapshot.recognise(caller.facts());
        authorize::connection(&snapshot, &recognition, caller, authority, access.unmatched)
    }

    fn refuse(&self, caller: Option<&Caller>, authority: Option<&Authority>, refusal: Refusal) {
        let mut record = self.context.recorder.open();
        record.entered(&self.meta);
        if let Some(caller) = caller {
            record.called_by(caller);
        }
        if let Some(authority) = authority {
            record.redirected(authority);
        }
        close(record, refusal);
    }
}

/// The authority that SNI names. An address is not allowed there (RFC 6066, section 3); a client that sends
/// one has no name.
fn named(name: &str, original: SocketAddr) -> Result<Authority, Refusal> {
    match Host::parse(name) {
        Ok(Host::Ip(_)) => Ok(by_address(original)),
        Ok(host @ Host::Name(_)) => Ok(Authority::new(host, original.port())),
        Err(error) => Err(Refusal::new(
            Reason::AuthorityInvalid,
            format!("SNI: {error}"),
        )),
    }
}

fn by_address(original: SocketAddr) -> Authority {
    Authority::new(Host::Ip(original.ip()), original.port())
}

/// Refuses a TLS connection with an alert.
async fn alert(stream: &mut Rewound<TcpStream>, refusal: &Refusal) {
    if let Err(error) = stream.write_all(&tunnel::alert(refusal)).await {
        tracing::debug!(%error, "the client left before it was told");
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("slack.com", Ok("slack.com:443"))]
    #[case("Slack.COM.", Ok("slack.com:443"))]
    #[case("198.51.100.9", Ok("203.0.113.10:443"))]
    #[case("a..b", Err(Reason::AuthorityInvalid))]
    #[case("127.1", Err(Reason::AuthorityInvalid))]
    #[case("slack.com:443", Err(Reason::AuthorityInvalid))]
    fn sni_is_a_name_or_nothing(#[case] name: &str, #[case] expected: Result<&str, Reason>) {
        let original = "203.0.113.10:443".parse().unwrap();
        let found = named(name, original)
            .map(|authority| authority.to_string())
            .map_err(|refusal| refusal.reason);
        assert_eq!(found.as_deref().map_err(|reason| *reason), expected);
    }
}
