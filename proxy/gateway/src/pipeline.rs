//! All steps of one request:
//!
//! ```text
//! accept -> identify -> authorize -> credential -> inject -> forward -> observe
//! ```
//!
//! Each step takes what only the step before can make. ARCHITECTURE.md says what of that is proven by
//! types.

mod answer;
mod api_answer;
mod credential;
mod drain_body;
mod echo;
mod excerpt;
mod opened;
mod peek;
mod recover;
mod response_observer;
mod services;
mod switched;
mod upgrade;
mod upstream_answer;

pub use answer::{AnswerBody, last, last_if_violated, refused};
pub use echo::Search;
pub use services::{CredentialServices, RequestServices};
pub use upstream_answer::UpstreamAnswer;

use std::{sync::Arc, time::Duration};

use countersign_authorize::{Permit, Received, Snapshot, authorize};
use countersign_config::path::CanonicalPath;
use countersign_core::{reason::Reason, wire::meter::in_progress};
use countersign_identity::Caller;
use countersign_upstream::{
    forward::{Outbound, RequestBody, Sent},
    inject::{self, FormBounds},
};
use http::{Request, Response, header::EXPECT, request::Parts};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::{
    observe::{Record, TargetPart},
    refusal::Refusal,
    session::{Session, no_violation},
};
use api_answer::Sharers;
use credential::obtain_credential;
use drain_body::drain_body;
use opened::Opened;
use recover::Exchange;
use upgrade::Upgrade;

/// Handles the requests of one proven caller on one connection.
#[derive(Debug)]
pub struct RequestHandler {
    services: Arc<RequestServices>,
    session: Session,
}

impl RequestHandler {
    /// A handler for the requests of `session`.
    pub fn new(services: Arc<RequestServices>, session: Session) -> Self {
        Self { services, session }
    }

    /// Whose requests it handles.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Handles one request, from its head to the last byte of its answer.
    pub async fn handle(self: Arc<Self>, mut request: Request<Incoming>) -> Response<AnswerBody> {
        let Self { services, session } = &*self;
        let mut in_flight = session.connection_state.begin();
        let mut record = session.open_record(&services.recorder);
        record.trace(request.headers());
        let snapshot = services.access.snapshots.load_full();
        let upgrade = upgrade::wanted(&mut request);
        let (parts, body) = request.into_parts();
        let version = parts.version;
        let awaits_continue = parts.headers.contains_key(EXPECT);
        let room = in_progress(&session.purse, &parts, &body.size_hint());
        let mut body = Some(body);
        let processed = match room {
            Ok(room) => {
                in_flight.holds(room);
                process(&self, &snapshot, parts, &mut body, upgrade, &mut record).await
            }
            Err(short) => Err(short.into()),
        };
        match processed {
            Ok(opened) => opened.answer(record, in_flight),
            Err(mut refusal) => {
                if !awaits_continue {
                    drain_body(body, version).await;
                }
                if is_disproof(refusal.reason) {
                    // The connection does not outlive its caller's proof.
                    session.closing.cancel();
                } else {
                    place(&mut refusal, session, &snapshot, &record);
                    record.refused_under(&snapshot);
                }
                let mut response = refused(record, refusal, in_flight);
                last_if_violated(&mut response, &session.connection_state);
                response
            }
        }
    }
}

/// Notes whose request was refused, and at which API, if it was refused before policy was asked.
fn place(refusal: &mut Refusal, session: &Session, snapshot: &Snapshot, record: &Record) {
    let policies = snapshot.policies();
    if refusal.target.is_none()
        && let Some(TargetPart { authority, .. }) = &record.target
    {
        refusal.target = policies.target(authority.host(), authority.port()).cloned();
    }
    refusal.was_of(&session.caller, snapshot);
}

/// Whether a refusal says that the caller is not, or no longer, proven.
fn is_disproof(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::IdentityExpired
            | Reason::IdentityRevoked
            | Reason::IdentityKeyWithdrawn
            | Reason::IdentityInvalid
            | Reason::IdentityIssuerUnknown
    )
}

