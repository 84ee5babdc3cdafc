//! Errors of the TLS library as sentences: the library shows most of them by the names of its own variants.

use std::{error::Error as StdError, io};

use jiff::Timestamp;
use rustls::{AlertDescription, CertificateError, Error};
use rustls_pki_types::{ServerName, UnixTime};

use crate::{chain::ChainError, redact::quoted};

/// The most names of a certificate that are shown.
const SHOWN_NAMES: usize = 4;

/// What the TLS library says, if that is why a connection failed. Each layer wraps its error in an `io` error, whose
/// `source` skips the wrapped error.
pub fn find<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Error> {
    if let Some(error) = error.downcast_ref() {
        return Some(error);
    }
    match error.downcast_ref().and_then(io::Error::get_ref) {
        Some(inner) => find(inner),
        None => error.source().and_then(find),
    }
}

/// Why a handshake failed, as a sentence about the other side.
pub fn of_handshake(error: &io::Error) -> String {
    match find(error) {
        Some(error) => sentence(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it closed the connection within the TLS handshake".to_owned()
        }
        None => format!(
            "the connection broke within the TLS handshake ({})",
            error.kind()
        ),
    }
}

/// The sentence about one that does not speak TLS.
pub const NOT_TLS: &str = "what it sent is not TLS; is this the port of another protocol?";

/// An error as a sentence about the other side.
pub fn sentence(error: &Error) -> String {
    match error {
        Error::AlertReceived(alert) => format!("it says that {}", self::alert(*alert)),
        Error::InvalidCertificate(error) => {
            format!("its certificate is not accepted: {}", certificate(error))
        }
        Error::NoCertificatesPresented => "it showed no certificate".to_owned(),
        Error::InvalidMessage(_) => NOT_TLS.to_owned(),
        Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerMisbehaved(_)
        | Error::InvalidEncryptedClientHello(_)
        | Error::BadMaxFragmentSize => "it broke the rules of TLS".to_owned(),
        Error::PeerSentOversizedRecord => "it sent a TLS record that is too large".to_owned(),
        Error::DecryptError => "what it sent cannot be decrypted".to_owned(),
        Error::PeerIncompatible(_) => {
            "it offers no version, cipher or signature of TLS 1.2 or 1.3 that is accepted"
                .to_owned()
        }
        Error::NoApplicationProtocol => {
            "it offers no HTTP version in its ALPN that is accepted".to_owned()
        }
        Error::InconsistentKeys(_) => {
            "the certificate and the private key do not belong together".to_owned()
        }
        Error::InvalidCertRevocationList(_) => "its revocation list cannot be used".to_owned(),
        Error::FailedToGetCurrentTime => "this machine's clock cannot be read".to_owned(),
        Error::FailedToGetRandomBytes => "this machine has no random numbers".to_owned(),
        Error::General(text) => text.clone(),
        Error::Other(error) => match error.0.downcast_ref::<ChainError>() {
            Some(error) => error.to_string(),
            None => "TLS failed for a reason of its own".to_owned(),
        },
        // The library may add some. `HandshakeNotComplete` and those for encryption are ours to avoid.
        _ => "TLS failed for a reason that has no name here".to_owned(),
    }
}

/// What is wrong with a certificate, as a sentence about it.
pub fn certificate(error: &CertificateError) -> String {
    let told = match error {
        CertificateError::BadEncoding => "it cannot be parsed",
        CertificateError::Expired => "it has expired",
        CertificateError::ExpiredContext { time, not_after } => {
            let (now, end) = (moment(*time), moment(*not_after));
            return format!("it expired at {end}, and by this machine's clock it is {now}");
        }
        CertificateError::NotValidYet => "it is not valid yet",
        CertificateError::NotValidYetContext { time, not_before } => {
            let (now, begin) = (moment(*time), moment(*not_before));
            return format!("it is valid from {begin} on, and by this machine's clock it is {now}");
        }
        CertificateError::Revoked => "it is revoked",
        CertificateError::UnhandledCriticalExtension => {
            "it has a critical extension that is not understood"
        }
        CertificateError::UnknownIssuer => {
            "no root that is trusted here leads to it; either its CA is missing here, or the server does not send its intermediates"
        }
        CertificateError::BadSignature => {
            "its signature is not by the CA that it names, which may have a new key"
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it is signed by an algorithm that is not accepted, such as SHA-1"
        }
        CertificateError::NotValidForName => "it is for another name",
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => return wrong_name(expected, presented),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its extended key usage is for another purpose"
        }
        CertificateError::ApplicationVerificationFailure => "it is not accepted",
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. }
        | CertificateError::InvalidOcspResponse => "whether it is revoked cannot be told",
        CertificateError::Other(error) => return of_another(&*error.0),
        // The library may add some.
        _ => "it breaks a rule for certificates",
    };
    told.to_owned()
}

