//! May this caller make this request now. The only maker of a [`Permit`].

use std::sync::{Arc, LazyLock};

use countersign_config::{
    model::{Attach, Credential, Route},
    path::CanonicalPath,
    policy::{Decision, Grant, RequestFacts},
};
use countersign_core::{destination::Authority, reason::Reason};
use countersign_identity::Caller;
use http::{Method, uri::PathAndQuery};
use jiff::Timestamp;

use crate::{Denied, Received, Recognition, Snapshot, reason::reason};

/// Stands for the path of a tunnel, of which no policy speaks.
static ROOT: LazyLock<CanonicalPath> = LazyLock::new(|| {
    CanonicalPath::check(&PathAndQuery::from_static("/")).expect("the root is canonical")
});

/// Proof that policy permits one request or tunnel: to whom, where to, and with which credential.
/// Its fields are private, and [`authorize`] and [`tunnel`] are its only makers:
///
/// ```
/// use countersign_authorize::{Denied, Permit, Received, Recognition, Snapshot, authorize};
/// use countersign_identity::Caller;
///
/// fn permit<'s>(
///     snapshot: &'s Snapshot,
///     recognition: &Recognition,
///     caller: &'s Caller,
///     received: &'s Received,
///     now: jiff::Timestamp,
/// ) -> Result<Permit<'s>, Denied> {
///     authorize(snapshot, recognition, caller, received, now)
/// }
/// ```
///
/// It is not made, or changed, by hand:
///
/// ```compile_fail,E0451
/// use countersign_authorize::Permit;
///
/// fn lenient<'s>(permit: Permit<'s>) -> Permit<'s> {
///     Permit { would_refuse: None, ..permit }
/// }
/// ```
///
/// Nor for a head that was not checked:
///
/// ```compile_fail,E0308
/// use countersign_authorize::{Denied, Permit, Recognition, Snapshot, authorize};
/// use countersign_identity::Caller;
///
/// fn unchecked<'s>(
///     snapshot: &'s Snapshot,
///     recognition: &Recognition,
///     caller: &'s Caller,
///     head: &'s http::request::Parts,
///     now: jiff::Timestamp,
/// ) -> Result<Permit<'s>, Denied> {
///     authorize(snapshot, recognition, caller, head, now)
/// }
/// ```
#[derive(Debug)]
pub struct Permit<'s> {
    grant: Grant<'s>,
    would_refuse: Option<Reason>,
    authority: &'s Authority,
    caller: &'s Caller,
}

impl<'s> Permit<'s> {
    /// What policy granted.
    pub fn grant(&self) -> &Grant<'s> {
        &self.grant
    }

    /// What the policy would have refused the request for if it did not only observe.
    pub fn would_refuse(&self) -> Option<Reason> {
        self.would_refuse
    }

    /// The route the request takes through the target.
    pub fn route(&self) -> &'s Route {
        self.grant.route()
    }

    /// The credential to attach and its place; `None` sends none.
    pub fn credential(&self) -> Option<(&'s Attach, &'s Arc<Credential>)> {
        self.grant.credential()
    }

    /// Where the request goes.
    pub fn authority(&self) -> &'s Authority {
        self.authority
    }

    /// Who may make it.
    pub fn caller(&self) -> &'s Caller {
        self.caller
    }
}

/// Decides about one request.
///
/// # Errors
/// When policy does not permit it, with the nearest miss; when its rate is used up; or when its target
/// is not decrypted.
pub fn authorize<'s>(
    snapshot: &'s Snapshot,
    recognition: &Recognition,
    caller: &'s Caller,
    received: &'s Received,
    now: Timestamp,
) -> Result<Permit<'s>, Denied> {
    let authority = received.authority();
    let facts = RequestFacts {
        host: authority.host(),
        port: authority.port(),
        method: received.method(),
        path: received.path(),
    };
    let permit = permit(snapshot, recognition, caller, authority, &facts, now)?;
    if permit.grant.target().intercept {
        Ok(permit)
    } else {
        Err(Denied::tunnel_only(authority, permit.grant.target()))
    }
}

/// Decides about one tunnel to a host that is not decrypted (`intercept: false`). Nothing is known of
/// what goes through it, so policy speaks of workload, host, port and time alone.
///
/// # Errors
/// When policy does not permit it, with the nearest miss; or when the host's target is decrypted.
pub fn tunnel<'s>(
    snapshot: &'s Snapshot,
    recognition: &Recognition,
    caller: &'s Caller,
    authority: &'s Authority,
    now: Timestamp,
) -> Result<Permit<'s>, Denied> {
    let facts = tunnel_facts(authority);
    let permit = permit(snapshot, recognition, caller, authority, &facts, now)?;
    if permit.grant.target().intercept {
        Err(Denied::not_carried(authority, permit.grant.target()))
    } else {
        Ok(permit)
    }
}

/// A tunnel as a request.
pub(crate) fn tunnel_facts(authority: &Authority) -> RequestFacts<'_> {
    RequestFacts {
        host: authority.host(),
        port: authority.port(),
        method: &Method::CONNECT,
        path: &ROOT,
    }
}

fn permit<'s>(
    snapshot: &'s Snapshot,
    recognition: &Recognition,
    caller: &'s Caller,
    authority: &'s Authority,
    facts: &RequestFacts<'_>,
    now: Timestamp,
) -> Result<Permit<'s>, Denied> {
    let who = recognition.workloads();
    let grant = match snapshot.policies().decide(who, caller.facts(), facts, now) {
        Decision::Permit(grant) => grant,
        Decision::Deny(denial) => return Err(denial.into()),
        Decision::Unmatched => return Err(Denied::unmatched(snapshot.policies(), authority)),
    };
    let over_rate = snapshot.rates().take(&grant)?;
    Ok(Permit {
        grant,
        would_refuse: grant.would_deny().map(reason).or(over_rate),
        authority,
        caller,
    })
}
