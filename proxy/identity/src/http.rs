//! The HTTP clients for issuers: bounded, without proxy and redirects.

use std::path::Path;

use countersign_config::model::{Issuer, JwksSource};
use countersign_control_plane as control_plane;
use countersign_core::{chain, files};
use reqwest::{Client, Response, Url};
use rustls::RootCertStore;

use super::SetupError;

/// The largest response, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;

/// A client that trusts the roots in `ca_file` only, or the system's.
pub(super) fn client(issuer: &Issuer, ca_file: Option<&Path>) -> Result<Client, SetupError> {
    let roots = ca_file.map(|file| roots(issuer, file)).transpose()?;
    control_plane::client(roots).map_err(|reason| SetupError::Client {
        issuer: issuer.name.clone(),
        reason,
    })
}

pub(super) fn url(issuer: &Issuer, url: &str) -> Result<Url, SetupError> {
    url.parse().map_err(|_| SetupError::Url {
        issuer: issuer.name.clone(),
        url: url.to_owned(),
    })
}

/// The path of an issuer's keys, if they are at the API server that reviews its tokens.
pub(super) fn keys_path(issuer: &Issuer) -> Option<String> {
    let (JwksSource::Url { url, .. }, Some(review)) = (&issuer.jwks, &issuer.token_review) else {
        return None;
    };
    let (keys, server): (Url, Url) = (url.parse().ok()?, review.cluster.url.parse().ok()?);
    (keys.origin() == server.origin()).then(|| keys.path().to_owned())
}

/// The roots in a file. They are read at start, so that a gateway with a bad file does not start.
pub(super) fn roots(issuer: &Issuer, file: &Path) -> Result<RootCertStore, SetupError> {
    let pem = files::read_now(file).map_err(|source| SetupError::CaFile {
        issuer: issuer.name.clone(),
        file: file.to_owned(),
        source,
    })?;
    chain::of_pem(&pem).ok_or_else(|| SetupError::CaPem {
        issuer: issuer.name.clone(),
        file: file.to_owned(),
    })
}

/// The whole body of a response, bounded.
pub(super) async fn body(answer: Response) -> Result<Vec<u8>, String> {
    let body = control_plane::body(answer, MAX_ANSWER).await;
    body.map(|body| body.to_vec())
        .map_err(|error| error.to_string())
}
