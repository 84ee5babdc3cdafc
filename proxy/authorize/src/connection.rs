//! What may be done with a connection or a request, by the host that it names: whether it is
//! decrypted, and that what gets a credential never goes out in clear. It is decided here and nowhere
//! else.

use std::{net::SocketAddr, sync::Arc};

use countersign_config::{
    host::Host,
    model::{Target, Unmatched},
    policy::Interception,
};
use countersign_core::destination::Authority;
use countersign_identity::Caller;

use crate::{Denied, Recognition, Snapshot};

/// What may be done with a connection.
#[derive(Debug)]
pub enum Disposition<'c> {
    /// It is decrypted, and its requests are decided one by one.
    Intercept(Arc<Target>),
    /// Its target is not decrypted: it is carried unread if policy permits a tunnel there
    /// ([`tunnel`](crate::tunnel)).
    Carry,
    /// No target has its host: it is carried unread.
    Pass(Passage<'c>),
}

/// Proof that no target has a host, and that the configuration lets such traffic pass. No credential
/// goes with it. Its fields are private, and the functions of this crate are its only makers:
///
/// ```
/// use countersign_authorize::{Passage, Snapshot, in_clear};
/// use countersign_config::model::Unmatched;
/// use countersign_core::destination::Authority;
/// use countersign_identity::Caller;
///
/// fn passage<'c>(
///     snapshot: &Snapshot,
///     caller: &'c Caller,
///     authority: &Authority,
/// ) -> Option<Passage<'c>> {
///     in_clear(snapshot, caller, authority, Unmatched::Tunnel).ok()
/// }
/// ```
///
/// ```compile_fail,E0451
/// use countersign_authorize::Passage;
/// use countersign_core::destination::Authority;
///
/// fn elsewhere<'c>(passage: Passage<'c>, authority: Authority) -> Passage<'c> {
///     Passage { authority, ..passage }
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Passage<'c> {
    authority: Authority,
    caller: &'c Caller,
}

impl Passage<'_> {
    /// Where it leads.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Who may pass.
    pub fn caller(&self) -> &Caller {
        self.caller
    }

    /// The same for a client whose name may be an outer one (ECH): it is carried to the address that it
    /// dialled, whatever it names.
    #[must_use]
    pub fn by_address(self, address: SocketAddr) -> Self {
        let authority = Authority::new(Host::Ip(address.ip()), address.port());
        Self { authority, ..self }
    }
}

/// Decides about a connection to `authority`.
///
/// # Errors
/// When the host is reached by a wildcard only and nothing is granted there to the caller; when it is
/// governed at another port; or when no target has it and such hosts are denied.
pub fn connection<'c>(
    snapshot: &Snapshot,
    recognition: &Recognition,
    caller: &'c Caller,
    authority: &Authority,
    unmatched: Unmatched,
) -> Result<Disposition<'c>, Denied> {
    let (who, host, port) = (recognition.workloads(), authority.host(), authority.port());
    match snapshot.policies().interception(who, host, port) {
        Interception::Intercept(target) => Ok(Disposition::Intercept(target)),
        Interception::Carry(_) => Ok(Disposition::Carry),
        Interception::Refuse(denial) => Err(denial.into()),
        Interception::OtherPort(target) if unmatched == Unmatched::Tunnel => {
            Err(Denied::other_port(authority, &target))
        }
        Interception::OtherPort(_) => Err(Denied::unmatched(snapshot.policies(), authority)),
        Interception::Unmatched => {
            pass(snapshot, caller, authority, unmatched).map(Disposition::Pass)
        }
    }
}

/// The target in whose tunnel a caller that is *not* proven may be told why, if it is one: in that tunnel nothing
/// is sent upstream. Only a host that a target names, so that no client can choose for how many hosts the gateway
/// issues certificates.
pub fn told_inside(snapshot: &Snapshot, authority: &Authority) -> Option<Arc<Target>> {
    let target = snapshot
        .policies()
        .exact_target(authority.host(), authority.port());
    target.cloned()
}

/// Decides about a request in clear: what is governed gets a credential, which never travels so.
///
/// # Errors
/// When the host is governed, or no target has it and such hosts are denied.
pub fn in_clear<'c>(
    snapshot: &Snapshot,
    caller: &'c Caller,
    authority: &Authority,
    unmatched: Unmatched,
) -> Result<Passage<'c>, Denied> {
    if let Some(target) = snapshot.policies().governing_target(authority.host()) {
        return Err(Denied::plaintext(authority, target));
    }
    pass(snapshot, caller, authority, unmatched)
}

/// Decides about a request for which the gateway originates the TLS. `None` is a matter of
/// [`authorize`](crate::authorize), as is every request where unmatched hosts are denied.
///
/// # Errors
/// When the host is governed at another port.
pub fn originated<'c>(
    snapshot: &Snapshot,
    caller: &'c Caller,
    authority: &Authority,
    unmatched: Unmatched,
) -> Result<Option<Passage<'c>>, Denied> {
    let (policies, host) = (snapshot.policies(), authority.host());
    if unmatched == Unmatched::Deny || policies.target(host, authority.port()).is_some() {
        return Ok(None);
    }
    match policies.governing_target(host) {
        Some(target) => Err(Denied::other_port(authority, target)),
        None => pass(snapshot, caller, authority, unmatched).map(Some),
    }
}

fn pass<'c>(
    snapshot: &Snapshot,
    caller: &'c Caller,
    authority: &Authority,
    unmatched: Unmatched,
) -> Result<Passage<'c>, Denied> {
    match unmatched {
        Unmatched::Deny => Err(Denied::unmatched(snapshot.policies(), authority)),
        Unmatched::Tunnel => Ok(Passage {
            authority: authority.clone(),
            caller,
        }),
    }
}
