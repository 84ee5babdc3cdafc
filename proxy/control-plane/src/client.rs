//! A client for one server, whose roots can change.

use std::{path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use countersign_core::{chain, ciphers, files};
use reqwest::redirect::Policy;
use rustls::RootCertStore;

use crate::{roots_error::RootsError, transport::sentence};

/// The default timeout of a whole exchange; requests wait for it.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// The timeout for opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The interval of pings on a connection while a response is awaited.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A client that trusts only the roots in a file, or the system's. The file is read for every use, and a
/// new client is made when it has changed, because clusters rotate their certificates.
#[derive(Debug)]
pub struct Client {
    ca_file: Option<Arc<Path>>,
    made: ArcSwapOption<Made>,
}

#[derive(Debug)]
struct Made {
    roots: Option<Vec<u8>>,
    client: reqwest::Client,
}

impl Client {
    /// Reads nothing yet.
    pub fn new(ca_file: Option<&Path>) -> Self {
        Self {
            ca_file: ca_file.map(Arc::from),
            made: ArcSwapOption::empty(),
        }
    }

    /// The current client. While the file is unreadable or half written, the previous one.
    pub async fn now(&self) -> Result<reqwest::Client, RootsError> {
        let made = self.made.load_full();
        let roots = match self.read().await {
            Ok(roots) => roots,
            Err(error) => return Self::before(made, error),
        };
        if let Some(made) = made.as_ref().filter(|made| made.roots == roots) {
            return Ok(made.client.clone());
        }
        match self.make(roots.as_deref()) {
            Ok(client) => {
                let made = Made {
                    roots,
                    client: client.clone(),
                };
                self.made.store(Some(Arc::new(made)));
                Ok(client)
            }
            Err(error) => Self::before(made, error),
        }
    }

    fn before(made: Option<Arc<Made>>, error: RootsError) -> Result<reqwest::Client, RootsError> {
        let Some(made) = made else { return Err(error) };
        tracing::warn!(%error, "the previous roots are used");
        Ok(made.client.clone())
    }

    async fn read(&self) -> Result<Option<Vec<u8>>, RootsError> {
        let Some(file) = &self.ca_file else {
            return Ok(None);
        };
        let read = files::read(file).await;
        read.map(Some).map_err(|error| RootsError::Unreadable {
            file: Arc::clone(file),
            reason: files::reason(&error).into(),
        })
    }

    fn make(&self, roots: Option<&[u8]>) -> Result<reqwest::Client, RootsError> {
        let roots = match (&self.ca_file, roots) {
            (Some(file), Some(pem)) => {
                let roots = chain::of_pem(pem).ok_or_else(|| RootsError::NoCertificate {
                    file: Arc::clone(file),
                });
                Some(roots?)
            }
            (Some(_) | None, _) => None,
        };
        client(roots).map_err(|reason| RootsError::Client(reason.into()))
    }
}

/// A client that trusts only these roots, or the system's.
pub fn client(roots: Option<RootCertStore>) -> Result<reqwest::Client, String> {
    let built = reqwest::Client::builder()
        .tls_backend_preconfigured(tls(roots)?)
        .no_proxy()
        .redirect(Policy::none())
        .timeout(TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_keepalive(KEEP_ALIVE)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_timeout(KEEP_ALIVE)
        .build();
    built.map_err(sentence)
}

fn tls(roots: Option<RootCertStore>) -> Result<rustls::ClientConfig, String> {
    let roots = roots.unwrap_or_else(|| chain::system().0);
    if roots.is_empty() {
        return Err("the system has no root certificates".to_owned());
    }
    let builder = chain::trusting(Arc::new(roots), ciphers::provider());
    let builder = builder.map_err(|error| error.to_string())?;
    let mut tls = builder.with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}
