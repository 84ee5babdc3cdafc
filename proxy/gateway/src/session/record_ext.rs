//! What each step notes in the record, and how a refusal closes it.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use countersign_authorize::{Permit, Received, Snapshot};
use countersign_config::model::{Strip, TRACEPARENT, TRACESTATE};
use countersign_core::{
    destination::{Authority, HTTP, HTTPS},
    http_error,
    reason::{Blame, Reason},
    wire::{
        connection_state::{ConnectionState, Violation},
        protocol::Protocol,
        unserved::Unserved,
    },
};
use countersign_identity::Caller;
use countersign_upstream::forward::{ConnectionInfo, Sent};
use http::{
    HeaderMap, Method, Request, Response, StatusCode, Uri, Version, request::Parts, uri::Scheme,
};

use super::{ConnectionMeta, Session};
use crate::{
    observe::{
        CallerPart, Outcome, Parent, PolicyPart, Record, Recorder, TargetPart, TraceId,
        UpstreamPart,
    },
    refusal::{self, Refusal},
};

impl Session {
    /// Opens the record of a request on this connection.
    pub fn open_record(&self, recorder: &Recorder) -> Record {
        let mut record = recorder.open();
        record.entered(&self.meta);
        record.caller = Some(Arc::clone(&self.caller_part));
        record.came_on(&self.connection_state);
        record
    }
}

impl Record {
    /// Notes where the connection came in.
    pub fn entered(&mut self, meta: &ConnectionMeta) {
        self.listener = Some(Arc::clone(&meta.listener));
        self.client = Some(meta.client);
        self.original_destination = meta.original_destination;
    }

    /// Notes where a tunnel was to go.
    pub fn connecting(&mut self, authority: &Authority) {
        self.target = Some(TargetPart::connect(authority));
    }

    /// Notes where a redirected connection was to go.
    pub fn redirected(&mut self, authority: &Authority) {
        self.connecting(authority);
        if let Some(target) = &mut self.target {
            target.protocol = "transparent";
        }
    }

    /// Notes the trace of the request.
    pub fn trace(&mut self, headers: &HeaderMap) {
        if self.sampler().is_some() {
            return self.join(headers);
        }
        self.trace_id = headers
            .get("traceparent")
            .and_then(|value| TraceId::from_traceparent(value.as_bytes()));
    }

    /// Notes whose trace the request belongs to, if the gateway makes spans: the caller's, if there is one.
    #[cold]
    pub fn join(&mut self, headers: &HeaderMap) {
        if self.sampler().is_none() {
            return;
        }
        if let Some((trace, parent)) = Parent::of(headers) {
            self.trace_id = Some(trace);
            self.parent = Some(Box::new(parent));
        }
    }

    /// Carries the trace on to the API, with the gateway's span as parent, unless the target keeps it from the API. Without
    /// spans of its own the gateway passes on what the caller sent.
    pub fn carry_on(&self, headers: &mut HeaderMap, strip: &Strip) {
        let Some(sampler) = self.sampler() else {
            return;
        };
        if strip.drops_trace() {
            return;
        }
        if self.parent.is_none() {
            // What it says belongs to a trace that is not carried on.
            headers.remove(TRACESTATE);
        }
        if let Some(value) = sampler.traceparent(self) {
            headers.insert(TRACEPARENT, value);
        }
    }

    /// Notes the request's target before it is checked.
    pub fn asked(&mut self, parts: &Parts, session: &Session) {
        if let Some(tunnel) = &session.tunnel {
            self.asked_inside(parts, &tunnel.authority, tunnel.protocol);
        }
    }

    /// Notes the target of a request in the tunnel to `authority`.
    pub fn asked_inside(&mut self, parts: &Parts, authority: &Authority, protocol: Protocol) {
        self.target = Some(TargetPart {
            name: None,
            authority: authority.clone(),
            method: Some(parts.method.clone()),
            path: parts.uri.path_and_query().cloned().map(Into::into),
            protocol: protocol.as_str(),
        });
    }

    /// Notes the target of a request in absolute form that failed its checks, if its authority is one.
    pub fn asked_absolutely(&mut self, parts: &Parts) {
        if self.target.is_none() {
            self.target = TargetPart::of_uri(&parts.method, &parts.uri, parts.version);
        }
    }

    /// Notes the request's target after it was checked.
    pub fn received(&mut self, received: &Received, parts: &Parts, session: &Session) {
        if session.tunnel.is_some() {
            return;
        }
        self.target = Some(TargetPart::absolute(received, parts));
    }

    /// Notes the policy that permits it.
    pub fn permitted(&mut self, permit: &Permit<'_>, snapshot: &Snapshot) {
        let grant = permit.grant();
        self.workload = Some(Arc::clone(grant.workload()));
        self.policy = Some(PolicyPart {
            policy: Arc::clone(grant.policy()),
            rule: grant.rule(),
            revision: Arc::clone(snapshot.revision()),
            would_refuse: permit.would_refuse().map(|reason| reason.facts().code),
        });
        if let Some(target) = &mut self.target {
            target.name = Some(grant.target().name.clone());
        }
    }

