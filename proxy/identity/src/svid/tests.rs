//! Threat 43, case by case: every certificate here differs from a valid one in one property.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::{Identifier, IdentifyError, Proof};

const DOMAIN: &str = "prod.example.com";
const ID: &str = "spiffe://prod.example.com/ns/qa/sa/nightly-dashboard";

type Root = CertifiedIssuer<'static, KeyPair>;

fn now() -> Timestamp {
    "2026-11-23T05:10:00Z".parse().unwrap()
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

fn validity(params: &mut CertificateParams, from: SignedDuration, to: SignedDuration) {
    let at = |offset: SignedDuration| {
        let second = u64::try_from((now() + offset).as_second()).unwrap();
        rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(second)
    };
    params.not_before = at(from);
    params.not_after = at(to);
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "root");
    validity(
        &mut params,
        SignedDuration::from_hours(-24),
        SignedDuration::from_hours(24),
    );
    params
}

fn root() -> Root {
    CertifiedIssuer::self_signed(authority(), key()).unwrap()
}

/// The content of a valid SVID.
fn good() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri(ID)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.serial_number = Some(vec![0x0a, 0xff].into());
    validity(
        &mut params,
        SignedDuration::from_hours(-1),
        SignedDuration::from_hours(1),
    );
    params
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn issue(root: &Root, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    let mut params = good();
    change(&mut params);
    params.signed_by(&key(), root).unwrap().der().clone()
}

/// Trust domains with these roots, and the directory of their bundles.
struct Trust {
    identifier: Identifier,
    directory: tempfile::TempDir,
}

impl Trust {
    fn of(domains: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let configured: Vec<_> = domains
            .iter()
            .map(|(name, bundle)| {
                let file = directory.path().join(name);
                std::fs::write(&file, bundle).unwrap();
                model::TrustDomain {
                    name: TrustDomainName::parse(name).unwrap(),
                    bundle: BundleSource::File(file),
                }
            })
            .collect();
        let identifier = Identifier::new(&[], Clock::manual(now())).unwrap();
        Self {
            identifier: identifier.with_trust_domains(&configured).unwrap(),
            directory,
        }
    }

