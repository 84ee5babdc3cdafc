//! The story of one request, on one screen:
//!
//! ```text
//! accept -> identify -> authorize -> credential -> inject -> forward -> observe
//! ```
//!
//! Each step takes what only the step before can make, so that skipping one does not compile.

mod aftermath;
mod answer;
mod api_error;
mod echo;
mod held;
mod notes;
mod recover;
mod rest;
mod upgrade;

pub use answer::{Answer, Upstream};
pub(crate) use api_error::ApiError;
pub use echo::Search;
pub use notes::{close, last, last_if_violated, no_violation, record_broken, refused};

use std::{sync::Arc, time::Duration};

use countersign_config::{model::Credential, path::CanonicalPath};
use countersign_core::{reason::Reason, wire::meter::in_progress};
use countersign_credential::{CredentialError, Issued};
use countersign_upstream::{
    forward::{BodyMeter, RequestBody, Sent},
    inject::{self, FormBounds},
};
use http::{Request, Response, header::EXPECT, request::Parts};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::{
    accept::{Received, Session},
    authorize::{Permit, Snapshot, authorize},
    observe::Record,
    probe::Waiting,
    refusal::Refusal,
};
use answer::Opened;
use recover::{Armed, Exchange};
use upgrade::Upgrade;

/// Handles one request of a proven caller, from its head to the last byte of its answer.
pub async fn handle(session: Arc<Session>, mut request: Request<Incoming>) -> Response<Answer> {
    let mut busy = session.activity.begin();
    let mut record = session.open_record();
    record.trace(request.headers());
    let snapshot = session.rooms.snapshots.load_full();
    let upgrade = upgrade::wanted(&mut request);
    let (parts, body) = request.into_parts();
    let waits_for_our_word = parts.headers.contains_key(EXPECT);
    let room = in_progress(&session.purse, &parts, &body.size_hint());
    let mut body = Some(body);
    let told = match room {
        Ok(room) => {
            busy.holds(room);
            story(&session, &snapshot, parts, &mut body, upgrade, &mut record).await
        }
        Err(short) => Err(short.into()),
    };
    match told {
        Ok(opened) => opened.answer(record, busy),
        Err(refusal) => {
            if !waits_for_our_word {
                rest::of(body).await;
            }
            // The connection does not outlive its caller's proof.
            let disproved = matches!(
                refusal.reason,
                Reason::IdentityExpired
                    | Reason::IdentityRevoked
                    | Reason::IdentityKeyWithdrawn
                    | Reason::IdentityInvalid
                    | Reason::IdentityIssuerUnknown
            );
            if disproved {
                session.closing.cancel();
            }
            let mut response = notes::refused(record, refusal, busy);
            last_if_violated(&mut response, &session.activity);
            response
        }
    }
}

async fn story(
    session: &Arc<Session>,
    snapshot: &Snapshot,
    mut parts: Parts,
    body: &mut Option<Incoming>,
    upgrade: Option<Upgrade>,
    record: &mut Record,
) -> Result<Opened, Refusal> {
    record.asked(&parts, session);
    let received = receive(session, &parts)?;
    record.received(&received, &parts, session);

    let caller = timed(&mut record.timing.identify, identify(session)).await?;
    let permit = {
        let started = Instant::now();
        let now = session.rooms.clock.now();
        let recognition = session.recognised(snapshot);
        let permit = authorize(snapshot, &recognition, caller, &received, now);
        record.timing.authorize = started.elapsed();
        permit?
    };
    record.permitted(&permit, snapshot);
    unlimited(session, &permit, received.path()).await?;
    let armed = timed(
        &mut record.timing.credential,
        arm(session, snapshot, &permit),
    )
    .await?;
    record.armed(armed.as_ref(), &session.rooms.clock);

    let attached = armed
        .as_ref()
        .map(|armed| (armed.attach, armed.issued.secret()));
    let stripped = inject::head(
        &mut parts,
        received.authority(),
        received.path(),
        permit.route(),
        attached,
    )
    .map_err(|error| Refusal::from(error).at(permit.grant().target()))?;
    if let Some(upgrade) = upgrade {
        // Boxed, as it is rare.
        let forward = upgrade.forward(session, parts, received, &permit, armed, record);
        return Box::pin(forward).await;
    }
    let limits = &session.rooms.limits;
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
    let exchange = Exchange {
        session,
        permit: &permit,
        meter: Exchange::meter(session),
        armed,
        stripped,
    };
    Ok(Opened::Streamed(exchange.run(parts, body, record).await?))
}

