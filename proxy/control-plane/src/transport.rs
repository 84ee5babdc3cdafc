//! One exchange: its address, its whole answer, and why there is none.

use std::{error::Error, io, sync::Arc};

use reqwest::{Response, Url};
use zeroize::Zeroizing;

use crate::client::RootsError;

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
