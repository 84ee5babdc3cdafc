//! A stand-in for the part of GitHub's API that makes installation tokens of a GitHub App.
//!
//! <https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app>

use std::{
    collections::HashMap,
    io,
    sync::{Mutex, PoisonError},
};

use countersign_core::clock::Clock;
use http::{Method, Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{Api, Authority, Body, Exchange, Received, Signer, StandIn, body};
use crate::random;

/// The host of GitHub's API.
pub const GITHUB_HOST: &str = "api.github.com";

/// How long an installation token lives.
const LIFE: SignedDuration = SignedDuration::from_hours(1);

/// How far ahead the end of an app's JWT may lie.
const LONGEST: i64 = 600;

/// A running stand-in with one app that is installed once.
pub type GitHub = StandIn<GitHubApi>;

/// What all connections to GitHub share.
pub struct GitHubApi {
    clock: Clock,
    app: String,
    signer: Signer,
    installation: String,
    tokens: Mutex<HashMap<String, Timestamp>>,
}

impl GitHub {
    /// Starts it. The app's JWTs are signed by this pair, with `RS256`.
    pub async fn start(authority: &Authority, signer: &Signer, clock: Clock) -> io::Result<Self> {
        let api = GitHubApi {
            clock,
            app: random::digits(6),
            signer: signer.clone(),
            installation: random::digits(8),
            tokens: Mutex::default(),
        };
        Self::serve(authority, &[GITHUB_HOST], api).await
    }
}

impl GitHubApi {
    /// The app's id.
    pub fn app(&self) -> &str {
        &self.app
    }

    /// Where a token of the installation is made.
    pub fn installation_url(&self) -> String {
        let id = &self.installation;
        format!("https://{GITHUB_HOST}/app/installations/{id}/access_tokens")
    }

    /// How many installation tokens it has made.
    pub fn issued(&self) -> usize {
        self.tokens().len()
    }

    fn tokens(&self) -> std::sync::MutexGuard<'_, HashMap<String, Timestamp>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn respond(&self, received: &Received) -> Response<Body> {
        // <https://docs.github.com/en/rest/using-the-rest-api/getting-started-with-the-rest-api>
        if received
            .header("user-agent")
            .is_none_or(|agent| agent.is_empty())
        {
            return body::text(StatusCode::FORBIDDEN, "a User-Agent header is required\n");
        }
        let shown = received.header("authorization").unwrap_or_default();
        let Some(token) = shown.strip_prefix("Bearer ") else {
            return message(StatusCode::UNAUTHORIZED, "Requires authentication");
        };
        let install = format!("/app/installations/{}/access_tokens", self.installation);
        match (&received.method, received.path.as_str()) {
            (&Method::POST, path) if path == install => match self.check(token) {
                Ok(()) => self.issue(),
                Err(why) => message(StatusCode::UNAUTHORIZED, why),
            },
            (&Method::GET, "/installation/repositories") => {
                let end = self.tokens().get(token).copied();
                if end.is_some_and(|end| self.clock.now() < end) {
                    body::json(
                        StatusCode::OK,
                        &json!({"total_count": 0, "repositories": []}),
                    )
                } else {
                    message(StatusCode::UNAUTHORIZED, "Bad credentials")
                }
            }
            _ => message(StatusCode::NOT_FOUND, "Not Found"),
        }
    }

    fn check(&self, token: &str) -> Result<(), &'static str> {
        let now = self.clock.now().as_second();
        let (_, claims) = self
            .signer
            .verify(token)
            .ok_or("A JSON web token could not be decoded")?;
        if claims["iss"] != *self.app {
            return Err("'Issuer' claim ('iss') must be the app");
        }
        if claims["iat"].as_i64().is_none_or(|at| at > now) {
            return Err("'Issued at' claim ('iat') must be a moment that is over");
        }
        match claims["exp"].as_i64() {
            Some(end) if end > now && end <= now + LONGEST => Ok(()),
            _ => Err("'Expiration time' claim ('exp') is over or too far in the future"),
        }
    }

    fn issue(&self) -> Response<Body> {
        let token = format!("ghs_{}", random::alphanumeric(36));
        let end = self.clock.now() + LIFE;
        self.tokens().insert(token.clone(), end);
        let end = end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let answer = json!({
            "token": token, "expires_at": end,
            "permissions": {"contents": "read"}, "repository_selection": "all",
        });
        body::json(StatusCode::CREATED, &answer)
    }
}

fn message(status: StatusCode, text: &str) -> Response<Body> {
    body::json(
        status,
        &json!({"message": text, "status": status.as_u16().to_string()}),
    )
}

impl Api for GitHubApi {
    async fn answer(&self, exchange: Exchange) -> Response<Body> {
        let received = exchange.read().await;
        self.respond(&received)
    }
}
