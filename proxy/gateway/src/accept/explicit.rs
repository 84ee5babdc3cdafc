//! The explicit proxy: CONNECT (HTTP/1.0, 1.1 and 2) and requests in absolute form.
//!
//! CONNECT to a governed host is accepted for every identified caller, even if policy will refuse all its
//! requests: the refusal then comes inside the tunnel as an error of the API, which SDKs understand.

mod identify;
mod upgraded;

use std::sync::Arc;

use bytes::Bytes;
use countersign_authorize::{
    self as authorize, AccessControl, Disposition, Passage, Permit, Received, Snapshot,
};
use countersign_config::{
    memory::{CARRIED, TUNNEL, TUNNEL_OVER_HTTP2},
    model::Unmatched,
};
use countersign_core::{
    budget::Purse,
    destination::Authority,
    reason::Reason,
    wire::connection_state::{ConnectionState, InFlightGuard},
};
use countersign_identity::Caller;
use countersign_upstream::forward::Outbound;
use http::{Method, Request, Response, StatusCode, Version, header::HOST, request::Parts};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;

use super::{
    AcceptContext,
    intercept::{InterceptMode, Intercepted},
    own_identity::OwnIdentity,
    refused_tunnel::RefusedTunnel,
    tunnel::CarriedTunnel,
    unmatched::UnmatchedRequest,
};
use crate::{
    observe::{Entry, TargetPart},
    pipeline::{self, AnswerBody, RequestHandler},
    refusal::{self, Refusal},
    session::{ConnectionMeta, Session, close, no_violation, open_for},
};

/// One client connection to the proxy.
#[derive(Debug)]
pub(super) struct Explicit {
    /// What all listeners share.
    pub(super) context: Arc<AcceptContext>,
    /// Where the connection came in.
    pub(super) meta: ConnectionMeta,
    /// The connection's requests in flight, and how it ends.
    pub(super) connection_state: Arc<ConnectionState>,
    /// Ends the connection.
    pub(super) closing: CancellationToken,
    /// At a sidecar's listener, the pod's identity.
    pub(super) own: Option<Arc<OwnIdentity>>,
    /// The caller that the client certificate proves, if there is one.
    pub(super) certificate: Option<Arc<Caller>>,
}

/// What is known of a request before there is a session.
#[derive(Default)]
struct Known {
    caller: Option<Arc<Caller>>,
    target: Option<TargetPart>,
}

impl Explicit {
    /// Handles one request to the proxy.
    pub(super) async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Response<AnswerBody> {
        let in_flight = self.connection_state.begin();
        let mut known = Known::default();
        if request.method() == Method::CONNECT {
            return match self.connect(request, &mut known).await {
                Ok(response) => {
                    in_flight.switch();
                    response.map(|()| AnswerBody::empty())
                }
                Err(refusal) => self.refuse(known, refusal, refusal::connect_answer, in_flight),
            };
        }
        if request.method() == Method::OPTIONS && request.uri().path() == "*" {
            return match self.introduced(&request, &mut known).await {
                Ok(()) => no_content(in_flight),
                Err(refusal) => self.refuse(known, refusal, refusal::answer, in_flight),
            };
        }
        // Boxed, so that the future of CONNECT is not as large as that of a whole request.
        match Box::pin(self.absolute(request, &mut known)).await {
            Ok(answer) => answer,
            Err(refusal) => self.refuse(known, refusal, refusal::answer, in_flight),
        }
    }

    /// The client only identifies itself, so that its connection counts against its workload before its
    /// first request (RFC 9110, section 9.3.7: `*` addresses the proxy itself).
    async fn introduced(
        &self,
        request: &Request<Incoming>,
        known: &mut Known,
    ) -> Result<(), Refusal> {
        no_violation(&self.connection_state)?;
        self.identify(request, known).await.map(drop)
    }

