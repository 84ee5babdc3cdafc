//! SPIFFE IDs and trust domain names, exactly as in the SPIFFE-ID standard (section 2).
//!
//! The standard allows only one spelling of an identity: no upper case in the trust domain, no
//! percent-encoding, no empty or dot segments, no query. Anything else is refused and not normalised, so
//! comparing two IDs is comparing two texts.

use std::{fmt, sync::Arc};

/// The longest SPIFFE ID in bytes (section 2.3).
const MAX_ID: usize = 2048;

/// The longest trust domain name in bytes (section 2.1).
const MAX_TRUST_DOMAIN: usize = 255;

/// Why a text is not a SPIFFE ID, or not a trust domain name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// Another scheme, or none.
    #[error("it does not begin with `spiffe://`")]
    Scheme,
    /// More than 2048 bytes.
    #[error("it is longer than 2048 bytes")]
    TooLong,
    /// Not a name of a trust domain.
    #[error(
        "the trust domain is not 1 to 255 lower-case letters, digits, dots, dashes and underscores"
    )]
    TrustDomain,
    /// No path: that names the trust domain itself, which is not a workload.
    #[error("it names a trust domain, but no workload in it")]
    NoPath,
    /// A path that is not in canonical form.
    #[error(
        "a segment of the path is empty, `.` or `..`, or has characters other than letters, digits, dots, dashes and underscores"
    )]
    Path,
}

/// The name of a trust domain, such as `prod.example.com`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomainName(Arc<str>);

impl TrustDomainName {
    /// Accepts a name in canonical form only.
    pub fn parse(name: &str) -> Result<Self, SpiffeIdError> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let sound = (1..=MAX_TRUST_DOMAIN).contains(&name.len()) && name.bytes().all(allowed);
        sound
            .then(|| Self(name.into()))
            .ok_or(SpiffeIdError::TrustDomain)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for TrustDomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of a workload: `spiffe://`, a trust domain, and a path that is not empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    text: Arc<str>,
    trust_domain: TrustDomainName,
}

impl SpiffeId {
    /// Accepts an ID in canonical form only.
    pub fn parse(text: &str) -> Result<Self, SpiffeIdError> {
        if text.len() > MAX_ID {
            return Err(SpiffeIdError::TooLong);
        }
        let rest = text
            .strip_prefix("spiffe://")
            .ok_or(SpiffeIdError::Scheme)?;
        let (domain, path) = match rest.split_once('/') {
            Some((domain, path)) => (domain, Some(path)),
            None => (rest, None),
        };
        let trust_domain = TrustDomainName::parse(domain)?;
        let path = path.ok_or(SpiffeIdError::NoPath)?;
        if !path.split('/').all(is_segment) {
            return Err(SpiffeIdError::Path);
        }
        Ok(Self {
            text: text.into(),
            trust_domain,
        })
    }

    /// The whole ID.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The whole ID, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    /// The trust domain that issued it.
    pub fn trust_domain(&self) -> &TrustDomainName {
        &self.trust_domain
    }

    /// The path, with its first slash.
    pub fn path(&self) -> &str {
        &self.text["spiffe://".len() + self.trust_domain.0.len()..]
    }

    /// Namespace and service account, if the path is exactly `/ns/NAMESPACE/sa/NAME`: the form that
    /// SPIRE, Istio and cert-manager's csi-driver-spiffe use for Kubernetes' service accounts.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        let (namespace, name) = self.path().strip_prefix("/ns/")?.split_once("/sa/")?;
        (!namespace.contains('/') && !name.contains('/')).then_some((namespace, name))
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_segment(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..")
        && segment
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("spiffe://prod.example.com/ns/qa/sa/job", "/ns/qa/sa/job")]
    #[case("spiffe://a/b", "/b")]
    #[case("spiffe://10.0.0.1/Upper-lower_1.2", "/Upper-lower_1.2")]
    #[case("spiffe://a_b-c/...", "/...")]
    #[case("spiffe://a/.hidden/x..y", "/.hidden/x..y")]
    fn is_an_id(#[case] text: &str, #[case] path: &str) {
        let id = SpiffeId::parse(text).unwrap();
        assert_eq!((id.as_str(), id.path()), (text, path));
        assert_eq!(format!("spiffe://{}{path}", id.trust_domain()), text);
    }

