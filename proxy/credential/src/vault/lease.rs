//! Secrets that an engine makes for us, with leases.

use std::{collections::BTreeMap, sync::Arc};

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Ask, Field, Vault, VaultError, document, session::Session};

/// A secret that was made for us.
#[derive(Debug)]
pub struct Leased {
    /// Its fields.
    pub fields: BTreeMap<String, Field>,
    /// How long it lives; `None` if it has no lease, and no known end.
    pub lease: Option<Lease>,
}

/// How long a secret lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Vault's name for it. Whoever has a token that may can end it by this, but read nothing.
    pub id: String,
    /// When it ends unless it is renewed, or the login that it belongs to is.
    pub expires_at: Timestamp,
    /// Whether it can be.
    pub renewable: bool,
    /// The login that it belongs to: Vault ends it with that login's token.
    pub login: u64,
}

#[derive(Deserialize)]
struct Document {
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
        let (answer, session) = self.ask(Ask::read(&full)).await?;
        if answer.status == StatusCode::NOT_FOUND && answer.said().is_empty() {
            return Err(VaultError::NotFound {
                mount: mount.into(),
                path: path.into(),
            });
        }
        if answer.status != StatusCode::OK {
            return Err(answer.failure(&full));
        }
        let mut document: Document = answer.parse("secret")?;
        let fields = document.data.take();
        Ok(Leased {
            fields: fields.ok_or(VaultError::Malformed("secret"))?,
            lease: lease(document, asked_at, &session),
        })
    }

    /// Has a lease last longer, in the login that made it.
    pub async fn renew(self: &Arc<Self>, held: &Lease) -> Result<Lease, VaultError> {
        let path = "sys/leases/renew";
        let asked_at = self.clock.now();
        let (answer, session) = self.ask(Ask::update(path, by_id(&held.id)?)).await?;
        match answer.status {
            // The login that it belongs to has ended, and so will it.
            StatusCode::OK if session.number != held.login => Err(VaultError::NoLease),
            StatusCode::OK => lease(answer.parse("lease")?, asked_at, &session)
                .ok_or(VaultError::Malformed("lease")),
            StatusCode::BAD_REQUEST => Err(VaultError::NoLease),
            _ => Err(answer.failure(path)),
        }
    }

    /// Ends a lease, and what it is for; one that has ended already is none to mind.
    pub async fn revoke(self: &Arc<Self>, held: &Lease) -> Result<(), VaultError> {
        let path = "sys/leases/revoke";
        let (answer, _) = self.ask(Ask::update(path, by_id(&held.id)?)).await?;
        match answer.status {
            StatusCode::NO_CONTENT | StatusCode::OK => Ok(()),
            _ => Err(answer.failure(path)),
        }
    }

    /// The login that leases belong to now; 0 before the first.
    pub fn login_number(&self) -> u64 {
        self.session.load().as_ref().map_or(0, |s| s.number)
    }
}

fn lease(document: Document, asked_at: Timestamp, session: &Session) -> Option<Lease> {
    let life = SignedDuration::from_secs(document.lease_duration);
    // Counted from before the question, so that it is never thought to last longer than it does.
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
