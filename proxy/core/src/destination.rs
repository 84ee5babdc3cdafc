//! The canonical authority: where a request goes, parsed once.
//!
//! Policy, credential, pool key, leaf certificate and dialling all use this one value, so that no two of
//! them can interpret a name differently.

use std::fmt;

use countersign_types::host::Host;

/// The port that `http` implies.
pub const HTTP: u16 = 80;

/// The port that `https` implies.
pub const HTTPS: u16 = 443;

/// A canonical host and an explicit port. Cheap to clone.
#[derive(Clone)]
pub struct Authority {
    host: Host,
    port: u16,
    /// The same as in requests, without the default port of `https`.
    written: http::uri::Authority,
}

/// Why a text is not an authority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a usable authority: {0}")]
pub struct AuthorityError(pub &'static str);

impl Authority {
    /// An authority from canonical parts.
    ///
    /// # Panics
    /// Never: a canonical host and a port always form an authority.
    pub fn new(host: Host, port: u16) -> Self {
        let text = if port == HTTPS {
            host.to_string()
        } else {
            format!("{host}:{port}")
        };
        let written = http::uri::Authority::from_maybe_shared(bytes::Bytes::from(text))
            .expect("a canonical host and a port are an authority");
        Self {
            host,
            port,
            written,
        }
    }

    /// Parses `host:port`, as in a CONNECT request; the port is required.
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

    /// The authority as requests over TLS carry it: without the port if that is 443.
    pub fn as_uri_authority(&self) -> &http::uri::Authority {
        &self.written
    }
}

impl PartialEq for Authority {
    fn eq(&self, other: &Self) -> bool {
        self.port == other.port && self.host == other.host
    }
}

impl Eq for Authority {}

impl std::hash::Hash for Authority {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.host.hash(state);
        self.port.hash(state);
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
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

/// Splits host and port; an IPv6 address must be in brackets.
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
        None => Err(AuthorityError("there is text after the host")),
    }
}

/// Digits only: `u16::from_str` would also accept a leading `+`.
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
