//! Token rotation: `oauth.v2.access` with `grant_type=refresh_token`.
//!
//! A refresh token works once. Slack revokes the used one after "a short grace period" of a
//! length it does not document; here it is ten seconds, during which a second use makes a
//! second pair and kills the first pair's refresh token. More than two live access tokens
//! revoke the oldest. Access tokens live 12 hours.
//!
//! `oauth.v2.exchange` turns the long-lived bot token into a first pair, once; the long-lived one is
//! revoked here, which is the stricter reading of Slack's page.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Outcome, SlackApi, SlackError, arguments::Arguments, members};
use crate::{fake::Received, random};

const LIFETIME: SignedDuration = SignedDuration::from_hours(12);
const GRACE: SignedDuration = SignedDuration::from_secs(10);
const LIVE_ACCESS_TOKENS: usize = 2;

/// What an operator of a rotating app is given.
#[derive(Clone)]
pub struct RotatingApp {
    /// The app's client id; public.
    pub client_id: String,
    /// The app's client secret.
    pub client_secret: String,
    /// The first refresh token.
    pub refresh_token: String,
}

pub(super) struct Rotation {
    app: RotatingApp,
    refresh: Vec<RefreshToken>,
    access: Vec<AccessToken>,
    refreshes: usize,
    /// The long-lived tokens that were exchanged.
    exchanged: Vec<String>,
    /// What access tokens begin with.
    prefix: &'static str,
}

struct RefreshToken {
    value: String,
    state: RefreshState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RefreshState {
    Fresh,
    /// Used at that moment, and exchanged for the refresh token at that index.
    Used(Timestamp, usize),
    Dead,
}

struct AccessToken {
    value: String,
    expires: Timestamp,
    revoked: bool,
}

impl Default for Rotation {
    fn default() -> Self {
        let refresh_token = new_refresh_token();
        Self {
            app: RotatingApp {
                client_id: format!("{}.{}", random::digits(10), random::digits(13)),
                client_secret: random::hex::<16>(),
                refresh_token: refresh_token.clone(),
            },
            refresh: vec![RefreshToken {
                value: refresh_token,
                state: RefreshState::Fresh,
            }],
            access: Vec::new(),
            refreshes: 0,
            exchanged: Vec::new(),
            prefix: "xoxe.xoxb-1-",
        }
    }
}

fn new_refresh_token() -> String {
    format!("xoxe-1-{}", random::alphanumeric(120))
}

impl Rotation {
    pub(super) fn app(&self) -> RotatingApp {
        self.app.clone()
    }

    pub(super) fn becomes_a_users(&mut self) {
        self.prefix = "xoxe.xoxp-1-";
    }

    pub(super) fn refreshes(&self) -> usize {
        self.refreshes
    }

    pub(super) fn secrets(&self) -> Vec<String> {
        let mut secrets = vec![self.app.client_secret.clone()];
        secrets.extend(self.refresh.iter().map(|token| token.value.clone()));
        secrets.extend(self.access.iter().map(|token| token.value.clone()));
        secrets
    }

    pub(super) fn expire_all(&mut self, now: Timestamp) {
        for token in &mut self.access {
            token.expires = now;
        }
    }

    /// Whether this is a live access token.
    pub(super) fn check(&self, token: &str, now: Timestamp) -> Result<(), SlackError> {
        match self.access.iter().find(|known| known.value == token) {
            None => Err("invalid_auth".into()),
            Some(known) if known.revoked => Err("token_revoked".into()),
            Some(known) if known.expires <= now => Err("token_expired".into()),
            Some(_) => Ok(()),
        }
    }

    /// Exchanges a refresh token for a new pair: access token, refresh token.
    fn exchange(&mut self, token: &str, now: Timestamp) -> Result<(String, String), SlackError> {
        let used = self
            .refresh
            .iter()
            .position(|known| known.value == token)
            .ok_or("invalid_refresh_token")?;
        match self.refresh[used].state {
            RefreshState::Fresh => {}
            RefreshState::Used(at, successor) if now < at + GRACE => {
                self.refresh[successor].state = RefreshState::Dead;
            }
            RefreshState::Used(..) | RefreshState::Dead => {
                return Err("invalid_refresh_token".into());
            }
        }
        self.refresh[used].state = RefreshState::Used(now, self.refresh.len());
        self.refreshes += 1;
        Ok(self.issue(now))
    }

