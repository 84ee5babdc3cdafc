//! A stand-in for an OAuth 2.0 authorization server: its token endpoint (RFC 6749; RFC 7523;
//! RFC 8693) and its revocation endpoint (RFC 7009).
//!
//! Clients prove themselves in the one way that they are registered with, assertions are checked
//! whole, each `jti` once; what is not asked for exactly as the RFCs say is refused as they say.
//! Access tokens live an hour of the environment's clock.

mod clients;
mod grants;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use countersign_core::clock::Clock;
use http::{HeaderValue, Method, Response, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{
    Api, Authority, Body, Exchange, Received, Signer, StandIn, body,
    issuer::{Issuer, Keys},
};
use crate::random;

pub use clients::{OauthClient, Proves};

/// The host that it answers to.
pub const OAUTH_HOST: &str = "login.example.test";

/// How long its access tokens live.
pub const ACCESS_TOKEN_LIFE: SignedDuration = SignedDuration::from_hours(1);

/// An access token that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// Whom it speaks for: the client's id, an assertion's `iss`, or the `sub` of what was exchanged.
    pub subject: String,
    /// The scopes it has.
    pub scopes: Vec<String>,
    /// The audience or resource it was asked for.
    pub audience: Option<String>,
    /// The client that asked for it; `None` if none proved itself.
    client: Option<String>,
    expires_at: Timestamp,
    revoked: bool,
}

/// A running authorization server.
pub type Oauth = StandIn<OauthApi>;

/// What all connections to the authorization server share.
pub struct OauthApi {
    clock: Clock,
    /// Whose pods' tokens may be exchanged.
    cluster: (String, Arc<Keys>),
    book: Mutex<Book>,
}

/// What it knows.
#[derive(Default)]
pub(super) struct Book {
    clients: HashMap<String, OauthClient>,
    /// Those whose assertions are taken as grants, by `iss`.
    trusted: HashMap<String, Signer>,
    tokens: HashMap<String, AccessToken>,
    used: HashSet<String>,
    revocations: usize,
    /// Answers for the next requests, instead of what would be right.
    upcoming: VecDeque<(u16, String)>,
    silent_about_life: bool,
}

impl Oauth {
    /// Starts it; it exchanges tokens of the issuer's pods.
    pub async fn start(authority: &Authority, issuer: &Issuer, clock: Clock) -> io::Result<Self> {
        let api = OauthApi {
            clock,
            cluster: (issuer.url(), issuer.keys()),
            book: Mutex::default(),
        };
        Self::serve(authority, &[OAUTH_HOST], api).await
    }

    /// The URL of its token endpoint.
    pub fn token_url() -> String {
        format!("https://{OAUTH_HOST}/token")
    }

    /// The URL of its revocation endpoint.
    pub fn revoke_url() -> String {
        format!("https://{OAUTH_HOST}/revoke")
    }
}

impl OauthApi {
    /// Registers a client.
    pub fn register(&self, client: OauthClient) {
        let mut book = self.book();
        book.clients.insert(client.id.clone(), client);
    }

    /// Forgets a client; its tokens stay good, as they do.
    pub fn unregister(&self, id: &str) {
        self.book().clients.remove(id);
    }

    /// Takes assertions of this `iss`, signed by this pair, as grants.
    pub fn trust(&self, iss: &str, signer: &Signer) {
        let mut book = self.book();
        book.trusted.insert(iss.to_owned(), signer.clone());
    }

    /// Answers the next request with this status and body.
    pub fn answer_next(&self, status: u16, body: &str) {
        let mut book = self.book();
        book.upcoming.push_back((status, body.to_owned()));
    }

    /// Leaves `expires_in` out of its answers from now on.
    pub fn say_nothing_of_life(&self) {
        self.book().silent_about_life = true;
    }

    /// What a token allows now; `None` if it is not good.
    pub fn introspect(&self, token: &str) -> Option<AccessToken> {
        let now = self.now();
        let book = self.book();
        let token = book.tokens.get(token)?;
        (!token.revoked && now < token.expires_at).then(|| token.clone())
    }

    /// How many tokens it has issued.
    pub fn issued(&self) -> usize {
        self.book().tokens.len()
    }

