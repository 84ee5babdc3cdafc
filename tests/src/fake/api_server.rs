//! A stand-in for what the proxy asks of a Kubernetes API server: `TokenReview`, the issuer's keys,
//! Secrets, and which of these the gateway may use. All want the gateway's own bearer token; Secrets want
//! a Role as well, and the others the chart's `ClusterRole`, which is there until a test takes it away.

mod access;
mod secrets;

pub use access::ClusterRight;
pub use secrets::Grant;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use countersign_core::clock::Clock;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{
    Api, Authority, Body, Exchange, Issuer, Received, StandIn, TokenRequest, body,
    issuer::{CLUSTER_NAMES, JWKS_PATH, Keys},
};
use crate::random;
use secrets::Secrets;

/// How far the times of a token may be off, in seconds.
const LEEWAY: i64 = 60;

const NAMESPACES_PATH: &str = "/api/v1/namespaces/";
const REVIEW_PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// A running API server.
pub type ApiServer = StandIn<KubernetesApi>;

/// What all connections to the API server share.
pub struct KubernetesApi {
    keys: Arc<Keys>,
    clock: Clock,
    bearer: String,
    /// Namespace and name to uid.
    pods: Mutex<HashMap<(String, String), String>>,
    secrets: Mutex<Secrets>,
    outage: Mutex<Option<StatusCode>>,
    /// What the `ClusterRole` grants.
    cluster_rights: Mutex<Vec<ClusterRight>>,
}

impl ApiServer {
    /// Starts it for the tokens of one issuer; it knows no pods yet.
    pub async fn start(authority: &Authority, issuer: &Issuer, clock: Clock) -> io::Result<Self> {
        let api = KubernetesApi {
            keys: issuer.keys(),
            clock,
            bearer: format!("gateway-{}", random::alphanumeric(40)),
            pods: Mutex::default(),
            secrets: Mutex::default(),
            outage: Mutex::default(),
            cluster_rights: Mutex::new(ClusterRight::ALL.to_vec()),
        };
        Self::serve_nameless(authority, &CLUSTER_NAMES, api).await
    }

    /// Its base URL, by address.
    pub fn url(&self) -> String {
        format!("https://{}", self.address())
    }
}

impl KubernetesApi {
    /// The token that the gateway must show.
    pub fn bearer(&self) -> &str {
        &self.bearer
    }

    /// Lets the pod of a token exist.
    pub fn add_pod(&self, request: &TokenRequest) {
        if let Some((name, uid)) = &request.pod {
            let key = (request.namespace.clone(), name.clone());
            self.pods().insert(key, uid.clone());
        }
    }

    /// Deletes a pod.
    pub fn delete_pod(&self, request: &TokenRequest) {
        if let Some((name, _)) = &request.pod {
            self.pods()
                .remove(&(request.namespace.clone(), name.clone()));
        }
    }

    /// Lets the gateway do something with Secrets; without this nothing.
    pub fn grant(&self, grant: Grant) {
        self.secrets().grants.push(grant);
    }

    /// Takes everything back that was granted.
    pub fn revoke_grants(&self) {
        self.secrets().grants.clear();
    }

    /// What the `ClusterRole` grants from now on.
    pub fn set_cluster_rights(&self, rights: &[ClusterRight]) {
        *lock(&self.cluster_rights) = rights.to_vec();
    }

    /// Sets a Secret, as `kubectl apply` would.
    pub fn set_secret(&self, namespace: &str, name: &str, data: &[(&str, &[u8])]) {
        self.secrets().set(namespace, name, data);
    }

    /// Deletes a Secret; whether it was there.
    pub fn delete_secret(&self, namespace: &str, name: &str) -> bool {
        self.secrets().delete(namespace, name)
    }

    /// What a Secret holds.
    pub fn secret(&self, namespace: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        self.secrets().data(namespace, name)
    }

    /// Tells all watches how far they are, as it does every minute or so.
    pub fn bookmark(&self) {
        self.secrets().bookmark();
    }

    /// Ends all watches, as it does after their time.
    pub fn end_watches(&self) {
        self.secrets().end_watches();
    }

    /// How many watches are open.
    pub fn watches(&self) -> usize {
        self.secrets().watches()
    }

    /// Forgets what changed until now, so that watches from before are told 410.
    pub fn forget_changes(&self) {
        self.secrets().forget_changes();
    }

    /// Answers everything with this status, such as 503, until told otherwise.
    pub fn set_outage(&self, status: Option<StatusCode>) {
        *self.outage() = status;
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<(String, String), String>> {
        lock(&self.pods)
    }

    fn outage(&self) -> MutexGuard<'_, Option<StatusCode>> {
        lock(&self.outage)
    }