    /// Notes the revision by which a proven caller is refused.
    pub fn refused_under(&mut self, snapshot: &Snapshot) {
        self.revision = Some(Arc::clone(snapshot.revision()));
    }

    /// Notes the upstream's response.
    pub fn answered(&mut self, sent: &Sent) {
        self.upstream = Some(UpstreamPart {
            address: Some(sent.connection.address),
            reused: sent.connection.reused,
            status: Some(sent.response.status().as_u16()),
            api_error: None,
            replayed: false,
            echoed: false,
        });
    }

    /// Notes that the upstream agreed to a WebSocket.
    pub fn switched(&mut self, connection: &ConnectionInfo) {
        self.dialled(connection.address);
        self.status(StatusCode::SWITCHING_PROTOCOLS);
        self.timing.connect = connection.connect;
        if let Some(target) = &mut self.target {
            target.protocol = "websocket";
        }
    }

    /// Notes who calls, before there is a session.
    pub fn called_by(&mut self, caller: &Caller) {
        self.caller = Some(Arc::new(CallerPart::of(caller)));
    }

    /// Notes which address was dialled.
    pub fn dialled(&mut self, address: SocketAddr) {
        self.upstream = Some(UpstreamPart {
            address: Some(address),
            ..UpstreamPart::default()
        });
    }

    /// Notes the status of a response that came by a connection of its own.
    pub fn status(&mut self, status: StatusCode) {
        self.upstream.get_or_insert_default().status = Some(status.as_u16());
    }

    /// Notes the target of an unmatched request.
    pub fn passing(&mut self, received: &Received, parts: &Parts) {
        self.target = Some(TargetPart::absolute(received, parts));
    }
}

impl CallerPart {
    /// The record's description of a caller.
    pub fn of(caller: &Caller) -> Self {
        Self {
            proof: caller.proof().as_str(),
            issuer: Some(caller.issuer().into()),
            subject: Some(caller.subject().into()),
            pod: caller.facts().pod.clone(),
            kubernetes: caller.facts().kubernetes.clone(),
            token_id: caller.token_id().map(Into::into),
        }
    }
}

impl TargetPart {
    /// Where a tunnel was to go.
    pub fn connect(authority: &Authority) -> Self {
        Self {
            name: None,
            authority: authority.clone(),
            method: None,
            path: None,
            protocol: "connect",
        }
    }

    /// Where a request in absolute form was to go that was not checked yet, if its authority is one.
    pub fn asked<B>(request: &Request<B>) -> Option<Self> {
        Self::of_uri(request.method(), request.uri(), request.version())
    }

    fn of_uri(method: &Method, uri: &Uri, version: Version) -> Option<Self> {
        let port = if uri.scheme() == Some(&Scheme::HTTP) {
            HTTP
        } else {
            HTTPS
        };
        let authority = Authority::with_default_port(uri.authority()?.as_str(), port).ok()?;
        Some(Self {
            name: None,
            authority,
            method: Some(method.clone()),
            path: uri.path_and_query().cloned().map(Into::into),
            protocol: Protocol::from_version(version).as_str(),
        })
    }

    /// Where a request in absolute form was to go.
    pub fn absolute(received: &Received, parts: &Parts) -> Self {
        Self {
            name: None,
            authority: received.authority().clone(),
            method: Some(parts.method.clone()),
            path: Some(received.path().path_and_query().clone().into()),
            protocol: Protocol::from_version(parts.version).as_str(),
        }
    }
}

/// Refuses requests on a connection whose client broke HTTP in a way that hyper accepts: where its requests
/// begin and end is uncertain.
pub fn no_violation(connection_state: &ConnectionState) -> Result<(), Refusal> {
    match connection_state.violation() {
        None => Ok(()),
        Some(Violation(what)) => Err(Refusal::new(Reason::RequestMalformed, what)),
    }
}

/// Closes the record of a refused or failed request.
pub fn close(mut record: Record, mut refusal: Refusal) {
    // hyper reports a malformed chunk only as an incomplete body.
    if refusal.reason == Reason::ClientGone {
        if let Some(overrun) = record.overrun() {
            refusal.reason = overrun.reason();
            refusal.detail = overrun.to_string();
        } else if let Some(Violation(what)) = record.violation() {
            refusal.reason = Reason::RequestMalformed;
            what.clone_into(&mut refusal.detail);
        }
    }
    let facts = refusal.reason.facts();
    let (reason, blame) = (facts.code, facts.blame.as_str());
    if let (Some(part), Some(target)) = (&mut record.target, &refusal.target) {
        part.name = Some(target.name.clone());
    }
    if let Some(unproven) = &refusal.unproven {
        if record.caller.is_none() {
            record.refused_token = unproven.claims().cloned();
        }
    } else if record.workload.is_none() {
        record.workload = refusal.workload;
    }
    record.nearest = refusal.nearest.map(Box::new);
    record.detail = Some(refusal.detail.into());
    record.close(if is_failure(refusal.reason) {
        Outcome::Failed { reason, blame }
    } else {
        Outcome::Refused { reason, blame }
    });
}

