//! What each step writes into the record.

use std::{net::SocketAddr, sync::Arc};

use countersign_core::{
    clock::Clock,
    destination::Authority,
    reason::{Blame, Reason},
    wire::{
        activity::{Activity, Busy, Violation},
        protocol::Protocol,
    },
};
use countersign_credential::Issued;
use countersign_identity::Caller;
use countersign_upstream::forward::{ConnectionInfo, Sent};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header::CONNECTION, request::Parts};

use super::{Answer, recover::Armed};

use crate::{
    accept::{Entrance, Received, Session},
    app::Rooms,
    authorize::{Permit, Snapshot},
    observe::{
        CallerPart, CredentialPart, Outcome, PolicyPart, Record, RejectedPart, TargetPart, TraceId,
        UpstreamPart,
    },
    refusal::{self, Refusal},
};

impl Session {
    /// Opens the record of a request on this connection.
    pub(super) fn open_record(&self) -> Record {
        let mut record = self.rooms.recorder.open();
        record.entered(&self.entrance);
        record.caller = Some(Arc::clone(&self.caller_part));
        record.came_on(&self.activity);
        record
    }
}

impl Record {
    /// Notes where the connection came in.
    pub fn entered(&mut self, entrance: &Entrance) {
        self.listener = Some(Arc::clone(&entrance.listener));
        self.client = Some(entrance.client);
        self.original_destination = entrance.original_destination;
    }

    /// Notes where a tunnel was to go.
    pub fn connecting(&mut self, authority: &Authority) {
        self.target = Some(TargetPart::connect(authority));
    }

    /// Notes where a steered connection was to go.
    pub fn steered(&mut self, authority: &Authority) {
        self.connecting(authority);
        if let Some(target) = &mut self.target {
            target.protocol = "transparent";
        }
    }

    /// Notes the trace the caller belongs to.
    pub(super) fn trace(&mut self, headers: &HeaderMap) {
        self.trace_id = headers
            .get("traceparent")
            .and_then(|value| TraceId::from_traceparent(value.as_bytes()));
    }

    /// Notes what was asked for, before it was checked.
    pub(super) fn asked(&mut self, parts: &Parts, session: &Session) {
        let Some(tunnel) = &session.tunnel else {
            return;
        };
        self.target = Some(TargetPart {
            name: None,
            authority: tunnel.authority.clone(),
            method: Some(parts.method.clone()),
            path: parts.uri.path_and_query().cloned().map(Into::into),
            protocol: tunnel.protocol.as_str(),
        });
    }

    /// Notes what was asked for, once it was checked.
    pub(super) fn received(&mut self, received: &Received, parts: &Parts, session: &Session) {
        if session.tunnel.is_some() {
            return;
        }
        self.target = Some(TargetPart::absolute(received, parts));
    }

    /// Notes who permitted it.
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

    /// Notes which credential it carries.
    pub(super) fn armed(&mut self, armed: Option<&Armed<'_>>, clock: &Clock) {
        let Some(armed) = armed else {
            return;
        };
        self.credential = Some(CredentialPart {
            name: armed.issued.name().clone(),
            slot: Arc::clone(&armed.attach.slot),
            generation: 0,
            age_s: 0,
            expires_in_s: None,
            stale: false,
            rejected: None,
        });
        self.carries(&armed.issued, clock);
    }

    /// Notes which value of its credential it carries.
    pub(super) fn carries(&mut self, issued: &Issued, clock: &Clock) {
        let Some(part) = &mut self.credential else {
            return;
        };
        let now = clock.now();
        let seconds = |from: jiff::Timestamp, to: jiff::Timestamp| {
            u64::try_from(to.duration_since(from).as_secs()).unwrap_or(0)
        };
        part.generation = issued.generation();
        part.age_s = seconds(issued.obtained_at(), now);
        part.expires_in_s = issued.expires_at().map(|end| seconds(now, end));
        part.stale = issued.is_stale();
    }

    /// Notes that the API rejected the value that it carried, and what it said.
    pub(super) fn rejected(&mut self, generation: u64, said: Option<&str>) {
        if let Some(part) = &mut self.credential {
            part.rejected = Some(RejectedPart {
                generation,
                api_error: said.map(str::to_owned),
            });
        }
    }

