//! Hosts and host patterns, in one canonical spelling.
//!
//! Policy, credential, connection pool, certificate and dialling all compare the one [`Host`] that was
//! parsed here. A text that two parsers could understand differently (an address in an odd spelling, a
//! name in two alphabets) is an error and is not repaired.

mod pattern;
#[cfg(test)]
mod tests;

pub use pattern::HostPattern;

use std::{
    borrow::Borrow,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Deref,
    str::FromStr,
    sync::Arc,
};

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

/// The longest name, without a trailing dot (RFC 1035, 2.3.4).
const MAX_NAME: usize = 253;
/// The longest label (RFC 1035, 2.3.4).
const MAX_LABEL: usize = 63;

/// A host in canonical form: a DNS name or an IP address. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A DNS name.
    Name(HostName),
    /// An address; v4-mapped IPv6 stays IPv6 (and is refused later).
    Ip(IpAddr),
}

/// A DNS name: lower case, A-labels, no trailing dot, and not readable as an address. Made only by
/// [`Host::parse`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Arc<str>);

/// Why a text is not a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a host name or address: {0}")]
pub struct HostError(pub &'static str);

impl Host {
    /// Parses a host from an authority, a `Host` header or SNI: without port, IPv6 with or without
    /// brackets. Upper case and one trailing dot are folded. These are errors: a U-label, a wildcard,
    /// userinfo, an empty label, a label over 63 or a name over 253 bytes, and anything that some
    /// resolvers read as an IPv4 address though it is not written as one (`127.1`, `0x7f000001`,
    /// `2130706433`).
    ///
    /// Labels are letters, digits, hyphens (not at either end) and underscores, which are invalid in
    /// host names but in use. A label that starts with `xn--` must be valid (UTS 46).
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if let Some(rest) = text.strip_prefix('[') {
            let inside = rest
                .strip_suffix(']')
                .ok_or(HostError("a bracket is not closed"))?;
            return match inside.parse::<Ipv6Addr>() {
                Ok(ip) => Ok(Self::Ip(ip.into())),
                Err(_) => Err(HostError(
                    "brackets contain something other than an IPv6 address",
                )),
            };
        }
        if text.contains(':') {
            return match text.parse::<Ipv6Addr>() {
                Ok(ip) => Ok(Self::Ip(ip.into())),
                Err(_) => Err(HostError("a colon is only allowed in an IPv6 address")),
            };
        }
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(ip.into()));
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        check_name(text)?;
        if reads_as_ipv4(text) {
            return Err(HostError(
                "it ends in a number, so some resolvers read it as an IPv4 address",
            ));
        }
        let name: Arc<str> = if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            text.to_ascii_lowercase().into()
        } else {
            text.into()
        };
        for label in name.split('.') {
            check_a_label(label)?;
        }
        Ok(Self::Name(HostName(name)))
    }

    /// The DNS name, if it is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Ip(_) => None,
        }
    }

    /// The address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::Ip(ip) => Some(*ip),
        }
    }
}

/// As in an authority: IPv6 in brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        Self::parse(text)
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip)
    }
}

impl HostName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for HostName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for HostName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for HostName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks everything but `xn--` labels, in either case.
fn check_name(text: &str) -> Result<(), HostError> {
    if text.is_empty() {
        return Err(HostError("it is empty"));
    }
    if !text.is_ascii() {
        return Err(HostError("it is not ASCII (A-labels, `xn--...`, only)"));
    }
    if text.len() > MAX_NAME {
        return Err(HostError("a name has at most 253 bytes"));
    }
    text.split('.').try_for_each(check_label)
}

fn check_label(label: &str) -> Result<(), HostError> {
    if label.is_empty() {
        return Err(HostError("a label is empty"));
    }
    if label.len() > MAX_LABEL {
        return Err(HostError("a label has at most 63 bytes"));
    }
    if label.contains('*') {
        return Err(HostError("a host cannot have a wildcard"));
    }
    if !label.bytes().all(is_label_byte) {
        return Err(HostError(
            "a label can have only letters, digits, hyphens and underscores",
        ));
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(HostError("a label cannot start or end with a hyphen"));
    }
    Ok(())
}

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// Checks that a label which looks like an A-label is one: it decodes, and its decoded form encodes to
/// the same label. Other labels pass.
fn check_a_label(label: &str) -> Result<(), HostError> {
    const BAD: HostError = HostError("a label starts with `xn--` but is not a valid A-label");
    if !label.starts_with("xn--") {
        return Ok(());
    }
    let uts46 = Uts46::new();
    let ascii = uts46
        .to_ascii(
            label.as_bytes(),
            AsciiDenyList::STD3,
            Hyphens::CheckFirstLast,
            DnsLength::Verify,
        )
        .map_err(|_| BAD)?;
    let (unicode, valid) = uts46.to_unicode(
        label.as_bytes(),
        AsciiDenyList::STD3,
        Hyphens::CheckFirstLast,
    );
    if valid.is_ok() && ascii == label && unicode != label {
        Ok(())
    } else {
        Err(BAD)
    }
}

/// The "ends in a number" check of the WHATWG URL standard: `inet_aton` and similar functions accept
/// decimal, octal and hexadecimal numbers, and fewer than four of them.
fn reads_as_ipv4(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return true;
    }
    match last.as_bytes() {
        [b'0', b'x' | b'X', digits @ ..] => digits.iter().all(u8::is_ascii_hexdigit),
        _ => false,
    }
}
