//! A stand-in for what issues X.509-SVIDs: one trust domain, its root, and certificates below it.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use countersign_core::clock::Clock;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use serde_json::json;

/// A trust domain, with a root that is new at every start.
pub struct TrustDomain {
    name: String,
    clock: Clock,
    root: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The leaf.
    pub certificate: String,
    /// The key, PKCS #8.
    pub key: String,
}

impl Pair {
    /// Key and chain in one text, as Kubernetes writes a pod certificate's credential bundle.
    pub fn credential_bundle(&self) -> String {
        format!("{}{}", self.key, self.certificate)
    }
}

impl TrustDomain {
    /// A trust domain whose root is valid for a day before and after the clock's time.
    ///
    /// # Panics
    /// If the machine cannot make a key.
    pub fn new(name: &str, clock: Clock) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![uri(&format!("spiffe://{name}"))];
        set_validity(&mut params, &clock, SignedDuration::from_hours(24));
        let root = CertifiedIssuer::self_signed(params, key()).expect("the parts are valid");
        Self {
            name: name.to_owned(),
            clock,
            root,
        }
    }

    /// The root, as PEM.
    pub fn pem(&self) -> String {
        self.root.pem()
    }

    /// The root, as DER.
    pub fn der(&self) -> Vec<u8> {
        self.root.der().to_vec()
    }

    /// The root, in the SPIFFE bundle format.
    pub fn bundle(&self) -> String {
        let certificate = BASE64_STANDARD.encode(self.root.der());
        let key = json!({"kty": "EC", "use": "x509-svid", "x5c": [certificate]});
        json!({"spiffe_sequence": 1, "spiffe_refresh_hint": 300, "keys": [key]}).to_string()
    }

    /// The SVID of the workload with this path, valid for an hour.
    pub fn svid(&self, path: &str) -> Pair {
        self.svid_for(path, SignedDuration::from_hours(1))
    }

    /// The SVID of the workload with this path, with so much of its life left.
    pub fn svid_for(&self, path: &str, left: SignedDuration) -> Pair {
        let name = uri(&format!("spiffe://{}{path}", self.name));
        self.issue(left, |params| params.subject_alt_names = vec![name])
    }

    /// A certificate that may be wrong in any way.
    ///
    /// # Panics
    /// If no certificate can be like that.
    pub fn issue(&self, left: SignedDuration, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::default();
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        set_validity(&mut params, &self.clock, left);
        change(&mut params);
        let key = key();
        let certificate = params
            .signed_by(&key, &self.root)
            .expect("the parts are valid");
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// The certificate of a server at 127.0.0.1.
    pub fn server(&self) -> Pair {
        let address = SanType::IpAddress([127, 0, 0, 1].into());
        self.issue(SignedDuration::from_hours(24), |params| {
            params.subject_alt_names = vec![address];
        })
    }
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key can be made")
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("the name is ASCII"))
}

fn set_validity(params: &mut CertificateParams, clock: &Clock, left: SignedDuration) {
    let at = |moment: Timestamp| {
        let second = u64::try_from(moment.as_second()).expect("the present is after 1970");
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(second)
    };
    let now = clock.now();
    params.not_before = at(now - SignedDuration::from_hours(24));
    params.not_after = at(now + left);
}
