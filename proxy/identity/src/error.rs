//! Why a caller was not identified, and why identification could not be configured.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use countersign_core::{clock::in_words, files};
use jiff::Timestamp;

use super::svid::{BundleError, SvidError};

/// Why there is no identified caller, as a sentence for the operator. One variant per reason. Names in a token
/// (its issuer, audience, key) are shown quoted and bounded; no other part of it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentifyError {
    /// The proof is not a token, or is not presented in an allowed way.
    #[error("the presented proof is malformed: {0}")]
    Malformed(&'static str),
    /// `Proxy-Authorization` uses another scheme than `Bearer` and `Basic`.
    #[error("Proxy-Authorization must use the scheme Bearer or Basic")]
    UnsupportedScheme,
    /// No configured issuer has the token's `iss`.
    #[error("the token names the issuer {0}; `iss` and the configured `issuer` must be equal")]
    UnknownIssuer(
        /// The token's `iss`, and the nearest that is configured.
        Arc<str>,
    ),
    /// The token is signed by an algorithm that is not allowed, or that does not fit its key.
    #[error("the token's signature algorithm is not allowed: {0}")]
    AlgorithmNotAllowed(
        /// Which, and what would be allowed.
        Arc<str>,
    ),
    /// The issuer has no such key.
    #[error(
        "the token names {named}, which issuer {issuer} does not have in its key set; it has {has}"
    )]
    UnknownKey {
        /// The issuer's name.
        issuer: Arc<str>,
        /// The token's `kid`.
        named: Arc<str>,
        /// The names of the issuer's keys.
        has: Arc<str>,
    },
    /// The signature is not the issuer's.
    #[error("the token's signature is not by {key} of issuer {issuer}")]
    BadSignature {
        /// The issuer's name.
        issuer: Arc<str>,
        /// The key that the token names.
        key: Arc<str>,
    },
    /// A claim is missing, of the wrong type, or contradicts another.
    #[error("the token's claims are not those of a projected service-account token: {0}")]
    BadClaims(&'static str),
    /// The token is for another audience.
    #[error("the token is for {named}, not for the audience {expected:?}{difference}")]
    WrongAudience {
        /// The token's audiences.
        named: Arc<str>,
        /// What alone tells it from ours, if it is little.
        difference: &'static str,
        /// Our own audience.
        expected: Arc<str>,
    },
    /// The proof has expired.
    #[error("the proof expired at {at}, {} ago by this gateway's clock", in_words(*ago))]
    Expired {
        /// When it expired.
        at: Timestamp,
        /// How long ago that is.
        ago: Duration,
    },
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
    #[error(
        "the token is valid from {begin} (`{claim}`), {} from now by this gateway's clock, and a clock that is {} ahead is accepted: compare the clocks of its issuer and of this gateway",
        in_words(*ahead), in_words(*accepted)
    )]
    NotYetValid {
        /// The claim that says so.
        claim: &'static str,
        /// What it says.
        begin: Timestamp,
        /// How far that is ahead of our clock.
        ahead: Duration,
        /// How far it may be.
        accepted: Duration,
    },
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
    #[error("the API server of issuer {issuer} does not accept the token: {said}")]
    Revoked {
        /// The issuer's name.
        issuer: Arc<str>,
        /// What the API server says about it.
        said: Arc<str>,
    },
    /// The token's pod has ended.
    #[error("the token is valid, but {how}")]
    PodEnded {
        /// How it ended.
        how: &'static str,
    },
    /// Nothing is known of the token's pod: not the caller's fault.
    #[error(
        "nothing is known of the token's pod in namespace {namespace} of issuer {issuer}: {why}"
    )]
    PodUnknown {
        /// The issuer's name.
        issuer: Arc<str>,
        /// The pod's namespace.
        namespace: Arc<str>,
        /// Why.
        why: Arc<str>,
    },
    /// The pod has other labels, images or owners than when the connection was accepted.
    #[error("the pod's labels, images or owners have changed since the connection was accepted")]
    PodChanged,
    /// The API server accepts the token, but for another identity than the token claims.
    #[error("the API server of issuer {issuer} contradicts the token: {what}")]
    ReviewMismatch {
        /// The issuer's name.
        issuer: Arc<str>,
        /// What differs.
        what: Arc<str>,
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
    /// A client presented the token of another pod than the one that it is in.
    #[error("the client presented the token of {presented}, and this listener is of {own}")]
    OtherPod {
        /// Whose token it presented.
        presented: Arc<str>,
        /// Whose listener it is.
        own: Arc<str>,
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

impl IdentifyError {
    /// A proof that expired at `at`.
    pub(crate) fn expired(at: Timestamp, now: Timestamp) -> Self {
        let ago = now.duration_since(at);
        Self::Expired {
            at,
            ago: Duration::try_from(ago).unwrap_or_default(),
        }
    }
}

/// Why the configured issuers and trust domains cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A trust domain's bundle cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A file of roots cannot be read.
    #[error("issuer {issuer}: cannot read {}: {}", file.display(), files::reason(source))]
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
    /// The gateway's own token does not say who issues the tokens of its cluster.
    #[error(
        "issuer {issuer}: it is `in-cluster`, but {} {reason}; run in a pod with its service account's token, or name the issuer",
        file.display()
    )]
    OwnIssuer {
        /// The issuer's name.
        issuer: String,
        /// The file of the token.
        file: PathBuf,
        /// What is wrong with it.
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
