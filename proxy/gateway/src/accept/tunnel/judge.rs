//! Whether what a tunnel turns out to be for may be carried unread.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use countersign_config::{host::Host, policy::Interception};
use countersign_core::{destination::Authority, reason::Reason};
use countersign_identity::Caller;

use super::watch::{By, Named};
use crate::{app::Rooms, refusal::Refusal};

/// Judges the names that a client shows within one tunnel.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) rooms: Arc<Rooms>,
    pub(super) caller: Arc<Caller>,
    /// Where the tunnel goes.
    pub(super) authority: Authority,
    /// The address that was dialled for it.
    pub(super) address: SocketAddr,
    /// Whether policy granted it, for this very host.
    pub(super) granted: bool,
    /// The name in SNI, for whoever judges the tunnel again.
    pub(super) name: Arc<OnceLock<Host>>,
}

/// What may be done about a name.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is carried on.
    Carry,
    /// It is governed, and can be decrypted.
    Intercept(Authority),
}

impl Judge {
    /// Judges one name. `silent` says that the server has sent nothing yet, so that another may
    /// take its place.
    pub(super) fn judge(&self, named: &Named, silent: bool) -> Result<Verdict, Refusal> {
        if let Some(host) = &named.host
            && named.by == By::Tls
        {
            // The first counts; a hello that is asked for again names the same.
            drop(self.name.set(host.clone()));
        }
        if self.granted {
            return self.within_grant(named).map(|()| Verdict::Carry);
        }
        if let Some(host) = &named.host {
            let snapshot = self.rooms.snapshots.load_full();
            if snapshot.policies().governing_target(host).is_some() {
                return self.governed(host, named.by, silent);
            }
        }
        if named.host.is_none() || named.hidden {
            self.unnamed()?;
        }
        Ok(Verdict::Carry)
    }

    /// A tunnel that policy granted is for its own host alone, and not for requests in clear.
    fn within_grant(&self, named: &Named) -> Result<(), Refusal> {
        let authority = &self.authority;
        match (named.by, &named.host, authority.host()) {
            (By::Http, ..) => {
                let detail = format!("{authority} is governed, and not to be called in clear");
                Err(Refusal::new(Reason::PlaintextRefused, detail))
            }
            (By::Tls, Some(named), host) if named == host => Ok(()),
            // An address has no place in SNI.
            (By::Tls, None, Host::Ip(_)) => Ok(()),
            (By::Tls, ..) => {
                let detail =
                    format!("the tunnel is to {authority}, SNI names another host or none");
                Err(Refusal::new(Reason::AuthorityMismatch, detail))
            }
        }
    }

    fn governed(&self, host: &Host, by: By, silent: bool) -> Result<Verdict, Refusal> {
        let authority = &self.authority;
        if by == By::Http {
            let detail = format!(
                "a request in clear through the tunnel to {authority} names {host}, which gets a credential"
            );
            return Err(Refusal::new(Reason::PlaintextRefused, detail));
        }
        if let Host::Name(_) = authority.host() {
            let detail =
                format!("the tunnel is to {authority}, SNI names {host}, which is governed");
            return Err(Refusal::new(Reason::AuthorityMismatch, detail));
        }
        let snapshot = self.rooms.snapshots.load_full();
        let recognition = snapshot.recognise(self.caller.facts());
        let policies = snapshot.policies();
        match policies.interception(recognition.workloads(), host, authority.port()) {
            Interception::Intercept(_) if silent => Ok(Verdict::Intercept(Authority::new(
                host.clone(),
                authority.port(),
            ))),
            Interception::Refuse(denial) => Err(denial.into()),
            Interception::Intercept(_)
            | Interception::Carry(_)
            | Interception::OtherPort(_)
            | Interception::Unmatched => Err(elsewhere(format!(
                "the tunnel to {authority} is for {host}, which is governed and not carried unread"
            ))),
        }
    }

    /// A client that names no host is judged by the address alone.
    fn unnamed(&self) -> Result<(), Refusal> {
        let snapshot = self.rooms.snapshots.load_full();
        let known = self.rooms.forwarder.hosts_at(self.address);
        let governed = |host: &&Host| snapshot.policies().governing_target(host).is_some();
        let Some(host) = known.iter().find(governed) else {
            return Ok(());
        };
        Err(elsewhere(format!(
            "the tunnel to {} names no host, and {host}, which is governed, is at this address",
            self.authority
        )))
    }
}

fn elsewhere(detail: String) -> Refusal {
    Refusal::new(Reason::GovernedElsewhere, detail)
}
