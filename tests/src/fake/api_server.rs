//! A stand-in for the Kubernetes API server: objects of any group, version and resource, with RBAC,
//! watches, server-side apply, admission webhooks, and reviews of tokens and of access.
//!
//! It refuses what the real one refuses. `conformance` runs against both. What the controllers of a
//! cluster do (the kubelet, the controller of namespaces, the garbage collector) a test does itself.

mod access;
mod admission;
mod custom;
mod delete;
mod discovery;
mod failure;
mod faults;
mod fields;
mod grant;
mod kept;
mod kinds;
mod openapi;
mod ownership;
mod patch;
mod pods;
mod protobuf;
mod read;
mod request;
mod respond;
mod rules;
mod secrets;
mod selector;
mod state;
mod storage;
mod tokens;
mod typed;
mod user;
mod write;

pub use access::ClusterRight;
pub use faults::Fault;
pub use grant::Grant;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use countersign_core::clock::Clock;
use http::StatusCode;
use serde_json::Value;

use super::{
    Authority, Issuer, StandIn,
    issuer::{CLUSTER_NAMES, JWKS_PATH, Keys},
};
use crate::random;
use faults::Turns;
use state::State;
use user::User;

/// Where the issuer says who it is.
const OPENID_PATH: &str = "/.well-known/openid-configuration";

/// How far the times of a token may be off, in seconds.
const LEEWAY: i64 = 60;

/// A running API server.
pub type ApiServer = StandIn<KubernetesApi>;

/// What all connections to the API server share.
pub struct KubernetesApi {
    keys: Arc<Keys>,
    /// The `iss` of its tokens.
    issuer: String,
    clock: Clock,
    /// The gateway's token, and the administrator's.
    bearer: String,
    admin: String,
    state: Mutex<State>,
    fault: Mutex<Option<Fault>>,
    turns: Turns,
    /// Where Services are, by namespace and name: for webhooks.
    services: Mutex<HashMap<(String, String), SocketAddr>>,
}

impl ApiServer {
    /// Starts it for the tokens of one issuer; it knows no pods yet.
    pub async fn start(authority: &Authority, issuer: &Issuer, clock: Clock) -> io::Result<Self> {
        let bearer = format!("gateway-{}", random::alphanumeric(40));
        let admin = format!("admin-{}", random::alphanumeric(40));
        let users = HashMap::from([
            (
                bearer.clone(),
                User::service_account("countersign", "countersign"),
            ),
            (admin.clone(), User::new("tester", &["system:masters"])),
        ]);
        let mut state = State::new(users);
        state.ensure_namespace("default");
        let api = KubernetesApi {
            keys: issuer.keys(),
            issuer: issuer.url(),
            clock,
            bearer,
            admin,
            state: Mutex::new(state),
            fault: Mutex::default(),
            turns: Turns::default(),
            services: Mutex::default(),
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

    /// The token of somebody who may do everything.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// A token of another user, to whom only the objects of RBAC grant something.
    pub fn add_user(&self, name: &str, groups: &[&str]) -> String {
        let token = random::alphanumeric(40);
        let user = User::new(name, groups);
        self.state().users.insert(token.clone(), user);
        token
    }

    /// Lets the gateway do something; without this nothing.
    pub fn grant(&self, grant: Grant) {
        let mut state = self.state();
        if !grant.namespace.is_empty() {
            state.ensure_namespace(&grant.namespace);
        }
        state.grants.push(grant);
    }

    /// Takes everything back that was granted.
    pub fn revoke_grants(&self) {
        self.state().grants.clear();
    }

    /// What the `ClusterRole` grants from now on.
    pub fn set_cluster_rights(&self, rights: &[ClusterRight]) {
        self.state().cluster_rights = rights.to_vec();
    }

    /// Says where a Service is, for webhooks.
    pub fn set_service(&self, namespace: &str, name: &str, address: SocketAddr) {
        let key = (namespace.to_owned(), name.to_owned());
        lock(&self.services).insert(key, address);
    }

    /// Tells all watches how far they are, as it does every minute or so.
    pub fn bookmark(&self) {
        self.state().storage.bookmark();
    }

    /// Ends all watches, as it does after their time.
    pub fn end_watches(&self) {
        self.state().storage.end_watches();
    }

    /// How many watches are open.
    pub fn watches(&self) -> usize {
        self.state().storage.watches(None)
    }

    /// How many watches of one resource are open, such as `pods`.
    pub fn watches_of(&self, resource: &str) -> usize {
        self.state().storage.watches(Some(resource))
    }

    /// Forgets what changed until now, so that watches from before are told 410.
    pub fn forget_changes(&self) {
        self.state().storage.forget_changes();
    }

    /// Answers everything with this status, such as 503, until told otherwise.
    pub fn set_outage(&self, status: Option<StatusCode>) {
        self.set_fault(status.map(Fault::Status));
    }

    /// Misbehaves until told otherwise.
    pub fn set_fault(&self, fault: Option<Fault>) {
        *lock(&self.fault) = fault;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;
