//! A small client for the Kubernetes API server, over plain HTTP.
//!
//! The gateway's own token is read for every request, because the kubelet replaces it, and so is the
//! file of the cluster's roots. No request is retried automatically: a caller that writes must know
//! whether the write was done.

mod error;
mod refusal;
mod rights;
mod secret;
mod watch;

pub use error::KubeError;
pub use rights::{MissingRights, Right};
pub use secret::{ListedSecret, StoredSecret};
pub use watch::{Watch, WatchEvent};

use std::path::PathBuf;

use bytes::Bytes;
use countersign_config::model::Cluster;
use http::{Method, StatusCode, header::CONTENT_TYPE};
use reqwest::{RequestBuilder, Url};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{Client, TransportError, own_token, transport};

/// The largest response, in bytes: a Secret of 1 MiB in base64, and its metadata.
const LARGEST_ANSWER: usize = 3 * 1024 * 1024;

/// The API server of one cluster.
#[derive(Debug)]
pub struct Kube {
    base: String,
    client: Client,
    own_token: PathBuf,
    rights: refusal::LastAnswer,
}

/// A complete response, of any status.
pub struct KubeResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its body, zeroed on drop.
    pub body: Zeroizing<Vec<u8>>,
}

impl Kube {
    /// Connects to nothing and reads no file yet.
    pub fn new(cluster: &Cluster) -> Self {
        Self {
            base: cluster.url.clone(),
            client: Client::new(cluster.ca_file.as_deref()),
            own_token: cluster.token_file.clone(),
            rights: refusal::LastAnswer::default(),
        }
    }

    /// Posts a JSON document to a path, given by its segments.
    pub async fn post<'a>(
        &self,
        path: impl IntoIterator<Item = &'a str>,
        body: Vec<u8>,
    ) -> Result<KubeResponse, KubeError> {
        self.send(Method::POST, self.url(path)?, Some(Zeroizing::new(body)))
            .await
    }

    fn url<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Result<Url, KubeError> {
        Ok(transport::url(&self.base, path)?)
    }

    async fn send(
        &self,
        method: Method,
        url: Url,
        body: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<KubeResponse, KubeError> {
        let mut request = self.request(method, url).await?;
        if let Some(body) = body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(Bytes::from_owner(body));
        }
        let answer = request.send().await.map_err(transport::classify)?;
        Ok(KubeResponse {
            status: answer.status(),
            body: transport::body(answer, LARGEST_ANSWER).await?,
        })
    }

    async fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, KubeError> {
        let own_token = own_token(&self.own_token).await?;
        let client = self.client.now().await.map_err(TransportError::from)?;
        let request = client.request(method, url);
        Ok(request.bearer_auth(own_token.expose()))
    }
}

/// The API server's description of a failure (`meta/v1`, `Status`).
#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    message: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    code: u16,
}

/// Whether a body is the API server's description of a failure.
pub fn is_status(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Kind {
        kind: String,
    }
    serde_json::from_slice(body).is_ok_and(|Kind { kind }| kind == "Status")
}
