//! A small client for Vault and `OpenBao`, as plain HTTP: a session that is kept alive, key and
//! value (version 2) with check-and-set, and secrets with leases.
//!
//! Nothing that writes is sent twice by itself, except after a refusal (403) of a token that has
//! ended, which is known to have done nothing.

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
use countersign_core::{clock::Clock, flight::Flight, outage::Outage, secret::Secret};
use http::{HeaderValue, Method, StatusCode, header::CONTENT_TYPE};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use session::Session;

/// The largest answer, in bytes; KV v2 takes no larger secrets either.
const LARGEST_ANSWER: usize = 1024 * 1024;

/// How long an answer may take: engines that make a secret ask a third server for it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// One Vault or `OpenBao` server and the gateway's session with it.
#[derive(Debug)]
pub struct Vault {
    server: VaultServer,
    client: Client,
    clock: Clock,
    session: ArcSwapOption<Session>,
    logins: AtomicU64,
    login: Flight<Result<Arc<Session>, VaultError>>,
    refused: ArcSwapOption<session::Refused>,
    outage: Outage,
    /// The mounts that are known to be KV v2.
    kv2: Mutex<HashSet<String>>,
}

/// One request, beneath `/v1/`.
struct Ask<'a> {
    method: Method,
    path: &'a str,
    body: Option<Zeroizing<Vec<u8>>>,
    /// What a policy must grant for it.
    capabilities: &'static str,
}

impl<'a> Ask<'a> {
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

/// A whole answer, of whatever status.
struct Answer {
    status: StatusCode,
    body: Zeroizing<Vec<u8>>,
}

impl Vault {
    /// Connects to nothing yet, and reads no file.
    pub fn new(server: &VaultServer, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            server: server.clone(),
            client: Client::new(server.ca_file.as_deref()),
            clock,
            session: ArcSwapOption::empty(),
            logins: AtomicU64::new(0),
            login: Flight::new(),
            refused: ArcSwapOption::empty(),
            outage: Outage::default(),
            kv2: Mutex::default(),
        })
    }

    /// Asks within the session, once more in a new one if the old one has ended.
    async fn ask(self: &Arc<Self>, ask: Ask<'_>) -> Result<(Answer, Arc<Session>), VaultError> {
        let session = self.session().await?;
        let answer = self.send(&ask, Some(&session.token)).await?;
        if answer.status != StatusCode::FORBIDDEN {
            return Ok((answer, session));
        }
        // 403 is said of a token that has ended, and of one that may not do this.
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

    async fn send(&self, ask: &Ask<'_>, token: Option<&Secret>) -> Result<Answer, VaultError> {
        let path = std::iter::once("v1").chain(ask.path.split('/'));
        let url = control_plane::url(&self.server.address, path)?;
        let client = self.client.now().await.map_err(TransportError::from)?;
        let mut request = client
            .request(ask.method.clone(), url)
            .timeout(TIMEOUT)
            // An agent in between that wants it does not forward what a browser was lured to send.
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
        Ok(Answer {
            status: answer.status(),
            body: control_plane::body(answer, LARGEST_ANSWER).await?,
        })
    }
}

impl Answer {
    /// The document in it, of which `what` is the name.
    fn parse<T: DeserializeOwned>(&self, what: &'static str) -> Result<T, VaultError> {
        // Why it is none is not told: the parser's error shows parts of it.
        serde_json::from_slice(&self.body).map_err(|_| VaultError::Malformed(what))
    }

    /// What Vault said was wrong.
    fn said(&self) -> String {
        #[derive(Deserialize, Default)]
        struct Errors {
            #[serde(default)]
            errors: Vec<String>,
        }
        // A server that is no Vault says nothing that can be read.
        let said: Errors = serde_json::from_slice(&self.body).unwrap_or_default();
        said.errors.join("; ")
    }

    /// What an answer means that is no success, and nothing that the question foresaw.
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
            // It may repeat what it was sent.
            _ => VaultError::Rejected {
                status: code,
                path: path.into(),
                said: quoted(&said).into(),
            },
        }
    }
}

/// A document to send, which may hold secrets.
fn document(value: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    // Room for everything at once: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(16 * 1024));
    serde_json::to_writer(&mut *bytes, value).map_err(|_| VaultError::Malformed("request"))?;
    Ok(bytes)
}
