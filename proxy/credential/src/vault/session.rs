//! The gateway's session with Vault: a token, where it came from, and its renewal.
//!
//! A token from a login is renewed after two thirds of its lifetime. If the renewal is refused, or does
//! not extend it, the gateway logs in again before the old token expires. A token in a file is replaced
//! by someone else: it is also renewed, and read again at every use.

use std::{
    path::Path,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use countersign_config::model::VaultAuth;
use countersign_control_plane::{own_token, quoted};
use countersign_core::secret::Secret;
use futures_util::future::BoxFuture;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Vault, VaultError, VaultRequest, document};

/// How long a refused login is cached.
const REMEMBER: Duration = Duration::from_secs(1);

/// The retry delay after a renewal without a response.
const TRY_AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// A smaller gain means that the token has reached its longest lifetime.
const GAIN: SignedDuration = SignedDuration::from_secs(1);

/// A token that Vault accepts.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) token: Secret,
    /// Counts the tokens, from 1.
    pub(super) number: u64,
    renewable: bool,
    /// `None` if it never expires.
    life: Option<Life>,
}

#[derive(Debug, Clone, Copy)]
struct Life {
    renew_at: Timestamp,
    ends_at: Timestamp,
}

/// A recent failed login.
#[derive(Debug)]
pub(super) struct FailedLogin {
    at: Instant,
    error: VaultError,
}

/// Vault's description of a token.
#[derive(Deserialize)]
struct LoginResponse {
    auth: Grant,
}

#[derive(Deserialize)]
struct Grant {
    client_token: Secret,
    #[serde(default)]
    lease_duration: i64,
    #[serde(default)]
    renewable: bool,
}

impl Session {
    /// When it expires unless it is renewed; `None` if never.
    pub(super) fn ends_at(&self) -> Option<Timestamp> {
        self.life.map(|life| life.ends_at)
    }
}

impl Vault {
    /// The current session, or a new one.
    pub(super) async fn session(self: &Arc<Self>) -> Result<Arc<Session>, VaultError> {
        let held = self.session.load_full();
        let given = match &self.server.auth {
            VaultAuth::Kubernetes { .. } => None,
            VaultAuth::TokenFile(file) => Some(own_token(file).await?),
        };
        let now = self.clock.now();
        let usable = |session: &Arc<Session>| {
            session.life.is_none_or(|life| now < life.ends_at)
                && given.as_ref().is_none_or(|given| *given == session.token)
        };
        if let Some(held) = held.filter(usable) {
            return Ok(held);
        }
        let refused = self.refused.load_full();
        if let Some(refused) = refused.filter(|refused| refused.at.elapsed() < REMEMBER) {
            return Err(refused.error.clone());
        }
        let begun = self.login.join(|| Arc::clone(self).begin());
        begun.await.unwrap_or(Err(VaultError::Abandoned))
    }

    /// Whether Vault still accepts a token.
    pub(super) async fn stands(&self, token: &Secret) -> Result<bool, VaultError> {
        let ask = VaultRequest::read("auth/token/lookup-self");
        let answer = self.send(&ask, Some(token)).await?;
        match answer.status {
            StatusCode::OK => Ok(true),
            StatusCode::FORBIDDEN => Ok(false),
            _ => Err(answer.failure(ask.path)),
        }
    }

    /// Drops a session that Vault no longer accepts.
    pub(super) fn end(&self, session: &Session) {
        let held = self.session.load();
        let is_held = held
            .as_ref()
            .is_some_and(|held| held.number == session.number);
        if is_held {
            // A session that began in between is lost, which costs one more login.
            self.session.store(None);
        }
    }

    async fn begin(self: Arc<Self>) -> Result<Arc<Session>, VaultError> {
        let began = Instant::now();
        let begun = match &self.server.auth {
            VaultAuth::Kubernetes {
                role,
                mount,
                token_file,
            } => self.log_in(role, mount, token_file).await,
            VaultAuth::TokenFile(file) => self.adopt(file).await,
        };
        match begun {
            Ok(session) => {
                let session = Arc::new(session);
                self.refused.store(None);
                if let Some(lasted) = self.outage.over() {
                    tracing::info!(
                        seconds = lasted.as_secs(),
                        "the session with Vault is restored"
                    );
                }
                self.session.store(Some(Arc::clone(&session)));
                if let Some(life) = session.life {
                    tokio::spawn(keep(Arc::downgrade(&self), session.number, life.renew_at));
                }
                Ok(session)
            }
            Err(error) => {
                if self.outage.failed(began) {
                    tracing::warn!(%error, "no session with Vault");
                }
                self.refused.store(Some(Arc::new(FailedLogin {
                    at: Instant::now(),
                    error: error.clone(),
                })));
                Err(error)
            }
        }
    }

