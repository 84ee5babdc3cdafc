//! Connects through a corporate HTTP proxy, by CONNECT (RFC 9110, section 9.3.6).
//!
//! That proxy then resolves the name, so its addresses cannot be checked here: the proxy's own policy
//! decides what it may reach. An authority that is an address is checked as always.

mod answer;
mod basic;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, time::Duration};

use countersign_core::{destination::Authority, secret_file::SecretFileError};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

pub(super) use self::basic::Basic;

/// A corporate proxy that opened no tunnel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the proxy {proxy} {fault}")]
pub struct ProxyError {
    /// Its host and port.
    pub proxy: Authority,
    /// What went wrong.
    pub fault: ProxyFault,
}

/// Why a corporate proxy opened no tunnel. The text continues `the proxy HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyFault {
    /// Its name has no address, or there is no connection to it.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// It was silent for as long as a connection may take.
    #[error("{stage} within {limit:?}")]
    Silent {
        /// What it did not do.
        stage: &'static str,
        /// The time allowed.
        limit: Duration,
    },
    /// It has no TLS on this port.
    #[error(
        "does not speak TLS on this port: name its TLS port, or write `http://` in upstream.proxy"
    )]
    NotTls,
    /// Its certificate does not prove that it is the proxy.
    #[error("has a certificate that was not accepted: {0}")]
    Certificate(String),
    /// It wants authentication, or does not accept the gateway's.
    #[error("opened no tunnel: {answer}; {remedy}")]
    Unauthenticated {
        /// What it answered.
        answer: String,
        /// What to do about it.
        remedy: String,
    },
    /// The file with the password for it is unusable.
    #[error("was not asked: the password file {} {reason}", path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: SecretFileError,
    },
    /// It does not want this.
    #[error("opened no tunnel: {0}")]
    Refused(String),
    /// It tried, and could not reach the upstream.
    #[error("opened no tunnel: {0}")]
    Failed(String),
}

/// Asks the proxy behind `stream` for a tunnel to `authority`.
pub(super) async fn open_tunnel<IO>(
    stream: &mut IO,
    authority: &Authority,
    basic: Option<&Basic>,
) -> Result<(), ProxyFault>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = Zeroizing::new(format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"
    ));
    if let Some(basic) = basic {
        // Reserved at once: a growing text leaves copies behind.
        let field = basic.field();
        let mut whole = Zeroizing::new(String::with_capacity(request.len() + field.len() + 2));
        whole.push_str(&request);
        whole.push_str(&field);
        request = whole;
    }
    request.push_str("\r\n");
    let written = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await
    };
    written.await.map_err(|error| answer::broken(&error))?;
    answer::read(stream, basic).await
}
