//! A stand-in for Qase.io: runs, results, defects and attachments, as its API documents them.
//!
//! Success is `{"status":true,"result":...}`, failure
//! `{"status":false,"errorMessage":...,"errorFields":[...]}` with a real status.

mod attachment;
mod project;

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderValue, Method, Response, StatusCode, header::RETRY_AFTER};
use serde_json::{Value, json};

use super::{Api, Authority, Body, Exchange, Limited, Received, StandIn, body, limits::Upcoming};
use crate::random;
use project::Project;

/// The hosts that it answers to.
const HOSTS: [&str; 3] = ["api.qase.io", "api-eu.qase.io", "api-acme.qase.io"];

/// The code of the one project.
pub(crate) const PROJECT: &str = "DEMO";

/// A running stand-in for Qase.io. Every start has new secrets.
pub type Qase = StandIn<QaseApi>;

impl Qase {
    /// Starts it, with the project `DEMO` and last night's runs.
    pub async fn start(authority: &Authority) -> std::io::Result<Self> {
        Self::serve(authority, &HOSTS, QaseApi::default()).await
    }
}

/// What all connections to Qase share.
pub struct QaseApi {
    secrets: Mutex<Secrets>,
    project: Mutex<Project>,
    read_only: AtomicBool,
    /// The one host that knows the tokens; all of them if there is none.
    home: Mutex<Option<&'static str>>,
    limits: Upcoming<Limited>,
}

impl QaseApi {
    /// The token for the header `Token`.
    pub fn token(&self) -> String {
        self.kept().token.clone()
    }

    /// The JWT for `Authorization: Bearer`.
    pub fn jwt(&self) -> String {
        self.kept().jwt.clone()
    }

    /// Every secret that it accepts now.
    pub fn secrets(&self) -> Vec<String> {
        vec![self.token(), self.jwt()]
    }

    /// Replaces the token; the old one meets 401.
    pub fn replace_token(&self) -> String {
        let mut secrets = self.kept();
        secrets.token = random::hex::<32>();
        secrets.token.clone()
    }

    /// Gives the token's owner a role that may only read: writes meet 403.
    pub fn set_read_only(&self, read_only: bool) {
        self.read_only.store(read_only, Ordering::Release);
    }

    /// The next `times` requests meet 429.
    pub fn limit(&self, times: usize, retry_after_secs: u32) {
        self.limits.set("", times, Limited { retry_after_secs });
    }

    /// Its tokens are known at this host alone, as those of another region or enterprise are.
    pub fn only_at(&self, host: &'static str) {
        *self.home() = Some(host);
    }

    /// The runs of the project.
    pub fn runs(&self) -> usize {
        self.project().runs()
    }

    /// The titles of the runs that are not complete.
    pub fn active_runs(&self) -> Vec<String> {
        self.project().active_runs()
    }

    /// The results of the project.
    pub fn results(&self) -> usize {
        self.project().results()
    }
}

struct Secrets {
    token: String,
    jwt: String,
}

impl Default for QaseApi {
    fn default() -> Self {
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        let jwt = format!(
            "{}.{}.{}",
            part(r#"{"alg":"RS256","typ":"JWT"}"#),
            part(&format!(
                r#"{{"iss":"https://auth.qase.io","jti":"{}"}}"#,
                random::uuid()
            )),
            BASE64_URL_SAFE_NO_PAD.encode(random::bytes::<64>()),
        );
        Self {
            secrets: Mutex::new(Secrets {
                token: random::hex::<32>(),
                jwt,
            }),
            project: Mutex::default(),
            read_only: AtomicBool::new(false),
            home: Mutex::default(),
            limits: Upcoming::default(),
        }
    }
}

impl Api for QaseApi {
    async fn answer(&self, exchange: Exchange) -> Response<Body> {
        let received = exchange.read().await;
        match self.decide(&received) {
            Ok(answer) => body::json(answer.status, &answer.body),
            Err(error) => error.render(),
        }
    }
}

impl QaseApi {
    fn kept(&self) -> MutexGuard<'_, Secrets> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn home(&self) -> MutexGuard<'_, Option<&'static str>> {
        self.home.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn project(&self) -> MutexGuard<'_, Project> {
        self.project.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide(&self, received: &Received) -> Result<Answer, QaseError> {
        if let Some(limited) = self.limits.take("") {
            return Err(QaseError {
                retry_after: Some(limited.retry_after_secs),
                ..QaseError::new(StatusCode::TOO_MANY_REQUESTS, "Too Many Attempts.")
            });
        }
        self.authenticate(received)?;
        if !received.complete {
            return Err(QaseError::new(
                StatusCode::BAD_REQUEST,
                "Incomplete request.",
            ));
        }
        if received.method != Method::GET && self.read_only.load(Ordering::Acquire) {
            return Err(QaseError::new(StatusCode::FORBIDDEN, "Forbidden."));
        }
        self.route(received)
    }