async fn process(
    handler: &RequestHandler,
    snapshot: &Snapshot,
    mut parts: Parts,
    body: &mut Option<Incoming>,
    upgrade: Option<Upgrade>,
    record: &mut Record,
) -> Result<Opened, Refusal> {
    let RequestHandler { services, session } = handler;
    record.asked(&parts, session);
    let received =
        receive(session, &parts, snapshot).inspect_err(|_| record.asked_absolutely(&parts))?;
    record.received(&received, &parts, session);

    let caller = timed(&mut record.timing.identify, identify(handler)).await?;
    let permit = {
        let started = Instant::now();
        let now = services.access.clock.now();
        let recognition = session.recognised(snapshot);
        let permit = authorize(snapshot, &recognition, caller, &received, now);
        record.timing.authorize = started.elapsed();
        permit?
    };
    record.permitted(&permit, snapshot);
    let outbound = Outbound::permitted(&permit);
    unlimited(
        services,
        &permit,
        received.path(),
        &mut record.timing.waited,
    )
    .await?;
    services.recorder.room().await?;
    let bound = timed(
        &mut record.timing.credential,
        obtain_credential(handler, snapshot, &permit),
    )
    .await?;
    record.bound(bound.as_ref(), &services.access.clock);

    let attached = bound
        .as_ref()
        .map(|bound| (bound.attach, bound.issued.secret()));
    let stripped = inject::head(
        &mut parts,
        received.authority(),
        received.path(),
        permit.route(),
        attached,
    )
    .map_err(|error| Refusal::from(error).at(permit.grant().target()))?;
    record.carry_on(&mut parts.headers, &permit.route().strip);
    let exchange = Exchange {
        handler,
        permit: &permit,
        outbound: &outbound,
        meter: Exchange::meter(handler),
        bound,
        stripped,
    };
    if let Some(upgrade) = upgrade {
        // Boxed, because it is rare and large.
        return Box::pin(upgrade.forward(exchange, parts, &received, record)).await;
    }
    let limits = &services.limits;
    let bounds = FormBounds {
        bytes: limits.form_bytes,
        idle: limits.body_idle_timeout,
    };
    let strip = &permit.route().strip;
    let body = body
        .take()
        .ok_or_else(|| Refusal::new(Reason::Internal, "the body is gone"))?;
    let body = inject::strip_form(&mut parts.headers, body, strip, bounds, || {
        session.purse.charge()
    })
    .await?;
    Ok(Opened::Streamed(exchange.run(parts, body, record).await?))
}

/// Checks the head: its framing, one authority, a canonical path, the method.
fn receive(session: &Session, parts: &Parts, snapshot: &Snapshot) -> Result<Received, Refusal> {
    no_violation(&session.connection_state)?;
    let Some(tunnel) = &session.tunnel else {
        return Ok(Received::absolute(parts, snapshot.policies())?);
    };
    if tunnel.fronted {
        let detail = format!("CONNECT named {}, SNI another host", tunnel.authority);
        return Err(Refusal::new(Reason::AuthorityMismatch, detail));
    }
    Ok(Received::in_tunnel(
        parts,
        &tunnel.authority,
        snapshot.policies(),
    )?)
}

/// The caller was identified when the connection was accepted; its proof must still be valid.
async fn identify(handler: &RequestHandler) -> Result<&Caller, Refusal> {
    let caller = &handler.session.caller;
    handler.services.access.identifier.confirm(caller).await?;
    Ok(caller)
}

/// Refuses the request while the API's rate limit for the credential is in force, or waits for its end if
/// policy permits that.
async fn unlimited(
    services: &RequestServices,
    permit: &Permit<'_>,
    path: &CanonicalPath,
    waited: &mut Duration,
) -> Result<(), Refusal> {
    let Some((_, credential)) = permit.credential() else {
        return Ok(());
    };
    let grant = permit.grant();
    let health = services.credential.health.of(&credential.name);
    let mut patience = grant
        .policy()
        .conditions
        .wait_for_rate_limit
        .unwrap_or_default();
    let host = permit.authority().host();
    while let Some(left) = health.limits.left(
        Some(&grant.workload().name),
        grant.target().rate_limit,
        host,
        path.as_str(),
    ) {
        let Some(rest) = patience.checked_sub(left) else {
            let snapshot = services.access.snapshots.load_full();
            let shared = Sharers::of(&credential.name, snapshot.policies());
            let detail = format!(
                "{} limits {} for {left:?} more, {shared}",
                grant.target().name,
                credential.name
            );
            let mut refusal = Refusal::new(Reason::UpstreamRateLimited, detail).at(grant.target());
            refusal.retry_after = Some(left);
            return Err(refusal);
        };
        tokio::time::sleep(left).await;
        *waited += left;
        patience = rest;
    }
    Ok(())
}

/// Sends the request to the permit's destination.
async fn forward(
    exchange: &Exchange<'_, '_>,
    request: Request<RequestBody>,
    copy: Option<&Parts>,
    record: &mut Record,
) -> Result<Sent, Refusal> {
    let RequestHandler { services, session } = exchange.handler;
    let sent = services
        .forwarder
        .send_copied(session.requester(), exchange.outbound, request, copy)
        .await;
    match sent {
        Ok(sent) => {
            record.timing.connect = sent.connection.connect;
            record.timing.first_byte = Some(record.elapsed());
            record.answered(&sent);
            Ok(sent)
        }
        Err(error) => {
            record.bytes.add_request(exchange.meter.bytes());
            Err(Refusal::from(error).at(exchange.permit.grant().target()))
        }
    }
}

async fn timed<T>(into: &mut Duration, step: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let result = step.await;
    *into = started.elapsed();
    result
}
