//! A stand-in for Slack: the Web API, file uploads, incoming webhooks, Socket Mode and token
//! rotation, as Slack documents them.
//!
//! Errors are HTTP 200 with `{"ok":false,"error":CODE}`, save for rate limits (429), webhooks
//! and uploads (real statuses).

mod arguments;
mod chat;
mod files;
mod hold;
mod methods;
mod oauth;
mod scopes;
mod socket;
mod tokens;
mod webhook;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use countersign_core::clock::Clock;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Map, Value};

use super::{Api, Authority, Body, Exchange, Limited, StandIn, body, limits::Upcoming};
use tokens::Tokens;

pub use hold::{Hold, Moment};
pub use oauth::RotatingApp;

/// The hosts that it answers to; `acme` is its one workspace.
const HOSTS: [&str; 8] = [
    "slack.com",
    "www.slack.com",
    "api.slack.com",
    "acme.slack.com",
    "files.slack.com",
    "hooks.slack.com",
    "wss.slack.com",
    "wss-primary.slack.com",
];

/// The same of `GovSlack`.
const GOV_HOSTS: [&str; 5] = [
    "slack-gov.com",
    "www.slack-gov.com",
    "api.slack-gov.com",
    "files.slack-gov.com",
    "hooks.slack-gov.com",
];

/// A running stand-in for Slack. Every start has new secrets.
pub type Slack = StandIn<SlackApi>;

impl Slack {
    /// Starts it; token lifetimes follow `clock`.
    pub async fn start(authority: &Authority, clock: Clock) -> std::io::Result<Self> {
        Self::serve(authority, &HOSTS, SlackApi::new(clock)).await
    }

    /// Starts `GovSlack`, which shares nothing with the other.
    pub async fn start_gov(authority: &Authority, clock: Clock) -> std::io::Result<Self> {
        Self::serve(authority, &GOV_HOSTS, SlackApi::new(clock)).await
    }
}

/// What all connections to Slack share.
pub struct SlackApi {
    clock: Clock,
    tokens: Mutex<Tokens>,
    chat: chat::Chat,
    files: files::Files,
    webhook: webhook::Webhook,
    sockets: Arc<socket::Sockets>,
    limits: Upcoming<Limited>,
    failures: Upcoming<&'static str>,
    holds: hold::Holds,
}

impl SlackApi {
    /// The bot token (`xoxb-`).
    pub fn bot_token(&self) -> String {
        self.tokens().bot.clone()
    }

    /// The user token (`xoxp-`).
    pub fn user_token(&self) -> String {
        self.tokens().user.clone()
    }

    /// The app-level token (`xapp-`).
    pub fn app_token(&self) -> String {
        self.tokens().app.clone()
    }

    /// The secret path of the one incoming webhook: `/services/T.../B.../...`.
    pub fn webhook_path(&self) -> String {
        self.webhook.path()
    }

    /// The secret path of the one workflow's trigger: `/triggers/T.../...`.
    pub fn trigger_path(&self) -> String {
        self.webhook.trigger_path()
    }

    /// The path of a `response_url`, by which an app answers a slash command (`commands`) or a button
    /// (`actions`). What is sent there is private to who asked, and in the channel `response` here.
    pub fn response_path(&self, kind: &str) -> String {
        self.webhook.response_path(kind)
    }

    /// Whether the bot user still is one: `auth.revoke` with the bot's token deactivates it.
    pub fn bot_is_active(&self) -> bool {
        self.tokens().bot_is_active()
    }

    /// Makes the rotating token a user's; to be called before the first refresh.
    pub fn rotate_a_users_token(&self) {
        self.tokens().rotation.becomes_a_users();
    }

    /// Every secret that it accepts now or ever accepted, for tests that look for leaks.
    pub fn secrets(&self) -> Vec<String> {
        let mut secrets = self.tokens().all();
        secrets.push(self.webhook_path());
        secrets.push(self.trigger_path());
        secrets
    }

    /// Replaces the bot token, as a reinstallation does; the old one is revoked.
    pub fn replace_bot_token(&self) -> String {
        self.tokens().replace_bot()
    }

    /// Revokes a token: from now on it meets `token_revoked`.
    pub fn revoke(&self, token: &str) {
        self.tokens().revoke(token);
    }

    /// The app whose token rotates.
    pub fn rotating_app(&self) -> RotatingApp {
        self.tokens().rotation.app()
    }

    /// Makes the current rotating access tokens expire now.
    pub fn expire_access_tokens(&self) {
        let now = self.clock.now();
        self.tokens().rotation.expire_all(now);
    }

    /// Reinstalls the rotating app: all its tokens are dead, but for a new refresh token.
    pub fn reinstall(&self) -> String {
        self.tokens().rotation.reinstall()
    }

