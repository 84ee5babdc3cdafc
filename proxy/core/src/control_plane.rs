//! HTTP towards the operator's own servers: the cluster's API server, Vault. Bounded in time and
//! size, and never through a proxy or a redirect, which could carry a token elsewhere.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use reqwest::{Response, Url, redirect::Policy};
use rustls::RootCertStore;
use zeroize::Zeroizing;

use crate::{chain, ciphers, files};

/// How long a whole exchange may take unless it says otherwise; requests wait for it.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How often a connection on which an answer is awaited is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Why there is no whole answer. Never says what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The address in the gateway's file cannot be used.
    #[error("its address is no usable URL")]
    Address,
    /// The file with its roots cannot be used.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// Its certificate does not stand up to the roots, or it speaks no TLS.
    #[error("its TLS cannot be trusted ({0}); compare its certificate with `caFile`")]
    Tls(Arc<str>),
    /// Nothing was sent.
    #[error("it cannot be reached ({0})")]
    NotReached(Arc<str>),
    /// Something was sent, and whether anything was done is not known.
    #[error("it gave no whole answer ({0})")]
    Lost(Arc<str>),
    /// The answer was cut off, since it is too large.
    #[error("its answer is too large")]
    TooLarge,
}

impl TransportError {
    /// Whether it may pass without a person's help.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NotReached(_) | Self::Lost(_) => true,
            Self::Address | Self::Roots(_) | Self::Tls(_) | Self::TooLarge => false,
        }
    }
}

/// Why a file of roots cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootsError {
    /// It cannot be read.
    #[error("the roots in {} cannot be read ({kind})", file.display())]
    Unreadable {
        /// The file.
        file: Arc<Path>,
        /// What the operating system said.
        kind: io::ErrorKind,
    },
    /// It holds no certificate.
    #[error("{} holds no usable PEM certificate", file.display())]
    NoCertificate {
        /// The file.
        file: Arc<Path>,
    },
    /// No client can be made with it.
    #[error("no HTTP client can be made ({0})")]
    Client(Arc<str>),
}

/// A client that trusts the roots in a file only, or the system's. The file is read for every use,
/// and a new client made when it has changed: certificates of clusters are rotated beneath us.
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

    /// The client now. While the file is unreadable or half written, the one from before.
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
        tracing::warn!(%error, "the roots from before are used");
        Ok(made.client.clone())
    }

    async fn read(&self) -> Result<Option<Vec<u8>>, RootsError> {
        let Some(file) = &self.ca_file else {
            return Ok(None);
        };
        let read = files::read(file).await;
        read.map(Some).map_err(|error| RootsError::Unreadable {
            file: Arc::clone(file),
            kind: error.kind(),
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

/// A client that trusts these roots only, or the system's.
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

/// A URL beneath `base`; each segment is one, whatever it holds.
pub fn url<'a>(
    base: &str,
    segments: impl IntoIterator<Item = &'a str>,
) -> Result<Url, TransportError> {
    let mut url: Url = base.parse().map_err(|_| TransportError::Address)?;
    url.path_segments_mut()
        .map_err(|()| TransportError::Address)?
        .pop_if_empty()
        .extend(segments);
    Ok(url)
}

/// The whole body of an answer, of at most `limit` bytes. It may hold secrets.
pub async fn body(
    mut answer: Response,
    limit: usize,
) -> Result<Zeroizing<Vec<u8>>, TransportError> {
    let announced = answer.content_length().unwrap_or(0);
    if announced > limit as u64 {
        return Err(TransportError::TooLarge);
    }
    // Room for everything at once where it is known: a buffer that grows leaves copies behind.
    let room = usize::try_from(announced).unwrap_or(0).max(16 * 1024);
    let mut body = Zeroizing::new(Vec::with_capacity(room));
    while let Some(chunk) = answer.chunk().await.map_err(classify)? {
        if body.len() + chunk.len() > limit {
            return Err(TransportError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What kind of failure it was.
pub fn classify(error: reqwest::Error) -> TransportError {
    let (builder, tls, connect) = (error.is_builder(), is_tls(&error), error.is_connect());
    let detail: Arc<str> = sentence(error).into();
    match (builder, tls, connect) {
        (true, _, _) => TransportError::Address,
        (false, true, _) => TransportError::Tls(detail),
        (false, false, true) => TransportError::NotReached(detail),
        (false, false, false) => TransportError::Lost(detail),
    }
}

/// Whether TLS is among the causes. Each layer that a connection passes wraps its error in one of
/// `io`, whose own source leaves out what it holds.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    if error.is::<rustls::Error>() {
        return true;
    }
    match error.downcast_ref().and_then(io::Error::get_ref) {
        Some(inner) => is_tls(inner),
        None => error.source().is_some_and(is_tls),
    }
}

/// What went wrong, with its causes, which reqwest leaves out.
pub fn sentence(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        sentence = format!("{sentence}: {error}");
        cause = error.source();
    }
    sentence
}

/// A text of another's answer, fit for a log line: short, and without line ends.
pub fn quoted(text: &str) -> String {
    /// The most characters.
    const LONGEST: usize = 200;
    let mut quoted: String = text
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .filter(|character| !character.is_control())
        .take(LONGEST + 1)
        .collect();
    if let Some((end, _)) = quoted.char_indices().nth(LONGEST) {
        quoted.truncate(end);
        quoted.push('…');
    }
    quoted
}

/// The file of the gateway's own token, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the gateway's own token file {} {detail}", file.display())]
pub struct OwnTokenError {
    file: PathBuf,
    detail: Arc<str>,
}

/// Reads a token that the gateway proves itself with; it is replaced before it ends, so every use
/// reads it.
pub async fn own_token(file: &Path) -> Result<crate::secret::Secret, OwnTokenError> {
    let read = crate::secret_file::read(file).await;
    read.map_err(|error| OwnTokenError {
        file: file.to_owned(),
        detail: error.to_string().into(),
    })
}
