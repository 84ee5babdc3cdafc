//! One exchange: its address, its whole answer, and why there is none.

use std::{error::Error, io, sync::Arc};

use countersign_core::{files, redact::redact, tls_error};
use reqwest::{Response, Url};
use zeroize::Zeroizing;

use crate::roots_error::RootsError;

/// Why there is no complete response. Never contains what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The address in the gateway's file cannot be used.
    #[error("its address is not a usable URL")]
    Address,
    /// The file with its roots cannot be used.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// Its certificate is not accepted, or it does not use TLS.
    #[error("no TLS with it: {0}; compare its certificate with `caFile`")]
    Tls(Arc<str>),
    /// Nothing was sent.
    #[error("it cannot be reached ({0})")]
    NotReached(Arc<str>),
    /// Something was sent; it may have taken effect.
    #[error("it gave no complete response ({0})")]
    Lost(Arc<str>),
    /// The response was cut off because it is too large.
    #[error("its response is too large")]
    TooLarge,
}

impl TransportError {
    /// Whether it may pass by itself.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NotReached(_) | Self::Lost(_) => true,
            Self::Address | Self::Roots(_) | Self::Tls(_) | Self::TooLarge => false,
        }
    }
}

/// A URL below `base`; each segment stays one segment, whatever it contains.
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

/// The whole body of a response, at most `limit` bytes. It may contain secrets.
pub async fn body(
    mut answer: Response,
    limit: usize,
) -> Result<Zeroizing<Vec<u8>>, TransportError> {
    let announced = answer.content_length().unwrap_or(0);
    if announced > limit as u64 {
        return Err(TransportError::TooLarge);
    }
    // Allocated at once if the size is known: a growing buffer leaves copies behind.
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

/// The kind of a failure.
pub fn classify(error: reqwest::Error) -> TransportError {
    let (builder, connect) = (error.is_builder(), error.is_connect());
    let tls = tls_error::find(&error).is_some();
    let detail: Arc<str> = sentence(error).into();
    match (builder, tls, connect) {
        (true, _, _) => TransportError::Address,
        (false, true, _) => TransportError::Tls(detail),
        (false, false, true) => TransportError::NotReached(detail),
        (false, false, false) => TransportError::Lost(detail),
    }
}

/// Why an exchange failed, as a sentence: the library names its own layers.
pub fn sentence(error: reqwest::Error) -> String {
    let error = error.without_url();
    if let Some(error) = tls_error::find(&error) {
        return tls_error::sentence(error);
    }
    if error.is_timeout() {
        return "it did not answer in time".to_owned();
    }
    let mut causes: Vec<&(dyn Error + 'static)> = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error);
        cause = error.source();
    }
    let texts = || causes.iter().map(ToString::to_string);
    if texts().any(|text| text.contains("failed to lookup address")) {
        return "its name cannot be resolved".to_owned();
    }
    // The innermost is what the system said.
    let system = causes
        .iter()
        .rev()
        .find_map(|cause| cause.downcast_ref::<io::Error>());
    if let Some(error) = system.filter(|error| error.kind() != io::ErrorKind::Other) {
        return error.kind().to_string();
    }
    let within = |error: &&io::Error| {
        error
            .get_ref()
            .is_some_and(<dyn Error + Send + Sync>::is::<io::Error>)
    };
    if let Some(error) = system.filter(within) {
        return files::reason(error);
    }
    let said = texts().next_back().unwrap_or_else(|| error.to_string());
    if error.is_connect() {
        format!("the connection failed: {said}")
    } else if error.is_body() || error.is_decode() {
        format!("its response broke off: {said}")
    } else {
        format!("the exchange failed: {said}")
    }
}

/// Text from a response, made fit for a log line: short, without line ends and what looks like a credential.
pub fn quoted(text: &str) -> String {
    /// The most characters.
    const LONGEST: usize = 200;
    let mut quoted: String = redact(text)
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