    /// The rotating access tokens that are accepted now.
    pub fn living_access_tokens(&self) -> usize {
        let now = self.clock.now();
        self.tokens().rotation.living(now)
    }

    /// Holds the next call of `oauth.v2.*` at a moment, until it is let go.
    pub fn hold_refresh(&self, at: Moment) -> Hold {
        self.holds.next(at)
    }

    /// How often a refresh token was exchanged for a new pair.
    pub fn refreshes(&self) -> usize {
        self.tokens().rotation.refreshes()
    }

    /// The scopes of the bot and user tokens; at first, all that the methods here need.
    pub fn set_scopes(&self, scopes: &[&str]) {
        self.tokens().set_scopes(scopes);
    }

    /// The next `times` calls of a method (such as `chat.postMessage`, or `webhook`) meet 429.
    pub fn limit(&self, method: &str, times: usize, retry_after_secs: u32) {
        self.limits.set(method, times, Limited { retry_after_secs });
    }

    /// The next `times` calls of a method meet this error, although all is right with them.
    pub fn fail(&self, method: &str, times: usize, error: &'static str) {
        self.failures.set(method, times, error);
    }

    /// Puts a file of `length` bytes there and returns its path at files.slack.com.
    pub fn put_file(&self, name: &str, length: u64) -> String {
        self.files.put(name, length)
    }

    /// The contents of the files that were uploaded and completed: name and length.
    pub fn completed_files(&self) -> Vec<(String, u64)> {
        self.files.completed()
    }

    /// The texts posted to a channel or through the webhook (channel `webhook`), oldest first.
    pub fn messages(&self, channel: &str) -> Vec<String> {
        self.chat.texts(channel)
    }

    /// The ids of the Socket Mode envelopes that clients acknowledged.
    pub fn acknowledged(&self) -> Vec<String> {
        self.sockets.acknowledged()
    }

    /// The Socket Mode connections that are open now.
    pub fn open_sockets(&self) -> usize {
        self.sockets.open()
    }

    /// Sends `disconnect` on every Socket Mode connection, and closes it.
    pub fn disconnect_sockets(&self) {
        self.sockets.disconnect();
    }
}

impl SlackApi {
    fn new(clock: Clock) -> Self {
        Self {
            clock,
            tokens: Mutex::default(),
            chat: chat::Chat::default(),
            files: files::Files::default(),
            webhook: webhook::Webhook::default(),
            sockets: Arc::default(),
            limits: Upcoming::default(),
            failures: Upcoming::default(),
            holds: hold::Holds::default(),
        }
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Api for SlackApi {
    async fn answer(&self, exchange: Exchange) -> Response<Body> {
        if exchange.host.starts_with("wss") {
            return self.socket(exchange).await;
        }
        let received = exchange.read().await;
        let first_label = received.host.split('.').next().unwrap_or_default();
        match first_label {
            "files" => self.file(&received),
            "hooks" => self.hook(&received),
            "api" if received.path.starts_with("/scim/") => self.scim(&received),
            _ if received.path.starts_with("/api/oauth.v2.") => {
                let hold = self.holds.take();
                hold.reach(Moment::BeforeActing).await;
                let response = self.call(&received);
                hold.reach(Moment::AfterActing).await;
                response
            }
            _ => self.call(&received),
        }
    }
}

/// What a method answers: the members beside `"ok":true`, or an error.
type Outcome = Result<Map<String, Value>, SlackError>;

/// An error in Slack's own shape.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SlackError {
    code: &'static str,
    /// The scope that is missing, and those that are there.
    scopes: Option<(&'static str, String)>,
}

impl From<&'static str> for SlackError {
    fn from(code: &'static str) -> Self {
        Self { code, scopes: None }
    }
}

/// The members of an answer.
fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => Map::from_iter([("value".to_owned(), other)]),
    }
}

fn render(outcome: Outcome) -> Response<Body> {
    let mut answer = Map::new();
    match outcome {
        Ok(members) => {
            answer.insert("ok".to_owned(), true.into());
            answer.extend(members);
        }
        Err(error) => {
            answer.insert("ok".to_owned(), false.into());
            answer.insert("error".to_owned(), error.code.into());
            if let Some((needed, provided)) = error.scopes {
                answer.insert("needed".to_owned(), needed.into());
                answer.insert("provided".to_owned(), provided.into());
            }
        }
    }
    body::json(StatusCode::OK, &Value::Object(answer))
}

fn too_many(limited: Limited, mut response: Response<Body>) -> Response<Body> {
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    response.headers_mut().insert(
        http::header::RETRY_AFTER,
        HeaderValue::from(limited.retry_after_secs),
    );
    response
}

#[cfg(test)]
mod tests;