/// Whether a permitted request failed because of the upstream, the path to it or the client; all others
/// were refused by the gateway.
fn is_failure(reason: Reason) -> bool {
    let failures = [
        Reason::ClientGone,
        Reason::BodyStalled,
        Reason::ClientTls,
        Reason::OwnCertificate,
        Reason::UpstreamProxyRefused,
        Reason::UpstreamProxyUnreachable,
        Reason::UpstreamProxyCertificate,
        Reason::UpstreamProxyAuthentication,
        Reason::ResolverUnavailable,
        Reason::NetworkUnreachable,
        Reason::ResponseTooLarge,
    ];
    reason.facts().blame == Blame::Upstream || failures.contains(&reason)
}

/// A connection on which the client broke HTTP, and to which the records of it are to say what is known.
#[derive(Debug, Clone, Copy)]
pub struct BrokenConnection<'c> {
    /// Opens the records.
    pub recorder: &'c Recorder,
    /// Where the connection came in.
    pub meta: &'c ConnectionMeta,
    /// Who calls, if that is proven.
    pub caller: Option<&'c Caller>,
    /// The tunnel that it is in, and its protocol there.
    pub tunnel: Option<(&'c Authority, Protocol)>,
}

impl BrokenConnection<'_> {
    /// Records that the client broke HTTP, so that there was no request to answer. Returns what the client may be
    /// told, unless the record of a request says why the connection ended.
    pub fn record(
        self,
        connection_state: &ConnectionState,
        error: &hyper::Error,
    ) -> Option<Response<Bytes>> {
        if let Some(overrun) = connection_state.has_overrun() {
            // Within a tunnel, requests that are in progress will say so.
            let in_progress = self.tunnel.is_some() && !connection_state.is_idle();
            let unsaid = !in_progress && !connection_state.is_explained();
            return unsaid.then(|| self.close(overrun.into()));
        }
        let (reason, detail) =
            if error.is_parse_too_large() || connection_state.streams.ended_by_head() {
                (Reason::HeadTooLarge, HEAD_TOO_LARGE.to_owned())
            } else if is_target_too_long(error) {
                (Reason::HeadTooLarge, TARGET_TOO_LONG.to_owned())
            } else if timed_out(error) {
                let detail = "the head did not arrive within limits.headTimeout".to_owned();
                (Reason::HeadTimeout, detail)
            } else {
                let detail = format!("the client broke HTTP: {}", http_error::sentence(error));
                (Reason::RequestMalformed, detail)
            };
        Some(self.close(Refusal::new(reason, detail)))
    }

    /// Records a request that hyper did not hand over.
    pub fn record_unserved(self, why: Unserved) {
        let refusal = match why {
            Unserved::Malformed => Refusal::new(Reason::RequestMalformed, MALFORMED),
            Unserved::HeadTooLarge => Refusal::new(Reason::HeadTooLarge, HEAD_TOO_LARGE),
            Unserved::ConnectWithBody => Refusal::new(Reason::RequestMalformed, CONNECT_WITH_BODY),
        };
        // The library has told the client, by a frame.
        drop(self.close(refusal));
    }

    /// Records a refusal, and returns the response to it.
    fn close(self, refusal: Refusal) -> Response<Bytes> {
        let mut record = self.recorder.open();
        record.entered(self.meta);
        if let Some(caller) = self.caller {
            record.called_by(caller);
        }
        if let Some((authority, protocol)) = self.tunnel {
            record.connecting(authority);
            if let Some(target) = &mut record.target {
                target.protocol = protocol.as_str();
            }
        }
        let response = refusal::answer(&refusal, &record);
        close(record, refusal);
        response
    }
}

const HEAD_TOO_LARGE: &str = "the head is larger than limits.headBytes allows (16 KiB before the caller is identified), or has more than 100 headers";

const TARGET_TOO_LONG: &str =
    "the request's target is longer than 65,534 bytes, which no setting can change";

const MALFORMED: &str = "a request over HTTP/2 was malformed and was reset with PROTOCOL_ERROR before anything else of it was known (RFC 9113, section 8): a pseudo-header such as :path or :authority is invalid, missing or there twice, there is a connection header such as Connection or Transfer-Encoding, Content-Length is wrong, or :protocol is used though extended CONNECT is not offered";

const CONNECT_WITH_BODY: &str = "a CONNECT over HTTP/2 had a Content-Length other than 0, and a CONNECT has no body (RFC 9113, section 8.5): the connection was closed, with whatever else was in progress on it";

/// The library has no other sign of it than its text.
fn is_target_too_long(error: &hyper::Error) -> bool {
    error.is_parse() && error.to_string() == "URI too long"
}

fn timed_out(error: &hyper::Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
}
