//! What may leave by a [`Forwarder`](super::Forwarder), and by what right.

use countersign_authorize::{Passage, Permit};
use countersign_config::model::{Credential, ResourceName};
use countersign_core::destination::Authority;

/// The name under which calls to issuers have connections: it has no namespace, as workloads do.
const OURSELVES: &str = "countersign";

/// A request's right to leave: where it goes, in whose name, and with which credential. A
/// [`Forwarder`](super::Forwarder) sends nothing and opens no tunnel without one. Its constructors are the
/// complete list of what may leave:
///
/// - [`Outbound::permitted`]: policy permits the request or tunnel;
/// - [`Outbound::unmatched`]: no target has the host, and the configuration lets such traffic pass; no
///   credential goes with it;
/// - [`Outbound::probe`]: the gateway tries whether a credential works;
/// - [`Outbound::issuer`]: the gateway calls a credential's issuer.
///
/// The first two take a proof that only `countersign-authorize` makes; the last two are the gateway's own
/// requests and take none.
///
/// ```
/// use countersign_authorize::{Passage, Permit};
/// use countersign_upstream::forward::Outbound;
///
/// fn of_a_caller(permit: &Permit<'_>) -> Outbound {
///     Outbound::permitted(permit)
/// }
///
/// fn without_a_credential(passage: &Passage<'_>) -> Outbound {
///     Outbound::unmatched(passage)
/// }
/// ```
///
/// A grant of policy alone is not enough: for one, its rate was not counted.
///
/// ```compile_fail,E0308
/// use countersign_config::policy::Grant;
/// use countersign_upstream::forward::Outbound;
///
/// fn granted_only(grant: &Grant<'_>) -> Outbound {
///     Outbound::permitted(grant)
/// }
/// ```
///
/// Nor is any authority:
///
/// ```compile_fail,E0308
/// use countersign_core::destination::Authority;
/// use countersign_upstream::forward::Outbound;
///
/// fn anywhere(authority: &Authority) -> Outbound {
///     Outbound::unmatched(authority)
/// }
/// ```
///
/// And an `Outbound` cannot be changed:
///
/// ```compile_fail,E0616
/// use countersign_core::destination::Authority;
/// use countersign_upstream::forward::Outbound;
///
/// fn elsewhere(outbound: &mut Outbound, authority: Authority) {
///     outbound.authority = authority;
/// }
/// ```
///
/// It is also the key of the connection pool. Connections are shared only between requests to the same
/// authority, for the same workload, with the same credential, and for the same caller if each has a value
/// of its own. An API may bind state to a connection (or attack through it), so no other workload or
/// credential ever uses it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Outbound {
    /// Where the connections lead.
    pub(super) authority: Authority,
    /// The workload that they are for.
    pub(super) workload: ResourceName,
    /// The credential of their requests; `None` if there is none.
    pub(super) credential: Option<ResourceName>,
    /// The hash of the caller's proof, if the credential's value is this caller's alone.
    pub(super) caller: Option<[u8; 32]>,
}

impl Outbound {
    /// What `permit` permits, in the name of its workload and with its credential.
    pub fn permitted(permit: &Permit<'_>) -> Self {
        let credential = permit.credential().map(|(_, credential)| credential);
        Self {
            authority: permit.authority().clone(),
            workload: permit.grant().workload().name.clone(),
            credential: credential.map(|credential| credential.name.clone()),
            caller: credential
                .filter(|credential| credential.provider.is_per_caller())
                .map(|_| *permit.caller().key()),
        }
    }

    /// A probe of `credential` at `authority`, in the gateway's own name.
    pub fn probe(authority: &Authority, own_name: &ResourceName, credential: &Credential) -> Self {
        Self {
            authority: authority.clone(),
            workload: own_name.clone(),
            credential: Some(credential.name.clone()),
            caller: None,
        }
    }

    /// A call to the issuer of `credential`, at `authority`.
    pub fn issuer(authority: Authority, credential: &ResourceName) -> Self {
        Self {
            authority,
            workload: ResourceName::cluster_wide(OURSELVES),
            credential: Some(credential.clone()),
            caller: None,
        }
    }

    /// Traffic to a host that no target has. Its connections belong to the caller by its full name: it may
    /// have no workload, and two clusters may have the same names.
    pub fn unmatched(passage: &Passage<'_>) -> Self {
        Self {
            authority: passage.authority().clone(),
            workload: ResourceName::cluster_wide(&passage.caller().full_name()),
            credential: None,
            caller: None,
        }
    }

    /// Where it goes.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }
}
