//! The canonical authority: where a request goes, parsed once.
//!
//! Policy, credential, pool key, leaf certificate and dialling all use this one value, so that
//! no two of them can understand a name differently.

use std::fmt;

use countersign_config::host::Host;

/// A canonical host and an explicit port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority {
    host: Host,
    port: u16,
}

/// Why a text is no authority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a usable authority: {0}")]
pub struct AuthorityError(pub &'static str);

impl Authority {
    /// An authority of parts that are canonical already.
    pub fn new(host: Host, port: u16) -> Self {
        Self { host, port }
    }

    /// Parses `host:port`, as in a CONNECT request; the port must be there.
    pub fn with_port(text: &str) -> Result<Self, AuthorityError> {
        let (host, port) = split(text)?;
        let port = port.ok_or(AuthorityError("the port is missing"))?;
        Ok(Self::new(parse_host(host)?, port))
    }

    /// Parses `host` or `host:port`, as in `Host` and `:authority`; the port defaults to the
    /// scheme's.
    pub fn with_default_port(text: &str, default: u16) -> Result<Self, AuthorityError> {
        let (host, port) = split(text)?;
        Ok(Self::new(parse_host(host)?, port.unwrap_or(default)))
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

fn parse_host(text: &str) -> Result<Host, AuthorityError> {
    Host::parse(text).map_err(|error| AuthorityError(error.0))
}

/// Splits host and port; an IPv6 address must stand in brackets.
fn split(text: &str) -> Result<(&str, Option<u16>), AuthorityError> {
    if text.contains('@') {
        return Err(AuthorityError("userinfo is not allowed"));
    }
    let (host, rest) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed
                .split_once(']')
                .ok_or(AuthorityError("a bracket is not closed"))?;
            if !host.contains(':') {
                return Err(AuthorityError("brackets are for IPv6 addresses"));
            }
            (host, rest)
        }
        None => match text.find(':') {
            Some(colon) => text.split_at(colon),
            None => (text, ""),
        },
    };
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, Some(parse_port(port)?))),
        None if rest.is_empty() => Ok((host, None)),
        None => Err(AuthorityError("something stands behind the host")),
    }
}

/// Digits only: `u16::from_str` would take a leading `+`.
fn parse_port(text: &str) -> Result<u16, AuthorityError> {
    const BAD: AuthorityError = AuthorityError("the port is not a number from 1 to 65535");
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BAD);
    }
    match text.parse() {
        Ok(0) | Err(_) => Err(BAD),
        Ok(port) => Ok(port),
    }
}
