//! What is wrong with an upstream's certificate, for the operator.

use countersign_core::tls_error;
use rustls::CertificateError;

/// A sentence's part, after "was not accepted: ".
pub(super) fn describe(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            "none of the roots in upstream.roots has issued it; a proxy on the way that \
             intercepts TLS looks the same"
                .into()
        }
        CertificateError::Expired => "it has expired, by this machine's clock".into(),
        CertificateError::ExpiredContext { time, not_after } => {
            let past = time.as_secs().saturating_sub(not_after.as_secs());
            format!("it expired {} ago, by this machine's clock", span(past))
        }
        CertificateError::NotValidYet => "it is not valid yet, by this machine's clock".into(),
        CertificateError::NotValidYetContext { time, not_before } => {
            let left = not_before.as_secs().saturating_sub(time.as_secs());
            format!(
                "it becomes valid in {}, by this machine's clock",
                span(left)
            )
        }
        // What is the same for every certificate.
        other => tls_error::certificate(other),
    }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..7_200 => format!("{} minutes", seconds / 60),
        7_200..172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;
    use rustls_pki_types::UnixTime;

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[rstest]
    #[case(
        CertificateError::ExpiredContext { time: at(1_000_000), not_after: at(1_000_000 - 3 * 86_400) },
        "it expired 3 days ago, by this machine's clock"
    )]
    #[case(
        CertificateError::NotValidYetContext { time: at(1_000_000), not_before: at(1_000_000 + 600) },
        "it becomes valid in 10 minutes, by this machine's clock"
    )]
    fn times_are_told_as_spans(#[case] error: CertificateError, #[case] expected: &str) {
        assert_eq!(describe(&error), expected);
    }
}