    async fn log_in(
        &self,
        role: &str,
        mount: &str,
        token_file: &Path,
    ) -> Result<Session, VaultError> {
        #[derive(Serialize)]
        struct Login<'a> {
            role: &'a str,
            jwt: &'a str,
        }
        let own_token = own_token(token_file).await?;
        let path = format!("auth/{mount}/login");
        let body = document(&Login {
            role,
            jwt: own_token.expose(),
        })?;
        let asked_at = self.clock.now();
        let answer = self.send(&VaultRequest::update(&path, body), None).await?;
        match answer.status {
            StatusCode::OK => {
                let grant = answer.parse::<LoginResponse>("login")?.auth;
                Ok(self.opened(grant, asked_at))
            }
            status @ (StatusCode::BAD_REQUEST
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN) => Err(VaultError::LoginRefused {
                mount: mount.to_owned(),
                role: role.to_owned(),
                status: status.as_u16(),
                said: quoted(&answer.said().replace(own_token.expose(), "[redacted]")).into(),
            }),
            _ => Err(answer.failure(&path)),
        }
    }

    /// Uses the token in a file, and asks Vault for its lifetime.
    async fn adopt(&self, file: &Path) -> Result<Session, VaultError> {
        #[derive(Deserialize)]
        struct LookupResponse {
            data: Token,
        }
        #[derive(Deserialize)]
        struct Token {
            #[serde(default)]
            ttl: i64,
            #[serde(default)]
            renewable: bool,
        }
        let token = own_token(file).await?;
        let ask = VaultRequest::read("auth/token/lookup-self");
        let asked_at = self.clock.now();
        let answer = self.send(&ask, Some(&token)).await?;
        match answer.status {
            StatusCode::OK => {
                let looked = answer.parse::<LookupResponse>("token")?.data;
                let grant = Grant {
                    client_token: token,
                    lease_duration: looked.ttl,
                    renewable: looked.renewable,
                };
                Ok(self.opened(grant, asked_at))
            }
            StatusCode::FORBIDDEN => Err(VaultError::TokenEnded {
                file: file.to_owned(),
            }),
            _ => Err(answer.failure(ask.path)),
        }
    }

    fn opened(&self, grant: Grant, asked_at: Timestamp) -> Session {
        Session {
            token: grant.client_token,
            number: self.logins.fetch_add(1, Ordering::Relaxed) + 1,
            renewable: grant.renewable,
            life: life(asked_at, grant.lease_duration),
        }
    }

    /// Renews a session that is due; returns when to check it again, or `None` if another task or none
    /// is responsible.
    async fn prolong(self: &Arc<Self>, number: u64) -> Option<Timestamp> {
        let held = self.session.load_full()?;
        let old = held.life.filter(|_| held.number == number)?;
        let renewed = if held.renewable {
            self.renew_self(&held, old).await
        } else {
            Ok(None)
        };
        match renewed {
            Ok(Some(session)) => {
                let renew_at = session.life?.renew_at;
                self.session.store(Some(Arc::new(session)));
                Some(renew_at)
            }
            Ok(None) => self.replace(&held, old).await,
            Err(error) => {
                tracing::warn!(%error, ends_at = %old.ends_at, "the session with Vault was not renewed");
                let now = self.clock.now();
                let again = now.checked_add(TRY_AGAIN).unwrap_or(old.ends_at);
                (now < old.ends_at).then_some(again)
            }
        }
    }

    /// The session with an extended lifetime; `None` if it cannot be extended.
    async fn renew_self(&self, held: &Session, old: Life) -> Result<Option<Session>, VaultError> {
        #[derive(Serialize)]
        struct EmptyBody {}
        let path = "auth/token/renew-self";
        let asked_at = self.clock.now();
        let ask = VaultRequest::update(path, document(&EmptyBody {})?);
        let answer = self.send(&ask, Some(&held.token)).await?;
        match answer.status {
            StatusCode::OK => {
                let grant = answer.parse::<LoginResponse>("renewed token")?.auth;
                let life = life(asked_at, grant.lease_duration);
                let gained = life.is_none_or(|new| new.ends_at > old.ends_at + GAIN);
                Ok(gained.then(|| Session {
                    token: held.token.clone(),
                    number: held.number,
                    renewable: grant.renewable,
                    life,
                }))
            }
            StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => Ok(None),
            _ => Err(answer.failure(path)),
        }
    }

    /// Logs in again while a session that cannot be renewed is still valid. A token in a file is used
    /// until it expires.
    async fn replace(self: &Arc<Self>, held: &Session, old: Life) -> Option<Timestamp> {
        match &self.server.auth {
            VaultAuth::Kubernetes { .. } => {
                let begun = self.login.join(|| Arc::clone(self).begin());
                if begun.await.is_ok_and(|begun| begun.is_ok()) {
                    // Another task maintains it.
                    return None;
                }
                // Already reported where it failed.
                let now = self.clock.now();
                let again = now.checked_add(TRY_AGAIN).unwrap_or(old.ends_at);
                (now < old.ends_at && held.number == self.login_number()).then_some(again)
            }
            VaultAuth::TokenFile(file) => {
                tracing::warn!(
                    file = %file.display(),
                    ends_at = %old.ends_at,
                    "the token for Vault cannot be renewed; write a new one before it expires"
                );
                None
            }
        }
    }
}

/// Maintains one session until another replaces it. Boxed, because it may begin another session, and
/// with it another task of this kind.
fn keep(vault: Weak<Vault>, number: u64, mut due: Timestamp) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let Some(clock) = vault.upgrade().map(|vault| vault.clock.clone()) else {
            return;
        };
        loop {
            clock.until(due).await;
            let Some(vault) = vault.upgrade() else { return };
            match vault.prolong(number).await {
                Some(next) => due = next,
                None => return,
            }
        }
    })
}

/// From a number of seconds, where 0 means no expiry.
fn life(asked_at: Timestamp, seconds: i64) -> Option<Life> {
    let whole = SignedDuration::from_secs(seconds);
    let at = |part: SignedDuration| asked_at.checked_add(part).ok();
    let life = at(whole).zip(at(whole * 2 / 3));
    life.filter(|_| seconds > 0)
        .map(|(ends_at, renew_at)| Life { renew_at, ends_at })
}