/// Errors of the path building that the TLS library does not know.
fn of_another(error: &(dyn StdError + 'static)) -> String {
    if let Some(error) = error.downcast_ref::<ChainError>() {
        return error.to_string();
    }
    match error.downcast_ref::<webpki::Error>() {
        Some(webpki::Error::CaUsedAsEndEntity) => "it is a CA's certificate, not a leaf",
        Some(webpki::Error::EndEntityUsedAsCa) => "a certificate above it is not a CA's",
        Some(webpki::Error::NameConstraintViolation) => {
            "a CA above it may not issue certificates for its name"
        }
        Some(webpki::Error::PathLenConstraintViolated) => {
            "a CA above it may not issue intermediates"
        }
        Some(webpki::Error::UnsupportedCertVersion) => "it is not of X.509 version 3",
        Some(_) | None => "it breaks a rule for certificates (RFC 5280)",
    }
    .to_owned()
}

fn wrong_name(expected: &ServerName<'_>, presented: &[String]) -> String {
    let names = presented.iter().take(SHOWN_NAMES);
    let names: Vec<_> = names.map(|name| quoted(&plain(name))).collect();
    let more = presented.len().saturating_sub(SHOWN_NAMES);
    let names = match (names.is_empty(), more) {
        (true, _) => "it names none".to_owned(),
        (false, 0) => format!("it is for {}", names.join(", ")),
        (false, more) => format!("it is for {} and {more} more", names.join(", ")),
    };
    format!("it is not for {}; {names}", expected.to_str())
}

/// The library shows a name of a certificate as `DnsName("slack.com")`.
fn plain(name: &str) -> String {
    let inner = name
        .split_once("(\"")
        .and_then(|(_, rest)| rest.split_once("\")"));
    inner.map_or(name, |(inner, _)| inner).to_owned()
}

/// What an alert says (RFC 8446, section 6), after "it says that".
pub fn alert(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::UnknownCA => {
            "it does not trust the CA of the certificate that it was shown (unknown_ca)"
        }
        AlertDescription::CertificateExpired => {
            "the certificate that it was shown is not valid now by its clock (certificate_expired)"
        }
        AlertDescription::BadCertificate => {
            "it does not accept the certificate that it was shown (bad_certificate)"
        }
        AlertDescription::CertificateUnknown => {
            "it does not accept the certificate that it was shown (certificate_unknown)"
        }
        AlertDescription::UnsupportedCertificate => {
            "it does not support the certificate that it was shown (unsupported_certificate)"
        }
        AlertDescription::CertificateRevoked => {
            "the certificate that it was shown is revoked (certificate_revoked)"
        }
        AlertDescription::CertificateRequired => {
            "it demands a client certificate (certificate_required)"
        }
        AlertDescription::HandshakeFailure => {
            "there is no cipher or signature that both sides accept (handshake_failure)"
        }
        AlertDescription::ProtocolVersion => "it does not accept TLS 1.2 or 1.3 (protocol_version)",
        AlertDescription::UnrecognisedName => "it does not serve this name (unrecognized_name)",
        AlertDescription::NoApplicationProtocol => {
            "it accepts neither HTTP/2 nor HTTP/1.1 (no_application_protocol)"
        }
        AlertDescription::AccessDenied => "access is denied (access_denied)",
        AlertDescription::InternalError => "it failed by itself (internal_error)",
        AlertDescription::UserCanceled => "its user cancelled (user_canceled)",
        AlertDescription::DecryptError => "a signature of the handshake is wrong (decrypt_error)",
        AlertDescription::IllegalParameter
        | AlertDescription::DecodeError
        | AlertDescription::UnexpectedMessage
        | AlertDescription::MissingExtension
        | AlertDescription::UnsupportedExtension => "what it received is not valid TLS",
        _ => "it ends the connection, for a reason that has no name here",
    }
}