    /// Decides about a tunnel, and starts it once the client has the response.
    async fn connect(
        &self,
        mut request: Request<Incoming>,
        known: &mut Known,
    ) -> Result<Response<()>, Refusal> {
        no_violation(&self.connection_state)?;
        let upgrade = hyper::upgrade::on(&mut request);
        let authority = connect_target(&request)?;
        known.target = Some(TargetPart::connect(&authority));
        let room = match request.version() {
            Version::HTTP_2 => TUNNEL_OVER_HTTP2,
            _ => TUNNEL,
        };
        let caller = match self.identify(&request, known).await {
            Ok(caller) => caller,
            Err(refusal) => return self.tell_inside(refusal, &authority, room, upgrade),
        };
        let access = &self.context.access;
        let snapshot = access.snapshots.load_full();
        let recognition = snapshot.recognise(caller.facts());
        let disposition = authorize::connection(
            &snapshot,
            &recognition,
            &caller,
            &authority,
            access.unmatched,
        );
        match disposition? {
            Disposition::Intercept(_) => {
                let purse = open_for(&self.context.budget, &caller, room)?;
                self.intercept(Arc::clone(&caller), authority, purse, upgrade);
            }
            Disposition::Carry => {
                let now = access.clock.now();
                let permit = authorize::tunnel(&snapshot, &recognition, &caller, &authority, now)?;
                let (outbound, granted) = (Outbound::permitted(&permit), (&permit, &*snapshot));
                self.tunnel(&caller, &outbound, Some(granted), upgrade)
                    .await?;
            }
            Disposition::Pass(passage) => {
                let outbound = Outbound::unmatched(&passage);
                self.tunnel(&caller, &outbound, None, upgrade).await?;
            }
        }
        Ok(Response::new(()))
    }

    /// Decrypts what follows.
    fn intercept(
        &self,
        caller: Arc<Caller>,
        authority: Authority,
        purse: Arc<Purse>,
        upgrade: OnUpgrade,
    ) {
        let intercepted = Intercepted {
            context: Arc::clone(&self.context),
            meta: self.meta.clone(),
            caller,
            authority,
            mode: InterceptMode::Connect,
            purse,
            closing: self.closing.child_token(),
        };
        self.decrypt(intercepted, upgrade);
    }

    fn decrypt(&self, inside: impl upgraded::Inside + 'static, upgrade: OnUpgrade) {
        let in_flight = self.connection_state.begin();
        let slot = Arc::clone(&self.meta.slot);
        self.context.lifecycle.tasks.spawn(async move {
            slot.within(upgraded::decrypt(inside, upgrade)).await;
            drop(in_flight);
        });
    }

    /// Opens the tunnel of a client whose proof is refused for good, so that its API's client understands it.
    fn tell_inside(
        &self,
        refusal: Refusal,
        authority: &Authority,
        room: u64,
        upgrade: OnUpgrade,
    ) -> Result<Response<()>, Refusal> {
        let (context, mode) = (&self.context, InterceptMode::Connect);
        let refused = RefusedTunnel::open(context, &self.meta, mode, authority, refusal, room)?;
        let response = refused.response();
        let shared = room == TUNNEL_OVER_HTTP2;
        if self.meta.slot.refuse() && shared {
            // The tunnels that are open already are not cut.
            self.closing.cancel();
        }
        self.decrypt(refused, upgrade);
        Ok(response)
    }

    async fn absolute(
        self: &Arc<Self>,
        request: Request<Incoming>,
        known: &mut Known,
    ) -> Result<Response<AnswerBody>, Refusal> {
        no_violation(&self.connection_state)?;
        match request.uri().scheme_str() {
            Some("https") => self.originate(request, known).await,
            Some("http") => self.plaintext(request, known).await,
            Some(_) | None => Err(Refusal::new(
                Reason::RequestMalformed,
                "the request is not one to a proxy: use CONNECT or an absolute URI",
            )),
        }
    }

