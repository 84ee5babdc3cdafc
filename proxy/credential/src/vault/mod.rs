//! A small client for Vault and `OpenBao`, over plain HTTP: a session that is kept alive, KV version 2
//! with check-and-set, and secrets with leases.
//!
//! A write is not retried automatically, except after a 403 for an expired token, which certainly had no
//! effect.

#[cfg(test)]
pub mod astray;
mod error;
mod kv;
mod lease;
mod session;
#[cfg(test)]
mod tests;

pub use error::VaultError;
pub use kv::{Field, Versioned};
pub use lease::{Lease, Leased};

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use countersign_config::model::VaultServer;
use countersign_control_plane::{self as control_plane, Client, TransportError, quoted};
use countersign_core::{clock::Clock, outage::Outage, secret::Secret, single_flight::SingleFlight};
use http::{HeaderValue, Method, StatusCode, header::CONTENT_TYPE};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use session::Session;

/// The largest response, in bytes; KV v2 has the same limit.
const LARGEST_ANSWER: usize = 1024 * 1024;

/// The timeout of a response: engines that make a secret call a third server.
const TIMEOUT: Duration = Duration::from_secs(10);

/// One Vault or `OpenBao` server and the gateway's session with it.
#[derive(Debug)]
pub struct Vault {
    server: VaultServer,
    client: Client,
    clock: Clock,
    session: ArcSwapOption<Session>,
    logins: AtomicU64,
    login: SingleFlight<Result<Arc<Session>, VaultError>>,
    refused: ArcSwapOption<session::FailedLogin>,
    outage: Outage,
    /// The mounts that are known to be KV v2.
    kv2: Mutex<HashSet<String>>,
}

/// One request, below `/v1/`.
struct VaultRequest<'a> {
    method: Method,
    path: &'a str,
    body: Option<Zeroizing<Vec<u8>>>,
    /// The capabilities that it needs.
    capabilities: &'static str,
}

impl<'a> VaultRequest<'a> {
    fn read(path: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            body: None,
            capabilities: r#""read""#,
        }
    }

    fn update(path: &'a str, body: Zeroizing<Vec<u8>>) -> Self {
        Self {
            method: Method::POST,
            path,
            body: Some(body),
            capabilities: r#""update""#,
        }
    }
}

/// A complete response, of any status.
struct VaultResponse {
    status: StatusCode,
    body: Zeroizing<Vec<u8>>,
}

impl Vault {
    /// Connects to nothing and reads no file yet.
    pub fn new(server: &VaultServer, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            server: server.clone(),
            client: Client::new(server.ca_file.as_deref()),
            clock,
            session: ArcSwapOption::empty(),
            logins: AtomicU64::new(0),
            login: SingleFlight::new(),
            refused: ArcSwapOption::empty(),
            outage: Outage::default(),
            kv2: Mutex::default(),
        })
    }

    /// Sends a request in the session, and once more in a new session if the old one has ended.
    async fn ask(
        self: &Arc<Self>,
        ask: VaultRequest<'_>,
    ) -> Result<(VaultResponse, Arc<Session>), VaultError> {
        let session = self.session().await?;
        let answer = self.send(&ask, Some(&session.token)).await?;
        if answer.status != StatusCode::FORBIDDEN {
            return Ok((answer, session));
        }
        // 403 can mean an expired token, or a missing capability.
        let denied = VaultError::Denied {
            path: ask.path.into(),
            capabilities: ask.capabilities,
        };
        if self.stands(&session.token).await? {
            return Err(denied);
        }
        self.end(&session);
        let session = self.session().await?;
        let answer = self.send(&ask, Some(&session.token)).await?;
        match answer.status {
            StatusCode::FORBIDDEN => Err(denied),
            _ => Ok((answer, session)),
        }
    }

    async fn send(
        &self,
        ask: &VaultRequest<'_>,
        token: Option<&Secret>,
    ) -> Result<VaultResponse, VaultError> {
        let path = std::iter::once("v1").chain(ask.path.split('/'));
        let url = control_plane::url(&self.server.address, path)?;
        let client = self.client.now().await.map_err(TransportError::from)?;
        let mut request = client
            .request(ask.method.clone(), url)
            .timeout(TIMEOUT)
            // Required by Vault Agent as protection against forged browser requests.
            .header("x-vault-request", "true");
        if let Some(token) = token {
            let mut token = HeaderValue::try_from(token.expose())
                .map_err(|_| VaultError::Malformed("token"))?;
            token.set_sensitive(true);
            request = request.header("x-vault-token", token);
        }
        if let Some(namespace) = &self.server.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        if let Some(body) = &ask.body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(Bytes::from_owner(body.clone()));
        }
        let answer = request.send().await.map_err(control_plane::classify)?;
        Ok(VaultResponse {
            status: answer.status(),
            body: control_plane::body(answer, LARGEST_ANSWER).await?,
        })
    }
}

impl VaultResponse {
    /// Parses the body; `what` names it in errors.
    fn parse<T: DeserializeOwned>(&self, what: &'static str) -> Result<T, VaultError> {
        // The cause is not shown: the parser's error contains parts of the body.
        serde_json::from_slice(&self.body).map_err(|_| VaultError::Malformed(what))
    }

    /// Vault's error messages.
    fn said(&self) -> String {
        #[derive(Deserialize, Default)]
        struct Errors {
            #[serde(default)]
            errors: Vec<String>,
        }
        // Another kind of server sends a body that cannot be parsed.
        let said: Errors = serde_json::from_slice(&self.body).unwrap_or_default();
        said.errors.join("; ")
    }

    /// The error for a response that is no success and was not handled specifically.
    fn failure(&self, path: &str) -> VaultError {
        let said = self.said();
        let code = self.status.as_u16();
        match code {
            300..=399 => VaultError::Redirected,
            400 if said.starts_with("Upgrading from non-versioned") => VaultError::Busy,
            403 => VaultError::Denied {
                path: path.into(),
                capabilities: r#""read""#,
            },
            404 if said.starts_with("no handler for route") => {
                VaultError::NoMount { path: path.into() }
            }
            404 if said.starts_with("namespace not found") => VaultError::NoNamespace,
            429 => VaultError::Busy,
            501 => VaultError::Sealed,
            503 if said.contains("sealed") => VaultError::Sealed,
            500.. => VaultError::Failed {
                status: code,
                path: path.into(),
            },
            // It may repeat what was sent.
            _ => VaultError::Rejected {
                status: code,
                path: path.into(),
                said: quoted(&said).into(),
            },
        }
    }
}

/// A body to send, which may contain secrets.
fn document(value: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    // Allocated at once: a growing buffer leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(16 * 1024));
    serde_json::to_writer(&mut *bytes, value).map_err(|_| VaultError::Malformed("request"))?;
    Ok(bytes)
}