    /// How many of them are good now.
    pub fn good(&self) -> usize {
        let tokens: Vec<_> = self.book().tokens.keys().cloned().collect();
        let good = tokens
            .iter()
            .filter(|token| self.introspect(token).is_some());
        good.count()
    }

    /// How many good tokens were revoked.
    pub fn revocations(&self) -> usize {
        self.book().revocations
    }

    /// Its secrets, which nobody but the gateway and the APIs may see.
    pub fn secrets(&self) -> Vec<String> {
        let book = self.book();
        let clients = book.clients.values().filter_map(OauthClient::secret);
        clients.chain(book.tokens.keys().cloned()).collect()
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Issues a token (RFC 6749, section 5.1).
    fn issue(&self, mut token: AccessToken, extra: &[(&str, &str)]) -> Response<Body> {
        token.expires_at = self.now() + ACCESS_TOKEN_LIFE;
        let value = format!("at-{}", random::alphanumeric(40));
        let mut answer = json!({
            "access_token": value,
            "token_type": "Bearer",
            "expires_in": ACCESS_TOKEN_LIFE.as_secs(),
            "scope": token.scopes.join(" "),
        });
        for (name, text) in extra {
            answer[*name] = (*text).into();
        }
        let mut book = self.book();
        if book.silent_about_life {
            answer
                .as_object_mut()
                .expect("an object")
                .remove("expires_in");
        }
        book.tokens.insert(value, token);
        drop(book);
        let mut response = body::json(StatusCode::OK, &answer);
        let no_store = HeaderValue::from_static("no-store");
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, no_store);
        response
    }
}

/// An error of RFC 6749, section 5.2: a code, and why, for the test's author.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused(pub(super) &'static str, pub(super) &'static str);

impl Refused {
    fn response(&self, by_basic: bool) -> Response<Body> {
        let Self(code, why) = self;
        let status = if *code == "invalid_client" {
            StatusCode::UNAUTHORIZED
        } else {
            StatusCode::BAD_REQUEST
        };
        let mut response = body::json(status, &json!({"error": code, "error_description": why}));
        if status == StatusCode::UNAUTHORIZED && by_basic {
            let challenge = HeaderValue::from_static("Basic realm=\"login\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl Api for OauthApi {
    async fn answer(&self, exchange: Exchange) -> Response<Body> {
        let received = exchange.read().await;
        if let Some((status, text)) = self.book().upcoming.pop_front() {
            let status = StatusCode::from_u16(status).expect("a status");
            return body::answer(status, "application/json", text);
        }
        let answered = match (&received.method, received.path.as_str()) {
            (&Method::POST, "/token") => self.token(&received),
            (&Method::POST, "/revoke") => self.revoke(&received),
            (_, "/token" | "/revoke") => {
                return body::text(StatusCode::METHOD_NOT_ALLOWED, "POST only\n");
            }
            _ => return body::text(StatusCode::NOT_FOUND, "not found\n"),
        };
        answered.unwrap_or_else(|refused| {
            refused.response(received.headers.contains_key(header::AUTHORIZATION))
        })
    }
}

/// The parameters of a request: a form in the body, each name once (RFC 6749, section 3.2).
pub(super) struct Parameters(HashMap<String, String>);

impl Parameters {
    fn of(received: &Received) -> Result<Self, Refused> {
        if !received.is_form() || received.query.is_some() {
            return Err(Refused("invalid_request", "parameters go into a form"));
        }
        let mut found = HashMap::new();
        for (name, value) in received.form() {
            // An empty parameter counts as left out.
            if !value.is_empty() && found.insert(name, value).is_some() {
                return Err(Refused("invalid_request", "a parameter is there twice"));
            }
        }
        Ok(Self(found))
    }

    fn find(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn need(&self, name: &'static str) -> Result<&str, Refused> {
        self.find(name)
            .ok_or(Refused("invalid_request", "a parameter is missing"))
    }

    fn scopes(&self) -> Vec<String> {
        let scopes = self.find("scope").unwrap_or_default().split(' ');
        let scopes = scopes.filter(|scope| !scope.is_empty());
        scopes.map(str::to_owned).collect()
    }
}
