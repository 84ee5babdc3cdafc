//! The certificate authority of the stand-ins.

use std::sync::Arc;

use countersign_core::clock::Clock;
use jiff::SignedDuration;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};

/// A certificate authority, new at every start. Clones are the same authority.
#[derive(Clone)]
pub struct Authority(Arc<CertifiedIssuer<'static, KeyPair>>);

impl Default for Authority {
    fn default() -> Self {
        Self::new("Fake Services Test Root")
    }
}

impl Authority {
    /// An authority with a name of its own.
    ///
    /// # Panics
    /// If the machine cannot make a key.
    pub fn new(name: &str) -> Self {
        Self::ending(name, SignedDuration::from_hours(24))
    }

    /// An authority whose root ran out an hour ago.
    ///
    /// # Panics
    /// If the machine cannot make a key.
    pub fn expired(name: &str) -> Self {
        Self::ending(name, SignedDuration::from_hours(-1))
    }

    fn ending(name: &str, lifetime: SignedDuration) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        set_validity(&mut params, lifetime);
        let issuer = CertifiedIssuer::self_signed(params, new_key()).expect("the parts are valid");
        Self(Arc::new(issuer))
    }

    /// The root certificate as PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server certificate for these names and its key, as PEM, for a listener of the gateway.
    ///
    /// # Panics
    /// If a name is none.
    pub fn issue(&self, names: &[&str]) -> (String, String) {
        self.issue_for(names, SignedDuration::from_hours(24))
    }

    /// The same, until a while from now, which may be past.
    ///
    /// # Panics
    /// If a name is none.
    pub fn issue_for(&self, names: &[&str], lifetime: SignedDuration) -> (String, String) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = new_key();
        let params = server_params(&names, lifetime);
        let certificate = params
            .signed_by(&key, &self.0)
            .expect("the parts are valid");
        (certificate.pem(), key.serialize_pem())
    }

    /// A server certificate for these names, valid for a day.
    pub(crate) fn certify(&self, names: &[String]) -> Arc<CertifiedKey> {
        self.certify_for(names, SignedDuration::from_hours(24))
    }

    /// A server certificate that ran out an hour ago.
    pub(crate) fn certify_expired(&self, names: &[String]) -> Arc<CertifiedKey> {
        self.certify_for(names, SignedDuration::from_hours(-1))
    }

    fn certify_for(&self, names: &[String], lifetime: SignedDuration) -> Arc<CertifiedKey> {
        let key = new_key();
        let params = server_params(names, lifetime);
        let certificate = params
            .signed_by(&key, &self.0)
            .expect("the parts are valid");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        CertifiedKey::from_der(
            vec![certificate.der().clone()],
            key,
            &aws_lc_rs::default_provider(),
        )
        .map(Arc::new)
        .expect("the key fits the certificate")
    }
}

fn server_params(names: &[String], lifetime: SignedDuration) -> CertificateParams {
    let mut params = CertificateParams::new(names).expect("the names are valid");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    set_validity(&mut params, lifetime);
    params
}

fn new_key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key can be made")
}

/// TLS stacks check certificates by the machine's clock, whatever clock a test moves.
fn set_validity(params: &mut CertificateParams, lifetime: SignedDuration) {
    let now = Clock::system().now();
    let at = |offset: SignedDuration| {
        let moment = now + offset;
        rcgen::date_time_ymd(1970, 1, 1)
            + std::time::Duration::from_secs(
                u64::try_from(moment.as_second()).expect("the present is after 1970"),
            )
    };
    params.not_before = at(SignedDuration::from_hours(-24));
    params.not_after = at(lifetime);
}