    #[rstest]
    #[case::empty("", SpiffeIdError::Scheme)]
    #[case::https("https://prod.example.com/x", SpiffeIdError::Scheme)]
    #[case::scheme_in_capitals("SPIFFE://prod.example.com/x", SpiffeIdError::Scheme)]
    #[case::one_slash("spiffe:/prod.example.com/x", SpiffeIdError::Scheme)]
    #[case::leading_space(" spiffe://prod.example.com/x", SpiffeIdError::Scheme)]
    #[case::no_domain("spiffe:///x", SpiffeIdError::TrustDomain)]
    #[case::domain_in_capitals("spiffe://Prod.example.com/x", SpiffeIdError::TrustDomain)]
    #[case::port("spiffe://prod.example.com:443/x", SpiffeIdError::TrustDomain)]
    #[case::user("spiffe://me@prod.example.com/x", SpiffeIdError::TrustDomain)]
    #[case::ipv6("spiffe://[::1]/x", SpiffeIdError::TrustDomain)]
    #[case::no_path("spiffe://prod.example.com", SpiffeIdError::NoPath)]
    #[case::query_for_path("spiffe://prod.example.com?x", SpiffeIdError::TrustDomain)]
    #[case::root_path("spiffe://prod.example.com/", SpiffeIdError::Path)]
    #[case::trailing_slash("spiffe://prod.example.com/x/", SpiffeIdError::Path)]
    #[case::empty_segment("spiffe://prod.example.com/x//y", SpiffeIdError::Path)]
    #[case::dot("spiffe://prod.example.com/./x", SpiffeIdError::Path)]
    #[case::dot_dot("spiffe://prod.example.com/x/../y", SpiffeIdError::Path)]
    #[case::percent("spiffe://prod.example.com/%6es", SpiffeIdError::Path)]
    #[case::query("spiffe://prod.example.com/x?y", SpiffeIdError::Path)]
    #[case::fragment("spiffe://prod.example.com/x#y", SpiffeIdError::Path)]
    #[case::nul("spiffe://prod.example.com/x\0", SpiffeIdError::Path)]
    #[case::not_ascii("spiffe://prod.example.com/é", SpiffeIdError::Path)]
    fn is_none(#[case] text: &str, #[case] why: SpiffeIdError) {
        assert_eq!(SpiffeId::parse(text), Err(why));
    }

    #[test]
    fn is_bounded() {
        let id = |length: usize| {
            let start = "spiffe://a/";
            format!("{start}{}", "x".repeat(length - start.len()))
        };
        assert!(SpiffeId::parse(&id(2048)).is_ok());
        assert_eq!(SpiffeId::parse(&id(2049)), Err(SpiffeIdError::TooLong));
        assert!(TrustDomainName::parse(&"a".repeat(255)).is_ok());
        assert!(TrustDomainName::parse(&"a".repeat(256)).is_err());
    }

    #[rstest]
    #[case("/ns/qa/sa/job", Some(("qa", "job")))]
    #[case("/ns/sa/sa/sa", Some(("sa", "sa")))]
    #[case("/ns/qa/sa/job/more", None)]
    #[case("/ns/qa/x/sa/job", None)]
    #[case("/region/eu/ns/qa/sa/job", None)]
    #[case("/ns/qa", None)]
    #[case("/job", None)]
    fn may_name_a_service_account(#[case] path: &str, #[case] named: Option<(&str, &str)>) {
        let id = SpiffeId::parse(&format!("spiffe://prod.example.com{path}")).unwrap();
        assert_eq!(id.service_account(), named);
    }
}