    /// Notes what the upstream said.
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
    pub(super) fn switched(&mut self, connection: &ConnectionInfo) {
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

    /// Notes the status of an answer that came over a connection of its own.
    pub fn status(&mut self, status: StatusCode) {
        self.upstream.get_or_insert_default().status = Some(status.as_u16());
    }

    /// Notes a request that is passed on unmatched.
    pub fn passing(&mut self, received: &Received, parts: &Parts) {
        self.target = Some(TargetPart::absolute(received, parts));
    }
}

impl CallerPart {
    /// What records say of a caller.
    pub fn of(caller: &Caller) -> Self {
        Self {
            proof: caller.proof().as_str(),
            issuer: Some(caller.issuer().into()),
            subject: Some(caller.subject().into()),
            pod: caller.facts().pod.clone(),
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

/// Refuses whatever comes over a connection on which the client broke HTTP in a way that hyper lets
/// pass: where its requests begin and end is open to question.
pub fn no_violation(activity: &Activity) -> Result<(), Refusal> {
    match activity.violation() {
        None => Ok(()),
        Some(Violation(what)) => Err(Refusal::new(Reason::RequestMalformed, what)),
    }
}

/// Makes an answer the last of its connection if [`no_violation`] does not hold: hyper may have read
/// the next request already.
pub fn last_if_violated<B>(response: &mut Response<B>, activity: &Activity) {
    if activity.violation().is_some() {
        last(response);
    }
}

/// Makes an answer the last of its connection. Over HTTP/2 the header is left out.
pub fn last<B>(response: &mut Response<B>) {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
}

/// Answers a request that did not come through, and closes its record.
pub fn refused(record: Record, refusal: Refusal, busy: Busy) -> Response<Answer> {
    let response = refusal::answer(&refusal, &record.id.to_string());
    close(record, refusal);
    response.map(|body| Answer::whole(body, busy))
}

/// Closes the record of a request that did not come through.
pub fn close(mut record: Record, mut refusal: Refusal) {
    // hyper says of a malformed chunk no more than that the body ended.
    if refusal.reason == Reason::ClientGone
        && let Some(Violation(what)) = record.violation()
    {
        refusal.reason = Reason::RequestMalformed;
        what.clone_into(&mut refusal.detail);
    }
    let facts = refusal.reason.facts();
    let (reason, blame) = (facts.code, facts.blame.as_str());
    if let (Some(part), Some(target)) = (&mut record.target, &refusal.target) {
        part.name = Some(target.name.clone());
    }
    if record.workload.is_none() {
        record.workload = refusal.workload;
    }
    record.nearest = refusal.nearest;
    record.detail = Some(refusal.detail.into());
    record.close(if is_failure(refusal.reason) {
        Outcome::Failed { reason, blame }
    } else {
        Outcome::Refused { reason, blame }
    });
}

/// A permitted request that the upstream, the path to it or the client broke; all else we refused.
fn is_failure(reason: Reason) -> bool {
    let broken_by_client = [Reason::ClientGone, Reason::BodyStalled, Reason::ClientTls];
    reason.facts().blame == Blame::Upstream
        || reason == Reason::UpstreamProxyRefused
        || broken_by_client.contains(&reason)
}

/// Records that a client broke HTTP, so that there was no request to answer.
pub fn record_broken(
    rooms: &Rooms,
    entrance: &Entrance,
    caller: Option<&Caller>,
    activity: &Activity,
    error: &hyper::Error,
) {
    let reason = if error.is_parse_too_large() {
        Reason::HeadTooLarge
    } else if error.is_timeout() || timed_out(error) {
        Reason::HeadTimeout
    } else {
        Reason::RequestMalformed
    };
    let mut record = rooms.recorder.open();
    record.entered(entrance);
    if let Some(caller) = caller {
        record.called_by(caller);
    }
    let refusal = match activity.has_overrun() {
        Some(overrun) => overrun.into(),
        None => Refusal::new(
            reason,
            format!("the client broke off or broke HTTP: {error}"),
        ),
    };
    close(record, refusal);
}

fn timed_out(error: &hyper::Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
}