/// Honest framing, one authority, a canonical path, an honest method.
fn receive(session: &Session, parts: &Parts) -> Result<Received, Refusal> {
    no_violation(&session.activity)?;
    let Some(tunnel) = &session.tunnel else {
        return Received::absolute(parts);
    };
    if tunnel.fronted {
        let detail = format!("CONNECT named {}, SNI another host", tunnel.authority);
        return Err(Refusal::new(Reason::AuthorityMismatch, detail));
    }
    Received::in_tunnel(parts, &tunnel.authority)
}

/// The caller was proven when the connection was accepted; that must still hold.
async fn identify(session: &Session) -> Result<&countersign_identity::Caller, Refusal> {
    session.rooms.identifier.confirm(&session.caller).await?;
    Ok(&session.caller)
}

/// The API's own rate limit for the credential, as it told of it a moment ago, does not hold any more;
/// or policy lets the request wait for its end.
async fn unlimited(
    session: &Session,
    permit: &Permit<'_>,
    path: &CanonicalPath,
) -> Result<(), Refusal> {
    let Some((_, credential)) = permit.credential() else {
        return Ok(());
    };
    let grant = permit.grant();
    let health = session.rooms.healths.of(&credential.name);
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
            let detail = format!(
                "{} limits {} for {left:?} more",
                grant.target().name,
                credential.name
            );
            let mut refusal = Refusal::new(Reason::UpstreamRateLimited, detail).at(grant.target());
            refusal.retry_after = Some(left);
            return Err(refusal);
        };
        tokio::time::sleep(left).await;
        patience = rest;
    }
    Ok(())
}

/// Just in time: nothing is fetched for a request that policy does not permit, nor for one that its
/// API would not take now.
async fn arm<'s>(
    session: &Session,
    snapshot: &'s Snapshot,
    permit: &Permit<'s>,
) -> Result<Option<Armed<'s>>, Refusal> {
    let Some((attach, credential)) = permit.credential() else {
        return Ok(None);
    };
    let (target, workload) = (permit.grant().target(), &permit.grant().workload().name);
    let rooms = &session.rooms;
    let health = rooms.healths.of(&credential.name);
    let place = health.at(permit.authority().host());
    let fetch = async || {
        let value = value(session, credential).await;
        value.map_err(|error| Refusal::from(error).at(target))
    };
    let admit = |issued: &Issued| {
        let admitted = place.admit(workload, issued.generation());
        admitted.map_err(|rejected| Refusal::from(rejected).at(target))
    };
    let waiting = Waiting {
        authority: permit.authority(),
        target,
        attach,
        credential,
        health: &health,
        place: &place,
        policies: snapshot.policies(),
    };
    let mut issued = fetch().await?;
    let mut trial = admit(&issued)?;
    let probed = if let Some(trial) = &trial {
        // Its source may have a better one by now, and then there is nothing to try.
        rooms
            .credentials
            .invalidate(&credential.name, issued.generation());
        issued = fetch().await?;
        trial.is_for_a_probe() && rooms.prober.retry(waiting).await
    } else {
        rooms.prober.prove(waiting, issued.generation()).await
    };
    if probed {
        drop(trial);
        issued = fetch().await?;
        trial = admit(&issued)?;
    }
    Ok(Some(Armed {
        attach,
        credential,
        issued,
        workload: workload.clone(),
        health,
        place,
        trial,
    }))
}

/// The credential's value for this caller.
async fn value(
    session: &Session,
    credential: &Arc<Credential>,
) -> Result<Arc<Issued>, CredentialError> {
    let credentials = &session.rooms.credentials;
    credentials.obtain_for(credential, &session.caller).await
}

/// To the permit's destination, nowhere else.
async fn forward(
    session: &Session,
    request: Request<RequestBody>,
    copy: Option<&Parts>,
    permit: &Permit<'_>,
    record: &mut Record,
    meter: &BodyMeter,
) -> Result<Sent, Refusal> {
    let sent = session
        .rooms
        .forwarder
        .send_copied(session.requester(), permit.outbound(), request, copy)
        .await;
    match sent {
        Ok(sent) => {
            record.timing.connect = sent.connection.connect;
            record.timing.first_byte = Some(record.elapsed());
            record.answered(&sent);
            Ok(sent)
        }
        Err(error) => {
            record.bytes.add_request(meter.bytes());
            Err(Refusal::from(error).at(permit.grant().target()))
        }
    }
}

async fn timed<T>(into: &mut Duration, step: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let result = step.await;
    *into = started.elapsed();
    result
}