    /// A new pair.
    fn issue(&mut self, now: Timestamp) -> (String, String) {
        let pair = (
            format!("{}{}", self.prefix, random::alphanumeric(140)),
            new_refresh_token(),
        );
        self.refresh.push(RefreshToken {
            value: pair.1.clone(),
            state: RefreshState::Fresh,
        });
        self.admit(pair.0.clone(), now);
        pair
    }

    /// A reinstallation: the tokens from before are dead, and there is a new refresh token.
    pub(super) fn reinstall(&mut self) -> String {
        for token in &mut self.refresh {
            token.state = RefreshState::Dead;
        }
        for token in &mut self.access {
            token.revoked = true;
        }
        let value = new_refresh_token();
        self.refresh.push(RefreshToken {
            value: value.clone(),
            state: RefreshState::Fresh,
        });
        self.app.refresh_token.clone_from(&value);
        value
    }

    /// The access tokens that are accepted now.
    pub(super) fn living(&self, now: Timestamp) -> usize {
        let live = |token: &&AccessToken| !token.revoked && token.expires > now;
        self.access.iter().filter(live).count()
    }

    /// Ends one access token; whether it is one.
    pub(super) fn revoke(&mut self, token: &str) -> bool {
        let known = self.access.iter_mut().find(|known| known.value == token);
        known.map(|known| known.revoked = true).is_some()
    }

    fn admit(&mut self, value: String, now: Timestamp) {
        self.access.push(AccessToken {
            value,
            expires: now + LIFETIME,
            revoked: false,
        });
        let live = self
            .access
            .iter_mut()
            .filter(|token| !token.revoked && token.expires > now);
        let surplus: Vec<_> = live.collect();
        let count = surplus.len().saturating_sub(LIVE_ACCESS_TOKENS);
        for token in surplus.into_iter().take(count) {
            token.revoked = true;
        }
    }

    fn check_client(&self, received: &Received) -> Result<(), SlackError> {
        let value = received.header("authorization").unwrap_or_default();
        let decoded = value
            .strip_prefix("Basic ")
            .and_then(|encoded| BASE64_STANDARD.decode(encoded).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .unwrap_or_default();
        match decoded.split_once(':') {
            Some((id, _)) if id != self.app.client_id => Err("invalid_client_id".into()),
            Some((_, secret)) if secret != self.app.client_secret => {
                Err("bad_client_secret".into())
            }
            Some(_) => Ok(()),
            None => Err("invalid_client_id".into()),
        }
    }
}

impl SlackApi {
    pub(super) fn oauth_access(&self, received: &Received, arguments: &Arguments) -> Outcome {
        let mut tokens = self.tokens();
        tokens.rotation.check_client(received)?;
        if arguments.text("grant_type") != Some("refresh_token") {
            return Err("invalid_grant_type".into());
        }
        let refresh_token = arguments
            .text("refresh_token")
            .ok_or("invalid_refresh_token")?;
        let pair = tokens.rotation.exchange(refresh_token, self.clock.now())?;
        Ok(members(granted(pair, &tokens.scopes())))
    }

    pub(super) fn oauth_exchange(&self, received: &Received, arguments: &Arguments) -> Outcome {
        let mut tokens = self.tokens();
        tokens.rotation.check_client(received)?;
        let token = arguments.text("token").ok_or("invalid_token")?.to_owned();
        if tokens.rotation.exchanged.contains(&token) {
            return Err("token_already_exchanged".into());
        }
        if token != tokens.bot {
            return Err("invalid_token".into());
        }
        if tokens.is_revoked(&token) {
            return Err("authorization_not_found".into());
        }
        tokens.rotation.exchanged.push(token.clone());
        tokens.revoke(&token);
        let pair = tokens.rotation.issue(self.clock.now());
        Ok(members(granted(pair, &tokens.scopes())))
    }
}

fn granted((access_token, refresh_token): (String, String), scopes: &str) -> Value {
    json!({
        "access_token": access_token,
        "expires_in": LIFETIME.as_secs(),
        "refresh_token": refresh_token,
        "token_type": "bot",
        "scope": scopes,
        "bot_user_id": super::methods::BOT_USER,
        "app_id": "A0KRD7HC3",
        "team": {"id": super::methods::TEAM, "name": "Acme"},
        "enterprise": null,
        "is_enterprise_install": false,
    })
}
