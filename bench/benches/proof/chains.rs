//! Certificate chains that are good, and ones that are made to cost much.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

pub(crate) const DOMAIN: &str = "prod.example.com";
const ID: &str = "spiffe://prod.example.com/ns/qa/sa/nightly-dashboard";

/// A trust domain's root.
pub(crate) struct Root(CertifiedIssuer<'static, KeyPair>);

/// What a client shows.
pub(crate) struct Shown {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Root {
    pub(crate) fn new() -> Self {
        let root = CertifiedIssuer::self_signed(authority(DOMAIN), key());
        Self(root.expect("the parts are valid"))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A good leaf, and these beside it.
    pub(crate) fn svid(&self, beside: Vec<CertificateDer<'static>>) -> Shown {
        shown(&svid(Vec::new()), &self.0, beside)
    }

    /// A leaf of nearly 16 KiB, with as many names as fit.
    pub(crate) fn crowded_leaf(&self) -> Shown {
        let name =
            |number: usize| SanType::DnsName(format!("x{number}").try_into().expect("ASCII"));
        shown(&svid((0..1700).map(name).collect()), &self.0, Vec::new())
    }

    /// A chain of six by a stranger, each path of which seems to end at the root: four issuers, two of
    /// each name, so that the root's key is tried for each way to order them.
    pub(crate) fn look_alikes() -> Shown {
        let beside = vec![
            forged(DOMAIN, "a"),
            forged(DOMAIN, "a"),
            forged("a", DOMAIN),
            forged("a", DOMAIN),
            forged("b", DOMAIN),
        ];
        let stranger = Issuer::new(authority(DOMAIN), key());
        shown(&svid(Vec::new()), &stranger, beside)
    }

    /// The chain that was found to cost seconds: ten issuers of one name, and fillers.
    pub(crate) fn crowd() -> Shown {
        let small = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key can be made");
        let filler = CertifiedIssuer::self_signed(authority("filler"), small);
        let filler = filler.expect("the parts are valid").der().clone();
        let mut beside: Vec<_> = (0..10).map(|_| forged("a", "a")).collect();
        beside.extend(std::iter::repeat_n(filler, 190));
        let stranger = Issuer::new(authority("a"), key());
        shown(&svid(Vec::new()), &stranger, beside)
    }
}

/// Fillers of different names, nearly 16 KiB with a leaf.
pub(crate) fn fillers() -> Vec<CertificateDer<'static>> {
    let filler = |number: usize| {
        let mut params = authority(&format!("filler {number}"));
        let padding =
            CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![0; 2700]);
        params.custom_extensions.push(padding);
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("the parts are valid");
        issuer.der().clone()
    };
    (0..5).map(filler).collect()
}

fn shown<S: rcgen::SigningKey>(
    params: &CertificateParams,
    issuer: &Issuer<'_, S>,
    beside: Vec<CertificateDer<'static>>,
) -> Shown {
    let own = key();
    let leaf = params.signed_by(&own, issuer).expect("the parts are valid");
    let mut chain = vec![leaf.der().clone()];
    chain.extend(beside);
    let key = PrivatePkcs8KeyDer::from(own.serialize_der());
    Shown {
        chain,
        key: PrivateKeyDer::from(key),
    }
}

/// An authority that says it was issued by another, which knows nothing of it.
fn forged(name: &str, issuer: &str) -> CertificateDer<'static> {
    let issuer = Issuer::new(authority(issuer), key());
    let certificate = authority(name).signed_by(&key(), &issuer);
    certificate.expect("the parts are valid").der().clone()
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn svid(more: Vec<SanType>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(ID.try_into().expect("ASCII"))];
    params.subject_alt_names.extend(more);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key can be made")
}
