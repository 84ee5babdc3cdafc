//! One exchange: its address, its whole answer, and why there is none.

use std::{error::Error, io, sync::Arc};

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
    #[error("its TLS certificate is not trusted ({0}); compare it with `caFile`")]
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
    let (builder, tls, connect) = (error.is_builder(), is_tls(&error), error.is_connect());
    let detail: Arc<str> = sentence(error).into();
    match (builder, tls, connect) {
        (true, _, _) => TransportError::Address,
        (false, true, _) => TransportError::Tls(detail),
        (false, false, true) => TransportError::NotReached(detail),
        (false, false, false) => TransportError::Lost(detail),
    }
}

/// Whether TLS is among the causes. Each layer of a connection wraps its error in an `io` error, whose
/// `source` skips the wrapped error.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    if error.is::<rustls::Error>() {
        return true;
    }
    match error.downcast_ref().and_then(io::Error::get_ref) {
        Some(inner) => is_tls(inner),
        None => error.source().is_some_and(is_tls),
    }
}

/// The error with its causes, which reqwest omits.
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

/// Text from a response, made fit for a log line: short, and without line ends.
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
