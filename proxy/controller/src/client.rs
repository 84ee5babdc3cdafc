//! The client of the API server. The gateway makes its configuration by hand: the library's own guess
//! honours environment variables that we do not.

use std::path::{Path, PathBuf};

use countersign_config::model::Cluster;
use countersign_core::secret_file::{self, SecretFileError};
use http::{HeaderValue, Request, header::AUTHORIZATION};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use tower::{ServiceBuilder, filter::AsyncFilterLayer};
use zeroize::Zeroizing;

/// The requests that may wait for the connection; what is over that waits for a place.
const WAITING: usize = 64;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The URL is none.
    #[error("{0} is not a usable URL of an API server")]
    Url(String),
    /// The roots cannot be used.
    #[error("no client for the API server can be made: {}", unusable(.0))]
    Kube(#[from] kube::Error),
}

/// What is wrong with the parts that a client is made of.
fn unusable(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::RustlsTls(_) => {
            "the file of its roots (`caFile`) cannot be read, or holds no usable certificates"
        }
        kube::Error::Auth(_) => "its token cannot be used",
        _ => "its URL cannot be used, or a proxy that the environment names for it",
    }
}

/// The client's own token cannot be read now.
#[derive(Debug, thiserror::Error)]
#[error("the token file {} {reason}", file.display())]
struct TokenError {
    file: PathBuf,
    reason: SecretFileError,
}

/// A client for a cluster. It reads the roots and the token anew from their files while it runs.
pub(crate) fn client(cluster: &Cluster) -> Result<Client, ClientError> {
    let url = cluster.url.parse();
    let mut config = Config::new(url.map_err(|_| ClientError::Url(cluster.url.clone()))?);
    config.root_cert_file.clone_from(&cluster.ca_file);
    config.auth_info.token_file = Some(cluster.token_file.display().to_string());
    Ok(connect(config)?)
}

/// A client that sends nothing twice, and reads its token from the file for every request: the library
/// keeps it for a minute, and cannot use a file that ends with a line end.
pub fn connect(mut config: Config) -> kube::Result<Client> {
    // The watches try again by themselves, and nothing that writes may be sent twice.
    config.default_retry = false;
    let token_file = config.auth_info.token_file.take();
    let builder = ClientBuilder::try_from(config)?;
    Ok(match token_file {
        None => builder.build(),
        Some(file) => {
            let file = PathBuf::from(file);
            let authorize = AsyncFilterLayer::new(move |request| authorized(request, file.clone()));
            let layers = ServiceBuilder::new().layer(authorize).buffer(WAITING);
            builder.with_layer(&layers).build()
        }
    })
}

/// Our own sentence about the token, if that is why a request was not sent.
pub(crate) fn token_trouble(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(token) = error.downcast_ref::<TokenError>() {
            return Some(token.to_string());
        }
        cause = error.source();
    }
    None
}

async fn authorized(
    mut request: Request<Body>,
    file: PathBuf,
) -> Result<Request<Body>, TokenError> {
    let value = bearer(&file).await;
    let value = value.map_err(|reason| TokenError { file, reason })?;
    request.headers_mut().insert(AUTHORIZATION, value);
    Ok(request)
}

async fn bearer(file: &Path) -> Result<HeaderValue, SecretFileError> {
    let token = secret_file::read(file).await?;
    let value = Zeroizing::new(format!("Bearer {}", token.expose()));
    let mut value = HeaderValue::from_str(&value).map_err(|_| SecretFileError::NotText)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use http_body_util::{BodyExt as _, Full};
    use hyper::{body::Bytes, server::conn::http1, service::service_fn};
    use hyper_util::rt::TokioIo;
    use k8s_openapi::api::core::v1::Namespace;
    use kube::Api;
    use tokio::net::TcpListener;

    use super::*;

    /// Answers with a namespace whose name is the Authorization header.
    async fn api_server() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let answer = service_fn(async |request: Request<hyper::body::Incoming>| {
                    let header = request.headers().get(AUTHORIZATION);
                    let name = header
                        .map_or("", |value| value.to_str().unwrap())
                        .to_owned();
                    request.into_body().collect().await?;
                    let namespace = serde_json::json!({
                        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}
                    });
                    let body = Full::new(Bytes::from(namespace.to_string()));
                    Ok::<_, hyper::Error>(http::Response::new(body))
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        format!("http://{address}")
    }

    #[tokio::test]
    async fn every_request_has_the_token_that_its_file_holds_now() {
        let directory = tempfile::tempdir().unwrap();
        let token_file = directory.path().join("token");
        let cluster = Cluster {
            url: api_server().await,
            ca_file: None,
            token_file: token_file.clone(),
        };
        let namespaces: Api<Namespace> = Api::all(client(&cluster).unwrap());
        for (content, expected) in [("one\n", "Bearer one"), ("two", "Bearer two")] {
            fs::write(&token_file, content).unwrap();
            let answer = namespaces.get("any").await.unwrap();
            assert_eq!(answer.metadata.name.as_deref(), Some(expected));
        }
        fs::write(&token_file, "of\ntwo lines").unwrap();
        let error = namespaces.get("any").await.unwrap_err().to_string();
        let expected = format!(
            "the token file {} is not one line of visible ASCII",
            token_file.display()
        );
        assert!(error.contains(&expected), "{error}");
        assert!(!error.contains("two lines"), "{error}");
    }
}
