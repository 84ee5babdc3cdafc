//! May what is open already stay open: asked when the revision changes, and when time may have
//! changed the answer. No rate is counted; nothing new is asked for.

use std::sync::{Arc, OnceLock};

use countersign_config::{
    host::Host,
    model::{ResourceName, Unmatched},
    policy::{CallerFacts, Decision, Interception, RequestFacts},
};
use countersign_core::{destination::Authority, reason::Reason};
use http::Method;
use jiff::Timestamp;

use super::{Snapshot, other_port, unmatched};
use crate::{accept::Received, refusal::Refusal};

/// What an open connection was permitted for.
#[derive(Debug)]
pub enum Asked {
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

impl Asked {
    /// Whether it is still permitted, and from when on that must be asked again though the revision
    /// is the same; `None` is never.
    ///
    /// # Errors
    /// When policy does not permit it any more.
    pub(crate) fn again(
        &self,
        snapshot: &Snapshot,
        caller: &CallerFacts,
        setting: Unmatched,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Refusal> {
        let answer = match self {
            Self::Tunnel { authority, name } => {
                let name = name.get();
                unread(snapshot, caller, authority, name, setting, now)
            }
            Self::WebSocket {
                handshake,
                credential,
            } => websocket(snapshot, caller, handshake, credential.as_ref(), now),
        };
        answer.map_err(|refusal| Refusal {
            detail: format!(
                "the open connection is not permitted any more (revision {}): {}",
                snapshot.revision(),
                refusal.detail
            ),
            ..refusal
        })
    }
}

fn unread(
    snapshot: &Snapshot,
    caller: &CallerFacts,
    authority: &Authority,
    name: Option<&Host>,
    setting: Unmatched,
    now: Timestamp,
) -> Result<Option<Timestamp>, Refusal> {
    if let Some(name) = name
        && name != authority.host()
        && let Some(target) = snapshot.policies().governing_target(name)
    {
        return Err(Refusal::new(
            Reason::AccessChanged,
            format!(
                "{name}, which its client asked for, now belongs to the target {}",
                target.name
            ),
        ));
    }
    let recognition = snapshot.recognise(caller);
    let interception = snapshot.policies().interception(
        recognition.workloads(),
        authority.host(),
        authority.port(),
    );
    match (interception, setting) {
        (Interception::Unmatched, Unmatched::Tunnel) => Ok(None),
        (Interception::Carry(_), _) => {
            let facts = super::unread::facts(authority);
            let workloads = recognition.workloads();
            match snapshot.policies().decide(workloads, caller, &facts, now) {
                Decision::Permit(grant) => Ok(grant.valid_until(now)),
                Decision::Deny(denial) => Err(denial.into()),
                Decision::Unmatched => Err(unmatched(authority)),
            }
        }
        (Interception::Unmatched | Interception::OtherPort(_), Unmatched::Deny) => {
            Err(unmatched(authority))
        }
        (Interception::OtherPort(target), Unmatched::Tunnel) => Err(other_port(authority, &target)),
        (Interception::Refuse(denial), _) => Err(denial.into()),
        (Interception::Intercept(target), _) => Err(Refusal::new(
            Reason::AccessChanged,
            format!(
                "{authority} now belongs to the target {}, and is not carried unread",
                target.name
            ),
        )),
    }
}

fn websocket(
    snapshot: &Snapshot,
    caller: &CallerFacts,
    handshake: &Received,
    credential: Option<&ResourceName>,
    now: Timestamp,
) -> Result<Option<Timestamp>, Refusal> {
    let authority = handshake.authority();
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
        Decision::Unmatched => return Err(unmatched(authority)),
        // The denial speaks of policies with this credential alone, which is not the whole story.
        Decision::Deny(_) => {}
    }
    let recognition = snapshot.recognise(caller);
    match policies.decide(recognition.workloads(), caller, &request, now) {
        Decision::Permit(_) => {
            let name = credential.map_or("none", ResourceName::as_str);
            Err(Refusal::new(
                Reason::AccessChanged,
                format!("it was opened with the credential {name}, which policy has replaced"),
            ))
        }
        Decision::Deny(denial) => Err(denial.into()),
        Decision::Unmatched => Err(unmatched(authority)),
    }
}
