//! The certificates that a process shows, holds or trusts: when they are valid, and when a person must act.

use std::{path::Path, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use crate::clock::in_words;

/// The longest time ahead of its end at which a certificate is reported. Whoever renews certificates by hand needs
/// weeks.
const LONGEST_NOTICE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A certificate is reported when less than this part of its life is left: what renews certificates does so earlier.
const NOTICE_PART: i32 = 5;

/// From when to when something is valid; both ends are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first valid moment.
    pub not_before: Timestamp,
    /// The last valid moment.
    pub not_after: Timestamp,
}

/// How a certificate stands at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its validity has not begun.
    NotYetValid,
    /// It is valid.
    Valid,
    /// It is valid, but should have been renewed.
    EndsSoon,
    /// Its validity has ended.
    Expired,
}

impl Standing {
    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotYetValid => "not_yet_valid",
            Self::Valid => "valid",
            Self::EndsSoon => "ends_soon",
            Self::Expired => "expired",
        }
    }

    /// Whether peers accept it.
    pub const fn is_valid(self) -> bool {
        matches!(self, Self::Valid | Self::EndsSoon)
    }
}

impl Validity {
    /// That of a certificate; `None` if it cannot be parsed.
    pub fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let validity = certificate.validity();
        let moment = |seconds: i64| Timestamp::from_second(seconds).ok();
        Some(Self {
            not_before: moment(validity.not_before.timestamp())?,
            // The end of the year 9999 means "never" (RFC 5280, section 4.1.2.5).
            not_after: moment(validity.not_after.timestamp()).unwrap_or(Timestamp::MAX),
        })
    }

    /// That of a chain, leaf first: of the leaf and what issued it. Certificates above those may have expired without
    /// harm, because clients know another path. `None` if there is none, or one that cannot be parsed.
    pub fn of_chain<'c>(chain: impl IntoIterator<Item = &'c CertificateDer<'c>>) -> Option<Self> {
        let mut whole: Option<Self> = None;
        for certificate in chain.into_iter().take(2) {
            let one = Self::of(certificate)?;
            whole = Some(whole.map_or(one, |whole| Self {
                not_before: whole.not_before.max(one.not_before),
                not_after: whole.not_after.min(one.not_after),
            }));
        }
        whole
    }

    /// That of the root that ends last, of a PEM file with roots: while a CA changes, its old root may end.
    pub fn of_roots(pem: &[u8]) -> Option<Self> {
        let roots = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
        let validities = roots.filter_map(|root| Self::of(&root));
        validities.max_by_key(|validity| validity.not_after)
    }

    /// How it stands at a time.
    pub fn standing(&self, now: Timestamp) -> Standing {
        let life = self.not_after.duration_since(self.not_before);
        let notice = (life / NOTICE_PART).min(LONGEST_NOTICE);
        if now < self.not_before {
            Standing::NotYetValid
        } else if now > self.not_after {
            Standing::Expired
        } else if self.not_after.duration_since(now) < notice {
            Standing::EndsSoon
        } else {
            Standing::Valid
        }
    }

    /// How it stands, as the rest of a sentence about it.
    pub fn sentence(&self, now: Timestamp) -> String {
        let between = |from: Timestamp, to: Timestamp| {
            in_words(Duration::try_from(to.duration_since(from)).unwrap_or_default())
        };
        let Self {
            not_before,
            not_after,
        } = *self;
        match self.standing(now) {
            Standing::NotYetValid => format!(
                "is valid from {not_before} on, {} from now; compare this machine's clock",
                between(now, not_before)
            ),
            Standing::Valid => format!("is valid until {not_after}"),
            Standing::EndsSoon => format!(
                "ends at {not_after}, in {}; find out why it is not being renewed",
                between(now, not_after)
            ),
            Standing::Expired => format!(
                "expired at {not_after}, {} ago; replace it",
                between(not_after, now)
            ),
        }
    }
}

/// A certificate, or a set of roots, that a process uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldCertificate {
    /// What it is for, such as `listener/proxy`.
    pub name: Arc<str>,
    /// Where it lies.
    pub file: Arc<Path>,
    /// When it is valid.
    pub validity: Validity,
}

impl HeldCertificate {
    /// What it is and how it stands, as a sentence.
    pub fn sentence(&self, now: Timestamp) -> String {
        let (name, file) = (&self.name, self.file.display());
        let stands = self.validity.sentence(now);
        format!("the certificate of {name} in {file} {stands}")
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use rstest::rstest;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn certificate(from: (i32, u8, u8), to: (i32, u8, u8)) -> rcgen::Certificate {
        let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(to.0, to.1, to.2);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap()
    }

    /// Ninety days, as certificates of ACME have: reported in the last eighteen, long after they are renewed.
    #[rstest]
    #[case::early(
        "2026-08-31T23:59:59Z",
        Standing::NotYetValid,
        "is valid from 2026-09-01T00:00:00Z on, 1s from now"
    )]
    #[case::first(
        "2026-09-01T00:00:00Z",
        Standing::Valid,
        "is valid until 2026-11-30T00:00:00Z"
    )]
    #[case::before_notice("2026-11-12T00:00:00Z", Standing::Valid, "is valid until")]
    #[case::notice(
        "2026-11-12T00:00:01Z",
        Standing::EndsSoon,
        "ends at 2026-11-30T00:00:00Z, in 17d 23h 59m 59s"
    )]
    #[case::last("2026-11-30T00:00:00Z", Standing::EndsSoon, "in less than 1s")]
    #[case::over(
        "2026-11-30T00:00:01Z",
        Standing::Expired,
        "expired at 2026-11-30T00:00:00Z, 1s ago; replace it"
    )]
    fn a_certificate_stands_by_the_time(
        #[case] now: &str,
        #[case] standing: Standing,
        #[case] told: &str,
    ) {
        let validity = Validity::of(certificate((2026, 9, 1), (2026, 11, 30)).der()).unwrap();
        assert_eq!(validity.standing(at(now)), standing);
        assert!(
            validity.sentence(at(now)).contains(told),
            "{}",
            validity.sentence(at(now))
        );
    }

    #[test]
    fn a_long_life_is_reported_a_month_ahead() {
        let validity = Validity::of(certificate((2026, 1, 1), (2036, 1, 1)).der()).unwrap();
        assert_eq!(
            validity.standing(at("2035-12-02T00:00:00Z")),
            Standing::Valid
        );
        assert_eq!(
            validity.standing(at("2035-12-02T00:00:01Z")),
            Standing::EndsSoon
        );
    }

    #[test]
    fn a_chain_ends_with_its_leaf_or_what_issued_it_and_roots_with_their_last() {
        let long = certificate((2026, 1, 1), (2030, 1, 1));
        let short = certificate((2026, 6, 1), (2026, 12, 1));
        let past = certificate((2000, 1, 1), (2001, 1, 1));
        let chain = Validity::of_chain([long.der(), short.der(), past.der()]).unwrap();
        assert_eq!(chain.not_before, at("2026-06-01T00:00:00Z"));
        assert_eq!(chain.not_after, at("2026-12-01T00:00:00Z"));
        let roots = Validity::of_roots(format!("{}{}", short.pem(), long.pem()).as_bytes());
        assert_eq!(roots.unwrap().not_after, at("2030-01-01T00:00:00Z"));
        assert_eq!(Validity::of_roots(b"nothing"), None);
        assert_eq!(Validity::of_chain([]), None);
        assert_eq!(Validity::of(b"nothing"), None);
    }
}
