//! The explicit proxy: CONNECT (HTTP/1.0, 1.1 and 2) and requests in absolute form.
//!
//! An identified caller's CONNECT to a governed host is accepted even where policy will refuse
//! every request: the refusal then comes inside, in the API's own language, which SDKs understand.

mod upgraded;

use std::sync::Arc;

use bytes::Bytes;
use countersign_config::{
    memory::{CARRIED, TUNNEL, TUNNEL_OVER_HTTP2},
    model::Unmatched,
    policy::Interception,
};
use countersign_core::{
    destination::Authority,
    reason::Reason,
    wire::activity::{Activity, Busy},
};
use countersign_identity::{Caller, Identifier, Proof};
use http::{Method, Request, Response, StatusCode, Version, header::HOST, request::Parts};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;

use super::{
    Entrance, Received, Session,
    intercept::{Intercepted, Way},
    listener::OwnIdentity,
    plain::Passing,
    tunnel::Carried,
};
use crate::{
    app::Rooms,
    authorize::{self, Permit, Snapshot},
    observe::TargetPart,
    pipeline::{self, Answer},
    refusal::{self, Refusal},
};

/// One client connection to the proxy.
#[derive(Debug)]
pub(super) struct Explicit {
    /// The rooms of the gateway.
    pub(super) rooms: Arc<Rooms>,
    /// Where the connection came in.
    pub(super) entrance: Entrance,
    /// What the connection is doing.
    pub(super) activity: Arc<Activity>,
    /// Ends the connection.
    pub(super) closing: CancellationToken,
    /// The identity of whatever comes in here, at a sidecar's listener.
    pub(super) own: Option<Arc<OwnIdentity>>,
    /// The caller by the certificate of the connection.
    pub(super) certificate: Option<Arc<Caller>>,
}

/// What is known of a request that may come to nothing before there is a session.
#[derive(Default)]
struct Known {
    caller: Option<Arc<Caller>>,
    target: Option<TargetPart>,
}

impl Explicit {
    /// Handles one request to the proxy.
    pub(super) async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Response<Answer> {
        let busy = self.activity.begin();
        let mut known = Known::default();
        if request.method() == Method::CONNECT {
            return match self.connect(request, &mut known).await {
                Ok(()) => {
                    busy.switch();
                    Response::new(Answer::empty())
                }
                Err(refusal) => self.refuse(known, refusal, refusal::connect_answer, busy),
            };
        }
        if request.method() == Method::OPTIONS && request.uri().path() == "*" {
            return match self.introduced(&request, &mut known).await {
                Ok(()) => no_content(busy),
                Err(refusal) => self.refuse(known, refusal, refusal::answer, busy),
            };
        }
        // Boxed, so that CONNECT does not carry the room for a whole request.
        match Box::pin(self.absolute(request, &mut known)).await {
            Ok(answer) => answer,
            Err(refusal) => self.refuse(known, refusal, refusal::answer, busy),
        }
    }

    /// The client only says who it is, so that its connection counts as its workload's before there
    /// is a request to carry (RFC 9110, section 9.3.7: `*` asks the proxy itself).
    async fn introduced(
        &self,
        request: &Request<Incoming>,
        known: &mut Known,
    ) -> Result<(), Refusal> {
        pipeline::no_violation(&self.activity)?;
        self.identify(request, known).await.map(drop)
    }

