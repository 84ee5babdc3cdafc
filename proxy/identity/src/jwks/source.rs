//! Where an issuer's keys come from.

use std::path::PathBuf;

use countersign_config::model::{Issuer, JwksSource};
use countersign_control_plane::{
    self as control_plane,
    kube::{self, Kube, KubeResponse, Right},
};
use countersign_core::files;
use reqwest::{Client, Response, StatusCode, Url};

use crate::{SetupError, http};

#[derive(Debug)]
pub(super) enum Source {
    Url {
        client: Client,
        url: Url,
        /// The API server, if the keys are there: it shows them only to service accounts.
        api_server: Option<Box<ApiServer>>,
    },
    File(PathBuf),
}

/// An API server that publishes keys, and the gateway's own token for it.
#[derive(Debug)]
pub(super) struct ApiServer {
    kube: Kube,
    own_token: PathBuf,
}

/// Why a server gives no keys.
async fn refusal(
    api_server: Option<&ApiServer>,
    url: &Url,
    status: StatusCode,
    answer: Response,
) -> String {
    if ![StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status) {
        return format!("the response status was {status}");
    }
    let body = http::body(answer).await.unwrap_or_default();
    if let Some(ApiServer { kube, .. }) = api_server {
        let body = body.into();
        let needed = vec![Right::to_read(url.path()), Right::to_review_tokens()];
        let error = kube.refusal(&KubeResponse { status, body }, needed).await;
        return error.to_string();
    }
    if kube::is_status(&body) {
        return format!(
            "this is an API server, which gives its keys to service accounts only ({status}): set the issuer's `tokenReview` with the same `url`, so that the gateway's own token is sent"
        );
    }
    format!(
        "the server wants to know who asks ({status}); keys must be public, or those of the API server in `tokenReview`"
    )
}

impl Source {
    pub(super) fn new(issuer: &Issuer) -> Result<Self, SetupError> {
        let (url, ca_file) = match &issuer.jwks {
            JwksSource::File(path) => return Ok(Self::File(path.clone())),
            JwksSource::Url { url, ca_file } => (http::url(issuer, url)?, ca_file.as_deref()),
        };
        let review = issuer.token_review.as_ref();
        let review = review.filter(|_| http::keys_path(issuer).is_some());
        let api_server = review.map(|review| {
            Box::new(ApiServer {
                kube: Kube::new(&review.cluster),
                own_token: review.cluster.token_file.clone(),
            })
        });
        Ok(Self::Url {
            client: http::client(issuer, ca_file)?,
            url,
            api_server,
        })
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Url { url, .. } => url.to_string(),
            Self::File(path) => path.display().to_string(),
        }
    }

    pub(super) async fn read(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::File(path) => files::read(path).await.map_err(|error| error.to_string()),
            Self::Url {
                client,
                url,
                api_server,
            } => {
                let mut request = client.get(url.clone());
                if let Some(ApiServer { own_token, .. }) = api_server.as_deref() {
                    let token = control_plane::own_token(own_token).await;
                    let token = token.map_err(|error| error.to_string())?;
                    request = request.bearer_auth(token.expose());
                }
                let answer = request.send().await;
                let answer = answer.map_err(|error| control_plane::classify(error).to_string())?;
                match answer.status() {
                    StatusCode::OK => http::body(answer).await,
                    status => Err(refusal(api_server.as_deref(), url, status, answer).await),
                }
            }
        }
    }
}
