//! The HTTP clients towards issuers: few, bounded, and never through a proxy or a redirect.

use std::{error::Error, path::Path, time::Duration};

use countersign_config::model::Issuer;
use reqwest::{Certificate, Client, Response, Url, redirect::Policy};

use super::SetupError;

/// How long a whole exchange may take; a request waits for it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The largest answer, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;

/// A client that trusts the roots in `ca_file` only, or the system's.
pub(super) fn client(issuer: &Issuer, ca_file: Option<&Path>) -> Result<Client, SetupError> {
    let mut builder = Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .timeout(TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT);
    if let Some(file) = ca_file {
        builder = builder.tls_certs_only(roots(issuer, file)?);
    }
    builder.build().map_err(|source| SetupError::Client {
        issuer: issuer.name.clone(),
        source,
    })
}

pub(super) fn url(issuer: &Issuer, url: &str) -> Result<Url, SetupError> {
    url.parse().map_err(|_| SetupError::Url {
        issuer: issuer.name.clone(),
        url: url.to_owned(),
    })
}

fn roots(issuer: &Issuer, file: &Path) -> Result<Vec<Certificate>, SetupError> {
    let pem = std::fs::read(file).map_err(|source| SetupError::CaFile {
        issuer: issuer.name.clone(),
        file: file.to_owned(),
        source,
    })?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(roots) if !roots.is_empty() => Ok(roots),
        Ok(_) | Err(_) => Err(SetupError::CaPem {
            issuer: issuer.name.clone(),
            file: file.to_owned(),
        }),
    }
}

/// The whole body of an answer, bounded.
pub(super) async fn body(mut answer: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(sentence)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err("the answer is larger than 1 MiB".into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What went wrong, with its causes, which reqwest leaves out.
pub(super) fn sentence(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        sentence = format!("{sentence}: {error}");
        cause = error.source();
    }
    sentence
}