    fn refusal(&self, chain: &[CertificateDer<'_>]) -> SvidError {
        match self.identifier.by_svid(chain) {
            Err(IdentifyError::Certificate(error)) => error,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_good_certificate_proves_its_spiffe_id_and_nothing_else() {
    let root = root();
    let trust = Trust::of(&[(DOMAIN, &root.pem())]);
    let caller = trust.identifier.by_svid(&[issue(&root, |_| {})]).unwrap();
    assert_eq!(caller.proof(), Proof::X509Svid);
    assert_eq!((caller.issuer(), caller.subject()), (DOMAIN, ID));
    assert_eq!(caller.token_id(), Some("0aff"));
    assert_eq!(caller.expires_at(), now() + SignedDuration::from_hours(1));
    let facts = caller.facts();
    assert_eq!(facts.spiffe_id.as_deref(), Some(ID));
    assert_eq!((&facts.namespace, &facts.service_account), (&None, &None));
    trust.identifier.confirm(&caller).await.unwrap();
}

#[rstest]
#[case::no_uri(&["dns"], SvidError::UriNames(0))]
#[case::two_uris(&[ID, "spiffe://prod.example.com/other"], SvidError::UriNames(2))]
#[case::the_same_uri_twice(&[ID, ID], SvidError::UriNames(2))]
#[case::a_second_uri_that_is_not_spiffe(&[ID, "https://example.com/"], SvidError::UriNames(2))]
fn t43_there_is_exactly_one_uri(#[case] names: &[&str], #[case] expected: SvidError) {
    let root = root();
    let trust = Trust::of(&[(DOMAIN, &root.pem())]);
    let leaf = issue(&root, |params| {
        let name = |text: &&str| match *text {
            "dns" => SanType::DnsName("prod.example.com".try_into().unwrap()),
            text => uri(text),
        };
        params.subject_alt_names = names.iter().map(name).collect();
    });
    assert_eq!(trust.refusal(&[leaf]), expected);
}

#[test]
fn a_name_of_another_kind_may_stand_beside_the_uri() {
    let root = root();
    let trust = Trust::of(&[(DOMAIN, &root.pem())]);
    let leaf = issue(&root, |params| {
        let dns = SanType::DnsName("dashboard.qa.svc".try_into().unwrap());
        params.subject_alt_names.insert(0, dns);
    });
    assert_eq!(trust.identifier.by_svid(&[leaf]).unwrap().subject(), ID);
}

#[rstest]
#[case("https://prod.example.com/ns/qa/sa/nightly-dashboard")]
#[case("spiffe://PROD.example.com/x")]
#[case("spiffe://prod.example.com")]
#[case("spiffe://prod.example.com/")]
#[case("spiffe://prod.example.com/a/../b")]
#[case("spiffe://prod.example.com/a%2fb")]
#[case("spiffe://prod.example.com:443/x")]
#[case("spiffe://prod.example.com/x?y=z")]
fn t43_the_uri_is_a_spiffe_id(#[case] id: &str) {
    let root = root();
    let trust = Trust::of(&[(DOMAIN, &root.pem())]);
    let leaf = issue(&root, |params| params.subject_alt_names = vec![uri(id)]);
    let refusal = trust.refusal(&[leaf]);
    assert!(matches!(refusal, SvidError::SpiffeId(_)), "{refusal}");
}

#[test]
fn t43_a_ca_is_no_leaf() {
    let root = root();
    let trust = Trust::of(&[(DOMAIN, &root.pem())]);
    let leaf = issue(&root, |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    assert_eq!(trust.refusal(&[leaf]), SvidError::Authority);
    let said = issue(&root, |params| params.is_ca = IsCa::ExplicitNoCa);
    assert!(trust.identifier.by_svid(&[said]).is_ok());
}

#[rstest]
#[case::none(&[], SvidError::NoKeyUsage)]
#[case::other(&[KeyUsagePurpose::KeyEncipherment], SvidError::NoDigitalSignature)]
#[case::cert_sign(
    &[KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign],
    SvidError::SigningKeyUsage("keyCertSign")
)]
#[case::crl_sign(
    &[KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign],
    SvidError::SigningKeyUsage("cRLSign")
)]
fn t43_the_key_signs_handshakes_alone(
    #[case] usages: &[KeyUsagePurpose],
    #[case] expected: SvidError,
) {
    let root = root();
    let trust = Trust::of(&[(DOMAIN, &root.pem())]);
    let leaf = issue(&root, |params| params.key_usages = usages.to_vec());
    assert_eq!(trust.refusal(&[leaf]), expected);
    let more = issue(&root, |params| {
        params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
    });
    assert!(trust.identifier.by_svid(&[more]).is_ok());
}

#[rstest]
#[case::none(&[], true)]
#[case::client(&[ExtendedKeyUsagePurpose::ClientAuth], true)]
#[case::server_alone(&[ExtendedKeyUsagePurpose::ServerAuth], false)]
fn t43_the_purpose_is_that_of_a_client(
    #[case] usages: &[ExtendedKeyUsagePurpose],
    #[case] accepted: bool,
) {
    let root = root();
    let trust = Trust::of(&[(DOMAIN, &root.pem())]);
    let leaf = issue(&root, |params| params.extended_key_usages = usages.to_vec());
    if accepted {
        assert!(trust.identifier.by_svid(&[leaf]).is_ok());
    } else {
        let refusal = trust.refusal(&[leaf]);
        let purpose = ChainFault::Purpose;
        assert!(
            matches!(&refusal, SvidError::Chain { fault, .. } if *fault == purpose),
            "{refusal}"
        );
    }
}

#[test]
fn t43_a_foreign_trust_domain_is_refused_whoever_signed() {
    let root = root();
    let trust = Trust::of(&[(DOMAIN, &root.pem())]);
    let leaf = issue(&root, |params| {
        params.subject_alt_names = vec![uri("spiffe://elsewhere.example.com/x")];
    });
    let refusal = trust.refusal(&[leaf]);
    assert!(matches!(&refusal, SvidError::UntrustedDomain { id, .. }
        if id.as_str() == "spiffe://elsewhere.example.com/x"));
}

#[test]
fn t43_one_trust_domain_cannot_speak_for_another() {
    let (ours, theirs) = (root(), root());
    let trust = Trust::of(&[
        (DOMAIN, &ours.pem()),
        ("partner.example.com", &theirs.pem()),
    ]);
    // Their root is trusted, but not for our names, nor ours for theirs.
    let refusal = trust.refusal(&[issue(&theirs, |_| {})]);
    let no_root = ChainFault::NoRoot;
    assert!(
        matches!(&refusal, SvidError::Chain { fault, .. } if *fault == no_root),
        "{refusal}"
    );
    let partner = "spiffe://partner.example.com/x";
    let as_partner = |params: &mut CertificateParams| params.subject_alt_names = vec![uri(partner)];
    assert!(
        trust
            .identifier
            .by_svid(&[issue(&ours, as_partner)])
            .is_err()
    );
    let caller = trust
        .identifier
        .by_svid(&[issue(&theirs, as_partner)])
        .unwrap();
    assert_eq!(
        (caller.issuer(), caller.subject()),
        ("partner.example.com", partner)
    );
}

#[test]
fn t43_a_stranger_with_the_right_name_is_refused() {
    let trust = Trust::of(&[(DOMAIN, &root().pem())]);
    let stranger = root();
    let leaf = issue(&stranger, |_| {});
    for chain in [vec![leaf.clone()], vec![leaf, stranger.der().clone()]] {
        assert!(matches!(trust.refusal(&chain), SvidError::Chain { .. }));
    }
}

#[rstest]
#[case::at_the_end(0, false)]
#[case::just_before(1, true)]
#[case::past(-1, false)]
fn t43_an_expired_certificate_is_refused(#[case] left: i64, #[case] accepted: bool) {
    let root = root();
    let trust = Trust::of(&[(DOMAIN, &root.pem())]);
    let leaf = issue(&root, |params| {
        let left = SignedDuration::from_secs(left);
        validity(params, SignedDuration::from_hours(-1), left);
    });
    let result = trust.identifier.by_svid(std::slice::from_ref(&leaf));
    assert_eq!(result.is_ok(), accepted);
    if !accepted {
        assert!(matches!(trust.refusal(&[leaf]), SvidError::Expired { .. }));
    }
}

#[test]
fn t43_a_certificate_of_the_future_is_refused() {
    let root = root();
    let trust = Trust::of(&[(DOMAIN, &root.pem())]);
    let leaf = issue(&root, |params| {
        let (from, to) = (SignedDuration::from_secs(1), SignedDuration::from_hours(1));
        validity(params, from, to);
    });
    assert!(matches!(
        trust.refusal(&[leaf]),
        SvidError::NotYetValid { .. }
    ));
}

#[test]
fn t43_an_intermediate_must_be_shown_valid_and_a_ca() {
    let root = root();
    let trust = Trust::of(&[(DOMAIN, &root.pem())]);
    let between = |change: fn(&mut CertificateParams)| {
        let mut params = authority();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "between");
        change(&mut params);
        CertifiedIssuer::signed_by(params, key(), &root).unwrap()
    };
    let good = between(|_| {});
    let leaf = issue(&good, |_| {});
    assert!(
        trust
            .identifier
            .by_svid(&[leaf.clone(), good.der().clone()])
            .is_ok()
    );
    assert!(matches!(trust.refusal(&[leaf]), SvidError::Chain { .. }));

