//! What may leave by a [`Forwarder`](super::Forwarder), and by what right.

use countersign_config::{
    model::{Credential, ResourceName},
    policy::Grant,
};
use countersign_core::destination::Authority;

/// For whom an issuer's connections are: no workload has such a name, since theirs have a namespace.
const OURSELVES: &str = "countersign";

/// A request's right to leave: where it goes, in whose name, and with which credential. Its
/// constructors are all that there are, and a [`Forwarder`](super::Forwarder) sends nothing without:
///
/// - [`Outbound::granted`]: policy granted the request;
/// - [`Outbound::probe`]: the gateway tries whether a credential works;
/// - [`Outbound::issuer`]: a credential's issuer is asked;
/// - [`Outbound::unmatched`]: no target has the host, and the configuration lets such requests pass;
///   no credential goes with it.
///
/// ```
/// use countersign_core::destination::Authority;
/// use countersign_upstream::forward::Outbound;
///
/// fn without_a_credential(authority: &Authority) -> Outbound {
///     Outbound::unmatched(authority, "the caller")
/// }
/// ```
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
/// It is also the key by which connections are kept. They are shared only between requests to the same
/// authority, for the same workload, with the same credential, and for the same caller where each has a
/// value of its own. An API may bind state to a connection (or be attacked by way of it), so no other
/// workload and no other credential ever comes near it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Outbound {
    /// Where the connections lead.
    pub(super) authority: Authority,
    /// For whom they are.
    pub(super) workload: ResourceName,
    /// The credential that is put on their requests; `None` if none is.
    pub(super) credential: Option<ResourceName>,
    /// The hash of the caller's proof, where the credential's value is this caller's alone.
    pub(super) caller: Option<[u8; 32]>,
}

impl Outbound {
    /// A request to `authority` that policy granted, in the name of the grant's workload and with the
    /// grant's credential. `caller` is the hash of the caller's proof.
    ///
    /// A grant is made by policy's decision alone:
    ///
    /// ```compile_fail,E0616
    /// use countersign_config::policy::Grant;
    ///
    /// fn with_its_credential(grant: &mut Grant<'_>) {
    ///     grant.credential = None;
    /// }
    /// ```
    pub fn granted(grant: &Grant<'_>, authority: &Authority, caller: &[u8; 32]) -> Self {
        let credential = grant.credential().map(|(_, credential)| credential);
        Self {
            authority: authority.clone(),
            workload: grant.workload().name.clone(),
            credential: credential.map(|credential| credential.name.clone()),
            caller: credential
                .filter(|credential| credential.provider.is_per_caller())
                .map(|_| *caller),
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

    /// A request to a host that no target has. `caller` is the whole name of who sends it, with that of its
    /// issuer: no workload stands behind it, and two clusters may have the same names.
    pub fn unmatched(authority: &Authority, caller: &str) -> Self {
        Self {
            authority: authority.clone(),
            workload: ResourceName::cluster_wide(caller),
            credential: None,
            caller: None,
        }
    }

    /// Where it goes.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }
}
