//! A small client for the Kubernetes API server: what a gateway needs of it, as plain HTTP.
//!
//! The gateway's own token is read for every request, since the kubelet replaces it, and so is the
//! file of the cluster's roots. Nothing is sent twice by itself: who writes must know whether it
//! was done.

mod error;
mod secret;
mod watch;

pub use error::KubeError;
pub use secret::{Listed, StoredSecret};
pub use watch::{Watch, WatchEvent};

use std::path::PathBuf;

use bytes::Bytes;
use countersign_config::model::Cluster;
use http::{Method, StatusCode, header::CONTENT_TYPE};
use reqwest::{RequestBuilder, Url};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{Client, TransportError, own_token, transport};

/// The largest answer, in bytes: a Secret of 1 MiB in base64, and room for its metadata.
const LARGEST_ANSWER: usize = 3 * 1024 * 1024;

/// One cluster's API server.
#[derive(Debug)]
pub struct Kube {
    base: String,
    client: Client,
    own_token: PathBuf,
}

/// A whole answer, of whatever status.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body, wiped when it is dropped.
    pub body: Zeroizing<Vec<u8>>,
}

impl Kube {
    /// Connects to nothing yet, and reads no file.
    pub fn new(cluster: &Cluster) -> Self {
        Self {
            base: cluster.url.clone(),
            client: Client::new(cluster.ca_file.as_deref()),
            own_token: cluster.token_file.clone(),
        }
    }

    /// Posts a JSON document to a path, given by its segments.
    pub async fn post<'a>(
        &self,
        path: impl IntoIterator<Item = &'a str>,
        body: Vec<u8>,
    ) -> Result<Answer, KubeError> {
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
    ) -> Result<Answer, KubeError> {
        let mut request = self.request(method, url).await?;
        if let Some(body) = body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(Bytes::from_owner(body));
        }
        let answer = request.send().await.map_err(transport::classify)?;
        Ok(Answer {
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

/// What the API server says of a failure (`meta/v1`, `Status`).
#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    message: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    code: u16,
}
