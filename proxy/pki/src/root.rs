//! A root as it is made.

use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::{CaKey, PkiError, Template, Validity};

/// How long a root is valid: ten years.
const LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);

/// A root that was just made.
#[derive(Debug)]
pub struct NewRoot {
    /// Its certificate.
    pub certificate: CertificateDer<'static>,
    /// Its key.
    pub key: CaKey,
}

impl NewRoot {
    /// Makes one whose common name begins with `name`.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub fn generate(name: &str, now: Timestamp) -> Result<Self, PkiError> {
        let key = CaKey::generate()?;
        let template = Template::root(name, Validity::starting(now, LIFE))?;
        let certificate = template.params().self_signed(&key)?;
        Ok(Self {
            certificate: certificate.into(),
            key,
        })
    }

    /// Certificate and key, PEM.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let key = self.key.to_pem();
        let mut both = Zeroizing::new(String::with_capacity(4096));
        both.push_str(&super::pem(&self.certificate));
        both.push_str(&key);
        both
    }
}
