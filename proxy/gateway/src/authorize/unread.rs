//! May this caller have a tunnel to a host that is not decrypted (`intercept: false`). Of what goes
//! through it nothing is known, so that policy speaks of workload, host, port and time alone.

use std::sync::LazyLock;

use countersign_config::{model::Target, path::CanonicalPath, policy::RequestFacts};
use countersign_core::{destination::Authority, reason::Reason};
use countersign_identity::Caller;
use http::{Method, uri::PathAndQuery};
use jiff::Timestamp;

use super::{Permit, Recognition, Snapshot, permit};
use crate::refusal::Refusal;

/// Stands for the path, of which no such policy speaks.
static ROOT: LazyLock<CanonicalPath> = LazyLock::new(|| {
    CanonicalPath::check(&PathAndQuery::from_static("/")).expect("the root is canonical")
});

/// Decides about one tunnel.
///
/// # Errors
/// When policy does not permit it, with the nearest miss.
pub fn tunnel<'s>(
    snapshot: &'s Snapshot,
    recognition: &Recognition,
    caller: &Caller,
    authority: &Authority,
    now: Timestamp,
) -> Result<Permit<'s>, Refusal> {
    let facts = facts(authority);
    permit(snapshot, recognition, caller, authority, &facts, now)
}

/// A tunnel as a request.
pub(super) fn facts(authority: &Authority) -> RequestFacts<'_> {
    RequestFacts {
        host: authority.host(),
        port: authority.port(),
        method: &Method::CONNECT,
        path: &ROOT,
    }
}

/// The refusal of a request that is not within a tunnel.
pub(super) fn only_a_tunnel(authority: &Authority, target: &Target) -> Refusal {
    Refusal::new(
        Reason::TunnelOnly,
        format!(
            "{authority} belongs to the target {}, which is not decrypted: it is reached by CONNECT alone",
            target.name
        ),
    )
}
