//! Why a caller was not identified, and why identification could not be configured.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use super::svid::{BundleError, SvidError};

/// Why there is no identified caller, as a sentence for the operator. One variant per reason; none shows
/// any part of a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentifyError {
    /// The proof is not a token, or is not presented in an allowed way.
    #[error("the presented proof is malformed: {0}")]
    Malformed(&'static str),
    /// `Proxy-Authorization` uses another scheme than `Bearer` and `Basic`.
    #[error("Proxy-Authorization must use the scheme Bearer or Basic")]
    UnsupportedScheme,
    /// No configured issuer has the token's `iss`.
    #[error("the token's issuer is not one of those configured")]
    UnknownIssuer,
    /// The token is signed by an algorithm that is not allowed, or that does not fit its key.
    #[error("the token's signature algorithm is not allowed, or does not fit its key")]
    AlgorithmNotAllowed,
    /// The issuer has no such key.
    #[error("the issuer's key set has no key with the name in the token")]
    UnknownKey,
    /// The signature is not the issuer's.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// A claim is missing, of the wrong type, or contradicts another.
    #[error("the token's claims are not those of a projected service-account token: {0}")]
    BadClaims(&'static str),
    /// The token is for another audience.
    #[error("the token is for another audience, not for {expected:?}")]
    WrongAudience {
        /// Our own audience.
        expected: Arc<str>,
    },
    /// The proof has expired.
    #[error("the proof has expired")]
    Expired,
    /// The token's lifetime is longer than allowed.
    #[error(
        "the token's lifetime is {}, longer than the issuer's maxTokenLife of {}",
        in_words(*life), in_words(*longest)
    )]
    LivesTooLong {
        /// From its `iat` to its `exp`.
        life: Duration,
        /// What is configured.
        longest: Duration,
    },
    /// The issuer has withdrawn the key that signed the token.
    #[error("issuer {issuer} has withdrawn the key that the token was signed with")]
    KeyWithdrawn {
        /// The issuer's name.
        issuer: Arc<str>,
    },
    /// Too many bad tokens came from this source; this token was not checked.
    #[error("too many bad tokens came from {from}, so this token was not checked in time")]
    Throttled {
        /// The address, or its network.
        from: IpAddr,
        /// When it may be sent again.
        again: Duration,
    },
    /// The token's `nbf` or `iat` is in the future.
    #[error("the token is not valid yet; compare the clocks of its issuer and of this gateway")]
    NotYetValid,
    /// The issuer's keys are not available: not the caller's fault.
    #[error("the keys of issuer {issuer} are not available: {detail}")]
    KeysUnavailable {
        /// The issuer's name.
        issuer: Arc<str>,
        /// What went wrong.
        detail: Arc<str>,
    },
    /// The API server could not be asked: not the caller's fault.
    #[error("the API server of issuer {issuer} could not review the token: {detail}")]
    ReviewUnavailable {
        /// The issuer's name.
        issuer: Arc<str>,
        /// What went wrong.
        detail: Arc<str>,
    },
    /// The API server no longer accepts the token.
    #[error("the API server of issuer {issuer} does not accept the token (is its pod gone?)")]
    Revoked {
        /// The issuer's name.
        issuer: Arc<str>,
    },
    /// The API server accepts the token, but for another identity than the token claims.
    #[error("the API server of issuer {issuer} contradicts the token: {what}")]
    ReviewMismatch {
        /// The issuer's name.
        issuer: Arc<str>,
        /// What differs.
        what: &'static str,
    },
    /// The client's certificate proves nothing.
    #[error("the client's certificate is refused: {0}")]
    Certificate(#[from] SvidError),
    /// Token and certificate name different workloads, or cannot be compared.
    #[error(
        "the token is of {token}, the certificate of {certificate}: its path must be /ns/NAMESPACE/sa/NAME with the same two names"
    )]
    Mismatch {
        /// The token's subject.
        token: Arc<str>,
        /// The certificate's SPIFFE ID.
        certificate: Arc<str>,
    },
    /// The pod's own token could not be read: not the caller's fault.
    #[error("the pod's own token file {} {detail}", file.display())]
    OwnTokenUnavailable {
        /// The file.
        file: Arc<std::path::Path>,
        /// What is wrong with it.
        detail: Arc<str>,
    },
}

/// A duration in its largest units, such as `1d 1s`.
fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [
        (seconds / 86_400, 'd'),
        (seconds / 3600 % 24, 'h'),
        (seconds / 60 % 60, 'm'),
        (seconds % 60, 's'),
    ];
    let told = units.iter().filter(|(count, _)| *count > 0);
    let told: Vec<_> = told.map(|(count, unit)| format!("{count}{unit}")).collect();
    told.join(" ")
}

/// Why the configured issuers and trust domains cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A trust domain's bundle cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A file of roots cannot be read.
    #[error("issuer {issuer}: cannot read {}: {source}", file.display())]
    CaFile {
        /// The issuer's name.
        issuer: String,
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file of roots holds no certificate.
    #[error("issuer {issuer}: {} has no usable PEM certificate", file.display())]
    CaPem {
        /// The issuer's name.
        issuer: String,
        /// The file.
        file: PathBuf,
    },
    /// A URL cannot be used.
    #[error("issuer {issuer}: {url} is not a usable URL")]
    Url {
        /// The issuer's name.
        issuer: String,
        /// The URL.
        url: String,
    },
    /// The HTTP client could not be made.
    #[error("issuer {issuer}: no HTTP client: {reason}")]
    Client {
        /// The issuer's name.
        issuer: String,
        /// What went wrong.
        reason: String,
    },
    /// Two issuers have the same `iss`, so it would be ambiguous which cluster issued a token.
    #[error("issuers {first} and {second} have the same `issuer`; clusters need distinct ones")]
    SameIssuer {
        /// One issuer's name.
        first: String,
        /// The other's.
        second: String,
    },
}