    fn secrets(&self) -> MutexGuard<'_, Secrets> {
        lock(&self.secrets)
    }

    fn respond(&self, received: &Received) -> Response<Body> {
        if let Some(code) = *self.outage() {
            return status(code, "the API server is not well");
        }
        let authorization = received.header("authorization").unwrap_or_default();
        match authorization.strip_prefix("Bearer ") {
            Some(token) if token == self.bearer => {}
            Some(_) => return status(StatusCode::UNAUTHORIZED, "Unauthorized"),
            // Requests without a token are those of system:anonymous, whom no role grants anything.
            None => return access::anonymous(received),
        }
        if let Some(denied) = self.denied(received) {
            return denied;
        }
        if let Some(rest) = received.path.strip_prefix(NAMESPACES_PATH) {
            return self.secrets().respond(rest, received);
        }
        match received.path.as_str() {
            JWKS_PATH if received.method == Method::GET => {
                body::json(StatusCode::OK, &self.keys.jwks())
            }
            access::PATH if received.method == Method::POST => self.access(received),
            REVIEW_PATH if received.method == Method::POST => match self.review(received) {
                Ok(review) => body::json(StatusCode::CREATED, &review),
                Err(why) => status(StatusCode::BAD_REQUEST, why),
            },
            _ => status(
                StatusCode::NOT_FOUND,
                "the server could not find the requested resource",
            ),
        }
    }

    fn review(&self, received: &Received) -> Result<Value, &'static str> {
        let mut review = received.json().ok_or("the body is no JSON")?;
        if review["kind"] != "TokenReview" || review["apiVersion"] != "authentication.k8s.io/v1" {
            return Err("the body is no TokenReview");
        }
        let token = review["spec"]["token"]
            .as_str()
            .ok_or("the token is missing")?;
        let wanted: Vec<Value> = review["spec"]["audiences"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        review["status"] = match self.check(token, &wanted) {
            Ok(status) => status,
            // The authenticators' errors come as a list.
            Err("") => json!({"authenticated": false}),
            Err(error) => json!({"authenticated": false, "error": format!("[{error}]")}),
        };
        Ok(review)
    }

    /// The status of a good token.
    fn check(&self, token: &str, wanted: &[Value]) -> Result<Value, &'static str> {
        // Of a token that another issuer issued it says nothing.
        if !self.keys.is_named_in(token) {
            return Err("");
        }
        let claims = self
            .keys
            .verify(token)
            .ok_or("invalid bearer token, go-jose/go-jose: error in cryptographic primitive")?;
        let now = self.clock.now().as_second();
        let moment = |name: &str| claims[name].as_i64().ok_or("invalid bearer token");
        // go-jose's default leeway, in both directions.
        if moment("exp")? < now - LEEWAY {
            return Err("invalid bearer token, service account token has expired");
        }
        if moment("nbf")? > now + LEEWAY || moment("iat")? > now + LEEWAY {
            return Err(
                "invalid bearer token, service account token claims could not be validated due to unexpected validation error",
            );
        }
        let audiences: Vec<&Value> = claims["aud"]
            .as_array()
            .ok_or("invalid bearer token")?
            .iter()
            .filter(|audience| wanted.contains(audience))
            .collect();
        if audiences.is_empty() {
            return Err(
                "invalid bearer token, token audiences is invalid for the target audiences",
            );
        }
        let bound = &claims["kubernetes.io"];
        self.check_pod(bound)?;
        Ok(json!({
            "authenticated": true,
            "audiences": audiences,
            "user": {
                "username": claims["sub"],
                "uid": bound["serviceaccount"]["uid"],
                "groups": [
                    "system:serviceaccounts",
                    format!("system:serviceaccounts:{}", text(&bound["namespace"])),
                    "system:authenticated",
                ],
                "extra": extra(bound, &claims["jti"]),
            },
        }))
    }

    fn check_pod(&self, bound: &Value) -> Result<(), &'static str> {
        if bound["pod"].is_null() {
            return Ok(());
        }
        let key = (text(&bound["namespace"]), text(&bound["pod"]["name"]));
        match self.pods().get(&key) {
            Some(uid) if bound["pod"]["uid"] == **uid => Ok(()),
            Some(_) | None => {
                Err("invalid bearer token, service account token has been invalidated")
            }
        }
    }
}

impl Api for KubernetesApi {
    async fn answer(&self, exchange: Exchange) -> Response<Body> {
        let received = exchange.read().await;
        self.respond(&received)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn extra(bound: &Value, token_id: &Value) -> Value {
    let mut extra = json!({
        "authentication.kubernetes.io/credential-id": [format!("JTI={}", text(token_id))],
    });
    for (object, name) in [
        ("pod", "name"),
        ("pod", "uid"),
        ("node", "name"),
        ("node", "uid"),
    ] {
        let value = &bound[object][name];
        if !value.is_null() {
            extra[format!("authentication.kubernetes.io/{object}-{name}")] = json!([value]);
        }
    }
    extra
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Why it does not do something.
struct Failure {
    code: StatusCode,
    reason: String,
    message: String,
}

impl Failure {
    fn new(code: StatusCode, reason: &str, message: &str) -> Self {
        Self {
            code,
            reason: reason.to_owned(),
            message: message.to_owned(),
        }
    }

    /// Kubernetes' own error shape.
    fn status(&self) -> Value {
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code.as_u16(),
        })
    }
}

fn failure(failure: &Failure) -> Response<Body> {
    body::json(failure.code, &failure.status())
}

fn status(code: StatusCode, message: &str) -> Response<Body> {
    let reason = code.canonical_reason().unwrap_or_default();
    let reason: String = reason.split_whitespace().collect();
    failure(&Failure::new(code, &reason, message))
}

#[cfg(test)]
mod tests;