    /// Decides about a tunnel, and starts what runs in it once the client has our answer.
    async fn connect(
        &self,
        mut request: Request<Incoming>,
        known: &mut Known,
    ) -> Result<(), Refusal> {
        pipeline::no_violation(&self.activity)?;
        let upgrade = hyper::upgrade::on(&mut request);
        let authority = connect_target(&request)?;
        known.target = Some(TargetPart::connect(&authority));
        let caller = self.identify(&request, known).await?;
        let snapshot = self.rooms.snapshots.load_full();
        let recognition = snapshot.recognise(caller.facts());
        let interception = snapshot.policies().interception(
            recognition.workloads(),
            authority.host(),
            authority.port(),
        );
        match interception {
            Interception::Intercept(_) => {
                let room = match request.version() {
                    Version::HTTP_2 => TUNNEL_OVER_HTTP2,
                    _ => TUNNEL,
                };
                let intercepted = Intercepted {
                    purse: self.rooms.open_for(&caller, room)?,
                    rooms: Arc::clone(&self.rooms),
                    entrance: self.entrance.clone(),
                    caller,
                    authority,
                    way: Way::Connect,
                    closing: self.closing.child_token(),
                };
                let busy = self.activity.begin();
                let slot = Arc::clone(&self.entrance.slot);
                self.rooms.tasks.spawn(async move {
                    slot.within(upgraded::intercept(intercepted, upgrade)).await;
                    drop(busy);
                });
                Ok(())
            }
            Interception::Refuse(denial) => Err(denial.into()),
            Interception::Carry(_) => {
                let now = self.rooms.clock.now();
                let permit = authorize::tunnel(&snapshot, &recognition, &caller, &authority, now)?;
                let granted = Some((&permit, &*snapshot));
                self.tunnel(Arc::clone(&caller), authority, granted, upgrade)
                    .await
            }
            Interception::OtherPort(target) if self.rooms.unmatched == Unmatched::Tunnel => {
                Err(authorize::other_port(&authority, &target))
            }
            Interception::OtherPort(_) | Interception::Unmatched => match self.rooms.unmatched {
                Unmatched::Deny => Err(authorize::unmatched(&authority)),
                Unmatched::Tunnel => self.tunnel(caller, authority, None, upgrade).await,
            },
        }
    }

    async fn absolute(
        self: &Arc<Self>,
        request: Request<Incoming>,
        known: &mut Known,
    ) -> Result<Response<Answer>, Refusal> {
        pipeline::no_violation(&self.activity)?;
        match request.uri().scheme_str() {
            Some("https") => self.originate(request, known).await,
            Some("http") => self.plaintext(request, known).await,
            Some(_) | None => Err(Refusal::new(
                Reason::RequestMalformed,
                "the request is not one to a proxy: use CONNECT or an absolute URI",
            )),
        }
    }

