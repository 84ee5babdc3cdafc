//! Re-authorizes open tunnels and WebSockets when the revision changes, and when time may have changed
//! the decision. No rate is counted.

use std::sync::{Arc, OnceLock};

use countersign_config::{
    host::Host,
    model::{ResourceName, Unmatched},
    policy::{Decision, RequestFacts},
};
use countersign_core::{destination::Authority, reason::Reason};
use countersign_identity::Caller;
use http::Method;
use jiff::Timestamp;

use crate::{Denied, Disposition, Received, Snapshot, connection, permit::tunnel_facts};

/// What an open connection was permitted for.
#[derive(Debug)]
pub enum OpenConnection {
    /// To be carried unread, to a host that no target has or whose target is not decrypted.
    Tunnel {
        /// Where it goes.
        authority: Authority,
        /// The name in SNI, once it is known.
        name: Arc<OnceLock<Host>>,
    },
    /// To be a WebSocket: what its handshake asked for, and the credential that it carried.
    WebSocket {
        /// The handshake.
        handshake: Received,
        /// The credential's name; `None` sent none.
        credential: Option<ResourceName>,
    },
}

impl OpenConnection {
    /// Whether it is still permitted to `caller`, and until when at least that stands while the revision
    /// does; `None` has no end.
    ///
    /// # Errors
    /// When policy does not permit it any more.
    pub fn reauthorize(
        &self,
        snapshot: &Snapshot,
        caller: &Caller,
        unmatched: Unmatched,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Denied> {
        let decided = match self {
            Self::Tunnel { authority, name } => {
                let name = name.get();
                tunnel(snapshot, caller, authority, name, unmatched, now)
            }
            Self::WebSocket {
                handshake,
                credential,
            } => websocket(snapshot, caller, handshake, credential.as_ref(), now),
        };
        decided.map_err(|denied| Denied {
            detail: format!(
                "the open connection is not permitted any more (revision {}): {}",
                snapshot.revision(),
                denied.detail
            ),
            ..denied
        })
    }
}

fn tunnel(
    snapshot: &Snapshot,
    caller: &Caller,
    authority: &Authority,
    name: Option<&Host>,
    unmatched: Unmatched,
    now: Timestamp,
) -> Result<Option<Timestamp>, Denied> {
    if let Some(name) = name
        && name != authority.host()
        && let Some(target) = snapshot.policies().governing_target(name)
    {
        let detail = format!(
            "{name}, which its client asked for, now belongs to the target {}",
            target.name
        );
        return Err(Denied::new(Reason::AccessChanged, detail));
    }
    let recognition = snapshot.recognise(caller.facts());
    match connection(snapshot, &recognition, caller, authority, unmatched)? {
        Disposition::Pass(_) => Ok(None),
        Disposition::Carry => {
            let (who, facts) = (recognition.workloads(), tunnel_facts(authority));
            match snapshot.policies().decide(who, caller.facts(), &facts, now) {
                Decision::Permit(grant) => Ok(grant.valid_until(now)),
                Decision::Deny(denial) => Err(denial.into()),
                Decision::Unmatched => Err(Denied::unmatched(snapshot.policies(), authority)),
            }
        }
        Disposition::Intercept(target) => Err(Denied::not_carried(authority, &target)),
    }
}

fn websocket(
    snapshot: &Snapshot,
    caller: &Caller,
    handshake: &Received,
    credential: Option<&ResourceName>,
    now: Timestamp,
) -> Result<Option<Timestamp>, Denied> {
    let (authority, caller) = (handshake.authority(), caller.facts());
    let request = RequestFacts {
        host: authority.host(),
        port: authority.port(),
        // RFC 6455, section 4.1.
        method: &Method::GET,
        path: handshake.path(),
    };
    let policies = snapshot.policies();
    match policies.decide_again(caller, &request, credential, now) {
        Decision::Permit(grant) => return Ok(grant.valid_until(now)),
        Decision::Unmatched => return Err(Denied::unmatched(snapshot.policies(), authority)),
        // The denial speaks of policies with this credential alone, and others may apply.
        Decision::Deny(_) => {}
    }
    let recognition = snapshot.recognise(caller);
    match policies.decide(recognition.workloads(), caller, &request, now) {
        Decision::Permit(_) => {
            let name = credential.map_or("none", ResourceName::as_str);
            let detail =
                format!("it was opened with the credential {name}, which policy has replaced");
            Err(Denied::new(Reason::AccessChanged, detail))
        }
        Decision::Deny(denial) => Err(denial.into()),
        Decision::Unmatched => Err(Denied::unmatched(snapshot.policies(), authority)),
    }
}