    /// Tunnels a connection without decrypting it.
    async fn tunnel(
        &self,
        caller: &Arc<Caller>,
        outbound: &Outbound,
        granted: Option<(&Permit<'_>, &Snapshot)>,
        upgrade: OnUpgrade,
    ) -> Result<(), Refusal> {
        let room = open_for(&self.context.budget, caller, CARRIED)?;
        let (upstream, address) = self.context.forwarder.tunnel(outbound).await?;
        let mut record = self.context.recorder.open();
        record.entered(&self.meta);
        record.called_by(caller);
        record.came_on(&self.connection_state);
        record.connecting(outbound.authority());
        record.dialled(address);
        if let Some((permit, snapshot)) = granted {
            record.permitted(permit, snapshot);
        }
        let carried = CarriedTunnel {
            context: Arc::clone(&self.context),
            meta: self.meta.clone(),
            caller: Arc::clone(caller),
            authority: outbound.authority().clone(),
            address,
            granted: granted.is_some(),
            mode: InterceptMode::Connect,
            room,
            closing: self.closing.child_token(),
        };
        let in_flight = self.connection_state.begin();
        let slot = Arc::clone(&self.meta.slot);
        let tunnel = async move {
            let _in_flight = in_flight;
            // The client left before it had the response; dropping the record says so.
            let Ok(client) = upgrade.await else { return };
            carried.run(TokioIo::new(client), upstream, record).await;
        };
        self.context
            .lifecycle
            .tasks
            .spawn(async move { slot.within(tunnel).await });
        Ok(())
    }

    /// A request in absolute form for `https://`: the gateway originates the TLS.
    async fn originate(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        known: &mut Known,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let caller = self.identify_absolute(&request, known).await?;
        let AccessControl {
            snapshots,
            unmatched,
            ..
        } = &*self.context.access;
        if *unmatched == Unmatched::Tunnel {
            let snapshot = snapshots.load_full();
            let (parts, body) = request.into_parts();
            let received = Received::absolute(&parts, snapshot.policies())?;
            let passage =
                authorize::originated(&snapshot, &caller, received.authority(), *unmatched)?;
            if let Some(passage) = passage {
                return Ok(self.pass(passage, received, parts, body).await);
            }
            request = Request::from_parts(parts, body);
        }
        let session = Session::new(
            self.meta.clone(),
            caller,
            Arc::clone(&self.connection_state),
            self.closing.clone(),
            None,
            Arc::clone(&self.meta.purse),
        );
        let handler = RequestHandler::new(Arc::clone(&self.context.requests), session);
        Ok(Arc::new(handler).handle(request).await)
    }

    /// A request in absolute form for `http://`: never with a credential, and never to a governed host.
    async fn plaintext(
        &self,
        request: Request<Incoming>,
        known: &mut Known,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let caller = self.identify_absolute(&request, known).await?;
        let (parts, body) = request.into_parts();
        let access = &self.context.access;
        let snapshot = access.snapshots.load_full();
        let received = Received::absolute(&parts, snapshot.policies())?;
        known.target = Some(TargetPart::absolute(&received, &parts));
        let passage =
            authorize::in_clear(&snapshot, &caller, received.authority(), access.unmatched)?;
        Ok(self.pass(passage, received, parts, body).await)
    }

    /// A request in absolute form for a host that no target matches.
    async fn pass(
        &self,
        passage: Passage<'_>,
        received: Received,
        parts: Parts,
        body: Incoming,
    ) -> Response<AnswerBody> {
        let request = UnmatchedRequest {
            context: &self.context,
            meta: &self.meta,
            passage,
            received,
        };
        request
            .forward(parts, body, self.connection_state.begin())
            .await
    }

    /// Responds to a request that was refused before there was a session, and records it.
    fn refuse(
        &self,
        known: Known,
        mut refusal: Refusal,
        answer: fn(&Refusal, &Entry) -> Response<Bytes>,
        in_flight: InFlightGuard,
    ) -> Response<AnswerBody> {
        let mut record = self.context.recorder.open();
        record.entered(&self.meta);
        record.target = known.target;
        refusal.was_of_unproven(&self.context.access.snapshots.load_full());
        if let Some(caller) = &known.caller {
            record.called_by(caller);
            let snapshot = self.context.access.snapshots.load_full();
            refusal.was_of(caller, &snapshot);
            record.refused_under(&snapshot);
        }
        let mut response = answer(&refusal, &record);
        if known.caller.is_none() && self.meta.slot.refuse() {
            pipeline::last(&mut response);
            self.closing.cancel();
        }
        pipeline::last_if_violated(&mut response, &self.connection_state);
        close(record, refusal);
        response.map(|body| AnswerBody::whole(body, in_flight))
    }
}

fn no_content(in_flight: InFlightGuard) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::whole(Bytes::new(), in_flight));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// The authority in the request line of CONNECT; a `Host` header must name the same host.
fn connect_target(request: &Request<Incoming>) -> Result<Authority, Refusal> {
    let invalid = |error: countersign_core::destination::AuthorityError| {
        Refusal::new(Reason::AuthorityInvalid, error.to_string())
    };
    let written = request
        .uri()
        .authority()
        .ok_or_else(|| Refusal::new(Reason::AuthorityInvalid, "CONNECT names no host and port"))?;
    let authority = Authority::with_port(written.as_str()).map_err(invalid)?;
    for host in request.headers().get_all(HOST) {
        let host = host.to_str().unwrap_or_default();
        let named = Authority::with_default_port(host, authority.port()).map_err(invalid)?;
        if named.host() != authority.host() {
            let detail = "CONNECT and its Host name different hosts";
            return Err(Refusal::new(Reason::AuthorityMismatch, detail));
        }
    }
    Ok(authority)
}
