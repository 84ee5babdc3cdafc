//! The tokens, what each may do, and how a call shows one.

use jiff::Timestamp;

use super::{
    SlackError,
    oauth::Rotation,
    scopes::{self, Kind, Needs},
};
use crate::{fake::Received, random};

/// All live and dead tokens of the one workspace.
pub(super) struct Tokens {
    pub(super) bot: String,
    pub(super) user: String,
    pub(super) app: String,
    revoked: Vec<String>,
    /// Whether the bot user was deactivated.
    deactivated: bool,
    scopes: Vec<String>,
    pub(super) rotation: Rotation,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            bot: new_bot(),
            user: format!(
                "xoxp-{}-{}-{}-{}",
                random::digits(12),
                random::digits(13),
                random::digits(13),
                random::hex::<16>()
            ),
            app: format!(
                "xapp-1-A{}-{}-{}",
                random::upper(10),
                random::digits(13),
                random::hex::<32>()
            ),
            revoked: Vec::new(),
            deactivated: false,
            scopes: scopes::ALL.map(str::to_owned).to_vec(),
            rotation: Rotation::default(),
        }
    }
}

fn new_bot() -> String {
    format!(
        "xoxb-{}-{}-{}",
        random::digits(12),
        random::digits(13),
        random::alphanumeric(24)
    )
}

impl Tokens {
    pub(super) fn all(&self) -> Vec<String> {
        let mut all = vec![self.bot.clone(), self.user.clone(), self.app.clone()];
        all.extend(self.revoked.iter().cloned());
        all.extend(self.rotation.secrets());
        all
    }

    pub(super) fn replace_bot(&mut self) -> String {
        let old = std::mem::replace(&mut self.bot, new_bot());
        self.revoked.push(old);
        // Whoever installs the app again has its bot again.
        self.deactivated = false;
        self.bot.clone()
    }

    pub(super) fn bot_is_active(&self) -> bool {
        !self.deactivated
    }

    /// `auth.revoke` with this token: a bot's takes the bot user with it.
    pub(super) fn end(&mut self, token: &str) {
        self.deactivated |= token == self.bot || token.starts_with("xoxe.xoxb-");
        self.revoke(token);
    }

    pub(super) fn revoke(&mut self, token: &str) {
        if !self.rotation.revoke(token) {
            self.revoked.push(token.to_owned());
        }
    }

    pub(super) fn is_revoked(&self, token: &str) -> bool {
        self.revoked.iter().any(|revoked| revoked == token)
    }

    pub(super) fn set_scopes(&mut self, scopes: &[&str]) {
        self.scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
    }

    pub(super) fn scopes(&self) -> String {
        self.scopes.join(",")
    }

    /// Checks the token of a call; returns it.
    pub(super) fn authenticate(
        &self,
        received: &Received,
        needs: Needs,
        now: Timestamp,
    ) -> Result<String, SlackError> {
        let token = match needs {
            // The one place that counts for an app-level token is the header.
            Needs::App => in_header(received)?,
            Needs::Workspace(_) | Needs::User | Needs::Config | Needs::Client => {
                agreeing(in_header(received)?, in_form(received)?)?
            }
        };
        let token = token.ok_or("not_authed")?;
        let kind = self.kind(&token, now)?;
        match (needs, kind) {
            (Needs::App, Kind::App) | (Needs::User, Kind::User) => Ok(token),
            (Needs::Workspace(scope), Kind::Bot | Kind::User) => {
                self.check_scope(scope).map(|()| token)
            }
            (Needs::User, Kind::Bot | Kind::App)
            | (Needs::App, Kind::Bot | Kind::User)
            | (Needs::Workspace(_), Kind::App)
            | (Needs::Config | Needs::Client, _) => Err("not_allowed_token_type".into()),
        }
    }

    fn kind(&self, token: &str, now: Timestamp) -> Result<Kind, SlackError> {
        if self.is_revoked(token) {
            return Err("token_revoked".into());
        }
        match token {
            _ if token == self.bot => Ok(Kind::Bot),
            _ if token == self.user => Ok(Kind::User),
            _ if token == self.app => Ok(Kind::App),
            _ => self.rotation.check(token, now).map(|()| rotating(token)),
        }
        .and_then(|kind| match kind {
            Kind::Bot if self.deactivated => Err("account_inactive".into()),
            kind => Ok(kind),
        })
    }

    fn check_scope(&self, scope: Option<&'static str>) -> Result<(), SlackError> {
        match scope {
            Some(needed) if !self.scopes.iter().any(|scope| scope == needed) => Err(SlackError {
                code: "missing_scope",
                scopes: Some((needed, self.scopes())),
            }),
            Some(_) | None => Ok(()),
        }
    }
}

/// Of whom a rotating token is.
fn rotating(token: &str) -> Kind {
    if token.starts_with("xoxe.xoxp-") {
        Kind::User
    } else {
        Kind::Bot
    }
}

/// The token of `Authorization: Bearer`. Two such headers, or another scheme, are no token.
pub(super) fn in_header(received: &Received) -> Result<Option<String>, SlackError> {
    match received.header_values("authorization").as_slice() {
        [] => Ok(None),
        [value] => match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Ok(Some(token.trim().to_owned()))
            }
            Some(_) | None => Err("invalid_auth".into()),
        },
        [_, _, ..] => Err("invalid_auth".into()),
    }
}

/// The token of a POST form. The query and JSON attributes never count.
fn in_form(received: &Received) -> Result<Option<String>, SlackError> {
    if received.method != http::Method::POST {
        return Ok(None);
    }
    let mut fields: Vec<String> = received
        .form()
        .into_iter()
        .filter_map(|(name, value)| (name == "token").then_some(value))
        .collect();
    match (fields.pop(), fields.is_empty()) {
        (field, true) => Ok(field.filter(|token| !token.is_empty())),
        (_, false) => Err("invalid_auth".into()),
    }
}

fn agreeing(header: Option<String>, form: Option<String>) -> Result<Option<String>, SlackError> {
    match (header, form) {
        (Some(header), Some(form)) if header != form => Err("invalid_auth".into()),
        (header, form) => Ok(header.or(form)),
    }
}