    let expired = between(|params| {
        let (from, to) = (
            SignedDuration::from_hours(-2),
            SignedDuration::from_hours(-1),
        );
        validity(params, from, to);
    });
    let refusal = trust.refusal(&[issue(&expired, |_| {}), expired.der().clone()]);
    let lifetime = ChainFault::Lifetime;
    assert!(
        matches!(&refusal, SvidError::Chain { fault, .. } if *fault == lifetime),
        "{refusal}"
    );

    // A workload must not sign others with its own certificate.
    let workload = between(|params| params.is_ca = IsCa::NoCa);
    let chain = [issue(&workload, |_| {}), workload.der().clone()];
    assert!(matches!(trust.refusal(&chain), SvidError::Chain { .. }));
}

#[test]
fn t43_what_cannot_be_read_is_refused() {
    let root = root();
    let trust = Trust::of(&[(DOMAIN, &root.pem())]);
    let leaf = issue(&root, |_| {});
    assert_eq!(trust.refusal(&[]), SvidError::Unreadable);
    let longer: Vec<u8> = leaf.iter().copied().chain([0]).collect();
    assert_eq!(trust.refusal(&[longer.into()]), SvidError::Unreadable);
    for end in 0..leaf.len() {
        let cut = CertificateDer::from(&leaf[..end]);
        assert_eq!(trust.refusal(&[cut]), SvidError::Unreadable, "at {end}");
    }
    // A second SAN extension, in which two parsers might read different names.
    let twice = issue(&root, |params| {
        let other = b"spiffe://prod.example.com/other";
        let length = u8::try_from(other.len()).unwrap();
        let mut content = vec![0x30, length + 2, 0x86, length];
        content.extend(other);
        let extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], content);
        params.custom_extensions.push(extension);
    });
    assert_eq!(trust.refusal(&[twice]), SvidError::Unreadable);
}