    /// Exactly one of `Token` and a bearer JWT.
    fn authenticate(&self, received: &Received) -> Result<(), QaseError> {
        let refuse = || QaseError::new(StatusCode::UNAUTHORIZED, "Unauthenticated.");
        if self.home().is_some_and(|home| received.host != home) {
            return Err(refuse());
        }
        let secrets = self.kept();
        let tokens = received.header_values("token");
        let bearers = received.header_values("authorization");
        match (tokens.as_slice(), bearers.as_slice()) {
            ([token], []) if *token == secrets.token => Ok(()),
            ([], [bearer]) if bearer.strip_prefix("Bearer ") == Some(&secrets.jwt) => Ok(()),
            _ => Err(refuse()),
        }
    }

    fn route(&self, received: &Received) -> Result<Answer, QaseError> {
        let segments: Vec<&str> = received.path.split('/').skip(1).collect();
        let is_get = received.method == Method::GET;
        let is_post = received.method == Method::POST;
        let mut project = self.project();
        match segments.as_slice() {
            ["v1", "project"] if is_get => project.all(received),
            ["v1", "project", code] if is_get => project.about(code),
            ["v1", "run", code] if is_get => project.list(code, project::Kind::Run, received),
            ["v1", "result", code] if is_get => project.list(code, project::Kind::Result, received),
            ["v1", "defect", code] if is_get => project.list(code, project::Kind::Defect, received),
            ["v1", "run", code, id] if is_get => project.run(code, id),
            ["v1", "run", code] if is_post => project.create_run(code, received),
            ["v1", "run", code, id, "complete"] if is_post => project.complete_run(code, id),
            ["v1", "result", code, run] if is_post => project.create_result(code, run, received),
            ["v1", "result", code, run, "bulk"] if is_post => {
                project.create_results(code, run, "results", StatusCode::OK, received)
            }
            ["v2", code, "run", run, "results"] if is_post => {
                project.create_results(code, run, "results", StatusCode::ACCEPTED, received)
            }
            ["v1", "attachment", code] if is_post => {
                project.check_code(code)?;
                attachment::store(received)
            }
            _ => Err(QaseError::new(StatusCode::NOT_FOUND, "Not found.")),
        }
    }
}

/// A success.
struct Answer {
    status: StatusCode,
    body: Value,
}

impl Answer {
    fn ok(result: &Value) -> Self {
        Self {
            status: StatusCode::OK,
            body: json!({"status": true, "result": result}),
        }
    }
}

/// A failure in Qase's own shape.
#[derive(Debug)]
struct QaseError {
    status: StatusCode,
    message: &'static str,
    fields: Vec<(String, String)>,
    retry_after: Option<u32>,
}

impl QaseError {
    fn new(status: StatusCode, message: &'static str) -> Self {
        Self {
            status,
            message,
            fields: Vec::new(),
            retry_after: None,
        }
    }

    /// 422 for one field.
    fn invalid(field: &str, error: impl Into<String>) -> Self {
        Self {
            fields: vec![(field.to_owned(), error.into())],
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Data is invalid.")
        }
    }

    fn render(self) -> Response<Body> {
        let mut value = json!({"status": false, "errorMessage": self.message});
        if !self.fields.is_empty() {
            value["errorFields"] = self
                .fields
                .iter()
                .map(|(field, error)| json!({"field": field, "error": error}))
                .collect();
        }
        let mut response = body::json(self.status, &value);
        if let Some(secs) = self.retry_after {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(secs));
        }
        response
    }
}

#[cfg(test)]
mod tests;
