//! Checks the names that a client shows inside a tunnel.

use countersign_config::{host::Host, policy::Interception};
use countersign_core::{destination::Authority, reason::Reason};
use countersign_identity::Caller;

use crate::{Denied, Snapshot};

/// A name that a client shows within a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownName {
    /// How it is shown.
    pub by: ShownBy,
    /// The host; `None` if the client names none.
    pub host: Option<Host>,
    /// Whether the client may mean another host than the one it names (ECH).
    pub hidden: bool,
}

/// How a client shows a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownBy {
    /// In the SNI of its `ClientHello`.
    Tls,
    /// In a request in clear.
    Http,
}

/// What may be done about a name.
#[derive(Debug)]
pub enum Verdict {
    /// It is carried on.
    Carry,
    /// It is governed, and can be decrypted.
    Intercept(Authority),
}

/// What a tunnel is for, as far as its client has shown.
#[derive(Debug, Clone, Copy)]
pub struct InnerTarget<'t> {
    /// Who calls.
    pub caller: &'t Caller,
    /// Where the tunnel goes.
    pub authority: &'t Authority,
    /// Whether policy granted it, for this very host.
    pub granted: bool,
    /// Whether the server has sent nothing yet, so that another may take its place.
    pub server_silent: bool,
}

impl InnerTarget<'_> {
    /// Decides about one name. `at_address` are the hosts that are known to be at the address that was
    /// dialled; it is asked only if the client does not say which host it means.
    ///
    /// # Errors
    /// When the host may not be reached this way.
    pub fn decide(
        self,
        name: &ShownName,
        snapshot: &Snapshot,
        at_address: impl FnOnce() -> std::sync::Arc<[Host]>,
    ) -> Result<Verdict, Denied> {
        if self.granted {
            return self.within_grant(name).map(|()| Verdict::Carry);
        }
        if let Some(host) = &name.host
            && snapshot.policies().governing_target(host).is_some()
        {
            return self.governed(host, name.by, snapshot);
        }
        if name.host.is_none() || name.hidden {
            self.unnamed(snapshot, &at_address())?;
        }
        Ok(Verdict::Carry)
    }

    /// A tunnel that policy granted is for its own host alone, and not for requests in clear.
    fn within_grant(self, name: &ShownName) -> Result<(), Denied> {
        let authority = self.authority;
        match (name.by, &name.host, authority.host()) {
            (ShownBy::Http, ..) => {
                let detail = format!("{authority} is governed, and not to be called in clear");
                Err(Denied::new(Reason::PlaintextRefused, detail))
            }
            (ShownBy::Tls, Some(named), host) if named == host => Ok(()),
            // An address has no place in SNI.
            (ShownBy::Tls, None, Host::Ip(_)) => Ok(()),
            (ShownBy::Tls, ..) => {
                let detail =
                    format!("the tunnel is to {authority}, SNI names another host or none");
                Err(Denied::new(Reason::AuthorityMismatch, detail))
            }
        }
    }

    fn governed(self, host: &Host, by: ShownBy, snapshot: &Snapshot) -> Result<Verdict, Denied> {
        let authority = self.authority;
        if by == ShownBy::Http {
            let detail = format!(
                "a request in clear through the tunnel to {authority} names {host}, which gets a credential"
            );
            return Err(Denied::new(Reason::PlaintextRefused, detail));
        }
        if let Host::Name(_) = authority.host() {
            let detail =
                format!("the tunnel is to {authority}, SNI names {host}, which is governed");
            return Err(Denied::new(Reason::AuthorityMismatch, detail));
        }
        let recognition = snapshot.recognise(self.caller.facts());
        let (who, port) = (recognition.workloads(), authority.port());
        match snapshot.policies().interception(who, host, port) {
            Interception::Intercept(_) if self.server_silent => {
                Ok(Verdict::Intercept(Authority::new(host.clone(), port)))
            }
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
    fn unnamed(self, snapshot: &Snapshot, at_address: &[Host]) -> Result<(), Denied> {
        let governed = |host: &&Host| snapshot.policies().governing_target(host).is_some();
        let Some(host) = at_address.iter().find(governed) else {
            return Ok(());
        };
        Err(elsewhere(format!(
            "the tunnel to {} names no host, and {host}, which is governed, is at this address",
            self.authority
        )))
    }
}

fn elsewhere(detail: String) -> Denied {
    Denied::new(Reason::GovernedElsewhere, detail)
}
