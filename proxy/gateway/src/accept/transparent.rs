//! Connections of clients that know nothing of a proxy, steered here by the kernel.
//!
//! What a client speaks is told from its first bytes. Of TLS the name in SNI counts, of HTTP the
//! `Host`: it is resolved by us, so that what the client's own DNS answered has no say in where a
//! credential goes. Only what has no name is judged, and carried on, by its original address.

mod carry;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use countersign_config::{
    host::Host,
    memory::TUNNEL,
    model::{Transparency, Unmatched},
    policy::Interception,
};
use countersign_core::{
    destination::Authority,
    reason::Reason,
    wire::{
        activity::Activity,
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

use self::carry::Tunnel;
use super::{
    Entrance,
    clear::Clear,
    intercept::{Intercepted, Way},
    listener::OwnIdentity,
    metered::Metered,
    serve, tunnel,
};
use crate::{app::Rooms, authorize, pipeline, refusal::Refusal};

/// What a transparent listener has beyond its socket.
#[derive(Debug, Clone)]
pub(super) struct Steering {
    /// How the kernel hands connections over.
    pub(super) transparency: Transparency,
    /// Who its clients are: they do not know that they should say.
    pub(super) own: Arc<OwnIdentity>,
}

/// One steered connection.
#[derive(Debug)]
pub(super) struct Transparent {
    /// The rooms of the gateway.
    pub(super) rooms: Arc<Rooms>,
    /// Where the connection came in.
    pub(super) entrance: Entrance,
    /// The listener's own.
    pub(super) steering: Steering,
    /// Ends the connection.
    pub(super) closing: CancellationToken,
}

/// What may be done with a connection.
enum Fate {
    /// It is decrypted, and its requests are decided one by one.
    Intercept,
    /// It is carried on unread.
    Tunnel,
    /// It is carried on unread if policy permits that.
    Carry,
}

impl Transparent {
    /// Finds out where the connection goes and what it speaks, and does with it what policy says.
    pub(super) async fn serve(mut self, mut stream: TcpStream) {
        let original = match self.original(&stream) {
            Ok(original) => original,
            Err(refusal) => return self.refuse(None, None, refusal),
        };
        let limit = self.rooms.limits.handshake_timeout;
        let mut metered = Metered::first_bytes(&mut stream, &self.entrance.purse);
        let first = tokio::select! {
            biased;
            () = self.closing.cancelled() => {
                let refusal = Refusal::new(Reason::Draining, "the client had said nothing yet");
                return self.refuse(None, None, refusal);
            }
            first = first_bytes::read(&mut metered, limit) => first,
        };
        // Not asked before: by the time a connection of ours brings bytes, it is known as such.
        if self
            .rooms
            .forwarder
            .has_dialled(canonical(self.entrance.client), original)
        {
            let detail = format!(
                "this is the gateway's own connection to {original}: the steering rules do not leave its user out"
            );
            return self.refuse(None, None, Refusal::new(Reason::LoopRefused, detail));
        }
        self.judge(first, stream, original, limit).await;
    }

    async fn judge(
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

    /// The original destination, which is noted for the records; never one of our own listeners.
    fn original(&mut self, stream: &TcpStream) -> Result<SocketAddr, Refusal> {
        let looped = |detail: String| Refusal::new(Reason::LoopRefused, detail);
        let original = original_destination(stream, self.steering.transparency).map_err(|error| {
            looped(format!(
                "the connection came here directly, or netfilter does not say from where: {error}"
            ))
        })?;
        self.entrance.original_destination = Some(original);
        let here = stream.local_addr().map(canonical).ok();
        let redirected = self.steering.transparency == Transparency::Redirect;
        if redirected && here == Some(original) {
            return Err(looped(format!(
                "the client connected to this listener itself, at {original}"
            )));
        }
        if self.rooms.forwarder.is_own_listener(original) {
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
            Err(refusal) => {
                alert(&mut stream, &refusal).await;
                return self.refuse(None, Some(&authority), refusal);
            }
        };
        match self.fate(&caller, &authority) {
            Ok(Fate::Intercept) => {
                self.intercept(caller, authority, stream).await;
            }
            Ok(fate @ (Fate::Carry | Fate::Tunnel)) => {
                let granted = matches!(fate, Fate::Carry);
                let kind = Tunnel { tls: true, granted };
                // The name may be an outer one, which is not where the client is going.
                let hidden = hello.encrypted && !granted;
                let to = if hidden {
                    by_address(original)
                } else {
                    authority
                };
                self.tunnel(caller, &to, stream, kind).await;
            }
            Err(refusal) => {
                alert(&mut stream, &refusal).await;
                self.refuse(Some(&caller), Some(&authority), refusal);
            }
        }
    }

    async fn intercept(
        self,
        caller: Arc<Caller>,
        authority: Authority,
        mut stream: Rewound<TcpStream>,
    ) {
        let purse = match self.rooms.open_for(&caller, TUNNEL) {
            Ok(purse) => purse,
            Err(short) => {
                let refusal = short.into();
                alert(&mut stream, &refusal).await;
                return self.refuse(Some(&caller), Some(&authority), refusal);
            }
        };
        let intercepted = Intercepted {
            purse,
            rooms: self.rooms,
            entrance: self.entrance,
            caller,
            authority,
            way: Way::Steered,
            closing: self.closing,
        };
        intercepted.run(stream).await;
    }

    async fn http(self, protocol: Protocol, stream: Rewound<TcpStream>, original: SocketAddr) {
        let activity = Activity::new();
        let clear = Arc::new(Clear {
            rooms: Arc::clone(&self.rooms),
            entrance: self.entrance.clone(),
            own: Arc::clone(&self.steering.own),
            activity: Arc::clone(&activity),
            port: original.port(),
        });
        let served = serve::serve(
            stream,
            protocol,
            &self.rooms.limits,
            serve::Room::of(&self.entrance),
            Arc::clone(&activity),
            self.closing.clone(),
            |request| Arc::clone(&clear).handle(request),
        );
        if let Err(error) = served.await
            && serve::is_worth_telling(&error, &activity)
        {
            pipeline::record_broken(&self.rooms, &self.entrance, None, &activity, &error);
        }
    }

    /// What told no name goes to its original address where unmatched traffic may, or is refused.
    async fn unnamed(self, stream: Rewound<TcpStream>, original: SocketAddr, refusal: Refusal) {
        let authority = by_address(original);
        let caller = match self.caller().await {
            Ok(caller) => caller,
            Err(refusal) => return self.refuse(None, Some(&authority), refusal),
        };
        match self.fate(&caller, &authority) {
            Ok(fate @ (Fate::Tunnel | Fate::Carry)) => {
                let granted = matches!(fate, Fate::Carry);
                let kind = Tunnel {
                    tls: false,
                    granted,
                };
                self.tunnel(caller, &authority, stream, kind).await;
            }
            // An address that is governed is governed for TLS.
            Ok(Fate::Intercept) | Err(_) => {
                self.refuse(Some(&caller), Some(&authority), refusal);
            }
        }
    }

    async fn caller(&self) -> Result<Arc<Caller>, Refusal> {
        let own = &self.steering.own;
        let caller = own.caller(&self.rooms.identifier, None).await?;
        self.rooms.claim(&self.entrance, &caller)?;
        Ok(caller)
    }

    fn fate(&self, caller: &Caller, authority: &Authority) -> Result<Fate, Refusal> {
        let snapshot = self.rooms.snapshots.load_full();
        let recognition = snapshot.recognise(caller.facts());
        let interception = snapshot.policies().interception(
            recognition.workloads(),
            authority.host(),
            authority.port(),
        );
        match interception {
            Interception::Intercept(_) => Ok(Fate::Intercept),
            Interception::Carry(_) => Ok(Fate::Carry),
            Interception::Refuse(denial) => Err(denial.into()),
            Interception::OtherPort(target) if self.rooms.unmatched == Unmatched::Tunnel => {
                Err(authorize::other_port(authority, &target))
            }
            Interception::OtherPort(_) | Interception::Unmatched => match self.rooms.unmatched {
                Unmatched::Deny => Err(authorize::unmatched(authority)),
                Unmatched::Tunnel => Ok(Fate::Tunnel),
            },
        }
    }

    fn refuse(&self, caller: Option<&Caller>, authority: Option<&Authority>, refusal: Refusal) {
        let mut record = self.rooms.recorder.open();
        record.entered(&self.entrance);
        if let Some(caller) = caller {
            record.called_by(caller);
        }
        if let Some(authority) = authority {
            record.steered(authority);
        }
        pipeline::close(record, refusal);
    }
}

/// The authority that SNI names. An address has no place there (RFC 6066, section 3), and clients
/// that write one mean that they have no name.
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

/// Ends a TLS connection in a way that its client understands.
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