/// Whether an alert is about the certificate of whoever receives it.
pub fn is_about_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::UnknownCA
            | AlertDescription::CertificateExpired
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
    )
}

fn moment(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds)
        .map_or_else(|_| "an unknown time".to_owned(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use rstest::rstest;
    use rustls::{InconsistentKeys, InvalidMessage, OtherError, PeerIncompatible, PeerMisbehaved};

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn other(error: impl StdError + Send + Sync + 'static) -> CertificateError {
        CertificateError::Other(OtherError(Arc::new(error)))
    }

    /// A name of Rust's stands in no sentence: `UnknownIssuer`, `ExpiredContext { time: ... }`.
    #[track_caller]
    fn is_a_sentence(text: &str) {
        let bytes = text.as_bytes();
        let humps = bytes
            .windows(2)
            .any(|two| two[0].is_ascii_lowercase() && two[1].is_ascii_uppercase());
        assert!(
            !humps && !text.contains(['{', '}']) && text.len() > 10,
            "{text}"
        );
    }

    #[rstest]
    #[case(
        Error::InvalidMessage(InvalidMessage::InvalidContentType),
        "is not TLS"
    )]
    #[case(
        Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
        "offers no version"
    )]
    #[case(
        Error::PeerMisbehaved(PeerMisbehaved::MissingKeyShare),
        "broke the rules"
    )]
    #[case(
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch),
        "do not belong together"
    )]
    #[case(Error::NoCertificatesPresented, "showed no certificate")]
    #[case(Error::NoApplicationProtocol, "no HTTP version")]
    #[case(Error::DecryptError, "cannot be decrypted")]
    #[case(Error::HandshakeNotComplete, "TLS failed")]
    #[case(Error::PeerSentOversizedRecord, "too large")]
    fn an_error_is_a_sentence(#[case] error: Error, #[case] expected: &str) {
        let told = sentence(&error);
        is_a_sentence(&told);
        assert!(told.contains(expected), "{told}");
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, io::Error::other(error.clone()));
        assert_eq!(of_handshake(&wrapped), told);
    }

    #[rstest]
    #[case(CertificateError::UnknownIssuer, "no root that is trusted here")]
    #[case(CertificateError::BadSignature, "its signature is not by")]
    #[case(
        CertificateError::ExpiredContext { time: at(1_795_410_000), not_after: at(1_795_400_000) },
        "it expired at 2026-11-23T02:13:20Z, and by this machine's clock it is 2026-11-23T05:00:00Z"
    )]
    #[case(
        CertificateError::NotValidYetContext { time: at(1_795_400_000), not_before: at(1_795_410_000) },
        "it is valid from 2026-11-23T05:00:00Z on"
    )]
    #[case(
        CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("slack.com").unwrap(),
            presented: vec!["DnsName(\"a.test\")".to_owned(), "b.test".to_owned()],
        },
        "it is not for slack.com; it is for \"a.test\", \"b.test\""
    )]
    #[case(other(webpki::Error::CaUsedAsEndEntity), "a CA's certificate")]
    #[case(other(webpki::Error::InvalidSerialNumber), "breaks a rule")]
    #[case(other(ChainError::TooMany(9)), "the chain has 9 certificates")]
    #[case(CertificateError::InvalidPurpose, "another purpose")]
    #[case(CertificateError::Revoked, "it is revoked")]
    fn a_certificates_error_is_a_sentence(#[case] error: CertificateError, #[case] expected: &str) {
        let told = certificate(&error);
        is_a_sentence(&told);
        assert!(told.contains(expected), "{told}");
    }

    #[test]
    fn every_alert_is_a_sentence() {
        for code in 0..=u8::MAX {
            is_a_sentence(alert(AlertDescription::from(code)));
        }
        assert!(is_about_certificate(AlertDescription::UnknownCA));
        assert!(!is_about_certificate(AlertDescription::HandshakeFailure));
    }

    #[test]
    fn a_connection_that_breaks_is_a_sentence_too() {
        let eof = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert!(of_handshake(&eof).starts_with("it closed the connection"));
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert!(of_handshake(&reset).ends_with("(connection reset)"));
    }
}
