//! Dynamic secrets, with leases.

use std::{collections::BTreeMap, sync::Arc};

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Field, Vault, VaultError, VaultRequest, document, session::Session};

/// A dynamic secret.
#[derive(Debug)]
pub struct Leased {
    /// Its fields.
    pub fields: BTreeMap<String, Field>,
    /// Its lease; `None` if it has none, and no known expiry.
    pub lease: Option<Lease>,
}

/// The lease of a dynamic secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Vault's identifier. Someone with a suitable token can revoke the lease by it, but not read the
    /// secret.
    pub id: String,
    /// When it expires unless it is renewed, or its login does.
    pub expires_at: Timestamp,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// Its login: Vault ends the lease with that login's token.
    pub login: u64,
}

#[derive(Deserialize)]
struct LeaseResponse {
    #[serde(default)]
    lease_id: String,
    #[serde(default)]
    lease_duration: i64,
    #[serde(default)]
    renewable: bool,
    data: Option<BTreeMap<String, Field>>,
}

impl Vault {
    /// Has an engine make a secret.
    pub async fn make(self: &Arc<Self>, mount: &str, path: &str) -> Result<Leased, VaultError> {
        let full = format!("{mount}/{path}");
        let asked_at = self.clock.now();
        let (answer, session) = self.ask(VaultRequest::read(&full)).await?;
        if answer.status == StatusCode::NOT_FOUND && answer.said().is_empty() {
            return Err(VaultError::NotFound {
                mount: mount.into(),
                path: path.into(),
            });
        }
        if answer.status != StatusCode::OK {
            return Err(answer.failure(&full));
        }
        let mut document: LeaseResponse = answer.parse("secret")?;
        let fields = document.data.take();
        Ok(Leased {
            fields: fields.ok_or(VaultError::Malformed("secret"))?,
            lease: lease(document, asked_at, &session),
        })
    }

    /// Renews a lease, in the login that made it.
    pub async fn renew(self: &Arc<Self>, held: &Lease) -> Result<Lease, VaultError> {
        let path = "sys/leases/renew";
        let asked_at = self.clock.now();
        let (answer, session) = self
            .ask(VaultRequest::update(path, by_id(&held.id)?))
            .await?;
        match answer.status {
            // Its login has ended, so the lease ends too.
            StatusCode::OK if session.number != held.login => Err(VaultError::NoLease),
            StatusCode::OK => lease(answer.parse("lease")?, asked_at, &session)
                .ok_or(VaultError::Malformed("lease")),
            StatusCode::BAD_REQUEST => Err(VaultError::NoLease),
            _ => Err(answer.failure(path)),
        }
    }

    /// Revokes the lease; already expired counts as success.
    pub async fn revoke(self: &Arc<Self>, held: &Lease) -> Result<(), VaultError> {
        let path = "sys/leases/revoke";
        let (answer, _) = self
            .ask(VaultRequest::update(path, by_id(&held.id)?))
            .await?;
        match answer.status {
            StatusCode::NO_CONTENT | StatusCode::OK => Ok(()),
            _ => Err(answer.failure(path)),
        }
    }

    /// The current login for leases; 0 before the first.
    pub fn login_number(&self) -> u64 {
        self.session.load().as_ref().map_or(0, |s| s.number)
    }
}

fn lease(document: LeaseResponse, asked_at: Timestamp, session: &Session) -> Option<Lease> {
    let life = SignedDuration::from_secs(document.lease_duration);
    // Counted from before the request, so that it is never assumed to last longer than it does.
    let own_end = asked_at.checked_add(life).unwrap_or(asked_at);
    (!document.lease_id.is_empty()).then(|| Lease {
        id: document.lease_id,
        expires_at: session.ends_at().map_or(own_end, |end| end.min(own_end)),
        renewable: document.renewable,
        login: session.number,
    })
}

fn by_id(id: &str) -> Result<zeroize::Zeroizing<Vec<u8>>, VaultError> {
    #[derive(Serialize)]
    struct ById<'a> {
        lease_id: &'a str,
    }
    document(&ById { lease_id: id })
}