    /// Carries a connection without a credential: unmatched, or by a policy.
    async fn tunnel(
        &self,
        caller: Arc<Caller>,
        authority: Authority,
        granted: Option<(&Permit<'_>, &Snapshot)>,
        upgrade: OnUpgrade,
    ) -> Result<(), Refusal> {
        let room = self.rooms.open_for(&caller, CARRIED)?;
        let (upstream, address) = self.rooms.forwarder.tunnel(&authority).await?;
        let mut record = self.rooms.recorder.open();
        record.entered(&self.entrance);
        record.called_by(&caller);
        record.came_on(&self.activity);
        record.connecting(&authority);
        record.dialled(address);
        if let Some((permit, snapshot)) = granted {
            record.permitted(permit, snapshot);
        }
        let carried = Carried {
            rooms: Arc::clone(&self.rooms),
            entrance: self.entrance.clone(),
            caller,
            authority,
            address,
            granted: granted.is_some(),
            way: Way::Connect,
            room,
            closing: self.closing.child_token(),
        };
        let busy = self.activity.begin();
        let slot = Arc::clone(&self.entrance.slot);
        let tunnel = async move {
            let _busy = busy;
            // The client left before it had our answer: the record says so when it is dropped.
            let Ok(client) = upgrade.await else { return };
            carried.run(TokioIo::new(client), upstream, record).await;
        };
        self.rooms
            .tasks
            .spawn(async move { slot.within(tunnel).await });
        Ok(())
    }

    /// An absolute `https://` request in clear to the proxy: we originate the TLS.
    async fn originate(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        known: &mut Known,
    ) -> Result<Response<Answer>, Refusal> {
        let caller = self.identify(&request, known).await?;
        let snapshot = self.rooms.snapshots.load_full();
        if self.rooms.unmatched == Unmatched::Tunnel {
            let (parts, body) = request.into_parts();
            let received = Received::absolute(&parts)?;
            let authority = received.authority();
            let policies = snapshot.policies();
            if policies
                .target(authority.host(), authority.port())
                .is_none()
            {
                if let Some(target) = policies.governing_target(authority.host()) {
                    return Err(authorize::other_port(authority, target));
                }
                return self.pass(&caller, received, parts, body).await;
            }
            request = Request::from_parts(parts, body);
        }
        let session = Session::new(
            Arc::clone(&self.rooms),
            self.entrance.clone(),
            caller,
            Arc::clone(&self.activity),
            self.closing.clone(),
            None,
            Arc::clone(&self.entrance.purse),
        );
        Ok(pipeline::handle(Arc::new(session), request).await)
    }

    /// An absolute `http://` request: never with a credential, and never to a governed host.
    async fn plaintext(
        &self,
        request: Request<Incoming>,
        known: &mut Known,
    ) -> Result<Response<Answer>, Refusal> {
        let caller = self.identify(&request, known).await?;
        let (parts, body) = request.into_parts();
        let received = Received::absolute(&parts)?;
        known.target = Some(TargetPart::absolute(&received, &parts));
        let authority = received.authority();
        let snapshot = self.rooms.snapshots.load_full();
        if snapshot
            .policies()
            .governing_target(authority.host())
            .is_some()
        {
            let detail = format!("{authority} gets a credential, which never travels in clear");
            return Err(Refusal::new(Reason::PlaintextRefused, detail));
        }
        self.pass(&caller, received, parts, body).await
    }

    /// A request in absolute form for a host that no target matches.
    async fn pass(
        &self,
        caller: &Caller,
        received: Received,
        parts: Parts,
        body: Incoming,
    ) -> Result<Response<Answer>, Refusal> {
        if self.rooms.unmatched == Unmatched::Deny {
            return Err(authorize::unmatched(received.authority()));
        }
        let passing = Passing {
            rooms: &self.rooms,
            entrance: &self.entrance,
            caller,
            received,
        };
        Ok(passing.forward(parts, body, self.activity.begin()).await)
    }

    /// Who asks. From then on the connection takes a place of its workload's.
    async fn identify(
        &self,
        request: &Request<Incoming>,
        known: &mut Known,
    ) -> Result<Arc<Caller>, Refusal> {
        let slot = &self.entrance.slot;
        slot.asks();
        let caller = self.prove(request).await?;
        known.caller = Some(Arc::clone(&caller));
        slot.prove(|| self.rooms.snapshots.load_full().share_of(&caller))?;
        self.rooms.claim(&self.entrance, &caller)?;
        Ok(caller)
    }

    /// By token, by certificate, or by both, which then must be of the same workload.
    async fn prove(&self, request: &Request<Incoming>) -> Result<Arc<Caller>, Refusal> {
        let identifier = &self.rooms.identifier;
        if let Some(certificate) = &self.certificate
            && let Err(error) = identifier.confirm(certificate).await
        {
            // No other certificate can come on this connection.
            self.closing.cancel();
            return Err(error.into());
        }
        match (self.by_token(request).await?, &self.certificate) {
            (Some(token), Some(certificate)) => Ok(identifier.by_both(&token, certificate)?),
            (Some(token), None) => Ok(token),
            (None, Some(certificate)) => Ok(Arc::clone(certificate)),
            (None, None) => {
                let detail = "the request has no Proxy-Authorization, and the connection no client certificate";
                Err(Refusal::new(Reason::IdentityMissing, detail))
            }
        }
    }

    async fn by_token(&self, request: &Request<Incoming>) -> Result<Option<Arc<Caller>>, Refusal> {
        let identifier = &self.rooms.identifier;
        let presented = Identifier::presented(request.headers())?;
        if let Some(own) = &self.own {
            return own.caller(identifier, presented.as_ref()).await.map(Some);
        }
        let Some(token) = presented else {
            return Ok(None);
        };
        let source = Some(self.entrance.client.ip());
        let caller = identifier.by_token_from(source, &token, Proof::ServiceAccountToken);
        Ok(Some(caller.await?))
    }

    /// Answers and records a request that came to nothing before there was a session.
    fn refuse(
        &self,
        known: Known,
        refusal: Refusal,
        answer: fn(&Refusal, &str) -> Response<Bytes>,
        busy: Busy,
    ) -> Response<Answer> {
        let mut record = self.rooms.recorder.open();
        record.entered(&self.entrance);
        record.target = known.target;
        let mut response = answer(&refusal, &record.id.to_string());
        match known.caller {
            Some(caller) => record.called_by(&caller),
            None if self.entrance.slot.refuse() => {
                pipeline::last(&mut response);
                self.closing.cancel();
            }
            None => {}
        }
        pipeline::last_if_violated(&mut response, &self.activity);
        pipeline::close(record, refusal);
        response.map(|body| Answer::whole(body, busy))
    }
}

fn no_content(busy: Busy) -> Response<Answer> {
    let mut response = Response::new(Answer::whole(Bytes::new(), busy));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// CONNECT names its target in the request line; a `Host` beside it must be the same.
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