#[tokio::test]
async fn an_open_connection_ends_when_its_root_is_withdrawn() {
    let (old, new) = (root(), root());
    let trust = Trust::of(&[(DOMAIN, &old.pem())]);
    let caller = trust.identifier.by_svid(&[issue(&old, |_| {})]).unwrap();
    let rotate = |bundle: &str| {
        std::fs::write(trust.directory.path().join(DOMAIN), bundle).unwrap();
        trust.identifier.trust_domains().reload()
    };
    assert!(rotate(&(old.pem() + &new.pem())).is_empty());
    trust.identifier.confirm(&caller).await.unwrap();
    // A half-written file changes nothing.
    assert_eq!(rotate("").len(), 1);
    trust.identifier.confirm(&caller).await.unwrap();
    assert!(rotate(&new.pem()).is_empty());
    let refused = trust.identifier.confirm(&caller).await.unwrap_err();
    assert!(matches!(
        refused,
        IdentifyError::Certificate(SvidError::Chain { .. })
    ));
    assert!(trust.identifier.by_svid(&[issue(&new, |_| {})]).is_ok());
}

fn authority_key(usage: &str, x5c: &Value) -> Value {
    json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "use": usage, "x5c": x5c })
}

#[test]
fn a_spiffe_bundle_vouches_by_its_x509_authorities_alone() {
    let (x509, jwt) = (root(), root());
    let x5c = |root: &Root| json!([STANDARD.encode(root.der())]);
    let bundle = json!({ "spiffe_sequence": 7, "spiffe_refresh_hint": 300, "keys": [
        authority_key("jwt-svid", &x5c(&jwt)),
        authority_key("x509-svid", &x5c(&x509)),
        { "kty": "EC", "x5c": x5c(&jwt) },
    ]});
    let trust = Trust::of(&[(DOMAIN, &bundle.to_string())]);
    assert!(trust.identifier.by_svid(&[issue(&x509, |_| {})]).is_ok());
    assert!(trust.identifier.by_svid(&[issue(&jwt, |_| {})]).is_err());

    // A domain without X.509 authorities is configured, and accepts no certificate.
    let empty = Trust::of(&[(DOMAIN, r#"{"keys": []}"#)]);
    let refusal = empty.refusal(&[issue(&x509, |_| {})]);
    assert!(matches!(refusal, SvidError::Chain { .. }));
}

#[rstest]
#[case::nothing("", "neither PEM")]
#[case::text("hello", "neither PEM")]
#[case::key_only(
    "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    "neither PEM"
)]
#[case::cut("-----BEGIN CERTIFICATE-----\nAAAA\n", "neither PEM")]
#[case::no_certificate(
    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    "certificate 0"
)]
#[case::no_keys("{}", "neither PEM")]
#[case::cut_json("{\"keys\": [", "neither PEM")]
#[case::no_x5c("{\"keys\": [{\"use\": \"x509-svid\"}]}", "key 0")]
#[case::two_x5c(
    "{\"keys\": [{\"use\": \"x509-svid\", \"x5c\": [\"AA==\", \"AA==\"]}]}",
    "key 0"
)]
#[case::not_base64("{\"keys\": [{\"use\": \"x509-svid\", \"x5c\": [\"-_\"]}]}", "key 0")]
#[case::no_der(
    "{\"keys\": [{\"use\": \"x509-svid\", \"x5c\": [\"AAAA\"]}]}",
    "certificate 0"
)]
fn is_no_bundle(#[case] text: &str, #[case] why: &str) {
    let error = bundle::parse(text.as_bytes()).unwrap_err();
    assert!(error.contains(why), "{error}");
}
