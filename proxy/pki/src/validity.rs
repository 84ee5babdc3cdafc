//! The validity of a certificate, in the whole seconds that X.509 can express.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::CertificateParams;
use x509_parser::certificate::X509Certificate;

/// How far certificates are dated back, for clients whose clock is behind.
const BACKDATE: SignedDuration = SignedDuration::from_hours(1);

/// A closed interval: both ends are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first valid moment.
    pub not_before: Timestamp,
    /// The last valid moment.
    pub not_after: Timestamp,
}

impl Validity {
    /// From `now`, dated back, for `life`.
    pub fn starting(now: Timestamp, life: SignedDuration) -> Self {
        Self {
            not_before: whole_second(after(now, -BACKDATE)),
            not_after: whole_second(after(now, life)),
        }
    }

    /// The validity in a certificate; `None` if its times are out of range.
    pub fn of(certificate: &X509Certificate<'_>) -> Option<Self> {
        let validity = certificate.validity();
        Some(Self {
            not_before: Timestamp::from_second(validity.not_before.timestamp()).ok()?,
            not_after: Timestamp::from_second(validity.not_after.timestamp()).ok()?,
        })
    }

    /// The part of it that lies within `issuer`'s, so that no certificate outlives its issuer.
    #[must_use]
    pub fn within(self, issuer: Self) -> Self {
        Self {
            not_before: self.not_before.max(issuer.not_before),
            not_after: self.not_after.min(issuer.not_after),
        }
    }

    /// Whether `now` lies within.
    pub fn covers(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// Whether `now` lies within and more than `1 / parts` of the time from `issued` on is left.
    pub fn is_fresh(&self, issued: Timestamp, now: Timestamp, parts: i32) -> bool {
        let spare = self.not_after.duration_since(issued) / parts;
        self.covers(now) && now < after(self.not_after, -spare)
    }

    /// Writes it into the parameters of a new certificate.
    pub(super) fn apply(&self, params: &mut CertificateParams) {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let since_epoch =
            |at: Timestamp| Duration::from_secs(at.as_second().try_into().unwrap_or_default());
        params.not_before = epoch + since_epoch(self.not_before);
        params.not_after = epoch + since_epoch(self.not_after);
    }
}

/// `at` moved by `by`, or the end of time in that direction.
///
/// # Panics
/// Never: the duration has no calendar units.
pub fn after(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by)
        .expect("only calendar units can fail, and this is none")
}

fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).expect("it was a timestamp before it was rounded")
}
